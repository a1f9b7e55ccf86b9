"""Draws the README's plot from the results in docs/results: python docs/_tools/readme_plot.py."""

from pathlib import Path

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from precomp_sdk.evaluation import read_results

RESULTS = Path(__file__).resolve().parents[1] / "results"
PANELS = (
    ("imagenette_bpg_guided", "classification, top-1", "SqueezeNet 1.1, photographs"),
    ("bccd_bpg_guided", "detection, mAP", "FCOS, blood cells"),
    ("camvid_bpg_guided", "segmentation, mIoU", "LR-ASPP, streets"),
)


def draw(target: Path) -> None:
    """Write the plot: a panel per task, the codec alone and the codec behind the preprocessor."""
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(12.0, 4.5), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (name, title, network) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
            found = read_results(RESULTS / f"{name}.json")
            (ours,) = (curve for curve in found.curves if curve.label.startswith("qa-"))
            saved = found.comparison(ours.label)
            assert saved.value_percent is not None
            assert saved.interval is not None
            low, high = saved.interval.low_percent, saved.interval.high_percent
            for curve, label, colour, marker in (
                (found.curves[0], "BPG alone", "black", "o"),
                (ours, "BPG behind the preprocessor", "#0072b2", "s"),
            ):
                points = sorted((point.bpp, point.scores[found.metrics[0]]) for point in curve.points)
                axes.plot(*zip(*points, strict=True), color=colour, marker=marker, linewidth=2.2, label=label)
            axes.set_title(f"{title}\n{network}", fontsize=11)
            axes.text(
                0.97, 0.06,
                f"{saved.value_percent:.0f}% of the bits\n95% interval {low:.0f} to {high:.0f}%",
                transform=axes.transAxes, ha="right", fontsize=11, color="#0072b2", weight="bold",
            )  # fmt: skip
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel("bits per pixel")
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        lines, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=11)
        figure.savefig(target)


if __name__ == "__main__":
    draw(RESULTS / "readme.png")
