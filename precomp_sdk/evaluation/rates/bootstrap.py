"""Confidence intervals of BD-rates: which images the data set happens to hold, drawn again and again.

Ours, because `scipy.stats.bootstrap` resamples arrays of numbers: here both curves are scored anew on the same draw of
images (paired), with scores such as mAP that are no means over images.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from precomp_sdk.errors import CurveError, OptionError
from precomp_sdk.evaluation.rates._envelope import UpperEnvelopes, rate_differences
from precomp_sdk.evaluation.rates.bjontegaard import TASK_LOSS, Interval
from precomp_sdk.evaluation.statistics import MeasuredCurve

__all__ = ["ResampledCurve", "bootstrap_interval", "resample"]

_COUNTS_AT_A_TIME = 8_000_000  # replicates times images; 64 MB
_MIN_IMAGES = 10  # below this, a bootstrap's interval is far too narrow to be shown


@dataclass(frozen=True, slots=True, eq=False)
class ResampledCurve:
    """One curve measured on R multisets of its images.

    Shapes and units:
        keys: the N images that were drawn from.
        bpp: (R, Q).
        scores: (R, Q) for every metric and `TASK_LOSS`; higher is better.
        seed: curves of one seed and the same images were drawn alike.
    """

    keys: tuple[str, ...]
    bpp: NDArray[np.float64]
    scores: dict[str, NDArray[np.float64]]
    seed: int


def resample(curve: MeasuredCurve, *, replicates: int, seed: int) -> ResampledCurve:
    """Draw the images of a curve with replacement.

    The draws depend on the seed and the number of images alone: two curves over the same images get the same draws
    at all qualities, so that what makes an image easy or hard cancels in their comparison.

    Raises:
        OptionError: the number of replicates is not positive.

    Source: Efron, Annals of Statistics 7(1), 1979.
    """
    if replicates < 1:
        raise OptionError.number("resample", "replicates", "1 or more", replicates)
    parts: list[dict[str, NDArray[np.float64]]] = []
    metrics = curve.scorer.metrics
    for counts in _draws(len(curve), replicates, seed):
        part = {"bits": np.stack([counts @ point.bits for point in curve.points], axis=1)}
        part["bpp"] = part["bits"] / (counts @ curve.pixels)[:, None]
        part[TASK_LOSS] = -np.stack([counts @ point.losses for point in curve.points], axis=1) / len(curve)
        by_point = [curve.scorer.combine_many(point.statistics, counts) for point in curve.points]
        part.update({metric: np.stack([row[metric] for row in by_point], axis=1) for metric in metrics})
        parts.append(part)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in ("bpp", TASK_LOSS, *metrics)}
    bpp = whole.pop("bpp")
    return ResampledCurve(keys=curve.keys, bpp=bpp, scores=whole, seed=seed)


def bootstrap_interval(
    anchor: ResampledCurve, test: ResampledCurve, metric: str, *, level: float = 0.95
) -> Interval | None:
    """Return the percentile interval of the BD-rate, or None where there are too few images for one.

    A replicate whose curves do not overlap, or are flat, has no value. It could be anything, so it counts as minus
    infinity for the lower end and as plus infinity for the upper end: such replicates can only widen the interval.
    Where they are more than the interval leaves out on one side, its ends are unknown.

    Raises:
        CurveError: the curves were not drawn alike, or lack the metric.
        OptionError: the level is not in (0, 1).

    Source: Efron, Annals of Statistics 9(2), 1981 (percentile method).
    """
    if not 0 < level < 1:
        raise OptionError.number("bootstrap_interval", "level", "a number between 0 and 1", level)
    if anchor.keys != test.keys or anchor.seed != test.seed or len(anchor.bpp) != len(test.bpp):
        raise CurveError(
            where="bootstrap",
            expected="two curves over the same images, drawn with one seed",
            got=f"{len(anchor.keys)} images, seed {anchor.seed}, {len(anchor.bpp)} replicates against "
            f"{len(test.keys)}, {test.seed}, {len(test.bpp)}",
            remedy="Measure both curves on one data set.",
        )
    if metric not in anchor.scores or metric not in test.scores:
        raise CurveError(
            where="bootstrap",
            expected=f"the metric {metric!r} in both curves",
            got=f"{sorted(anchor.scores)} and {sorted(test.scores)}",
            remedy="Choose a metric of the task's scorer.",
        )
    if len(anchor.keys) < _MIN_IMAGES:
        return None
    fronts = [UpperEnvelopes.of(curve.bpp, curve.scores[metric]) for curve in (anchor, test)]
    values = rate_differences(*fronts).percent
    invalid = np.isnan(values)
    tail = (1.0 - level) / 2.0
    low = float(np.quantile(np.where(invalid, -np.inf, values), tail, method="lower"))
    high = float(np.quantile(np.where(invalid, np.inf, values), 1.0 - tail, method="higher"))
    return Interval(
        level=level,
        low_percent=low if math.isfinite(low) else None,
        high_percent=high if math.isfinite(high) else None,
        replicates=len(values),
        invalid_fraction=float(invalid.mean()),
        seed=anchor.seed,
    )


def _draws(images: int, replicates: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each image is drawn, (R', N) at a time; every row sums to N."""
    rng = np.random.default_rng(seed)
    rows_at_a_time = max(1, _COUNTS_AT_A_TIME // images)
    for start in range(0, replicates, rows_at_a_time):
        rows = min(rows_at_a_time, replicates - start)
        drawn = rng.integers(0, images, size=(rows, images)) + np.arange(rows)[:, None] * images
        yield np.bincount(drawn.reshape(-1), minlength=rows * images).reshape(rows, images).astype(np.float64)
