"""The figure: {JPEG, BPG} x {classification, detection, segmentation}, for judges outside.

    python benchmarks/savings/figure.py --network free_bpg_0 --ours "free_bpg_0, chosen with resolution" \
        --networks free_bpg_0=squeezenet,mobilenetv2,fastestdet --output docs/results/carry_over.png

Nothing is encoded or judged here.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from curves import constant, measured, normalizers
from matplotlib import pyplot  # the backend comes first
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from table import CELLS, SCORERS, load, methods, trained

SHOWN = {
    "anchor": ("codec alone", "#444444", "-"),
    "control: equal bits": ("control: equal bits", "#999999", ":"),
    "control: one resolution for all": ("control: one resolution and quality for all", "#009e73", "-."),
    "ours": ("ours, this network outside", "#c1272d", "-"),
    "by squared error": ("control: the same choice by squared error", "#b08d57", (0, (3, 1))),
    "all, by the judge alone": ("all chosen by this network itself", "#0071bc", "--"),
}
PANELS = (("classification", "lite0"), ("detection", "nanodet"), ("segmentation", "deeplab"))
NAMES = {"lite0": "EfficientNet-Lite0", "nanodet": "NanoDet-m", "deeplab": "DeepLabV3"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("runs/savings/store"))
    parser.add_argument("--codecs", nargs="+", default=["jpeg", "bpg"])
    parser.add_argument("--networks", nargs="+", default=[], help="as table.py has them")
    parser.add_argument("--network", help="the one that is shown alone")
    parser.add_argument("--ours", default="chosen with all")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    networks, rows = trained(arguments.networks), len(arguments.codecs)
    shown = dict(SHOWN)
    if arguments.network:
        shown[arguments.network] = ("trained network alone, outside", "#e08a00", "-")
        shown[f"{arguments.network}, by a centre prior"] = (
            "control: as far a change, by a centre prior",
            "#8a5fbf",
            (0, (5, 1, 1, 1)),
        )
        shown[f"{arguments.network}, all, by the judge alone"] = shown.pop("all, by the judge alone")
    figure, axes = pyplot.subplots(rows, 3, figsize=(13, 3.7 * rows), constrained_layout=True, squeeze=False)
    for row, codec in enumerate(arguments.codecs):
        for column, (cell, judge) in enumerate(PANELS):
            axis = axes[row, column]
            set_name, judges = CELLS[cell]
            raw = load(arguments.store, set_name, codec, "raw")
            if raw is None:
                continue
            scorer, _ = SCORERS[judge]
            units = normalizers(raw, tuple(raw.losses))
            panel = tuple(name for name in judges[judge] if name in raw.losses)
            found = methods(arguments.store, set_name, codec, networks, raw, judge, panel, units)
            found["anchor"] = (raw, constant(raw, "anchor"), True)
            without = arguments.ours.removeprefix(f"{arguments.network}, ")  # where a codec has no network
            found["ours"] = found.get(arguments.ours) or found.get(without) or found["chosen"]
            alone = found["all, by the judge alone"]
            found.setdefault(f"{arguments.network}, all, by the judge alone", alone)
            for label in (f"control: {arguments.ours}, by squared error", f"control: {without}, by squared error"):
                if label in found:
                    found.setdefault("by squared error", found[label])
            for label, (name, colour, style) in shown.items():
                if label not in found:
                    continue
                table, choice, _ = found[label]
                points = measured(table, choice, judge, scorer).curve().points
                bpps = np.array([point.bpp for point in points])
                losses = np.array([point.task_loss for point in points])
                kept = np.minimum.accumulate(losses) >= losses - 1e-12
                axis.plot(
                    bpps[kept],
                    losses[kept],
                    linestyle=style,
                    color=colour,
                    label=name,
                    linewidth=2 if label == "ours" else 1.4,
                )
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_title(
                f"{cell}: {NAMES[judge]} behind {'optimized JPEG' if codec == 'jpeg' else 'BPG'}", fontsize=10
            )
            axis.grid(visible=True, which="both", alpha=0.2)
            for side in (axis.xaxis, axis.yaxis):
                side.set_major_locator(LogLocator(subs=(1, 2, 5)))
                side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                side.set_minor_formatter(NullFormatter())
            if column == 0:
                axis.set_ylabel("divergence from its own clean answer")
            if row == rows - 1:
                axis.set_xlabel("bits per pixel")
    lines = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output, dpi=110)


if __name__ == "__main__":
    main()
