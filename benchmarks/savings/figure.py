"""The figure: six panels, {JPEG, BPG} x {classification, detection, segmentation}, for judges outside.

python benchmarks/savings/figure.py --store runs/savings/store --preprocessor smooth_{codec}-step_240 \
        --output docs/results/carry_over.png
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from curves import constant, measured, normalizers
from matplotlib import pyplot  # the backend comes first
from table import CELLS, INSIDE, SCORERS, load, methods

SHOWN = {
    "anchor": ("codec alone", "#444444", "-"),
    "control: equal bits": ("control: equal bits", "#999999", ":"),
    "ours": ("ours, this network outside", "#c1272d", "-"),
    "all, in the loop": ("ours, this network in the loop", "#0071bc", "--"),
}
PANELS = (("classification", "lite0"), ("detection", "nanodet"), ("segmentation", "deeplab"))
NAMES = {"lite0": "EfficientNet-Lite0", "nanodet": "NanoDet-m", "deeplab": "DeepLabV3"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("runs/savings/store"))
    parser.add_argument("--preprocessor", default="smooth_{codec}-step_240")
    parser.add_argument("--ours", default="chosen with all")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7.4), constrained_layout=True)
    for row, codec in enumerate(("jpeg", "bpg")):
        for column, (cell, judge) in enumerate(PANELS):
            axis = axes[row, column]
            set_name, judges = CELLS[cell]
            raw = load(arguments.store, set_name, codec, "raw")
            if raw is None:
                continue
            scorer, _ = SCORERS[judge]
            network = arguments.preprocessor.format(codec=codec)
            units = normalizers(raw, tuple(raw.losses))
            panel = tuple(name for name in judges[judge] if name in raw.losses)
            found = methods(arguments.store, set_name, codec, network, raw, judge, panel, units)
            found["anchor"] = (raw, constant(raw, "anchor"), True)
            found["ours"] = found.get(arguments.ours, found["chosen"])
            for label, (name, colour, style) in SHOWN.items():
                if label not in found:
                    continue
                table, choice, _ = found[label]
                points = measured(table, choice, judge, scorer).curve().points
                bpps = np.array([point.bpp for point in points])
                losses = np.array([point.task_loss for point in points])
                kept = np.minimum.accumulate(losses) >= losses - 1e-12
                axis.plot(
                    bpps[kept], losses[kept], style, color=colour, label=name, linewidth=2 if label == "ours" else 1.4
                )
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_title(
                f"{cell}: {NAMES[judge]} behind {'optimized JPEG' if codec == 'jpeg' else 'BPG'}", fontsize=10
            )
            axis.grid(visible=True, which="both", alpha=0.2)
            if column == 0:
                axis.set_ylabel("divergence from its own clean answer")
            if row == 1:
                axis.set_xlabel("bits per pixel")
    axes[0, 0].legend(fontsize=8)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output, dpi=110)
    assert INSIDE.isdisjoint(judge for _, judge in PANELS)


if __name__ == "__main__":
    main()
