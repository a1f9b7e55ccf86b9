"""The score of several tasks at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precomp_sdk.errors import ContractError
from precomp_sdk.scorer import Scorer
from precomp_sdk.targets import Composite, Target

__all__ = ["EnsembleScorer"]


class EnsembleScorer(Scorer):
    """Every member's metrics as ``member/metric``, and first the weighted mean of the members' first metrics, ``mean``.

    A prediction is a tuple of the members' predictions; a target is a `Composite` of one per member, or one for all.
    One image's statistics is the members' arrays, flat, each behind its shape.

    Args:
        members: scorers by name.
        weights: of the members by name, positive.
    """

    def __init__(self, members: Mapping[str, Scorer], weights: Mapping[str, float]) -> None:
        self._members = dict(members)
        total = sum(weights[name] for name in members)
        self._shares = {name: weights[name] / total for name in members}
        names = [f"{name}/{metric}" for name, scorer in members.items() for metric in scorer.metrics]
        self.metrics: tuple[str, ...] = ("mean", *names)  # of the instance: they follow from the members

    def _measure(self, prediction: Any, target: Target) -> NDArray[np.float64]:
        """Return every member's statistics.

        Raises:
            ContractError: the prediction is not one per member.
        """
        if not isinstance(prediction, Sequence) or len(prediction) != len(self._members):
            raise ContractError(
                where="EnsembleScorer",
                expected=f"a tuple of {len(self._members)} predictions, one per member",
                got=type(prediction).__name__,
                remedy="Score the predictions of the EnsembleTask it belongs to.",
            )
        targets = target.targets if isinstance(target, Composite) else (target,) * len(self._members)
        parts: list[NDArray[np.float64]] = []
        for scorer, answer, wanted in zip(self._members.values(), prediction, targets, strict=True):
            statistics = np.asarray(scorer.measure(answer, wanted), dtype=np.float64)
            parts += [np.array([statistics.ndim, *statistics.shape], dtype=np.float64), statistics.reshape(-1)]
        return np.concatenate(parts)

    def combine(self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64]) -> dict[str, float]:
        """Return every member's metrics and their mean."""
        return self._named(
            {name: self._members[name].combine(part, counts) for name, part in self._split(statistics).items()}
        )

    def combine_many(
        self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """Return every member's metrics and their mean for every row of ``counts``."""
        return self._named(
            {name: self._members[name].combine_many(part, counts) for name, part in self._split(statistics).items()}
        )

    def _split(self, statistics: Sequence[NDArray[np.float64]]) -> dict[str, list[NDArray[np.float64]]]:
        """Return the statistics of each member, image by image."""
        found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self._members}
        for whole in statistics:
            place = 0
            for name in self._members:
                ndim = int(whole[place])
                shape = tuple(whole[place + 1 : place + 1 + ndim].astype(int))
                place += 1 + ndim
                size = int(np.prod(shape))
                found[name].append(whole[place : place + size].reshape(shape))
                place += size
        return found

    def _named(self, scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        first = [self._shares[name] * member[self._members[name].metrics[0]] for name, member in scores.items()]
        flat = {f"{name}/{metric}": value for name, member in scores.items() for metric, value in member.items()}
        return {"mean": sum(first[1:], first[0]), **flat}
