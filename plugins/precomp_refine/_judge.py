"""The task networks' side of the objective: targets and features of clean images, and what a decoded one loses."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from precomp_refine._lambda_table import Prices
from precomp_sdk import Boxes, Mask, Target, TaskModel, feature_distances

__all__ = ["Judge", "Losses", "Reference"]


@dataclass(frozen=True, slots=True)
class Reference:
    """What the task networks say of clean images: per network one target per image, and its features."""

    targets: list[list[Target]]
    features: list[list[Tensor]]

    def rows(self, kept: list[int]) -> "Reference":
        """Return the reference of some of the images."""
        return Reference(
            [[targets[row] for row in kept] for targets in self.targets],
            [[layer[kept] for layer in layers] for layers in self.features],
        )

    def empty(self) -> list[bool]:
        """Return for each image whether no network finds anything in it."""
        return [all(_empty(target) for target in image) for image in zip(*self.targets, strict=True)]


@dataclass(frozen=True, slots=True)
class Losses:
    """What decoded images lose.

    Shapes and units:
        task_losses, feature_distances: (N,), weighted means over the networks. priced_bpp: (N,), with gradient.
    """

    task_losses: Tensor
    feature_distances: Tensor
    priced_bpp: Tensor


class Judge:
    """The task networks, their shares and prices.

    Args:
        tasks: the networks.
        shares: of each; they sum to 1.
        task_weight: factor on task losses.
        feature_weight: factor on feature distances, which are exchanged for task losses first.
    """

    def __init__(
        self, tasks: Sequence[TaskModel], shares: Sequence[float], *, task_weight: float, feature_weight: float
    ) -> None:
        self.tasks = tuple(tasks)
        self._shares = tuple(shares)
        self._task_weight, self._feature_weight = task_weight, feature_weight

    @property
    def passes(self) -> int:
        """How often an image goes through a network in one call of `reference` or `losses`, over all networks."""
        return len(self.tasks) * (bool(self._task_weight) + bool(self._feature_weight))

    @property
    def feature_passes(self) -> int:
        """How many of `passes` are for features."""
        return len(self.tasks) * bool(self._feature_weight)

    @torch.no_grad()
    def reference(self, clean: Tensor, targets: Sequence[Target] | None) -> Reference:
        """Return what the networks say of clean images, or the targets given."""
        return Reference(
            [task.pseudo_labels(clean) if targets is None else list(targets) for task in self.tasks],
            [task.features(clean) for task in self.tasks] if self._feature_weight else [[] for _ in self.tasks],
        )

    def losses(self, decoded: Tensor, reference: Reference, prices: Prices) -> Losses:
        """Return what decoded images lose, with gradients to them."""
        zero = decoded.new_zeros(len(decoded))
        task_total, feature_total, priced = zero, zero, zero
        for member, task in enumerate(self.tasks):
            share, price = self._shares[member], prices.trade_offs[:, member]
            if self._task_weight:
                losses = task.losses(decoded, reference.targets[member]).float()
                task_total = task_total + share * losses.detach()
                priced = priced + share * self._task_weight * price * losses
            if self._feature_weight:
                distances = feature_distances(
                    task.features(decoded), reference.features[member], task.feature_weights()
                ).float()
                feature_total = feature_total + share * distances.detach()
                worth = self._feature_weight * price * prices.exchanges[:, member]
                priced = priced + share * worth * distances
        return Losses(task_total, feature_total, priced)


def _empty(target: Target) -> bool:
    if isinstance(target, Boxes):
        return len(target.boxes) == 0
    return isinstance(target, Mask) and bool((target.labels == target.ignore_index).all())
