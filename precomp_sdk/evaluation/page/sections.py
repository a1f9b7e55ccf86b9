"""The parts of a page that several kinds of results share: curves, BD-rates, settings and versions."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from precomp_sdk.evaluation._markup import Html, element, joined, table
from precomp_sdk.evaluation.page.html import details, section
from precomp_sdk.evaluation.page.plot import Point, Series, plot
from precomp_sdk.evaluation.rates.bjontegaard import RATE_HEAD, TASK_LOSS, BDRate
from precomp_sdk.evaluation.statistics import CleanScore, UncodedScore
from precomp_sdk.types import RateAccuracyCurve, RatePoint

__all__ = [
    "RATE_LABEL",
    "Curves",
    "curve_series",
    "curves_section",
    "duration",
    "pairs_table",
    "rate_cells",
    "rates_table",
    "verdict",
]

RATE_LABEL = "rate in bits per pixel"


@dataclass(frozen=True, slots=True)
class Curves:
    """What one network scored: an evaluation, one of its judges, or a cell of a transfer matrix.

    Args:
        title: of its part of the page.
        quality_name: what the codec's knob is called.
        metrics: the first is the main one.
        curves: the anchor's first.
        comparisons: of the others with the anchor.
        baselines: labels of curves that are only baselines.
        clean: with no codec.
        uncoded: preprocessed, with no codec.
    """

    title: str
    quality_name: str
    metrics: tuple[str, ...]
    curves: tuple[RateAccuracyCurve, ...]
    comparisons: tuple[BDRate, ...]
    baselines: Collection[str] = ()
    clean: CleanScore | None = None
    uncoded: tuple[UncodedScore, ...] = ()


def curves_section(found: Curves) -> Html:
    """Return plots of the main metric and of the loss, the BD-rates, and on request the rest and every number."""
    plots = {metric: _metric_plot(found, metric) for metric in (*found.metrics, TASK_LOSS)}
    first = (found.metrics[0], TASK_LOSS)
    more = [drawn for metric, drawn in plots.items() if metric not in first]
    parts = [element("div", *(plots[metric] for metric in first), class_="grid")]
    if more:
        parts.append(details("Other metrics", element("div", *more, class_="grid")))
    parts.append(rates_table(found.comparisons))
    parts.append(details("Every point", _points_table(found)))
    return section(found.title, *parts)


def curve_series(
    curve: RateAccuracyCurve, metric: str, quality_name: str, *, kind: str = "strong", label: str = "", note: str = ""
) -> Series:
    """Return a curve of one metric, as it is drawn.

    Args:
        curve: to draw.
        metric: one of its scores, or `TASK_LOSS`.
        quality_name: what the codec's knob is called.
        kind: see `Series`.
        label: instead of the curve's own.
        note: behind the label.
    """
    shown = label or labelled(curve)
    points = tuple(
        Point(
            point.bpp,
            value(point, metric),
            f"{shown}\n{quality_name} {point.quality:g}: {point.bpp:.4f} bpp\n"
            + "\n".join(f"{name} {score:.4f}" for name, score in {**point.scores, TASK_LOSS: point.task_loss}.items()),
        )
        for point in curve.points
        if point.bpp > 0
    )
    return Series(shown, points, kind if kind in ("anchor", "muted") else "strong", note)  # type: ignore[arg-type]


def labelled(curve: RateAccuracyCurve) -> str:
    """Return a curve's label with its settings."""
    settings = ", ".join(f"{name} {number:g}" for name, number in curve.settings.items())
    return curve.label + (f" ({settings})" if settings else "")


def value(point: RatePoint, metric: str) -> float:
    """Return a point's value of a metric; the loss as it is."""
    return point.task_loss if metric == TASK_LOSS else point.scores[metric]


def rate_cells(item: BDRate) -> tuple[str, ...]:
    """Return value, interval and overlap of a comparison; green where it saves for sure, red where it harms."""
    kind = "good" if item.saves else "bad" if item.harms else None
    shown, *others = item.cells
    return (element("span", shown, class_=kind), *others)


def rates_table(comparisons: Sequence[BDRate]) -> Html:
    """Return the BD-rates against the anchor, and what limits their meaning."""
    if not comparisons:
        return element("p", "Nothing is compared with the anchor.", class_="note")
    rows = [(item.test, item.metric, *rate_cells(item)) for item in comparisons]
    intervals = [item.interval for item in comparisons if item.interval is not None]
    told = "Below zero, bits are saved at an equal score."
    if intervals:
        first = intervals[0]
        told += (
            f" {first.level:.0%} bootstrap intervals over the images, {first.replicates} replicates, seed {first.seed}."
        )
    notes = [item.statement for item in comparisons if item.reason or not item.monotone]
    return joined(
        [
            table(("BD-rate against the anchor", "metric", *RATE_HEAD), rows, texts=2),
            *(element("p", line, class_="note") for line in (told, *notes)),
        ]
    )


def verdict(item: BDRate) -> Html:
    """Return a comparison's statement, in its colour."""
    return element("strong", item.statement, class_="good" if item.saves else "bad" if item.harms else None)


def pairs_table(head: tuple[str, str], pairs: Mapping[str, object] | Iterable[tuple[str, object]]) -> Html:
    """Return names and what they stand for."""
    rows = pairs.items() if isinstance(pairs, Mapping) else pairs
    return table(head, [(name, str(found)) for name, found in rows], texts=2)


def duration(seconds: float) -> str:
    """Return a time as one reads it."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _metric_plot(found: Curves, metric: str) -> Html:
    rates = {item.test: item for item in found.comparisons if item.metric == metric}
    series = []
    for place, curve in enumerate(found.curves):
        kind = "anchor" if place == 0 else "muted" if curve.label in found.baselines else "strong"
        item = rates.get(curve.label)
        note = "" if item is None or item.value_percent is None else f"{item.value_percent:+.1f}% {item.interval or ''}"
        series.append(curve_series(curve, metric, found.quality_name, kind=kind, note=note.rstrip()))
    clean = found.clean
    level = None if clean is None else clean.task_loss if metric == TASK_LOSS else clean.scores[metric]
    title = "task loss" if metric == TASK_LOSS else metric
    return plot(title, series, x_label=RATE_LABEL, clean=level)


def _points_table(found: Curves) -> Html:
    metrics = (*found.metrics, TASK_LOSS)
    rows: list[tuple[str, ...]] = []
    clean = [] if found.clean is None else [("clean, no codec", "", found.clean)]
    uncoded = [(f"{item.label}, no codec", f"{item.quality:g}", item.score) for item in found.uncoded]
    for label, quality, score in [*clean, *uncoded]:
        numbers = {**score.scores, TASK_LOSS: score.task_loss}
        rows.append((label, quality, "", *(f"{numbers[metric]:.4f}" for metric in metrics)))
    for curve in found.curves:
        for point in curve.points:
            numbers = {metric: value(point, metric) for metric in metrics}
            rows.append(
                (labelled(curve), f"{point.quality:g}", f"{point.bpp:.4f}", *(f"{n:.4f}" for n in numbers.values()))
            )
    return table(("curve", found.quality_name, "bpp", *metrics), rows)
