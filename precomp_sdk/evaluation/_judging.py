"""Who looks at the received images, and what is told of each."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from precomp_sdk.ensemble import EnsembleTask
from precomp_sdk.errors import NonFiniteError
from precomp_sdk.evaluation._fingerprint import fingerprint
from precomp_sdk.evaluation.statistics import ImageRow
from precomp_sdk.images import to_float
from precomp_sdk.modules import device_of
from precomp_sdk.scorer import Scorer
from precomp_sdk.targets import Composite, Target
from precomp_sdk.task import TaskModel
from precomp_sdk.types import Sample

__all__ = ["Judges"]


class Judges:
    """A task as a whole, under the name "", or every member of an ensemble.

    Args:
        task: the task, or the ensemble.
        split: look at its members one by one.
        pseudo_labels: members that are scored against their own answers on the clean images; True: all.
    """

    def __init__(self, task: TaskModel, *, split: bool, pseudo_labels: Collection[str] | bool) -> None:
        self._task = task
        self._panel = task if split and isinstance(task, EnsembleTask) else None
        self._own = pseudo_labels
        self._device = device_of(task)

    @property
    def module(self) -> nn.Module:
        """The networks, to be put into evaluation mode."""
        return self._task

    @property
    def tasks(self) -> Mapping[str, TaskModel]:
        """Who judges, by name."""
        return {"": self._task} if self._panel is None else self._panel.tasks

    @property
    def scorers(self) -> dict[str, Scorer]:
        """The scorer of each."""
        return {name: task.scorer for name, task in self.tasks.items()}

    def fingerprints(self) -> dict[str, str]:
        """Return what stands for each judge: its weights, options and code, and what it is scored against.

        Raises:
            UnknownContentError: the content of one cannot be told.
        """
        device = self._device.type
        return {name: fingerprint(task, self._own_answers(name), device) for name, task in self.tasks.items()}

    def _own_answers(self, name: str) -> bool:
        return self._own is True or (not isinstance(self._own, bool) and name in self._own)

    def targets(self, samples: Sequence[Sample]) -> list[Target]:
        """Return what samples are scored against: their targets, the networks' own answers, or some of each."""
        labels = [sample.target for sample in samples if sample.target is not None]
        if not self._own:
            return labels
        images = self._floats([sample.image for sample in samples])
        if self._own is True or not isinstance(self._task, EnsembleTask):
            return self._task.pseudo_labels(images)
        columns = [
            task.pseudo_labels(images) if self._own_answers(name) else labels for name, task in self._task.tasks.items()
        ]
        return [Composite(parts) for parts in zip(*columns, strict=True)]

    def rows(
        self,
        samples: Sequence[Sample],
        targets: Sequence[Target],
        images: Sequence[Tensor],
        bits: Sequence[float],
        where: str,
    ) -> list[ImageRow]:
        """Return what the judges make of received 8-bit images.

        Args:
            samples: the sources.
            targets: what they are scored against.
            images: as they were received.
            bits: of each payload.
            where: for messages, such as ``"'anchor' at quality 10"``.

        Raises:
            NonFiniteError: a loss is not finite.
        """
        floats, scorers = self._floats(images), self.scorers
        columns: dict[str, list[tuple[Any, Target, float]]] = {}
        for name, (answers, losses) in self._judged(floats, targets, [sample.key for sample in samples]).items():
            wanted = targets if self._panel is None else self._panel.targets_of(name, targets)
            values = losses.cpu().double().tolist()  # not every device has float64
            for sample, loss in zip(samples, values, strict=True):
                if not np.isfinite(loss):
                    raise NonFiniteError(
                        where=f"evaluation of {where}, image {sample.key!r}" + (f", judge {name!r}" if name else ""),
                        expected="a finite task loss",
                        got=str(loss),
                        remedy="Look at the weights of the task network and at the image's target.",
                    )
            columns[name] = list(zip(answers, wanted, values, strict=True))
        return [
            ImageRow(
                bits=float(size),
                losses={name: column[place][2] for name, column in columns.items()},
                statistics={name: scorers[name].measure(*column[place][:2]) for name, column in columns.items()},
            )
            for place, size in enumerate(bits)
        ]

    def _judged(
        self, images: Sequence[Tensor], targets: Sequence[Target], keys: Sequence[str]
    ) -> Mapping[str, tuple[Sequence[Any], Tensor]]:
        if self._panel is None:
            return {"": self._task.predict_with_losses(images, targets, keys=keys)}
        return self._panel.member_predictions_with_losses(images, targets, keys=keys)

    def _floats(self, images: Sequence[Tensor]) -> list[Tensor]:
        return [to_float(image.to(self._device)) for image in images]
