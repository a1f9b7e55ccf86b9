"""The metrics of one weighting of the images, from a scorer that combines many weightings at once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from precomp_sdk.errors import TargetError
from precomp_sdk.scorer import Scorer

__all__ = ["combine_one"]


def combine_one(
    scorer: Scorer,
    statistics: Sequence[NDArray[np.float64]],
    counts: NDArray[np.float64],
    *,
    expected: str,
    remedy: str,
) -> dict[str, float]:
    """Return the metrics over all images.

    Args:
        scorer: combines many weightings, with NaN where nothing can be scored.
        statistics: one per image.
        counts: how often each image counts, (N,).
        expected: what can be scored, for the message.
        remedy: what to do where nothing can.

    Raises:
        TargetError: nothing can be scored.
    """
    many = scorer.combine_many(statistics, np.asarray(counts, dtype=np.float64)[None])
    if any(np.isnan(values[0]) for values in many.values()):
        raise TargetError(
            where=type(scorer).__name__, expected=expected, got=f"none in {len(statistics)} images", remedy=remedy
        )
    return {metric: float(values[0]) for metric, values in many.items()}
