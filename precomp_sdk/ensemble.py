"""Several task models as one."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn

from precomp_sdk.errors import OptionError
from precomp_sdk.scoring import EnsembleScorer
from precomp_sdk.targets import Composite, Target
from precomp_sdk.task import TaskModel
from precomp_sdk.validation import check_switch

__all__ = ["EnsembleTask"]


class EnsembleTask(TaskModel):
    """A weighted ensemble of task models, of one kind or of several, as one task model.

    The loss is the weighted mean of the members' losses, each in its own unit. Losses of different kinds are no more
    alike than metres and seconds, and a fragile member would rule the rest; with ``normalize`` a training first
    measures what the codec alone costs each member (`anchor_units`), and that is the unit. The score names every
    member's metrics ``member/metric`` and puts the weighted mean of the members' first metrics before them, as
    ``mean``: the one BD-rate is computed on.
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
        normalize: let a training set `units`; otherwise they are 1 until `set_units`.

    Raises:
        OptionError: there is no member, a name has a slash or a dot or is that of a dictionary's method, or a weight is
            of no member or not positive.
    """

    name = "ensemble"
    source = "a weighted sum of losses"

    def __init__(
        self, *, members: Mapping[str, TaskModel], weights: Mapping[str, float] | None = None, normalize: bool = False
    ) -> None:
        super().__init__()
        check_switch("EnsembleTask", "normalize", normalize)
        given = dict(weights or {})
        taken = dir(nn.ModuleDict())  # "values", say: a module cannot be called so
        if not members or any("/" in name or "." in name or name in taken for name in members):
            raise OptionError.value(
                "EnsembleTask",
                "members",
                "one member or more, with names free of '/' and '.' and not of a dictionary's methods",
                list(members),
                "Rename the members: metrics are called MEMBER/METRIC.",
            )
        self.members: nn.ModuleDict = nn.ModuleDict(members)
        self.normalize = normalize
        self.units: dict[str, float] = dict.fromkeys(members, 1.0)  #: what counts as a loss of 1, by member
        self.layer_units: dict[
            str, tuple[float, ...]
        ] = {}  #: what counts as a feature distance of 1, by member and layer
        self.weights: dict[str, float] = self._positive("weights", given)
        kinds = {member.target_kind for member in members.values()}
        self.target_kind: str = kinds.pop() if len(kinds) == 1 else Composite.kind
        self.scorer: EnsembleScorer = EnsembleScorer(
            {name: member.scorer for name, member in members.items()}, self.weights
        )
        names = {member.class_names for member in members.values()}
        self.class_names: tuple[str, ...] = names.pop() if len(names) == 1 else ()

    def set_units(
        self, units: Mapping[str, float], layer_units: Mapping[str, Sequence[float]] = MappingProxyType({})
    ) -> None:
        """Say what counts as a loss of 1, by member; a member that is not named has 1.

        Args:
            units: of the losses.
            layer_units: of the feature distances, layer by layer, of every member; or of none.

        Raises:
            OptionError: a unit is of no member or not positive.
        """
        self.units = self._positive("units", units)
        for name, layers in layer_units.items():
            for unit in layers:
                self._positive("layer_units", {name: unit})
        self.layer_units = {name: tuple(map(float, layers)) for name, layers in layer_units.items()}

    def feature_weights(self) -> tuple[float, ...] | None:
        """Return what makes layers comparable: each member counts by its weight, each of its layers alike."""
        if not self.layer_units:
            return None
        total = sum(self.weights.values())
        return tuple(
            self.weights[name] / (total * len(self.layer_units[name]) * unit)
            for name in self.members
            for unit in self.layer_units[name]
        )

    def _positive(self, option: str, given: Mapping[str, float]) -> dict[str, float]:
        for name, value in given.items():
            if name not in self.members or not (0.0 < value < float("inf")):
                raise OptionError(
                    where=f"EnsembleTask, option {option!r}",
                    expected=f"positive numbers for {', '.join(self.members)}",
                    got=f"{name}: {value}",
                    remedy="Leave it out for 1 each, or name members only.",
                )
        return {name: float(given.get(name, 1.0)) for name in self.members}

    def check_dataset(self, class_names: Sequence[str]) -> None:
        """Raise `TargetError` if the data set's classes do not fit every member."""
        for member in self.tasks.values():
            member.check_classes(class_names)

    @property
    def tasks(self) -> dict[str, TaskModel]:
        """The members by name, in their order."""
        return {name: cast("TaskModel", task) for name, task in self.members.items()}

    def targets_of(self, name: str, targets: Sequence[Target]) -> list[Target]:
        """Return one member's targets: its part of composite ones, any other target as it is."""
        place = list(self.members).index(name)
        return [target.targets[place] if isinstance(target, Composite) else target for target in targets]

    def member_losses(self, images: Tensor | Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Return each member's losses, (N,), with gradients to the images, as the member has them: not in `units`.

        Raises:
            TargetError: a target is of another kind than a member takes, or there is not one per image.
        """
        return {name: task.losses(images, self.targets_of(name, targets)) for name, task in self.tasks.items()}

    def member_predictions(self, images: Tensor | Sequence[Tensor]) -> dict[str, list[Any]]:
        """Return each member's predictions, one per image."""
        return {name: task.predict(images) for name, task in self.tasks.items()}

    def member_predictions_with_losses(
        self, images: Tensor | Sequence[Tensor], targets: Sequence[Target], *, keys: Sequence[str] | None = None
    ) -> dict[str, tuple[list[Any], Tensor]]:
        """Return each member's predictions and losses (N,), without gradients: what an evaluation of several needs.

        Raises:
            TargetError: a target is of another kind than a member takes, or there is not one per image.
        """
        return {
            name: task.predict_with_losses(images, self.targets_of(name, targets), keys=keys)
            for name, task in self.tasks.items()
        }

    def member_features(self, images: Tensor) -> dict[str, list[Tensor]]:
        """Return each member's intermediate features, with gradients to the images.

        Raises:
            OptionError: a member does not offer any.
        """
        return {name: task.features(images) for name, task in self.tasks.items()}

    def _takes(self, target: Target) -> bool:
        tasks = tuple(self.tasks.values())
        if isinstance(target, Composite):
            return len(target.targets) == len(tasks) and all(
                task._takes(part) for task, part in zip(tasks, target.targets, strict=True)
            )
        return target.kind == self.target_kind

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return self._mean(self.member_losses(images, targets))

    def _predict(self, images: Tensor) -> Sequence[Any]:
        return list(zip(*self.member_predictions(images).values(), strict=True))

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Any], Tensor]:
        judged = self.member_predictions_with_losses(images, targets)
        predictions = list(zip(*(answers for answers, _ in judged.values()), strict=True))
        return predictions, self._mean({name: losses for name, (_, losses) in judged.items()})

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        own = (task.pseudo_labels(images) for task in self.tasks.values())
        return [Composite(parts) for parts in zip(*own, strict=True)]

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        return [features for member in self.member_features(images).values() for features in member]

    def _mean(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted mean of the members' losses in their units, (N,)."""
        weighted = torch.stack([self.weights[name] / self.units[name] * part.float() for name, part in losses.items()])
        return weighted.sum(dim=0) / sum(self.weights.values())
