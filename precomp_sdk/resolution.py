"""At what share of its height and width an image is coded, depending on the compression strength."""

from collections.abc import Sequence

import numpy as np

from precomp_sdk.errors import OptionError

__all__ = ["ResolutionCurve"]


class ResolutionCurve:
    """Factor of height and width over the strength: linear between the given points, constant beyond them.

    Args:
        points: pairs of strength in [0, 1] and factor, above 0 and up to 1; none for full resolution throughout.

    Raises:
        OptionError: a pair is out of range, or a strength comes twice.

    Example:
        >>> curve = ResolutionCurve([(0.5, 1.0), (0.9, 0.5)])
        >>> [round(curve.at(strength), 3) for strength in (0.0, 0.7, 1.0)]
        [1.0, 0.75, 0.5]
    """

    def __init__(self, points: Sequence[Sequence[float]] = ()) -> None:
        try:
            pairs = [tuple(float(value) for value in pair) for pair in points]
        except (TypeError, ValueError):
            pairs = [()]
        good = all(len(pair) == 2 and 0 <= pair[0] <= 1 and 0 < pair[1] <= 1 for pair in pairs)
        if not good or len({pair[0] for pair in pairs}) < len(pairs):
            raise OptionError(
                where="option 'resolutions'",
                expected="pairs of strength, from 0 to 1 and each once, and factor, above 0 and up to 1",
                got=repr(points),
                remedy="Take what `precomp choose-resolutions` prints, or leave it out for full resolution.",
            )
        self.points: tuple[tuple[float, float], ...] = tuple(sorted((pair[0], pair[1]) for pair in pairs))

    def at(self, strength: float) -> float:
        """Return the factor at a strength, to four digits."""
        if not self.points:
            return 1.0
        strengths, factors = zip(*self.points, strict=True)
        return round(float(np.interp(strength, strengths, factors)), 4)

    def plain(self) -> list[list[float]]:
        """Return the points as plain JSON values, for a preprocessor's ``options``."""
        return [list(point) for point in self.points]
