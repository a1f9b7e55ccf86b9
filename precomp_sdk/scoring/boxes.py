"""The score of detection: COCO's mean average precision."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precomp_sdk.errors import ContractError, TargetError
from precomp_sdk.scorer import Scorer
from precomp_sdk.scoring._combining import combine_one
from precomp_sdk.scoring._matching import DETECTIONS_PER_CLASS, IOU_THRESHOLDS, SIZES, in_sizes, match
from precomp_sdk.scoring._precision import average_precisions
from precomp_sdk.targets import Boxes, Target

__all__ = ["BoxScorer"]

_BITS = 2.0 ** np.arange(len(IOU_THRESHOLDS))


class BoxScorer(Scorer):
    """COCO's mean average precision of boxes: mAP over overlaps of 0.5 to 0.95, mAP50 and mAP75.

    A prediction is a `Boxes` with scores; at most 100 per image and class count, the best. A class takes part where
    it has an object in one of the images, and crowd regions excuse detections, as COCO has it. The metrics equal
    those of pycocotools (areas: all, 100 detections).

    One image's statistics is (rows, 10): a row per detection (class, score, and for all, small, medium and large
    objects the overlaps it is right at and the overlaps it is excused at, both as bits) and a row per class with
    objects (class, NaN, and for each of those sizes how many and 0).

    Args:
        num_classes: labels are below this.

    Source: Lin et al., arXiv 1405.0312; overlaps by faster-coco-eval.
    """

    metrics: tuple[str, ...] = ("mAP", "mAP50", "mAP75")

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def _measure(self, prediction: Any, target: Target) -> NDArray[np.float64]:
        """Match one image's detections with its objects.

        Raises:
            TargetError: the target is no `Boxes`, or has a label the task does not know.
            ContractError: the prediction is no `Boxes` with finite scores, or has such a label.
        """
        if not isinstance(target, Boxes):
            raise TargetError(
                where="BoxScorer",
                expected="a Boxes",
                got=type(target).__name__,
                remedy="Score a detection task on a data set of boxes.",
            )
        problem = _problem(target, self.num_classes)
        if problem is not None:
            raise TargetError(
                where="BoxScorer, target",
                expected=problem[0],
                got=problem[1],
                remedy="Use a data set whose classes are those of the task.",
            )
        problem = _problem(prediction, self.num_classes, scored=True)
        if problem is not None:
            raise ContractError(
                where="BoxScorer, prediction",
                expected=problem[0],
                got=problem[1],
                remedy="Return one Boxes with scores per image.",
            )
        scores = _array(prediction.scores)
        boxes, labels = _array(prediction.boxes), _array(prediction.labels)
        objects, classes = _array(target.boxes), _array(target.labels)
        crowd = np.zeros(len(classes), dtype=np.bool_) if target.crowd is None else _array(target.crowd) > 0
        rows = []
        for label in np.union1d(labels, classes):
            ours = np.flatnonzero(labels == label)
            ours = ours[np.argsort(-scores[ours], kind="stable")][:DETECTIONS_PER_CLASS]
            theirs = classes == label
            outcomes = np.stack([item @ _BITS for item in match(boxes[ours], objects[theirs], crowd[theirs])], axis=2)
            rows.append(
                np.column_stack([np.full(len(ours), label), scores[ours], outcomes.reshape(len(ours), 2 * len(SIZES))])
            )
            counts = in_sizes(objects[theirs & ~crowd]).sum(axis=0)  # (S,)
            if counts[0]:
                told = np.stack([counts, np.zeros(len(SIZES))], axis=1).reshape(-1)
                rows.append(np.concatenate([[label, np.nan], told])[None])
        return np.concatenate([np.zeros((0, 2 + 2 * len(SIZES))), *rows])

    def combine(self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64]) -> dict[str, float]:
        """Return the metrics over all images.

        Raises:
            TargetError: no image has an object.
        """
        return combine_one(
            self,
            statistics,
            counts,
            expected="images with one object or more, crowd regions aside",
            remedy="Score more or other images.",
        )

    def combine_many(
        self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """Return the metrics of every row of ``counts``, NaN where its images have no object."""
        precisions = self._precisions(statistics, np.asarray(counts, dtype=np.float64))
        return {
            "mAP": _mean(precisions.reshape(len(counts), -1)),
            "mAP50": _mean(precisions[:, :, 0]),
            "mAP75": _mean(precisions[:, :, 5]),
        }

    def per_class(
        self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Return each class's average precision over overlaps of 0.5 to 0.95, (K,); NaN where it has no object.

        Args:
            statistics: one array per image.
            counts: (N,) how often each image counts; default: once.
        """
        row = np.ones(len(statistics)) if counts is None else np.asarray(counts, dtype=np.float64)
        per_class: NDArray[np.float64] = self._precisions(statistics, row[None])[0].mean(axis=1)
        return per_class

    def per_size(self, statistics: Sequence[NDArray[np.float64]]) -> dict[str, tuple[int, float]]:
        """Return how many objects are small, medium and large, and the mAP over each; NaN where there is none.

        The sizes are COCO's, by area: small up to 32 x 32 pixels, medium up to 96 x 96, large beyond. An object's area
        is that of its box, in the data set's images; where COCO's own files have a segment's area, pycocotools takes
        that instead. Objects and detections of another size are excused, as COCO has it.

        Args:
            statistics: one array per image.

        Source: Lin et al., arXiv 1405.0312; areaRng of the COCO API's Params.
        """
        rows = np.concatenate(statistics)
        objects = rows[np.isnan(rows[:, 1])]
        once, found = np.ones((1, len(statistics))), {}
        for place, size in list(enumerate(SIZES))[1:]:
            precision = _mean(self._precisions(statistics, once, place).reshape(1, -1))[0]
            found[size] = int(objects[:, 2 + 2 * place].sum()), float(precision)
        return found

    def _precisions(
        self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64], size: int = 0
    ) -> NDArray[np.float64]:
        """Return average precisions, (R, K, T), over the objects of one of the sizes, by its place."""
        rows = np.concatenate(statistics)  # (rows, 2 + 2 S)
        rows = np.column_stack([rows[:, :2], rows[:, 2 + 2 * size : 4 + 2 * size]])
        images = np.repeat(np.arange(len(statistics)), [len(item) for item in statistics])
        are_objects = np.isnan(rows[:, 1])
        found = np.full((len(counts), self.num_classes, len(IOU_THRESHOLDS)), np.nan)
        for label in np.unique(rows[are_objects, 0]).astype(int):
            of_class = rows[:, 0] == label
            told = of_class & are_objects
            objects = counts[:, images[told]] @ rows[told, 2]  # (R,)
            present = np.flatnonzero(objects > 0)
            ours = of_class & ~are_objects
            found[present, label] = average_precisions(
                rows[ours, 1],
                images[ours],
                _unpack(rows[ours, 2]),
                _unpack(rows[ours, 3]),
                objects[present],
                counts[present],
            )
        return found


