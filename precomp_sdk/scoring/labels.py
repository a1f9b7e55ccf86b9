"""Top-1 and top-5 accuracy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precomp_sdk.errors import ContractError, TargetError
from precomp_sdk.scorer import Scorer
from precomp_sdk.targets import Label, Target

__all__ = ["LabelScorer"]


class LabelScorer(Scorer):
    """Top-1 and top-5 accuracy of class scores.

    A prediction is a tensor (K,) of logits or probabilities. With fewer than 5 classes, top-5 is 1.
    """

    metrics: tuple[str, ...] = ("top1", "top5")

    def _measure(self, prediction: Any, target: Target) -> NDArray[np.float64]:
        """Return [in top 1, in top 5] as zeros and ones; ties count against the prediction."""
        if not isinstance(target, Label):
            raise TargetError(
                where="LabelScorer",
                expected="a Label",
                got=type(target).__name__,
                remedy="Score a classification task on a data set of labels.",
            )
        if not isinstance(prediction, Tensor) or prediction.ndim != 1:
            raise ContractError(
                where="LabelScorer, prediction",
                expected="a tensor of class scores (K,)",
                got=str(tuple(prediction.shape)) if isinstance(prediction, Tensor) else type(prediction).__name__,
                remedy="Return one row of logits or probabilities per image.",
            )
        target.check("LabelScorer, target", num_classes=len(prediction))
        scores = prediction.detach().to("cpu", torch.float64)
        rank = int((scores >= scores[target.index]).sum())  # 1 where no other class scores as high
        return np.array([rank <= 1, rank <= 5], dtype=np.float64)

    def combine(self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64]) -> dict[str, float]:
        """Return the weighted means."""
        top1, top5 = np.average(np.asarray(statistics), axis=0, weights=counts)
        return {"top1": float(top1), "top5": float(top5)}

    def combine_many(
        self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """Return the weighted means of every row of ``counts``."""
        means = counts @ np.asarray(statistics) / counts.sum(axis=1, keepdims=True)  # (R, 2)
        return {"top1": means[:, 0], "top5": means[:, 1]}
