"""What the receiver's rounding changes: the same images, upscaled and rounded to 8 bits, or upscaled alone.

    python benchmarks/receiver_rounding.py benchmarks/experiments/imagenette_jpeg.toml --images 300 \
        --ladder 5 12 26 38 --factors 0.35 0.5 0.65 0.8 --set data.val.root=DIR --set task.weights=FILE ...

Codec, task and validation images are the experiment's; no preprocessor is used. Per quality and factor: the score, the
mean task loss, and ``bpp + lambda * loss`` relative to full resolution, by which `choose-resolutions` chooses; the
second number of each pair is without the rounding. The bits are the same.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precomp_sdk import Channel, Registry, Subset, Transcoder, to_float, upscale
from precomp_sdk.config import load_experiment
from precomp_sdk.run import build_evaluation
from precomp_sdk.training import slopes

BATCH = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path, help="an experiment file")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--ladder", type=float, nargs="+", required=True)
    parser.add_argument("--factors", type=float, nargs="+", required=True)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    parts = build_evaluation(load_experiment(options.experiment, options.settings), Registry())
    total = len(parts.val)
    options.images = min(options.images, total)
    chosen = Subset(parts.val, [index * total // options.images for index in range(options.images)])
    parts.task.eval()
    rows: dict[float, dict[float, dict[str, Any]]] = {factor: {} for factor in (1.0, *options.factors)}
    with Transcoder(parts.codec, workers=1) as transcoder, torch.no_grad():
        channel = Channel(transcoder)
        for factor, by_quality in rows.items():
            for quality in options.ladder:
                by_quality[quality] = measure(channel, parts.task, chosen, quality, factor)
    prices = slopes(
        np.array([rows[1.0][quality]["bpp"] for quality in options.ladder]),
        np.array([rows[1.0][quality]["loss"][0] for quality in options.ladder]),
    )
    print("| quality | factor | bpp | score | task loss | objective | values moved by rounding, mean levels |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for quality, price in zip(options.ladder, prices, strict=True):
        anchor = rows[1.0][quality]["bpp"] + price * rows[1.0][quality]["loss"][0]
        for factor in options.factors:
            row = rows[factor][quality]
            row["objective"] = [(row["bpp"] + price * loss) / anchor for loss in row["loss"]]
            pairs = [", ".join(f"{value:.4f}" for value in row[name]) for name in ("score", "loss", "objective")]
            print(f"| {quality:g} | {factor:g} | {row['bpp']:.3f} | {' | '.join(pairs)} | {row['moved']:.3f} |")
    print(f"{options.images} images, {time.perf_counter() - started:.0f} s")
    if options.output is not None:
        options.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measure(channel: Channel, task: Any, dataset: Any, quality: float, factor: float) -> dict[str, Any]:
    """Return bits per pixel, and score and loss with and without the receiver's rounding."""
    bits = pixels = moved = 0.0
    losses: tuple[list[float], list[float]] = ([], [])
    statistics: tuple[list[Any], list[Any]] = ([], [])
    for first in range(0, len(dataset), BATCH):
        samples = [dataset[index] for index in range(first, min(first + BATCH, len(dataset)))]
        sources = [sample.image for sample in samples]
        sent = channel.submit(sources, [quality] * len(sources), [factor] * len(sources))
        received = sent.result()
        bits += float(received.bits.sum())
        pixels += sum(image[0].numel() for image in sources)
        rounded = [to_float(image) for image in received.images]
        exact = unrounded(sent.coded, rounded)
        moved += sum(float((one - other).abs().mean()) * 255 for one, other in zip(rounded, exact, strict=True))
        targets = [sample.target for sample in samples]
        for kind, images in enumerate((rounded, exact)):
            predictions, found = task.predict_with_losses(images, targets)
            losses[kind].extend(found.double().tolist())
            statistics[kind].extend(task.scorer.measure(*pair) for pair in zip(predictions, targets, strict=True))
    weights = np.ones(len(dataset))
    scores = [task.scorer.combine(rows, weights)[task.scorer.metrics[0]] for rows in statistics]
    means = [float(np.mean(values)) for values in losses]
    return {"bpp": bits / pixels, "score": scores, "loss": means, "moved": moved / len(dataset)}


def unrounded(coded: Sequence[Any], like: Sequence[Tensor]) -> list[Tensor]:
    """Return what a receiver that does not round again would give the judge."""
    found: dict[int, Tensor] = {}
    for batch in coded:
        images, _ = batch.decoded()
        found.update(zip(batch.places, upscale(images, batch.size), strict=True))
    return [found[place] for place in range(len(like))]


if __name__ == "__main__":
    main()
