"""Whom a network hurts: class by class, small objects, and to the eye. From finished measurements, and a few encodes.

    python benchmarks/savings/harm.py DATA --networks shipped=FILE free=FILE --codec bpg --gallery eye.jpg \
        --output benchmarks/results/savings/harm_bpg.json

``--networks`` names weights that `measure.py` has measured (``LABEL=FILE``, the tables are known by the file's folder).

classes  BD-rate of the divergence for each of the ten classes of `cls-score`, 12 photographs each
sizes    difference of a detector's mAP against its own clean answers for small, medium and large objects (COCO's sizes)
         at equal bits per pixel, mean over the logarithm of the rates that both reach, with its interval over images
eye      BD-rate on PSNR and on SSIM (11 x 11, kornia's) over 24 Kodak photographs: what equal quality to the eye costs
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from curves import compare, constant
from kornia.metrics import ssim
from measure import make_codec
from numpy.typing import NDArray
from sets import load_set
from store import Table
from table import load
from torch import Tensor
from variants import make_sent

from precomp_sdk import BoxScorer, Codec, LabelScorer, RateAccuracyCurve, RatePoint
from precomp_sdk.evaluation import bd_rate

mpl.use("Agg")
from matplotlib import pyplot  # the backend comes first

REPLICATES = 60
SIZES = ("small", "medium", "large")
SHOWN = (("cls-score", 3), ("coco-score", 5), ("camvid-score", 8))  # image of a set, in the gallery
GALLERY_QUALITY = 36.0

Array = NDArray[np.float64]


def rows_of(table: Table, rows: Sequence[int]) -> Table:
    """Return a table of some images."""
    places = list(rows)
    return Table(
        table.qualities, table.bits[places], table.pixels[places], table.mse[places],
        {name: losses[places] for name, losses in table.losses.items()},
        {name: [items[place] for place in places] for name, items in table.evidence.items()}, {},
    )  # fmt: skip


def classes(anchor: Table, ours: Table, judge: str) -> list[object]:
    """Return BD-rate and interval for each class; images are in turn of the ten classes."""
    found = []
    for label in range(10):
        pair = [rows_of(table, range(label, len(anchor.bits), 10)) for table in (anchor, ours)]
        told = compare((pair[0], constant(pair[0])), (pair[1], constant(pair[1])), judge, LabelScorer(), replicates=500)
        found.append([told["percent"], told["low"], told["high"]])
    return found


def sizes(anchor: Table, ours: Table, judge: str) -> dict[str, object]:
    """Return the difference of mAP by object size at equal bits, in points, with its interval."""
    draws = np.random.default_rng(0)
    count = len(anchor.bits)
    whole = _by_size(anchor, ours, judge, np.arange(count))
    drawn = np.array([_by_size(anchor, ours, judge, draws.integers(0, count, count)) for _ in range(REPLICATES)])
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    objects = BoxScorer(80).per_size([row[0] for row in anchor.evidence[judge]])
    return {
        size: {
            "objects": objects[size][0],
            "points": 100 * whole[place],
            "interval": [100 * low[place], 100 * high[place]],
        }
        for place, size in enumerate(SIZES)
    }


def _by_size(anchor: Table, ours: Table, judge: str, rows: NDArray[np.int64]) -> list[float]:
    scorer, curves = BoxScorer(80), []
    for table in (anchor, ours):
        rates = np.log(table.bits[rows].mean(axis=0) / table.pixels[rows].mean())
        scores = []
        for column in range(table.bits.shape[1]):
            by_size = scorer.per_size([table.evidence[judge][row][column] for row in rows])
            scores.append([by_size[size][1] for size in SIZES])
        order = np.argsort(rates)
        curves.append((rates[order], np.array(scores)[order]))
    low, high = max(curve[0][0] for curve in curves), min(curve[0][-1] for curve in curves)
    grid = np.linspace(low, high, 50)
    return [
        float(np.mean(np.interp(grid, *_column(curves[1], place)) - np.interp(grid, *_column(curves[0], place))))
        for place in range(len(SIZES))
    ]


def _column(curve: tuple[Array, Array], place: int) -> tuple[Array, Array]:
    return curve[0], curve[1][:, place]


def eye(codec: Codec, ladder: Sequence[float], variants: dict[str, str], data: Path) -> dict[str, object]:
    """Return BD-rates on PSNR and SSIM to the codec alone, over Kodak, and the points they come from."""
    images = load_set("kodak", data)
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for label, variant in variants.items():
        sums = np.zeros((len(ladder), 3))
        for source in images:
            sent = make_sent(variant, codec, ladder, [source], data)[0]
            for place, quality in enumerate(ladder):
                image = sent if isinstance(sent, Tensor) else sent[place]
                payload = codec.encode(image, quality)
                pair = [item[None].float() / 255 for item in (source, codec.decode(payload))]
                sums[place] += (
                    8 * len(payload) / source[0].numel(),
                    -10 * float((pair[0] - pair[1]).square().mean().log10()),
                    float(ssim(*pair, 11).mean()),
                )
        curves[label] = [tuple(row) for row in (sums / len(images)).tolist()]
        print(label, curves[label], flush=True)
    found: dict[str, object] = {label: {"bpp_psnr_ssim": points} for label, points in curves.items()}
    for metric, place in (("PSNR", 1), ("SSIM", 2)):
        made = {}
        for label, points in curves.items():
            rows = zip(ladder, points, strict=True)
            made[label] = RateAccuracyCurve(
                label, tuple(RatePoint(quality, row[0], {metric: row[place]}, 0.0) for quality, row in rows)
            )
        for label in list(made)[1:]:
            told = bd_rate(made["codec alone"], made[label], metric)
            found[label][metric] = {"percent": told.value_percent, "overlap": told.overlap}  # type: ignore[index]
    return found


def gallery(codec: Codec, variants: dict[str, str], data: Path, file: Path) -> None:
    """Draw sources and what a receiver sees of each variant, at about the bits that the codec alone takes."""
    figure, axes = pyplot.subplots(len(SHOWN), 1 + len(variants), figsize=(3.2 * (1 + len(variants)), 8.4),
                                   constrained_layout=True)  # fmt: skip
    qualities = np.arange(26, 45)
    for row, (set_name, place) in enumerate(SHOWN):
        source = load_set(set_name, data)[place]
        wanted = len(codec.encode(source, GALLERY_QUALITY))
        _show(axes[row, 0], source, "source")
        for column, (label, variant) in enumerate(variants.items(), 1):
            sent = make_sent(variant, codec, list(map(float, qualities)), [source], data)[0]
            payloads = [
                codec.encode(sent if isinstance(sent, Tensor) else sent[at], float(quality))
                for at, quality in enumerate(qualities)
            ]
            best = int(np.argmin([abs(len(payload) - wanted) for payload in payloads]))
            rate = 8 * len(payloads[best]) / source[0].numel()
            _show(axes[row, column], codec.decode(payloads[best]), f"{label}\nQP {qualities[best]}, {rate:.2f} bpp")
    figure.savefig(file, dpi=80)


def _show(axis: pyplot.Axes, image: Tensor, title: str) -> None:
    axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--networks", nargs="+", required=True, help="LABEL=FILE")
    parser.add_argument("--codec", default="bpg")
    parser.add_argument("--store", type=Path, default=Path("runs/savings/store"))
    parser.add_argument("--gallery", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    codec, ladder = make_codec(arguments.codec)
    networks = dict(item.split("=", 1) for item in arguments.networks)
    found: dict[str, dict[str, object]] = {label: {} for label in networks}
    for label, file in networks.items():
        name = Path(file).parent.name
        for set_name, judges, measure in (
            ("cls-score", ("lite0", "lite1"), classes),
            ("coco-score", ("nanodet", "fastestdet"), sizes),
        ):
            anchor = load(arguments.store, set_name, arguments.codec, "raw")
            ours = load(arguments.store, set_name, arguments.codec, name)
            assert anchor is not None
            assert ours is not None
            for judge in judges:
                found[label][f"{measure.__name__}, {judge}"] = measure(anchor, ours, judge)
                print(label, judge, found[label][f"{measure.__name__}, {judge}"], flush=True)
    variants = {"codec alone": "raw", **networks}
    seen = eye(codec, ladder, variants, arguments.data)
    arguments.output.write_text(json.dumps({"networks": found, "eye": seen}, indent=1) + "\n")
    if arguments.gallery:
        gallery(codec, variants, arguments.data, arguments.gallery)


if __name__ == "__main__":
    main()
