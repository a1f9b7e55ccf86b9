"""Plots as inline SVG: curves over the rate, a tooltip for each point, a legend that hides and shows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from precomp_sdk.evaluation._markup import Html, element, joined

__all__ = ["Point", "Series", "classes_of", "plot"]

_WIDTH, _HEIGHT = 480.0, 340.0  # of the drawing's own units; it is shown at any width
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 12.0, 24.0, 44.0
_COLORS = 4
_TICKS = 5


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve.

    Args:
        x: on the horizontal axis; above 0 where that is logarithmic.
        y: on the vertical axis.
        tip: what is told of it; lines are kept.
    """

    x: float
    y: float
    tip: str


@dataclass(frozen=True, slots=True)
class Series:
    """One curve; points that are not finite are left out.

    Args:
        label: in the legend.
        points: in the order in which they are joined.
        kind: ``"anchor"``, ``"muted"`` for what is only a baseline, or ``"strong"``.
        note: said behind the label.
    """

    label: str
    points: tuple[Point, ...]
    kind: Literal["anchor", "strong", "muted"] = "strong"
    note: str = ""


def classes_of(series: Sequence[Series]) -> list[str]:
    """Return each curve's classes in the style sheet: its colour, and whether it is muted."""
    counts = {"strong": 0, "muted": 0}
    found = []
    for item in series:
        if item.kind == "anchor":
            found.append("anchor")
            continue
        number = counts[item.kind] % _COLORS
        counts[item.kind] += 1
        found.append(f"s{number}" if item.kind == "strong" else f"m{number} muted")
    return found


def plot(
    title: str, series: Sequence[Series], *, x_label: str, logarithmic: bool = True, clean: float | None = None
) -> Html:
    """Return a figure: the drawing and its legend.

    Args:
        title: above the drawing; what the vertical axis is.
        series: the curves; the first is drawn on top.
        x_label: below the horizontal axis.
        logarithmic: the horizontal axis is.
        clean: the score with no codec: a dashed line.
    """
    kept = [[point for point in item.points if math.isfinite(point.x) and math.isfinite(point.y)] for item in series]
    x_values = [point.x for points in kept for point in points]
    y_values = [point.y for points in kept for point in points] + ([] if clean is None else [clean])
    if not x_values:
        return element("p", f"{title}: no points", class_="note")
    x_axis = _Axis.over(x_values, _LEFT, _WIDTH - _RIGHT, logarithmic=logarithmic)
    y_axis = _Axis.over(y_values, _HEIGHT - _BOTTOM, _TOP, logarithmic=False)
    parts = _frame(title, x_label, x_axis, y_axis)
    if clean is not None:
        height = y_axis.place(clean)
        tip = f"clean, no codec\n{title}: {clean:.4g}"
        parts.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=height, y2=height, class_="clean", data_tip=tip))
    names = classes_of(series)
    curves = [_curve(number, points, names[number], x_axis, y_axis) for number, points in enumerate(kept)]
    drawing = element(
        "svg", *parts, *reversed(curves), viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", role="img", aria_label=title
    )
    keys = []
    for number, item in enumerate(series):
        name = element("span", item.label, element("span", f" {item.note}" if item.note else "", class_="note"))
        mark = element("span", "○" if item.kind == "muted" else "●", class_=names[number], aria_hidden="true")
        keys.append(element("li", element("button", mark, name, type="button", data_curve=number, aria_pressed="true")))
    if clean is not None:
        keys.append(element("li", f"dashed: clean, no codec: {clean:.4g}", class_="note"))
    return element("figure", drawing, element("ul", *keys, class_="legend"))


@dataclass(frozen=True, slots=True)
class _Axis:
    """From values to places: ``start`` and ``end`` are where ``low`` and ``high`` stand."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, *, logarithmic: bool) -> "_Axis":
        low, high = min(values), max(values)
        if logarithmic:
            return cls(low / 1.08, high * 1.08, start, end, logarithmic)
        margin = 0.06 * (high - low) or max(abs(high), 1e-6) * 0.06
        return cls(low - margin, high + margin, start, end, logarithmic)

    def place(self, value: float) -> float:
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self) -> list[float]:
        if not self.logarithmic:
            return _even(self.low, self.high)
        span = self.high / self.low
        if span < 3:
            return _even(self.low, self.high)
        steps = (1.0, 2.0, 3.0, 5.0, 7.0) if span < 12 else (1.0, 2.0, 5.0) if span < 300 else (1.0,)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        return [
            value
            for decade in decades
            for value in (step * 10.0**decade for step in steps)
            if self.low <= value <= self.high
        ]


def _even(low: float, high: float) -> list[float]:
    """Return round numbers, evenly spaced."""
    raw = (high - low) / _TICKS
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1.0, 2.0, 5.0, 10.0) if size * factor >= raw)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _frame(title: str, x_label: str, x_axis: _Axis, y_axis: _Axis) -> list[Html]:
    """Return title, lines of the grid and the axes' numbers."""
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [
        element("text", title, x=_LEFT, y=14),
        element("text", x_label, x=right, y=_HEIGHT - 8, text_anchor="end", class_="tick"),
    ]
    for value in x_axis.ticks():
        x = x_axis.place(value)
        parts.append(element("line", x1=x, x2=x, y1=_TOP, y2=bottom, class_="grid-line"))
        parts.append(element("text", f"{value:.6g}", x=x, y=bottom + 16, text_anchor="middle", class_="tick"))
    for value in y_axis.ticks():
        y = y_axis.place(value)
        parts.append(element("line", x1=_LEFT, x2=right, y1=y, y2=y, class_="grid-line"))
        shown = f"{value + 0.0:.4g}"
        parts.append(element("text", shown, x=_LEFT - 6, y=y + 4, text_anchor="end", class_="tick"))
    return parts


def _curve(number: int, points: Sequence[Point], classes: str, x_axis: _Axis, y_axis: _Axis) -> Html:
    places = [(x_axis.place(point.x), y_axis.place(point.y)) for point in points]
    line = element("polyline", points=" ".join(f"{x:g},{y:g}" for x, y in places), class_="curve")
    dots = [
        joined(
            [
                element("circle", cx=x, cy=y, r=4, class_="dot"),
                element("circle", cx=x, cy=y, r=11, class_="hit", data_tip=point.tip),
            ]
        )
        for (x, y), point in zip(places, points, strict=True)
    ]
    return element("g", line, *dots, class_=classes, data_curve=number)
