"""BD-rate: how many more bits one curve needs than another for the same score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from precomp_sdk.errors import CurveError, OptionError, nearest
from precomp_sdk.evaluation.rates._envelope import UpperEnvelopes, rate_differences
from precomp_sdk.types import RateAccuracyCurve

__all__ = ["RATE_HEAD", "TASK_LOSS", "BDRate", "Interval", "bd_rate", "check_rates", "score_matrix"]

TASK_LOSS = "task_loss"  #: the metric that stands for minus the mean task loss
RATE_HEAD = ("BD-rate", "interval", "overlap")  #: of the columns of `BDRate.cells`


@dataclass(frozen=True, slots=True)
class Interval:
    """A bootstrap confidence interval.

    Args:
        level: such as 0.95.
        low_percent: its lower end; None where so many replicates have no value that the end is unknown.
        high_percent: its upper end; likewise.
        replicates: how often the images were drawn.
        invalid_fraction: the part of the replicates without a BD-rate: their curves do not overlap, or one is flat.
        seed: of the drawing.
    """

    level: float
    low_percent: float | None
    high_percent: float | None
    replicates: int
    invalid_fraction: float
    seed: int

    def __str__(self) -> str:
        ends = ["?" if end is None else f"{end:+.1f}" for end in (self.low_percent, self.high_percent)]
        return f"[{ends[0]}, {ends[1]}]"


@dataclass(frozen=True, slots=True)
class BDRate:
    """The mean rate difference of a test curve to an anchor at equal scores.

    Args:
        anchor: label of the curve compared with.
        test: label of the curve compared.
        metric: the score, or `TASK_LOSS`.
        value_percent: negative where the test saves bits; None where there is no meaningful value, see ``reason``.
        reason: why there is no value, else empty.
        score_low: lowest score that both curves reach.
        score_high: highest score that both curves reach; minus the loss for `TASK_LOSS`.
        overlap: length of that range over the length of the range that either curve reaches.
        overlap_anchor: ... over the length of the anchor's range.
        overlap_test: ... over the length of the test's range.
        anchor_drop: the most that a point of the anchor scores below a cheaper point; 0 for a monotone curve.
        test_drop: likewise for the test.
        anchor_points: points of the anchor that score more than all cheaper ones; the others are left out.
        test_points: likewise for the test.
        interval: its confidence interval, where one was computed.
        test_below: the best score of the test lies below the anchor's worst: at no rate is it as good.
    """

    anchor: str
    test: str
    metric: str
    value_percent: float | None
    reason: str
    score_low: float
    score_high: float
    overlap: float
    overlap_anchor: float
    overlap_test: float
    anchor_drop: float
    test_drop: float
    anchor_points: int
    test_points: int
    interval: Interval | None = None
    test_below: bool = False

    @property
    def monotone(self) -> bool:
        """True where neither curve scores less for more bits."""
        return self.anchor_drop == 0.0 and self.test_drop == 0.0

    @property
    def saves(self) -> bool:
        """True where the whole interval lies below zero."""
        high = None if self.interval is None else self.interval.high_percent
        return self.value_percent is not None and high is not None and high < 0.0

    @property
    def harms(self) -> bool:
        """True where the test costs bits.

        The whole interval lies above zero (the value, where there is no interval), or the test scores less than the
        anchor at any rate.
        """
        if self.value_percent is None:
            return self.test_below
        low = self.value_percent if self.interval is None else self.interval.low_percent
        return low is not None and low > 0.0

    @property
    def cells(self) -> tuple[str, str, str]:
        """Value, interval and overlap, as tables show them."""
        value = "none" if self.value_percent is None else f"{self.value_percent:+.2f}%"
        return value, "" if self.interval is None else str(self.interval), f"{self.overlap:.0%}"

    @property
    def statement(self) -> str:
        """The result in one or two sentences, with whatever limits its meaning."""
        name = "task loss" if self.metric == TASK_LOSS else self.metric
        if self.value_percent is None:
            text = f"{self.test}: no BD-rate against {self.anchor} on {name}: {self.reason}."
        else:
            text = f"{self.test}: {self.value_percent:+.1f}% rate against {self.anchor} at equal {name}"
            if self.interval is not None:
                text += f", {self.interval.level:.0%} interval {self.interval}"
                if self.interval.invalid_fraction:
                    text += f" ({self.interval.invalid_fraction:.1%} of the replicates have none)"
            text += f", over {self.overlap:.0%} of the score range."
        for label, drop in ((self.anchor, self.anchor_drop), (self.test, self.test_drop)):
            if drop:
                text += f" {label} is not monotone: a point lies {drop:.3g} below a cheaper one and is left out."
        return text


def bd_rate(anchor: RateAccuracyCurve, test: RateAccuracyCurve, metric: str, *, min_overlap: float = 0.25) -> BDRate:
    """Compare two curves: mean of log-rate over score, by monotone cubic interpolation, over the common scores.

    A point that scores no more than a cheaper one is left out (nobody would pay for it): what is compared is each
    curve's upper envelope, which is strictly monotone, so that ties and saturated scores do no harm. How far points lie
    below the envelope is reported. Nothing is extrapolated.

    Args:
        anchor: the curve to compare with, such as the anchor's.
        test: the curve to compare.
        metric: one of the points' scores, or `TASK_LOSS` (lower is better there).
        min_overlap: below this part of the union of both score ranges there is no value.

    Raises:
        CurveError: a curve has fewer than 2 points, lacks the metric, or has rates or scores that are not finite.
        OptionError: ``min_overlap`` is not in [0, 1].

    Source: Bjontegaard, VCEG-M33, 2001, with rate and score exchanged and piecewise cubic Hermite interpolation
    (JCTVC-L1100) in place of one cubic.
    """
    if not 0.0 <= min_overlap <= 1.0:  # NaN is in no range
        raise OptionError.number("bd_rate", "min_overlap", "a number from 0 to 1", min_overlap)
    rates = [check_rates([point.bpp for point in curve.points], curve.label) for curve in (anchor, test)]
    scores = [score_matrix(curve, metric) for curve in (anchor, test)]
    fronts = [UpperEnvelopes.of(rate[None], score[None]) for rate, score in zip(rates, scores, strict=True)]
    difference = rate_differences(*fronts)
    low, high = float(difference.low[0]), float(difference.high[0])
    ranges = [float(front.high[0] - front.low[0]) for front in fronts]
    union = float(max(front.high[0] for front in fronts) - min(front.low[0] for front in fronts))
    common = max(0.0, high - low)
    points = [int(front.usable[0]) for front in fronts]
    overlap = common / union if union else 0.0
    reason = ""
    flat = [curve.label for curve, count in zip((anchor, test), points, strict=True) if count < 2]
    if flat:
        reason = f"no point of {' and of '.join(flat)} scores more than the cheapest"
    elif not common:
        reason = "no score is reached by both curves"
    elif overlap < min_overlap:
        reason = f"the curves share only {overlap:.0%} of the score range, less than {min_overlap:.0%}"
    return BDRate(
        anchor=anchor.label,
        test=test.label,
        metric=metric,
        value_percent=None if reason else float(difference.percent[0]),
        reason=reason,
        score_low=low,
        score_high=high,
        overlap=overlap,
        overlap_anchor=common / ranges[0] if ranges[0] else 0.0,
        overlap_test=common / ranges[1] if ranges[1] else 0.0,
        anchor_drop=float(fronts[0].drops[0]),
        test_drop=float(fronts[1].drops[0]),
        anchor_points=points[0],
        test_points=points[1],
        test_below=bool(fronts[1].high[0] < fronts[0].low[0]),
    )


def score_matrix(curve: RateAccuracyCurve, metric: str) -> NDArray[np.float64]:
    """Return a curve's scores, (Q,), higher is better: minus the loss for `TASK_LOSS`.

    Raises:
        CurveError: a point lacks the metric, or a score is not finite.
    """
    if metric == TASK_LOSS:
        scores = np.array([-point.task_loss for point in curve.points])
    else:
        known = set.intersection(*(set(point.scores) for point in curve.points)) if curve.points else set()
        if metric not in known:
            raise CurveError(
                where=f"curve {curve.label!r}",
                expected=f"the metric {metric!r} at every point",
                got=repr(sorted(known)),
                remedy=nearest(metric, [*known, TASK_LOSS]),
            )
        scores = np.array([point.scores[metric] for point in curve.points])
    if not np.isfinite(scores).all():
        raise CurveError(
            where=f"curve {curve.label!r}",
            expected=f"finite values of {metric!r}",
            got=str(scores.tolist()),
            remedy="Leave out points that are lossless (their PSNR is infinite), or measure the curve again.",
        )
    return scores


def check_rates(rates_bpp: Sequence[float], label: str) -> NDArray[np.float64]:
    """Return a curve's rates, (Q,).

    Raises:
        CurveError: there are fewer than 2, or one is not positive and finite.
    """
    rates = np.array(rates_bpp, dtype=np.float64)
    if len(rates) < 2 or not np.isfinite(rates).all() or (rates <= 0).any():
        raise CurveError(
            where=f"curve {label!r}",
            expected="two or more points with a positive rate",
            got=f"rates {rates.tolist()}",
            remedy="Measure two or more qualities.",
        )
    return rates
