"""Several task models as one."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from precomp_sdk.errors import OptionError
from precomp_sdk.scoring import EnsembleScorer
from precomp_sdk.targets import Composite, Target
from precomp_sdk.task import TaskModel

__all__ = ["EnsembleTask"]


class EnsembleTask(TaskModel):
    """A weighted ensemble of task models, of one kind or of several, as one task model.

    The loss is the weighted mean of the members' losses. The score names every member's metrics ``member/metric`` and
    puts the weighted mean of the members' first metrics before them, as ``mean``: the one BD-rate is computed on.
    Features are the members', one after the other.

    Members of one kind share a data set's targets, one per image for all. Members of several kinds have
    `Composite` targets, one part per member. In both cases each member's own answer on the clean image serves as its
    own target: that needs no labels, and is how an experiment file trains for two different tasks
    (``train.targets = "pseudo-labels"``, ``evaluate.pseudo_labels = true``).

    In an experiment file each member is a table of its own::

        [task]
        name = "ensemble"
        weights = {cells = 2.0}

        [task.members.cells]
        name = "torchvision-detector"
        weights = "cells.pth"

        [task.members.kind]
        name = "torchvision-classifier"

    Args:
        members: task models by name.
        weights: of the members by name, positive; default: 1 each.

    Raises:
        OptionError: there is no member, a name has a slash or a dot, or a weight is of no member or not positive.
    """

    name = "ensemble"
    source = "a weighted sum of losses"

    def __init__(self, *, members: Mapping[str, TaskModel], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        given = dict(weights or {})
        if not members or any("/" in name or "." in name for name in members):
            raise OptionError.value(
                "EnsembleTask",
                "members",
                "one member or more, with names free of '/' and '.'",
                list(members),
                "Rename the members: metrics are called MEMBER/METRIC.",
            )
        for name, weight in given.items():
            if name not in members or not (0.0 < weight < float("inf")):
                raise OptionError(
                    where="EnsembleTask, option 'weights'",
                    expected=f"positive numbers for {', '.join(members)}",
                    got=f"{name}: {weight}",
                    remedy="Leave it out for equal weights, or name members only.",
                )
        self.members = nn.ModuleDict(members)
        self.weights = {name: float(given.get(name, 1.0)) for name in members}
        kinds = {member.target_kind for member in members.values()}
        self.target_kind = kinds.pop() if len(kinds) == 1 else Composite.kind
        self.scorer = EnsembleScorer({name: member.scorer for name, member in members.items()}, self.weights)
        names = {member.class_names for member in members.values()}
        self.class_names = names.pop() if len(names) == 1 else ()

    def check_dataset(self, class_names: Sequence[str]) -> None:
        """Raise `TargetError` if the data set's classes do not fit every member."""
        for member in self._tasks().values():
            member.check_classes(class_names)

    def _takes(self, target: Target) -> bool:
        tasks = tuple(self._tasks().values())
        if isinstance(target, Composite):
            return len(target.targets) == len(tasks) and all(
                task._takes(part) for task, part in zip(tasks, target.targets, strict=True)
            )
        return target.kind == self.target_kind

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return self._mean(
            {
                name: task.losses(images, self._of_member(place, targets))
                for place, (name, task) in enumerate(self._tasks().items())
            }
        )

    def _predict(self, images: Tensor) -> Sequence[Any]:
        return list(zip(*(task.predict(images) for task in self._tasks().values()), strict=True))

    def _judge(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Any], Tensor]:
        judged = {
            name: task.predict_with_losses(images, self._of_member(place, targets))
            for place, (name, task) in enumerate(self._tasks().items())
        }
        predictions = list(zip(*(answers for answers, _ in judged.values()), strict=True))
        return predictions, self._mean({name: losses for name, (_, losses) in judged.items()})

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        own = (task.pseudo_labels(images) for task in self._tasks().values())
        return [Composite(parts) for parts in zip(*own, strict=True)]

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        return [features for task in self._tasks().values() for features in task.features(images)]

    def _tasks(self) -> dict[str, TaskModel]:
        return {name: task for name, task in self.members.items() if isinstance(task, TaskModel)}

    def _mean(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted mean of the members' losses, (N,)."""
        weighted = torch.stack([self.weights[name] * part.float() for name, part in losses.items()])  # (members, N)
        return weighted.sum(dim=0) / sum(self.weights.values())

    @staticmethod
    def _of_member(place: int, targets: Sequence[Target]) -> list[Target]:
        return [target.targets[place] if isinstance(target, Composite) else target for target in targets]
