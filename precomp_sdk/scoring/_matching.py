"""COCO's matching of one image's detections with its objects.

Ours, because pycocotools, faster-coco-eval and torchmetrics keep no record per image that a bootstrap could combine
anew for each draw. Overlaps are faster-coco-eval's; the scores equal pycocotools', which the tests check.
"""

import numpy as np
from faster_coco_eval.core.mask import iou as coco_iou
from numpy.typing import NDArray

__all__ = ["DETECTIONS_PER_CLASS", "IOU_THRESHOLDS", "match"]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
DETECTIONS_PER_CLASS = 100  # of one image; COCO's limit
_BELOW_ONE = 1.0 - 1e-10  # COCO's own guard against an overlap of 1 that was rounded


def match(
    detections: NDArray[np.float64], objects: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Match the detections of one class, best first, with the objects of that class.

    Each detection takes the object it overlaps most among those not yet taken; failing that, a crowd region, which is
    never used up, may excuse it: it then counts neither for nor against. The overlaps are faster-coco-eval's; the
    matching is done here, because that package keeps the outcome per image to itself.

    Shapes and units:
        detections: (D, 4), x1 y1 x2 y2 in pixels, in falling order of their scores.
        objects: (G, 4), likewise.
        crowd: (G,).

    Returns:
        Right and excused, each (D, T) for the T of `IOU_THRESHOLDS`.

    Source: evaluateImg of the COCO API (BSD-2-Clause), https://github.com/cocodataset/cocoapi.
    """
    thresholds = np.minimum(IOU_THRESHOLDS, _BELOW_ONE)
    right = np.zeros((len(detections), len(thresholds)), dtype=np.bool_)
    excused = np.zeros_like(right)
    if not len(detections) or not len(objects):
        return right, excused
    overlaps = np.asarray(coco_iou(_to_xywh(detections), _to_xywh(objects), crowd.astype(np.uint8)), dtype=np.float64)
    overlaps = overlaps.reshape(len(detections), len(objects))
    single, regions = overlaps[:, ~crowd], overlaps[:, crowd]
    free = np.ones((len(thresholds), single.shape[1]), dtype=np.bool_)
    levels = np.arange(len(thresholds))
    for place in np.flatnonzero((overlaps >= thresholds[0]).any(axis=1)):
        if single.shape[1]:
            candidates = np.where(free & (single[place] >= thresholds[:, None]), single[place], -1.0)  # (T, G)
            best = single.shape[1] - 1 - candidates[:, ::-1].argmax(axis=1)  # among equals, COCO takes the last
            found = candidates[levels, best] >= 0.0
            right[place] = found
            free[levels[found], best[found]] = False
        if regions.shape[1]:
            excused[place] = ~right[place] & (regions[place].max() >= thresholds)
    return right, excused


def _to_xywh(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