def _problem(boxes: Any, num_classes: int, *, scored: bool = False) -> tuple[str, str] | None:
    """Return what was expected of boxes and what is there instead, if anything is wrong."""
    if not isinstance(boxes, Boxes):
        return "a Boxes", type(boxes).__name__
    parts: dict[str, Any] = {"boxes": boxes.boxes, "labels": boxes.labels}
    if scored:
        parts["scores"] = boxes.scores
    elif boxes.crowd is not None:
        parts["crowd"] = boxes.crowd
    for name, part in parts.items():
        if not isinstance(part, Tensor):
            return f"a tensor of {name}", type(part).__name__
    count = len(boxes.labels) if boxes.labels.ndim else 0
    for name, part in parts.items():
        shape = (count, 4) if name == "boxes" else (count,)
        if tuple(part.shape) != shape:
            return f"{name} of shape {shape}", str(tuple(part.shape))
        if not bool(torch.isfinite(part.float()).all()):
            return f"finite {name}", "NaN or infinity"
    if count and not (int(boxes.labels.min()) >= 0 and int(boxes.labels.max()) < num_classes):
        return f"labels from 0 to {num_classes - 1}", f"{int(boxes.labels.min())} to {int(boxes.labels.max())}"
    return None


def _array(values: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = values.detach().to("cpu", torch.float64).numpy()
    return array


def _unpack(bits: NDArray[np.float64]) -> NDArray[np.bool_]:
    unpacked: NDArray[np.bool_] = (bits[:, None].astype(np.int64) >> np.arange(len(IOU_THRESHOLDS))) & 1 == 1
    return unpacked


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over each row of what is a number, NaN where nothing is."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=1)
    mean: NDArray[np.float64] = np.divide(
        total, known.sum(axis=1), out=np.full(len(values), np.nan), where=known.any(axis=1)
    )
    return mean
