"""Minutes of the job of docs/walk.md: a codec in a file, a network of timm, a Hugging Face data set.

    python benchmarks/walk.py [--folder walk] [--images 640]

Writes what the newcomer has (drawn patterns as a data set on the disk, a network from a loop of its own, the codec's
file of docs/want/own-codec.md), then carries out the page's lines as they stand, each statement timed: seconds of this
process's processor time and by the clock.
"""

import argparse
import ast
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from datasets import Dataset, DatasetDict, Features, Image, Value
from torch.nn.functional import cross_entropy

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results" / "walk.json"
SIZE, CLASSES, TEST, EPOCHS = 64, 8, 200, 8


def block(page: str, before: str) -> str:
    """Return the Python block of a page that follows a comment."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.search(rf"^<!-- {before}[^\n]*-->\n```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None, page
    return found[1]


def pattern(label: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Draw waves of one of eight directions and periods, of any phase and colour, under noise."""
    angle = np.pi * (label % 4 + rng.normal(0, 0.3)) / 4
    period = (6.0 if label < 4 else 10.0) * rng.uniform(0.75, 1.3)
    y, x = np.mgrid[:SIZE, :SIZE]
    waves = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + rng.uniform(0, 7))
    colours = rng.uniform(40, 215, (3, 1, 1)) + rng.uniform(10, 40) * waves + rng.normal(0, 45, (3, SIZE, SIZE))
    return colours.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def prepare(images: int) -> float:
    """Write data set, codec and network into this folder, and return the network's share of right answers."""
    Path("packed.py").write_text(block("want/own-codec.md", "file: packed.py"), encoding="utf-8")
    rng = np.random.default_rng(0)
    features = Features({"image": Image(), "label": Value("int64")})
    parts, tensors = {}, {}
    for part, count in (("train", images), ("test", TEST)):
        labels = [place % CLASSES for place in range(count)]
        drawn = [pattern(label, rng) for label in labels]
        rows = [{"image": image, "label": label} for image, label in zip(drawn, labels, strict=True)]
        parts[part] = Dataset.from_list(rows, features=features)
        stacked = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 255
        tensors[part] = ((stacked - 0.5) / 0.25, torch.tensor(labels))
    DatasetDict(parts).save_to_disk("images")
    parts["test"][0]["image"].save("photo.png")
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=CLASSES)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    pixels, labels_of = tensors["train"]
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(pixels)).split(32):
            optimizer.zero_grad()
            cross_entropy(network(pixels[chosen]), labels_of[chosen]).backward()
            optimizer.step()
    torch.save(network.state_dict(), "network.pth")
    with torch.no_grad():
        right = network.eval()(tensors["test"][0]).argmax(1) == tensors["test"][1]
    return float(right.float().mean())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--folder", type=Path, default=Path("walk"))
    arguments.add_argument("--images", type=int, default=640)
    options = arguments.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(options.folder)
    sys.path.insert(0, os.getcwd())  # as a notebook or the prompt has it
    print(f"the network is right on {prepare(options.images):.1%} of the clean test images", flush=True)
    job = block("walk.md", "not run: tests/interop")
    names: dict[str, Any] = {}
    rows = []
    for statement in ast.parse(job).body:
        line = ast.unparse(statement)
        cpu, clock = time.process_time(), time.perf_counter()
        exec(compile(ast.Module([statement], []), "walk.md", "exec"), names)
        rows.append({"line": line, "cpu_s": time.process_time() - cpu, "clock_s": time.perf_counter() - clock})
        print(f"{rows[-1]['cpu_s']:8.1f} s  {rows[-1]['clock_s']:8.1f} s by the clock  {line:.90}", flush=True)
    total = {key: sum(row[key] for row in rows) for key in ("cpu_s", "clock_s")}
    print(f"together {total['cpu_s'] / 60:.1f} minutes of the processor, {total['clock_s'] / 60:.1f} by the clock")
    RESULTS.write_text(json.dumps({"threads": torch.get_num_threads(), **total, "statements": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
