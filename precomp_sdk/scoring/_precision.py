"""Average precision of many multisets of the same images at once."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["average_precisions"]

_RECALLS = np.linspace(0.0, 1.0, 101)  # where COCO reads the precision
_CELLS_AT_A_TIME = 4_000_000  # multisets times detections; 32 MB
_LEAST = np.spacing(1)  # COCO's own guard against 0 / 0


def average_precisions(
    scores: NDArray[np.float64],
    images: NDArray[np.intp],
    right: NDArray[np.bool_],
    excused: NDArray[np.bool_],
    objects: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the average precision of one class, (R, T): per multiset of images and overlap threshold.

    Precision changes the result only at right detections, so everything but one running sum is done at those alone. An
    image that counts twice stands twice in COCO's order of equal scores, next to itself.

    Shapes and units:
        scores: (D,) in any order; equal ones stay in theirs.
        images: (D,) place of each detection's image.
        right, excused: (D, T).
        objects: (R,) how many there are to find, more than 0.
        counts: (R, N) how often each image counts.

    Source: accumulate of the COCO API: precision made monotone, read at 101 recalls.
    """
    result = np.zeros((len(counts), right.shape[1]))
    order = np.argsort(-scores, kind="stable")
    order = order[: 1 + np.flatnonzero(right[order].any(axis=1)).max(initial=-1)]  # nothing matters after the last
    if not len(order):
        return result
    right, excused, places = right[order], excused[order], images[order]
    for rows in _chunks(len(counts), len(order)):
        weights = counts[rows][:, places]  # (R', D)
        seen = weights.cumsum(axis=1)
        for level in range(right.shape[1]):
            hits = np.flatnonzero(right[:, level])
            if not len(hits):
                continue
            counted = seen[:, hits]
            if excused[:, level].any():
                counted = counted - (weights * excused[:, level]).cumsum(axis=1)[:, hits]
            found = weights[:, hits].cumsum(axis=1)
            precision = np.maximum.accumulate((found / (counted + _LEAST))[:, ::-1], axis=1)[:, ::-1]
            recall = found / objects[rows, None]
            # how many of the recalls are reached at each hit, and not before it
            reached = np.searchsorted(_RECALLS, recall.reshape(-1), side="right").reshape(recall.shape)
            steps = np.diff(reached, axis=1, prepend=0)
            result[rows, level] = (precision * steps).sum(axis=1) / len(_RECALLS)
    return result


def _chunks(rows: int, cells_per_row: int) -> Iterator[slice]:
    step = max(1, _CELLS_AT_A_TIME // cells_per_row)
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))
