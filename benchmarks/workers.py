"""Two workers of one job beside two jobs of their own, one process, and two workers on Ray: ratios, in one run.

    python benchmarks/workers.py --photos ../shared/data/kodak

Every way compresses a small set and a large one in turn; what lies between the two is the images' own time, without
the start of the processes. Ways are measured in turn, several times, and medians compared, so that a machine that is
busy with something else slows all alike; processor time hardly depends on that at all. With fewer than two cores wall
times say what the ways cost, and not how they scale.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from precomp_sdk import Compressor, Registry
from precomp_sdk.atomic_io import write_whole
from precomp_sdk.image_io import is_image_name, read_image, write_image
from precomp_sdk.testing import natural_image

HERE = Path(__file__).parent
THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
AIM = 0.95


def make_images(folder: Path, count: int, side: int, photos: Path | None) -> None:
    """Write as many images into each of two folders."""
    draw = random.Random(0)
    paths = [] if photos is None else sorted(path for path in photos.rglob("*") if is_image_name(path.name))[:24]
    sources = [read_image(path) for path in paths] or [natural_image(side, side, seed=seed) for seed in range(8)]
    for place in range(count):
        path = folder / f"half{place % 2}" / f"{place:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        source = draw.choice(sources)
        top, left = draw.randint(0, source.shape[1] - side), draw.randint(0, source.shape[2] - side)
        write_image(source[:, top : top + side, left : left + side], path)


def took(commands: list[list[str]]) -> tuple[float, float]:
    """Run commands at a time; return wall and processor seconds of all their processes."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = {**os.environ, **THREADS}
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for command in commands]
    if sum(process.wait() for process in running):
        raise RuntimeError(f"{commands} failed")
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begin
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of photographs to cut images from")
    parser.add_argument("--side", type=int, default=384, help="of an image, in pixels")
    parser.add_argument("--images", type=int, nargs=2, default=(40, 240), metavar=("FEW", "MANY"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ray", action="store_true", help="on Ray, too; its processes' time is not counted")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "workers.json")
    options = parser.parse_args()
    registry = Registry()
    network = registry.create("preprocessor", "qa-smooth")
    sender = Compressor(registry.create("codec", "jpeg"), network, ladder=(5, 40))
    ways = ["two processes", "two workers", "one process"]
    ways += ["two workers on ray"] if options.ray and find_spec("ray") else []
    seconds: dict[tuple[str, int], list[tuple[float, float]]] = {(way, n): [] for way in ways for n in options.images}
    with tempfile.TemporaryDirectory() as place:
        model = Path(place, "sender.safetensors")
        sender.save(model)
        for count in options.images:
            make_images(Path(place, str(count)), count, options.side, options.photos)
        for _ in range(options.repeats):
            for way, count in seconds:
                source = Path(place, str(count))
                with tempfile.TemporaryDirectory(dir=place) as output:

                    def compress(folder: Path, *more: str, output: str = output) -> list[str]:
                        command = [sys.executable, "-m", "precomp_sdk", "--quiet", "compress", str(model), str(folder)]
                        return [*command, "--quality", "20", "--output", f"{output}/{folder.name}", "--json", *more]

                    commands = {
                        "two processes": [compress(source / "half0"), compress(source / "half1")],
                        "two workers": [compress(source, "--workers", "2")],
                        "one process": [compress(source)],
                        "two workers on ray": [compress(source, "--workers", "2", "--engine", "ray")],
                    }[way]
                    seconds[way, count].append(took(commands))
                print(f"{way}, {count}: {seconds[way, count][-1]}", file=sys.stderr)
    few, many = options.images
    found = {}
    for way in ways:
        wall, cpu = (
            [large[kind] - small[kind] for small, large in zip(seconds[way, few], seconds[way, many], strict=True)]
            for kind in (0, 1)
        )
        found[way] = {
            "images_per_s": (many - few) / statistics.median(wall),
            "cpu_ms_per_image": None if "ray" in way else 1e3 * statistics.median(cpu) / (many - few),
            "start_s": statistics.median(wall for wall, _ in seconds[way, few]),
        }
    two, workers = found["two processes"], found["two workers"]
    result = {
        "side_px": options.side,
        "images": [few, many],
        "repeats": options.repeats,
        "cores": len(os.sched_getaffinity(0)),
        "ways": found,
        "two_workers_to_two_processes": workers["images_per_s"] / two["images_per_s"],
        "two_workers_to_two_processes_in_processor_time": two["cpu_ms_per_image"] / workers["cpu_ms_per_image"],
        "ways_to_one_process": {way: found[way]["images_per_s"] / found["one process"]["images_per_s"] for way in ways},
    }
    write_whole(options.output, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0 if result["two_workers_to_two_processes_in_processor_time"] >= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
