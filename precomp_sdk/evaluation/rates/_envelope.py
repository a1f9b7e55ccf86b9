"""Mean rate differences of many pairs of curves at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from precomp_sdk.evaluation.rates._pchip import pchip_integral

__all__ = ["RateDifferences", "UpperEnvelopes", "rate_differences"]

Array = NDArray[np.float64]

_TIE = 1e-9  # scores closer than this are one score: what is left is the rounding of sums


@dataclass(frozen=True, slots=True, eq=False)
class UpperEnvelopes:
    """The upper envelopes of R curves: points that score more than every cheaper point.

    Shapes and units:
        scores, log_rates: (R, Q), sorted by rate; natural logarithms.
        kept: (R, Q) bool, the points of the envelope; the cheapest point always is one.
        drops: (R,) the most that any point lies below a cheaper one; 0 where a curve is monotone.
        low, high: (R,) range of the scores of the envelope.
    """

    scores: Array
    log_rates: Array
    kept: NDArray[np.bool_]
    drops: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, rates: Array, scores: Array) -> "UpperEnvelopes":
        """Build them from rates (R, Q) > 0 and scores (R, Q), higher is better, in any order."""
        order = np.lexsort((-scores, rates), axis=-1)  # of points with one rate, the best first
        rates = np.take_along_axis(rates, order, axis=1)
        scores = np.take_along_axis(scores, order, axis=1)
        best = np.maximum.accumulate(scores, axis=1)
        tie = _TIE * np.maximum(1.0, np.abs(best[:, :-1]))
        kept = np.ones(scores.shape, dtype=bool)
        kept[:, 1:] = scores[:, 1:] > best[:, :-1] + tie
        drops = (best - scores).max(axis=1)
        envelope = np.where(kept, scores, -np.inf)
        return cls(
            scores=scores,
            log_rates=np.log(rates),
            kept=kept,
            drops=np.where(drops > _TIE * np.maximum(1.0, np.abs(best[:, -1])), drops, 0.0),
            low=scores[:, 0],
            high=envelope.max(axis=1),
        )

    @property
    def usable(self) -> NDArray[np.int64]:
        """Number of points of each envelope, (R,)."""
        count: NDArray[np.int64] = self.kept.sum(axis=1)
        return count

    def mean_log_rates(self, low: Array, high: Array) -> Array:
        """Return each envelope's mean log-rate over scores from low to high, (R,); NaN where that is empty."""
        means = np.full(len(self.scores), np.nan)
        valid = (self.usable >= 2) & (high > low)
        rows = np.flatnonzero(valid)
        if not len(rows):
            return means
        # Envelopes that keep the same points form one rectangular array.
        patterns, which = np.unique(self.kept[rows], axis=0, return_inverse=True)
        for index, pattern in enumerate(patterns):
            chosen = rows[which.reshape(-1) == index]
            x = self.scores[np.ix_(chosen, pattern)]
            y = self.log_rates[np.ix_(chosen, pattern)]
            means[chosen] = pchip_integral(x, y, low[chosen], high[chosen]) / (high[chosen] - low[chosen])
        return means


@dataclass(frozen=True, slots=True, eq=False)
class RateDifferences:
    """Mean rate differences of R pairs of curves.

    Shapes and units:
        percent: (R,) by how much the test needs more rate than the anchor; NaN where scores do not overlap.
        low, high: (R,) the scores that are compared.
    """

    percent: Array
    low: Array
    high: Array


def rate_differences(anchor: UpperEnvelopes, test: UpperEnvelopes) -> RateDifferences:
    """Compare R pairs of envelopes over the scores that both reach."""
    low, high = np.maximum(anchor.low, test.low), np.minimum(anchor.high, test.high)
    difference = test.mean_log_rates(low, high) - anchor.mean_log_rates(low, high)
    return RateDifferences(percent=100.0 * np.expm1(difference), low=low, high=high)
