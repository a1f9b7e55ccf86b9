"""A bulk job that is killed twice, interrupted once, and finished: is its record complete, and every payload whole?

    python benchmarks/bulk_job.py --photos ../shared/data/kodak

Makes 10,000 small images (pieces of photographs where a folder of them is given) and some that are damaged, in a tree
with names of all kinds; runs ``precomp compress`` over it, kills it with SIGKILL at a quarter and at half, ends it with
SIGTERM at three quarters, and lets it finish. Exits with 1 where anything is not as it should be.
"""

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch

from precomp_sdk import Compressor, Registry
from precomp_sdk.atomic_io import write_whole
from precomp_sdk.deploy import RECORD_NAME
from precomp_sdk.image_io import is_image_name, read_image, write_image
from precomp_sdk.testing import natural_image

HERE = Path(__file__).parent
QUALITY = 20
FOLDERS = ("plain", "with space", "tiefe/Bäume/昼", "a.b", "-dash")
ENDS = ((0.25, signal.SIGKILL), (0.5, signal.SIGKILL), (0.75, signal.SIGTERM))


def make_images(folder: Path, count: int, damaged: int, photos: Path | None) -> None:
    """Write pieces of photographs, or drawn images, of 24 to 56 pixels a side."""
    draw = random.Random(0)
    paths = [] if photos is None else sorted(path for path in photos.rglob("*") if is_image_name(path.name))[:24]
    sources = [read_image(path) for path in paths] or [natural_image(512, 512, seed=seed) for seed in range(8)]
    for place in range(count + damaged):
        path = folder / FOLDERS[place % len(FOLDERS)] / f"{place // 500:03}" / f"ö {place:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        source = draw.choice(sources)
        height, width = draw.randint(24, 56), draw.randint(24, 56)
        top, left = draw.randint(0, source.shape[1] - height), draw.randint(0, source.shape[2] - width)
        write_image(source[:, top : top + height, left : left + width], path)
        if place >= count:
            path.write_bytes(path.read_bytes()[:60])


def lines_of(record: Path) -> list[dict]:
    """Return the whole lines of a record."""
    found = []
    for line in record.read_text(encoding="utf-8").splitlines() if record.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def run_until(command: list[str], record: Path, lines: int, number: int) -> dict:
    """Run the job until its record has so many lines, and end it; say what was left of it."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    begin = time.monotonic()
    while process.poll() is None and (record.read_bytes().count(b"\n") if record.exists() else 0) < lines:
        time.sleep(0.5)
    workers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(number)
    _, told = process.communicate()
    gone, alive = psutil.wait_procs(workers, timeout=60)
    return {
        "signal": signal.Signals(number).name,
        "status": process.returncode,
        "told": told.strip().splitlines()[-1] if told.strip() else "",
        "lines": len(lines_of(record)),
        "seconds": round(time.monotonic() - begin, 1),
        "workers_that_ended_with_it": len(gone),
        "workers_that_did_not": len(alive),
    }


def troubles(source: Path, output: Path, sender: Compressor, count: int, damaged: int) -> list[str]:
    """Return everything that is not as it should be."""
    lines = lines_of(output / RECORD_NAME)
    images = {path for path in source.rglob("*") if path.is_file()}
    done = collections.Counter(line["source"] for line in lines if line["status"] == "done")
    last = {line["source"]: line for line in lines}
    payloads = {path.relative_to(output) for path in output.rglob("*") if path.is_file()} - {Path(RECORD_NAME)}
    mirrored = {Path(name).relative_to(source).with_suffix(".jpg") for name in done}
    found = []
    if len(images) != count + damaged or set(last) != set(map(str, images)):
        found.append(f"{len(images)} images, {len(last)} in the record")
    if any(times != 1 for times in done.values()) or len(done) != count:
        found.append(f"{len(done)} done, {sum(times != 1 for times in done.values())} of them more than once")
    if sum(line["status"] == "failed" and bool(line["error"]) for line in last.values()) != damaged:
        found.append("failures are not the damaged images")
    if payloads != mirrored:
        found.append(f"{len(payloads ^ mirrored)} files are not where they should be, or should not be there")
    wrong = [line for line in last.values() if line["status"] == "done" and not _right(line)]
    if wrong:
        found.append(f"{len(wrong)} lines of the record do not say what is on the disk")
    sampled = random.Random(1).sample(sorted(done), min(200, len(done)))
    different = [
        name for name in sampled if Path(last[name]["output"]).read_bytes() != sender.compress(Path(name), QUALITY)
    ]
    if different:
        found.append(f"{len(different)} of {len(sampled)} payloads are not what one process makes")
    return found


def _right(line: dict) -> bool:
    sizes = [Path(line[key]).stat().st_size for key in ("source", "output")]
    return sizes == [line["bytes_before"], line["bytes_after"]] and line["quality"] == QUALITY and line["seconds"] > 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--damaged", type=int, default=7)
    parser.add_argument("--photos", type=Path, help="a folder of photographs to cut pieces from")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "bulk_job.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    registry = Registry()
    network = registry.create("preprocessor", "qa-smooth")
    sender = Compressor(registry.create("codec", "jpeg"), network, ladder=(5, 40))
    with tempfile.TemporaryDirectory() as place:
        source, output, model = Path(place, "in"), Path(place, "out"), Path(place, "sender.safetensors")
        sender.save(model)
        make_images(source, options.images, options.damaged, options.photos)
        command = [sys.executable, "-m", "precomp_sdk", "--quiet", "compress", str(model), str(source)]
        command += ["--quality", str(QUALITY), "--output", str(output), "--workers", str(options.workers)]
        total = options.images + options.damaged
        ended = [run_until(command, output / RECORD_NAME, int(share * total), number) for share, number in ENDS]
        begin = time.monotonic()
        last = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
        seconds = time.monotonic() - begin
        statuses = collections.Counter(record["status"] for record in json.loads(last.stdout)["records"])
        found = troubles(source, output, sender, options.images, options.damaged)
    found += [
        f"{item['workers_that_did_not']} workers outlived the job" for item in ended if item["workers_that_did_not"]
    ]
    result = {
        "images": options.images,
        "damaged": options.damaged,
        "workers": options.workers,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ended": ended,
        "last_run": {"seconds": round(seconds, 1), **statuses},
        "troubles": found,
    }
    write_whole(options.output, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
