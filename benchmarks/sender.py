"""Time and memory of the sender against the size of the image, from 128 pixels to 100 megapixels.

    python benchmarks/sender.py ../shared/data/kodak

Time: preprocessing and JPEG's encoder on the same image, one thread, CPU time, taking turns in one process; ratios are
medians of the turns' own ratios. Memory: the peak of the resident set of ``precomp compress`` as a process of its own,
less that of the same command on an image of 64 x 64. Images are a mosaic of the photographs. Networks have drawn
weights (time and memory do not depend on them). Writes ``results/sender.json`` and ``.md``, and a plot with ``--plot``.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from precomp_jpeg import JPEGCodec
from precomp_qacnn import FreeQACNN, LightQACNN, PaperQACNN, SmoothQACNN
from precomp_sdk import Channel, Compressor, Preprocessor
from precomp_sdk.allocator import keep_freed_memory
from precomp_sdk.deploy.resources import memory_needed

RESULTS = Path(__file__).parent / "results"
QUALITY = 20
SIDES = (  # width, height
    (128, 128), (256, 256), (512, 512), (1024, 1024), (2048, 2048), (4000, 3000), (6000, 4000), (8000, 6250),
    (10000, 10000),
)  # fmt: skip
# The command, which says at its end what it took. A process inherits its parent's peak in ru_maxrss, but not in VmHWM.
WATCHED = """
import atexit, runpy, sys, time
def tell():
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(peak, time.process_time(), file=sys.stderr)
atexit.register(tell)
runpy.run_module("precomp_sdk", run_name="__main__")
"""
Row = dict[str, float | int | str]


@dataclass(frozen=True)
class Contestant:
    """A network at the sender, and the largest images it is measured on, in pixels."""

    make: Callable[[], Preprocessor]
    timed_px: int
    weighed_px: int


CONTESTANTS = {
    "qa-smooth": Contestant(SmoothQACNN, 2**25, 10**8),
    "qa-free": Contestant(FreeQACNN, 2**24, 10**8),
    "qa-light": Contestant(LightQACNN, 2**22, 2**22),  # whole images: 0.5 kB a pixel
    "qa-paper": Contestant(PaperQACNN, 2**18, 2**20),
}


def drawn(network: Preprocessor) -> Preprocessor:
    """Return the network with weights under which no branch is idle."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def mosaic(folder: Path, width: int, height: int) -> np.ndarray:
    """Return (height, width, 3) samples: the photographs side by side, over and over."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
    if not files:
        raise SystemExit(f"{folder}: no photographs")
    images = []
    for file in files[:24]:
        image = Image.open(file).convert("RGB")
        images.append(np.array(image if image.width >= image.height else image.transpose(Image.Transpose.ROTATE_90)))
    side = (min(image.shape[0] for image in images), min(image.shape[1] for image in images))
    columns = max(1, round(len(images) ** 0.5))
    rows = [
        np.concatenate([image[: side[0], : side[1]] for image in images[at : at + columns]], axis=1)
        for at in range(0, len(images) // columns * columns, columns)
    ]
    one = np.concatenate(rows or [images[0]], axis=0)
    down, across = -(-height // one.shape[0]), -(-width // one.shape[1])
    return np.ascontiguousarray(np.tile(one, (down, across, 1))[:height, :width])


def cpu_s(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def speed(image: Tensor, turns: int) -> Row:
    """Return CPU milliseconds a megapixel of encoders and networks, and ratios to the optimized encoder."""
    pixels = image.shape[1] * image.shape[2]
    codec, plain = JPEGCodec(), JPEGCodec(optimize=False)
    work: dict[str, Callable[[], object]] = {
        "jpeg": lambda: codec.encode(image, QUALITY),
        "jpeg-plain": lambda: plain.encode(image, QUALITY),
    }
    for name, contestant in CONTESTANTS.items():
        if pixels <= contestant.timed_px:
            channel = Channel(codec, drawn(contestant.make()))
            work[name] = lambda channel=channel: channel.send([image], [QUALITY])  # type: ignore[misc]
    spent: dict[str, list[float]] = {name: [] for name in work}
    repeats = max(1, round(2**18 / pixels))  # so that small images take more than the clock's step
    with torch.no_grad():
        for turn in range(turns + 1):  # the first warms up
            for name, run in work.items():
                seconds = cpu_s(lambda run=run: [run() for _ in range(repeats)]) / repeats  # type: ignore[misc]
                if turn:
                    spent[name].append(1e3 * seconds / (pixels / 1e6))
    row: Row = {"width": image.shape[2], "height": image.shape[1]}
    row |= {f"{name}_ms_per_mp": round(median(times), 2) for name, times in spent.items()}
    for name in CONTESTANTS.keys() & spent.keys():
        pairs = zip(spent[name], spent["jpeg"], strict=True)
        row[f"{name}_times_jpeg"] = round(median(mine / its for mine, its in pairs), 2)
    return row


def compress(model: Path, image: Path, output: Path) -> tuple[float, float]:
    """Run the command; return its peak resident set in MB and its CPU seconds."""
    arguments = ["compress", str(model), str(image), "--quality", str(QUALITY), "--output", str(output)]
    arguments += ["--max-pixels", str(2 * 10**8)]
    command = [sys.executable, "-c", WATCHED, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    peak_kib, seconds = done.stderr.split()[-2:]
    return int(peak_kib) * 1024 / 1e6, float(seconds)


def memory(name: str, files: dict[tuple[int, int], Path], place: Path) -> list[Row]:
    """Return the peaks of ``precomp compress`` with a network, over the idle process, beside what was foretold."""
    network = drawn(CONTESTANTS[name].make())
    model = place / f"{name}.safetensors"
    Compressor(JPEGCodec(), network).save(model)
    idle_mb, idle_s = compress(model, files[64, 64], place / "small.jpg")
    rows: list[Row] = []
    for (width, height), file in files.items():
        if width == height == 64 or width * height > CONTESTANTS[name].weighed_px:
            continue
        peak_mb, seconds = compress(model, file, place / "payload.jpg")
        row: Row = {
            "network": name,
            "width": width,
            "height": height,
            "idle_mb": round(idle_mb, 1),
            "over_idle_mb": round(peak_mb - idle_mb, 1),
            "foretold_mb": round(memory_needed(network, (height, width)) / 1e6, 1),
            "cpu_s_over_idle": round(seconds - idle_s, 2),
        }
        print(row, flush=True)
        rows.append(row)
    return rows


def report(result: dict[str, object], command: str) -> str:
    times, peaks = result["speed"], result["memory"]
    assert isinstance(times, list)
    assert isinstance(peaks, list)
    names = [name for name in CONTESTANTS if any(f"{name}_ms_per_mp" in row for row in times)]
    lines = [
        "# The sender: time and memory against the size of the image",
        "",
        f"`{command}`: one thread on one of {result['cpus']} cores, load average {result['load']:.1f}.",
        "",
        "CPU milliseconds a megapixel, and times JPEG's encoder (optimized Huffman tables) in the same turn:",
        "",
        f"| size | megapixels | JPEG, optimized | JPEG, plain | {' | '.join(names)} |",
        f"| --- | --- | --- | --- |{' --- |' * len(names)}",
    ]
    for row in times:
        cells = [
            f"{row[f'{name}_ms_per_mp']:.0f} ({row[f'{name}_times_jpeg']:.1f}x)" if f"{name}_ms_per_mp" in row else ""
            for name in names
        ]
        megapixels = row["width"] * row["height"] / 1e6
        lines.append(
            f"| {row['width']} x {row['height']} | {megapixels:.2f} | {row['jpeg_ms_per_mp']:.1f} "
            f"| {row['jpeg-plain_ms_per_mp']:.1f} | {' | '.join(cells)} |"
        )
    lines += [
        "",
        "Peak of `precomp compress` over the idle process (the same command on 64 x 64):",
        "",
        "| network | size | MB over idle | foretold MB | measured / foretold | CPU s over idle |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['network']} | {row['width']} x {row['height']} | {row['over_idle_mb']:.0f} | {row['foretold_mb']:.0f} "
        f"| {row['over_idle_mb'] / row['foretold_mb']:.2f} | {row['cpu_s_over_idle']:.1f} |"
        for row in peaks
    ]
    return "\n".join(lines) + "\n"


def plot(result: dict[str, object], file: Path) -> None:
    """Draw time a megapixel and memory against the size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    times, peaks = result["speed"], result["memory"]
    assert isinstance(times, list)
    assert isinstance(peaks, list)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    colours = {"jpeg": "0.4", "qa-smooth": "C0", "qa-free": "C2", "qa-light": "C1", "qa-paper": "C3"}
    for name, colour in colours.items():
        rows = [row for row in times if f"{name}_ms_per_mp" in row]
        label = "JPEG's encoder, optimized" if name == "jpeg" else name
        if not rows:  # not measured in this run
            continue
        sizes = [row["width"] * row["height"] / 1e6 for row in rows]
        left.loglog(sizes, [row[f"{name}_ms_per_mp"] for row in rows], "o-", color=colour, label=label)
        rows = [row for row in peaks if row["network"] == name]
        if rows:
            sizes = [row["width"] * row["height"] / 1e6 for row in rows]
            right.loglog(sizes, [max(1.0, row["over_idle_mb"]) for row in rows], "o-", color=colour, label=name)
            right.loglog(sizes, [row["foretold_mb"] for row in rows], ":", color=colour, label=f"{name}, foretold")
    for axes, bar, told in ((left, None, ""), (right, (24, 1000), "bar at 24 MP"), (right, (100, 1500), "at 100 MP")):
        axes.grid(True, which="both", alpha=0.2)
        axes.set_xlabel("megapixels of the image")
        if bar is not None:
            axes.plot(*bar, "kv")
            axes.annotate(told, bar, textcoords="offset points", xytext=(-4, 7), ha="right", fontsize=8)
    left.set_ylabel("CPU ms a megapixel, one core")
    right.set_ylabel("peak of precomp compress, MB over idle")
    right.set_ylim(top=5000)
    for axes in (left, right):
        axes.legend(fontsize=8)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="photographs")
    parser.add_argument("--turns", type=int, default=3, help="timed turns at each size")
    parser.add_argument("--sizes", nargs="+", default=[f"{width}x{height}" for width, height in SIDES], metavar="WxH")
    parser.add_argument("--only", choices=("speed", "memory"), help="measure one, keep the other as it was")
    parser.add_argument("--plot", type=Path, help="a PNG file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as the command line does
    sides = [(int(size.split("x")[0]), int(size.split("x")[1])) for size in options.sizes]
    kept = RESULTS / "sender.json"
    result: dict[str, object] = json.loads(kept.read_text()) if options.only and kept.exists() else {}
    result |= {"cpus": os.cpu_count(), "machine": platform.machine(), "torch": torch.__version__, "quality": QUALITY}
    if options.only != "memory":
        rows = []
        for width, height in sides:
            if width * height <= max(item.timed_px for item in CONTESTANTS.values()):
                image = torch.from_numpy(mosaic(options.folder, width, height)).permute(2, 0, 1).contiguous()
                rows.append(speed(image, options.turns))
                print(rows[-1], flush=True)
        result["speed"] = rows
    if options.only != "speed":
        with TemporaryDirectory() as folder:
            place, files = Path(folder), {}
            for width, height in ((64, 64), *sides):
                files[width, height] = place / f"{width}x{height}.jpg"
                Image.fromarray(mosaic(options.folder, width, height)).save(files[width, height], quality=90)
            result["memory"] = [row for name in CONTESTANTS for row in memory(name, files, place)]
    result["load"] = os.getloadavg()[0]
    RESULTS.mkdir(exist_ok=True)
    kept.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = report(result, f"python benchmarks/sender.py {options.folder.name} --sizes {' '.join(options.sizes)}")
    (RESULTS / "sender.md").write_text(text, encoding="utf-8")
    if options.plot is not None:
        plot(result, options.plot)
    print(text)


if __name__ == "__main__":
    main()
