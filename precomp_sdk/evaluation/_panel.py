"""Several backbones that judge the same decoded images, as one task to the measurer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from precomp_sdk.evaluation.statistics import MeasuredCurve, MeasuredPoint
from precomp_sdk.targets import Target
from precomp_sdk.task import Scorer, TaskModel

__all__ = ["Panel", "split"]


class _PanelScorer(Scorer):
    """Keeps each backbone's loss and statistics side by side; metrics are named ``backbone/metric``."""

    def __init__(self, tasks: Mapping[str, TaskModel]) -> None:
        self._tasks = tasks
        self.metrics = tuple(f"{label}/{name}" for label, task in tasks.items() for name in task.scorer.metrics)  # type: ignore[misc]

    def _measure(self, prediction: Any, target: Target) -> NDArray[np.float64]:
        statistics = np.empty(len(self._tasks), dtype=object)  # arrays of unequal shapes, so no array of numbers
        for place, (task, (answer, loss)) in enumerate(zip(self._tasks.values(), prediction, strict=True)):
            statistics[place] = (task.scorer.measure(answer, target), loss)
        return statistics

    def combine(self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64]) -> dict[str, float]:
        scores: dict[str, float] = {}
        for place, (label, task) in enumerate(self._tasks.items()):
            own: list[Any] = [row[place][0] for row in statistics]
            scores.update({f"{label}/{name}": value for name, value in task.scorer.combine(own, counts).items()})
        return scores


class Panel(TaskModel):
    """Backbones of one kind of target; its loss is the sum of theirs.

    Args:
        tasks: by label.
    """

    name = "panel"
    source = "the backbones it is made of"

    def __init__(self, tasks: Mapping[str, TaskModel]) -> None:
        super().__init__()
        self.tasks = dict(tasks)
        self.members = nn.ModuleList(tasks.values())
        self.target_kind = next(iter(tasks.values())).target_kind
        self.scorer = _PanelScorer(self.tasks)

    def check_dataset(self, class_names: Sequence[str]) -> None:
        """Raise `TargetError` if a data set does not fit one of the backbones."""
        for task in self.tasks.values():
            task.check_classes(class_names)

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return torch.stack([task.losses(images, targets) for task in self.tasks.values()]).sum(dim=0)

    def _predict(self, images: Tensor) -> Sequence[Any]:
        return list(zip(*(task.predict(images) for task in self.tasks.values()), strict=True))

    def _judge(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Any], Tensor]:
        judged = [task.predict_with_losses(images, targets) for task in self.tasks.values()]
        paired = [list(zip(answers, losses.cpu().double().tolist(), strict=True)) for answers, losses in judged]
        return list(zip(*paired, strict=True)), torch.stack([losses for _, losses in judged]).sum(dim=0)


def split(curve: MeasuredCurve, panel: Panel, label: str) -> MeasuredCurve:
    """Return what one of the backbones makes of a curve that the whole panel judged."""
    place = list(panel.tasks).index(label)
    points = []
    for point in curve.points:
        rows: list[Any] = [row[place] for row in point.statistics]
        losses = np.array([loss for _, loss in rows])
        points.append(MeasuredPoint(point.quality, point.bits, losses, tuple(statistics for statistics, _ in rows)))
    return replace(curve, scorer=panel.tasks[label].scorer, points=tuple(points))
