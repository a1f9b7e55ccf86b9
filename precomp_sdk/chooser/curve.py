"""The codec alone, as a chooser knows it: bits, what the panel loses, and what a unit of loss is worth."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precomp_sdk.errors import CalibrationError, OptionError

__all__ = ["PriceCurve", "PricePoint", "prices_of"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PricePoint:
    """The codec alone at one quality, over the images a chooser was fitted on.

    Args:
        quality: on the codec's scale.
        bpp: mean over images of bits per pixel.
        loss: mean over images and panel, each member in its own unit.
        price: lambda, bits per pixel for a unit of loss: at it the anchor itself is indifferent about this quality.
    """

    quality: float
    bpp: float
    loss: float
    price: float


@dataclass(frozen=True, slots=True)
class PriceCurve:
    """What a chooser knows of its codec and its panel before it sees an image: plain numbers, to be kept with it.

    Args:
        points: from the mildest quality to the strongest.
        units: by member, its mean loss over images and qualities: what makes members comparable.
        images: how many it was measured on.
        reduced: by resolution below 1, bits per pixel of the source and loss at each quality of ``points``.
    """

    points: tuple[PricePoint, ...]
    units: Mapping[str, float]
    images: int
    reduced: Mapping[float, tuple[tuple[float, float], ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("units", "reduced"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __reduce__(self) -> tuple[object, ...]:  # a mapping proxy does not pickle
        return PriceCurve, (self.points, dict(self.units), self.images, dict(self.reduced))

    def table(self, factor: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return bits per pixel and losses over the ladder at a resolution that was measured."""
        pairs = [(point.bpp, point.loss) for point in self.points] if factor == 1.0 else self.reduced[factor]
        rates, losses = zip(*pairs, strict=True)
        return tuple(rates), tuple(losses)

    def plain(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        rows = [[point.quality, point.bpp, point.loss, point.price] for point in self.points]
        reduced = [[factor, [list(pair) for pair in pairs]] for factor, pairs in self.reduced.items()]
        return {"points": rows, "units": dict(self.units), "images": self.images, "reduced": reduced}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "PriceCurve":
        """Return what `plain` was made from.

        Raises:
            OptionError: the values are not those of a curve.
        """
        try:
            points = tuple(PricePoint(*(float(value) for value in row)) for row in values["points"])
            units = {str(name): float(unit) for name, unit in values["units"].items()}
            reduced = {
                float(factor): tuple((float(bpp), float(loss)) for bpp, loss in pairs)
                for factor, pairs in values.get("reduced", ())
            }
            if any(len(pairs) != len(points) for pairs in reduced.values()):
                raise ValueError("a resolution of other qualities")
            pairs = [(item.bpp, item.loss) for item in points] + [pair for row in reduced.values() for pair in row]
            numbers = [number for pair in pairs for number in pair] + [item.price for item in points]
            positive = [bpp for bpp, _ in pairs] + [item.price for item in points] + list(units.values())
            if not all(map(math.isfinite, numbers)) or not all(number > 0 for number in positive):
                raise ValueError("a number that is not finite, or rates, prices and units that are not above 0")
            return cls(points, units, int(values["images"]), reduced)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise OptionError(
                where="PriceCurve",
                expected="points of four numbers, units by member, and a number of images",
                got=f"{type(error).__name__}: {error}",
                remedy="Pass what PriceCurve.plain returned, or fit the chooser again.",
            ) from error


def prices_of(rates: Array, losses: Array) -> Array:
    """Return minus d rate / d loss along a curve from mild to strong, made convex first, all above 0.

    Raises:
        CalibrationError: the loss does not grow as the rate falls.
    """
    order = np.argsort(-rates, kind="stable")
    hull: list[int] = []
    for place in order.tolist():  # the lower convex hull, from the mildest point
        while hull and losses[place] <= losses[hull[-1]]:
            hull.pop()  # cheaper and no worse
        while len(hull) > 1:
            (a, b), c = hull[-2:], place
            if (rates[b] - rates[c]) * (losses[b] - losses[a]) < (rates[a] - rates[b]) * (losses[c] - losses[b]):
                break
            hull.pop()
        hull.append(place)
    if len(hull) < 2:
        raise CalibrationError(
            where="QualityChooser.fit",
            expected="a panel that loses more as the rate falls",
            got=f"losses {np.round(losses, 4).tolist()} at {np.round(rates, 4).tolist()} bpp",
            remedy="Use more images, or a ladder that hurts the panel.",
        )
    middles, slopes = [], []
    for a, b in pairwise(hull):
        middles.append(-(math.log(rates[a]) + math.log(rates[b])) / 2)
        slopes.append(math.log((rates[a] - rates[b]) / (losses[b] - losses[a])))
    result: Array = np.exp(np.interp(-np.log(rates), middles, slopes))
    return result
