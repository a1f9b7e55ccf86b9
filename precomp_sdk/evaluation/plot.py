"""The rate-accuracy plot."""

from collections.abc import Collection, Sequence
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from precomp_sdk.evaluation._figure import ShownFigure
from precomp_sdk.evaluation.rates.bjontegaard import TASK_LOSS, BDRate
from precomp_sdk.evaluation.results import Evaluation, JudgeResult
from precomp_sdk.types import RateAccuracyCurve

__all__ = ["draw", "figure_of"]

_STRONG = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito: distinct for colour-blind readers too
_MUTED = ("#e69f00", "#56b4e9", "#8c6d31", "#999999")
_PARTIAL = 0.8  # below this part of the score range, the legend says how much a BD-rate covers
STYLE: list[str | Path | dict[str, Any]] = [
    "default",
    {"svg.hashsalt": "precomp"},
]  #: of Matplotlib: whatever the user's style is
_MARKERS = ("s", "D", "^", "v")


def draw(evaluation: Evaluation, file_format: Literal["png", "svg"]) -> bytes:
    """Draw all curves over the rate: the main metric on the left, the task loss on the right; a row for each judge.

    The BD-rates against the anchor, with their intervals, stand in the legends. Drawn without pyplot; the same
    evaluation gives the same bytes with the same version of Matplotlib.

    Returns:
        The file.
    """
    with matplotlib.style.context(STYLE):
        figure, buffer = figure_of(evaluation), BytesIO()
        figure.savefig(buffer, format=file_format, metadata={"Date": None} if file_format == "svg" else None)
    return buffer.getvalue()


def figure_of(evaluation: Evaluation) -> Figure:
    """Return the figure that `draw` writes."""
    judged: tuple[Evaluation | JudgeResult, ...] = (evaluation, *evaluation.judges)
    with matplotlib.style.context(STYLE):
        figure = ShownFigure(figsize=(12.5, 6.6 * len(judged)), dpi=130, layout="constrained")
        FigureCanvasAgg(figure)
        baselines = {*(tuned.name for tuned in evaluation.tuned), *evaluation.controls}
        for found, (left, right) in zip(judged, figure.subplots(len(judged), 2, squeeze=False), strict=True):
            metric = found.metrics[0]
            _panel(left, found, metric, baselines)
            _panel(right, found, TASK_LOSS, baselines)
            left.set_ylabel(metric)
            right.set_ylabel("task loss")
            if isinstance(found, JudgeResult):
                left.set_title(f"judge {found.name}", fontsize=11)
        figure.suptitle(
            f"{evaluation.codec} for {evaluation.task} on {evaluation.dataset}, {evaluation.images} images",
            fontsize=13,
        )
    return figure


def _panel(axes: Axes, evaluation: Evaluation | JudgeResult, metric: str, baselines: Collection[str]) -> None:
    """Draw one metric of the task or of a judge; curves come in the evaluation's order, the anchor on top."""
    strong, muted = cycle(_STRONG), cycle(_MUTED)
    markers = cycle(_MARKERS)
    for curve in evaluation.curves:
        label = _label(evaluation, curve, metric)
        rates = [point.bpp for point in curve.points]
        values = [point.task_loss if metric == TASK_LOSS else point.scores[metric] for point in curve.points]
        if curve is evaluation.curves[0]:
            axes.plot(rates, values, color="black", marker="o", lw=2, ms=5, zorder=3, label=label)
        elif curve.label in baselines:
            color, marker = next(muted), next(markers)
            axes.plot(rates, values, color=color, marker=marker, mfc="white", lw=1.4, ms=5, ls="--", label=label)
        else:
            color, marker = next(strong), next(markers)
            axes.plot(rates, values, color=color, marker=marker, lw=2, ms=5, zorder=4, label=label)
    clean = evaluation.clean.task_loss if metric == TASK_LOSS else evaluation.clean.scores[metric]
    axes.axhline(clean, color="0.45", ls=(0, (6, 3)), lw=1, zorder=1, label=f"clean, no codec: {clean:.3f}")
    axes.set_xscale("log")
    _rate_ticks(axes, [point.bpp for curve in evaluation.curves for point in curve.points])
    axes.set_xlabel("rate in bits per pixel")
    axes.grid(visible=True, which="major", color="0.9", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        loc="upper center",  # below the axes: inside, it would hide points of one curve or another
        bbox_to_anchor=(0.5, -0.14),
        title=_legend_title(evaluation, metric),
        alignment="left",
        framealpha=0.9,
        edgecolor="0.85",
        fontsize=9,
        title_fontsize=9,
    )


def _label(evaluation: Evaluation | JudgeResult, curve: RateAccuracyCurve, metric: str) -> str:
    """Return a curve's legend: its label, its settings, its BD-rate with the interval."""
    settings = ", ".join(f"{name} {value:g}" for name, value in curve.settings.items())
    label = curve.label + (f" ({settings})" if settings else "")
    for item in evaluation.comparisons:
        if (item.test, item.metric) == (curve.label, metric):
            if item.value_percent is None:
                return f"{label}: {_why_none(item)}"
            interval = "" if item.interval is None else f" {item.interval}"
            partial = f", {item.overlap:.0%} overlap" if item.overlap < _PARTIAL else ""
            return f"{label}: {item.value_percent:+.1f}%{interval}{partial}"
    return label


def _legend_title(evaluation: Evaluation | JudgeResult, metric: str) -> str | None:
    compared = [item for item in evaluation.comparisons if item.metric == metric]
    if not compared:
        return None
    levels = [item.interval.level for item in compared if item.interval is not None]
    return "BD-rate against the anchor" + (f", {levels[0]:.0%} interval" if levels else "")


def _why_none(item: BDRate) -> str:
    if min(item.anchor_points, item.test_points) < 2:
        return "no BD-rate, flat"
    return "too little overlap" if item.overlap else "no overlap"


def _rate_ticks(axes: Axes, rates_bpp: Sequence[float]) -> None:
    """Label a logarithmic axis with plain numbers, as many as read well."""
    span = max(rates_bpp) / min(rates_bpp)
    steps = (
        (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if span < 8 else (1.0, 2.0, 3.0, 5.0, 7.0) if span < 30 else (1.0, 2.0, 5.0)
    )
    axes.xaxis.set_major_locator(LogLocator(base=10.0, subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
