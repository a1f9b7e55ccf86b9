"""The contract of the score that a task is judged by."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from precomp_sdk.described import Described
from precomp_sdk.errors import ContractError
from precomp_sdk.targets import Target

__all__ = ["Scorer"]


class Scorer(Described, ABC):
    """Turns predictions into metrics, in two steps so that images can be drawn again for a bootstrap.

    Write ``_measure``, which looks at one image, and ``combine``, which weighs any multiset of images. Every metric is
    better when higher.
    """

    metrics: tuple[str, ...]  #: the first is the one BD-rate is computed on

    @abstractmethod
    def _measure(self, prediction: Any, target: Target) -> NDArray[np.float64]:
        """Return one image's statistics: any array; equal shapes over images are combined faster."""

    @final
    def measure(self, prediction: Any, target: Target) -> NDArray[np.float64]:
        """Return one image's statistics.

        Raises:
            ContractError: the prediction holds NaN, which is neither right nor wrong; or it is not of the form that the
                scorer reads.
            TargetError: the target is of another kind, or of a class that the prediction does not know.
        """
        if _holds_nan(prediction):
            raise ContractError(
                where=f"{type(self).__name__}, prediction",
                expected="finite numbers",
                got="NaN",
                remedy="Look where the network's answer becomes NaN: its weights, its input, half precision.",
            )
        return self._measure(prediction, target)

    @abstractmethod
    def combine(self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64]) -> dict[str, float]:
        """Score a multiset of images.

        Args:
            statistics: one array per image.
            counts: (N,) how often each image counts; sums to more than 0.

        Returns:
            Every metric by name, as a fraction (0.5, not 50%).
        """

    def combine_many(
        self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """Score many multisets of the same images; override it where a matrix product does that faster.

        Args:
            statistics: one array per image.
            counts: (R, N), one row per multiset.

        Returns:
            Every metric by name, each (R,).
        """
        rows = [self.combine(statistics, row) for row in counts]
        return {metric: np.array([row[metric] for row in rows], dtype=np.float64) for metric in self.metrics}


def _holds_nan(prediction: Any) -> bool:
    """Return whether a prediction, or anything that it is made of, is NaN."""
    if isinstance(prediction, Tensor):
        return prediction.is_floating_point() and bool(prediction.isnan().any())
    if isinstance(prediction, np.ndarray | np.floating | float):
        return np.issubdtype(np.asarray(prediction).dtype, np.floating) and bool(np.isnan(prediction).any())
    if is_dataclass(prediction):
        return any(_holds_nan(getattr(prediction, item.name)) for item in fields(prediction))
    if isinstance(prediction, Mapping):
        return any(map(_holds_nan, prediction.values()))
    return isinstance(prediction, list | tuple) and any(map(_holds_nan, prediction))
