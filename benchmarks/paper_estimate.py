"""What `precomp estimate` says of the paper's experiments, on drawn images in the real sets' layout and sizes.

    python benchmarks/paper_estimate.py [coco_detection imagenet_classification voc_segmentation]

The networks are as large as the real ones and have random weights, so nothing is downloaded; precision is 32 bits. To
fit a small machine it is estimated for one image a step, two of the QPs and no baselines; the table multiplies the step
by the file's batch, and the evaluation of anchor and preprocessor by its QPs and the real validation set.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tomli_w
from PIL import Image

from precomp_data import Scenes
from precomp_sdk.image_io import write_image

FILES = Path(__file__).resolve().parents[1] / "examples" / "paper"
QPS = (28, 37)
ENTRIES = 128  # of each set: more than is measured
VALIDATION = {"coco_detection": 5000, "imagenet_classification": 50_000, "voc_segmentation": 1449}
RESULTS = Path(__file__).resolve().parent / "results" / "paper_estimate.json"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", default=list(LAYOUTS), choices=LAYOUTS)
    options = arguments.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in options.names:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = estimate(name, Path(folder))
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        print(row(name, found[name]), flush=True)


def estimate(name: str, folder: Path) -> dict[str, Any]:
    """Return what ``precomp estimate --json`` says of one experiment, on drawn images in ``folder``."""
    tables = tomllib.loads((FILES / f"{name}.toml").read_text())
    lay_out, changes = LAYOUTS[name]
    lay_out(folder / "data")
    for key in ("weights", "classes"):
        tables["task"].pop(key, None)
    tables["task"] |= changes
    for table in tables["data"].values():
        table["root"] = str(folder / "data")
        table |= {"download": False} if "download" in table else {}
    tables["train"] |= {"batch_size": 1, "ladder": list(QPS), "precision": "32-true"}
    tables["train"]["lambdas"] = {str(qp): tables["train"]["lambdas"][str(qp)] for qp in QPS}
    tables["evaluate"] |= {"ladder": list(QPS), "baselines": []}
    tables["output"] = {"folder": str(folder / "run")}
    (folder / "experiment.toml").write_text(tomli_w.dumps(tables))
    command = [sys.executable, "-m", "precomp_sdk", "estimate", str(folder / "experiment.toml"), "--json"]
    command += ["--steps", "2", "--images", "1"]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return told


def row(name: str, told: dict[str, Any]) -> str:
    tables = tomllib.loads((FILES / f"{name}.toml").read_text())
    parts = {(part["stage"], part["name"]): part for part in told["parts"]}
    steps, batch, qps = tables["train"]["steps"], tables["train"]["batch_size"], len(tables["evaluate"]["ladder"])
    image_s = parts["train", "steps"]["each_s"]
    curves_s = sum(parts["evaluate", f"curve {label}"]["each_s"] for label in ("anchor", "qa-paper")) / len(QPS)
    hours = f"{image_s * steps * batch / 3600:,.0f} h | {curves_s * qps * VALIDATION[name] / 3600:,.0f} h"
    return (
        f"| `{name}` | {batch} | {image_s:.1f} s | {curves_s:.1f} s | {hours} | {told['memory_bytes'] / 1e9:.1f} GB |"
    )


def drawn(folder: Path, width: int, height: int) -> list[Path]:
    """Write eight images, textured shapes before clutter, and return where they are."""
    folder.mkdir(parents=True)
    scenes = Scenes(count=8, size=max(width, height))
    for place in range(len(scenes)):
        write_image(scenes[place].image[:, :height, :width], folder / f"{place}.png")
        Image.open(folder / f"{place}.png").save(folder / f"{place}.jpg", quality=90)
    return sorted(folder.glob("*.jpg"))


def link(paths: Iterable[Path], files: list[Path]) -> None:
    for place, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(files[place % len(files)])


def lay_out_coco(root: Path) -> None:
    files = drawn(root / "drawn", 640, 480)
    classes = tomllib.loads((FILES / "coco_detection.toml").read_text())["task"]["classes"]
    categories = [{"id": place + 1, "name": name} for place, name in enumerate(classes)]
    (root / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        names = {number: f"{number:012}.jpg" for number in range(1, ENTRIES + 1)}
        link([root / split / name for name in names.values()], files)
        boxes = [
            {"id": 7 * number + of, "image_id": number, "category_id": 1 + number % 80, "bbox": [60 * of, 90, 50, 80],
             "area": 4000, "iscrowd": 0}
            for number in names for of in range(7)
        ]  # fmt: skip
        images = [{"id": number, "file_name": name, "height": 480, "width": 640} for number, name in names.items()]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def lay_out_imagenet(root: Path) -> None:
    files = drawn(root / "drawn", 500, 375)
    for split in ("train", "val"):  # a folder for each of the classes
        link([root / split / f"n{number:08}" / "photo.JPEG" for number in range(1000)], files)


def lay_out_voc(root: Path) -> None:
    files = drawn(root / "drawn", 500, 375)
    mask = Image.new("P", (500, 375))
    mask.paste(12, (100, 100, 300, 300))
    mask.save(root / "drawn" / "mask.png")
    base = root / "VOCdevkit" / "VOC2012"
    lists = base / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        names = [f"{split}_{number}" for number in range(ENTRIES)]
        link([base / "JPEGImages" / f"{name}.jpg" for name in names], files)
        link([base / "SegmentationClass" / f"{name}.png" for name in names], [root / "drawn" / "mask.png"])
        (lists / f"{split}.txt").write_text("\n".join(names))


LAYOUTS: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "coco_detection": (lay_out_coco, {"num_classes": 80}),
    "imagenet_classification": (lay_out_imagenet, {"num_classes": 1000}),
    "voc_segmentation": (lay_out_voc, {"num_classes": 21}),
}

if __name__ == "__main__":
    main()
