"""COCO's matching of one image's detections with its objects.

Ours, because pycocotools, faster-coco-eval and torchmetrics keep no record per image that a bootstrap could combine
anew for each draw. Overlaps are faster-coco-eval's; the scores equal pycocotools', which the tests check.
"""

import numpy as np
from faster_coco_eval.core.mask import iou as coco_iou
from numpy.typing import NDArray

__all__ = ["DETECTIONS_PER_CLASS", "IOU_THRESHOLDS", "SIZES", "in_sizes", "match"]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
DETECTIONS_PER_CLASS = 100  # of one image; COCO's limit
SIZES = {  # areas in pixels, both ends included; COCO's
    "all": (-np.inf, np.inf),
    "small": (-np.inf, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, np.inf),
}
_BELOW_ONE = 1.0 - 1e-10  # COCO's own guard against an overlap of 1 that was rounded


def in_sizes(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each of the boxes, (D, 4) as x1 y1 x2 y2, is of each of the `SIZES` by its area, (D, S)."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    limits = np.array(list(SIZES.values()))
    return (areas[:, None] >= limits[:, 0]) & (areas[:, None] <= limits[:, 1])


def match(
    detections: NDArray[np.float64], objects: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Match the detections of one class, best first, with the objects of that class, for each of the `SIZES`.

    Each detection takes the object it overlaps most among those of that size not yet taken; failing that, an object
    of another size, which is then taken too, or a crowd region, which is never used up, may excuse it: it then counts
    neither for nor against. What matches nothing and is of another size itself is excused as well. The overlaps are
    faster-coco-eval's; the matching is done here, because that package keeps the outcome per image to itself.

    Shapes and units:
        detections: (D, 4), x1 y1 x2 y2 in pixels, in falling order of their scores.
        objects: (G, 4), likewise.
        crowd: (G,).

    Returns:
        Right and excused, each (D, S, T) for the S of `SIZES` and the T of `IOU_THRESHOLDS`.

    Source: evaluateImg of the COCO API (BSD-2-Clause), https://github.com/cocodataset/cocoapi.
    """
    shape = (len(detections), len(SIZES), len(IOU_THRESHOLDS))
    least = np.tile(np.minimum(IOU_THRESHOLDS, _BELOW_ONE), len(SIZES))[:, None]  # (L, 1), a level a size and threshold
    right = np.zeros((len(detections), len(least)), dtype=np.bool_)
    excused = np.zeros_like(right)
    if len(detections) and len(objects):
        overlaps = np.asarray(
            coco_iou(_to_xywh(detections), _to_xywh(objects), crowd.astype(np.uint8)), dtype=np.float64
        ).reshape(len(detections), len(objects))
        wanted = np.repeat((in_sizes(objects) & ~crowd[:, None]).T, len(IOU_THRESHOLDS), axis=0)  # (L, G)
        free = np.ones_like(wanted)
        levels = np.arange(len(least))
        for place in np.flatnonzero((overlaps >= least.min()).any(axis=1)):
            open_ones = np.where((free | crowd) & (overlaps[place] >= least), overlaps[place], -1.0)  # (L, G)
            for outcome, among in ((right, wanted), (excused, ~wanted)):
                candidates = np.where(among, open_ones, -1.0)
                best = candidates.shape[1] - 1 - candidates[:, ::-1].argmax(axis=1)  # among equals, COCO takes the last
                outcome[place] = (candidates[levels, best] >= 0.0) & ~right[place]
                free[levels[outcome[place]], best[outcome[place]]] = False
    elsewhere = np.repeat(~in_sizes(detections), len(IOU_THRESHOLDS), axis=1)  # (D, L)
    excused |= ~right & elsewhere
    return right.reshape(shape), excused.reshape(shape)


def _to_xywh(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
