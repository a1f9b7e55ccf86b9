"""The score of semantic segmentation: mean intersection over union."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precomp_sdk.errors import ContractError, TargetError
from precomp_sdk.scorer import Scorer
from precomp_sdk.scoring._combining import combine_one
from precomp_sdk.targets import Mask, Target

__all__ = ["MaskScorer"]


class MaskScorer(Scorer):
    """Mean intersection over union of classes, and the share of pixels that are right.

    A prediction is a label map, (H, W) integers, or class scores, (K, H, W). Intersections and unions are summed over
    all images before they are divided, and a class takes part where it is in a target or in a prediction:
    torchmetrics' ``MulticlassJaccardIndex`` with ``average="macro"``. Pixels of the target's ``ignore_index`` count for
    nothing. One image's statistics is (3, K): pixels right, pixels predicted, pixels in the target.

    Args:
        num_classes: labels are below this.

    Source: Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 111, 2015.
    """

    metrics: tuple[str, ...] = ("mIoU", "pixel_accuracy")

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def _measure(self, prediction: Any, target: Target) -> NDArray[np.float64]:
        """Count one image's pixels by class.

        Raises:
            TargetError: the target is no `Mask`, or has a label that is neither a class nor to be ignored.
            ContractError: the prediction is no label map or class scores of the target's size, or has such a label.
        """
        if not isinstance(target, Mask):
            raise TargetError(
                where="MaskScorer",
                expected="a Mask",
                got=type(target).__name__,
                remedy="Score a segmentation task on a data set of masks.",
            )
        wanted = target.labels.detach().cpu()
        answer = self._labels(prediction, tuple(wanted.shape))
        counted = wanted != target.ignore_index
        wanted, answer = wanted[counted].long(), answer[counted]
        for values, error, whose in ((wanted, TargetError, "target"), (answer, ContractError, "prediction")):
            if values.numel() and not (int(values.min()) >= 0 and int(values.max()) < self.num_classes):
                raise error(
                    where=f"MaskScorer, {whose}",
                    expected=f"labels from 0 to {self.num_classes - 1}, or {target.ignore_index} to ignore",
                    got=f"{int(values.min())} to {int(values.max())}",
                    remedy="Set num_classes and ignore_index to fit the masks.",
                )
        classes = self.num_classes
        pairs = torch.bincount(wanted * classes + answer, minlength=classes**2).reshape(classes, classes)
        counts: NDArray[np.float64] = torch.stack([pairs.diagonal(), pairs.sum(0), pairs.sum(1)]).double().numpy()
        return counts

    def combine(self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64]) -> dict[str, float]:
        """Return the metrics over all images.

        Raises:
            TargetError: every pixel is to be ignored.
        """
        return combine_one(
            self,
            statistics,
            counts,
            expected="images with one labelled pixel or more",
            remedy="Score more or other images, and look at ignore_index.",
        )

    def combine_many(
        self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """Return the metrics of every row of ``counts``, NaN where every pixel is to be ignored."""
        whole = np.asarray(statistics).reshape(len(statistics), -1)
        right, predicted, wanted = np.moveaxis((counts @ whole).reshape(len(counts), 3, -1), 1, 0)  # each (R, K)
        ratios = _divide(right, predicted + wanted - right)
        present = ~np.isnan(ratios)
        return {
            "mIoU": _divide(np.where(present, ratios, 0.0).sum(axis=1), present.sum(axis=1).astype(np.float64)),
            "pixel_accuracy": _divide(right.sum(axis=1), wanted.sum(axis=1)),
        }

    def per_class(
        self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Return each class's intersection over union, (K,); NaN where it is in no target and no prediction.

        Args:
            statistics: one array per image.
            counts: (N,) how often each image counts; default: once.
        """
        row = np.ones(len(statistics)) if counts is None else np.asarray(counts, dtype=np.float64)
        right, predicted, wanted = np.tensordot(row, np.asarray(statistics), axes=1)
        return _divide(right, predicted + wanted - right)

    def _labels(self, prediction: Any, size: tuple[int, ...]) -> Tensor:
        """Return the prediction as a label map, (H, W) int64."""
        if isinstance(prediction, Tensor):
            found = prediction.detach().cpu()
            if tuple(found.shape) == (self.num_classes, *size) and found.is_floating_point():
                return found.argmax(dim=0)
            if tuple(found.shape) == size and not found.is_floating_point() and not found.is_complex():
                return found.long()
            got = f"{found.dtype} {tuple(found.shape)}"
        else:
            got = type(prediction).__name__
        raise ContractError(
            where="MaskScorer, prediction",
            expected=f"integer labels {size} or class scores {(self.num_classes, *size)}, of the target's size",
            got=got,
            remedy="Resize the network's answer to its image, and use masks of their images' size.",
        )


def _divide(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
    return ratio
