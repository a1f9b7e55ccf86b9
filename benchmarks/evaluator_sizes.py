"""Memory and time per image of the evaluator against the size of the images, from 128 pixels to 4K.

    python benchmarks/evaluator_sizes.py

Each size, and each way to send (the anchor, and QA-light before it), is measured in a process of its own. Memory
is the growth of the peak resident set over that of a warmed-up process, in which codec, preprocessor and task network
have run once on small images. Time is that of the whole process, all threads counted, the kernel's share included.
The task network is a SqueezeNet 1.1 of random weights, which sees every pixel. The last rows take the largest images
again, more of them and without the evaluator's bound on a batch's pixels. Writes ``results/evaluator_sizes.json`` and
``.md``.
"""

import argparse
import json
import os
import platform
import resource
import time
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from precomp_jpeg import JPEGCodec
from precomp_qacnn import LightQACNN
from precomp_sdk import Label, Target, TaskDataset, to_uint8
from precomp_sdk.evaluation import MAX_BATCH_PIXELS, EvaluateSettings, measure_curve
from precomp_torchvision import Classifier

RESULTS = Path(__file__).parent / "results"
SIZES = ((128, 128), (256, 256), (512, 512), (1024, 1024), (1920, 1080), (2560, 1440), (3840, 2160))  # width, height
QUALITY = 20
UNBOUNDED = 2**62
Row = dict[str, float | int | str]


class Drawn(TaskDataset):
    """Images of blurred and of fine noise, about as dear to code as photographs."""

    name = "drawn"
    source = "this benchmark"
    target_kind = Label.kind

    def __init__(self, width: int, height: int, count: int) -> None:
        self._size, self._count = (height, width), count

    def __len__(self) -> int:
        return self._count

    def _sample(self, index: int) -> tuple[Tensor, Target | None]:
        generator = torch.Generator().manual_seed(index)
        image = torch.full((1, 3, *self._size), 0.5)
        for period, strength in ((64, 0.3), (16, 0.15), (4, 0.08)):
            coarse = torch.randn(1, 3, *(max(2, side // period) for side in self._size), generator=generator)
            image += strength * functional.interpolate(coarse, self._size, mode="bilinear", align_corners=False)
        return to_uint8(image[0].clamp(0, 1)), Label(index=0)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux gives KiB


def measure(width: int, height: int, count: int, network: bool, max_batch_pixels: int) -> Row:
    """Measure in this process, which must be a fresh one."""
    torch.manual_seed(0)
    codec = JPEGCodec()
    task = Classifier(architecture="squeezenet1_1", num_classes=10)
    preprocessor = LightQACNN() if network else None
    measure_curve(
        codec, task, Drawn(64, 64, 2), preprocessor=preprocessor, settings=EvaluateSettings(ladder=(QUALITY,))
    )
    before = peak_mib()
    start, start_cpu = time.perf_counter(), time.process_time()
    measured = measure_curve(
        codec,
        task,
        Drawn(width, height, count),
        preprocessor=preprocessor,
        settings=EvaluateSettings(ladder=(QUALITY,), max_batch_pixels=max_batch_pixels),
    )
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    return {
        "width": width,
        "height": height,
        "images": count,
        "route": measured.label,
        "bounded": "yes" if max_batch_pixels == MAX_BATCH_PIXELS else "no",
        "bpp": round(float(measured.points[0].bits.sum() / measured.pixels.sum()), 3),
        "peak_growth_mib": round(peak_mib() - before, 1),
        "cpu_ms_per_image": round(1e3 * cpu_seconds / count, 1),
        "cpu_ms_per_megapixel": round(1e3 * cpu_seconds / count / (width * height / 1e6), 1),
        "wall_ms_per_image": round(1e3 * seconds / count, 1),
    }


def in_a_process(width: int, height: int, count: int, network: bool, max_batch_pixels: int) -> Row:
    """Measure in a fork of this process, which has imported everything and has not yet computed anything."""
    with get_context("fork").Pool(1) as pool:
        row = pool.apply(measure, (width, height, count, network, max_batch_pixels))
    print(row, flush=True)
    return row


def report(result: dict[str, object], command: str) -> str:
    rows = result["rows"]
    assert isinstance(rows, list)
    lines = [
        "# The evaluator: memory and time against the size of the images",
        "",
        f"`{command}`: JPEG at quality {QUALITY}, SqueezeNet 1.1 as the task, {result['threads']} threads of torch and "
        f"{result['cpus']} of the codec (load average {result['load']:.1f}, so read the CPU time). Memory is the "
        "growth of the peak resident set over a warmed-up process. Loading, here drawing, is included in both. "
        f"A batch holds 32 images at most, and no more than {MAX_BATCH_PIXELS} pixels unless one image has more; "
        "the rows marked `no` put all images into one batch.",
        "",
        "| size | images | sent | bounded | MiB | CPU ms per image | CPU ms per megapixel | wall ms per image |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['width']} x {row['height']} | {row['images']} | {row['route']} | {row['bounded']} "
        f"| {row['peak_growth_mib']:.0f} | {row['cpu_ms_per_image']:.0f} | {row['cpu_ms_per_megapixel']:.0f} "
        f"| {row['wall_ms_per_image']:.0f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = [
        in_a_process(width, height, max(2, min(32, MAX_BATCH_PIXELS // (width * height))), network, MAX_BATCH_PIXELS)
        for width, height in SIZES
        for network in (False, True)
    ]
    largest = SIZES[-1]
    rows += [in_a_process(*largest, 4, False, most) for most in (MAX_BATCH_PIXELS, UNBOUNDED)]
    result: dict[str, object] = {
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "quality": QUALITY,
        "max_batch_pixels": MAX_BATCH_PIXELS,
        "load": os.getloadavg()[0],
        "rows": rows,
    }
    text = report(result, "python benchmarks/evaluator_sizes.py")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "evaluator_sizes.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "evaluator_sizes.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
