"""One task and one data set per check that fails it and passes all others."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from precomp_sdk import Boxes, Label, LabelScorer, Sample, Target, TargetError, TaskDataset, TaskModel
from precomp_sdk.testing import CHECKS, FakeDataset, FakeTask, Outcome, check

Statistics = Sequence[NDArray[np.float64]]


class ClassNamesInAList(FakeTask):
    def __init__(self) -> None:
        super().__init__()
        self.class_names = list(self.class_names)  # type: ignore[assignment]  # that is what is broken


class NaNOfFlatImages(FakeTask):
    def _logits(self, images: Tensor) -> Tensor:
        spread = images.std(dim=(1, 2, 3), unbiased=False)
        return super()._logits(images) * (spread / spread)[:, None]


class DetachedLosses(FakeTask):
    def _logits(self, images: Tensor) -> Tensor:
        return super()._logits(images.detach())


class LooksAtTheBatch(FakeTask):
    def _logits(self, images: Tensor) -> Tensor:
        logits = super()._logits(images)
        return logits * (1.0 + logits.mean())


class MultiplesOfEight(FakeTask):
    def _logits(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        return super()._logits(images.view(len(images), 3, height // 8, 8, width // 8, 8).view_as(images))


class JudgesDifferently(FakeTask):
    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return super()._predict_with_losses(images, targets)[1]

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Tensor], Tensor]:
        predictions, losses = super()._predict_with_losses(images, targets)
        return predictions, 2.0 * losses


class JudgesBackwards(FakeTask):
    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return super()._predict_with_losses(images, targets)[1]

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Tensor], Tensor]:
        predictions, losses = super()._predict_with_losses(images, targets)
        return [-item for item in predictions], losses


class _Scorer(LabelScorer):
    def _turn(self, value: Any) -> Any:
        return value

    def combine(self, statistics: Statistics, counts: NDArray[np.float64]) -> dict[str, float]:
        return {metric: self._turn(value) for metric, value in super().combine(statistics, counts).items()}

    def combine_many(self, statistics: Statistics, counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return {metric: self._turn(value) for metric, value in super().combine_many(statistics, counts).items()}


class Percent(_Scorer):
    def _turn(self, value: Any) -> Any:
        return 100.0 * value


class Errors(_Scorer):
    def _turn(self, value: Any) -> Any:
        return 1.0 - value


class NaNIsRight(LabelScorer):
    """Skips the look at NaN that the contract's final method takes: what `LabelScorer` itself did once."""

    def measure(self, prediction: Any, target: Target) -> NDArray[np.float64]:  # type: ignore[misc]
        return self._measure(prediction, target)


class Uncounted(LabelScorer):
    def combine(self, statistics: Statistics, counts: NDArray[np.float64]) -> dict[str, float]:
        return super().combine(statistics, np.ones(len(statistics)))


class OnceForAll(LabelScorer):
    def combine_many(self, statistics: Statistics, counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        many = super().combine_many(statistics, counts)
        return {metric: np.full(len(values), values[0]) for metric, values in many.items()}


class NoGoodOwnTargets(FakeTask):
    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        return [
            Label(target.index, torch.full((4,), torch.nan))
            for target in super()._pseudo_labels(images)
            if isinstance(target, Label)
        ]


class TakesAnyTargets(FakeTask):
    def losses(self, images: Any, targets: Sequence[Target]) -> Tensor:  # type: ignore[misc]
        labels: list[Target] = [target if isinstance(target, Label) else Label(0) for target in targets]
        return super().losses(images, labels)


class FillsUpTargets(FakeTask):
    def losses(self, images: Any, targets: Sequence[Target]) -> Tensor:  # type: ignore[misc]
        return super().losses(images, [*targets, *targets[:1] * (len(images) - len(targets))])


class NoisyTask(FakeTask):
    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Tensor], Tensor]:
        predictions, losses = super()._predict_with_losses(images, targets)
        return predictions, losses + 1e-5 * torch.rand(())


class TaskThatClips(FakeTask):
    def _logits(self, images: Tensor) -> Tensor:
        if not images.requires_grad:
            images.clamp_(0.02, 0.98)
        return super()._logits(images)


class StrayTable(FakeTask):
    def __init__(self) -> None:
        super().__init__()
        self.table = (torch.ones(4),)


class FlatFeatures(FakeTask):
    def _logits(self, images: Tensor) -> Tensor:
        cosine, sine = FakeTask._features(self, images)[0].chunk(2, dim=1)
        return 40.0 * (cosine.square() + sine.square() + 1e-8).sqrt().mean(dim=(2, 3))

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        return [item.flatten(2) for item in super()._features(images)]


class DetachedFeatures(FlatFeatures):
    def _features(self, images: Tensor) -> Sequence[Tensor]:
        return FakeTask._features(self, images.detach())


def scored_by(scorer: LabelScorer) -> Callable[[], TaskModel]:
    def make() -> TaskModel:
        task = FakeTask()
        task.scorer = scorer
        return task

    return make


BROKEN_TASKS: list[tuple[str, Callable[[], TaskModel]]] = [
    ("T1", ClassNamesInAList),
    ("T2", NaNOfFlatImages),
    ("T3", DetachedLosses),
    ("T4", LooksAtTheBatch),
    ("T5", MultiplesOfEight),
    ("T6", JudgesDifferently),
    ("T6", JudgesBackwards),
    ("T7", scored_by(Percent())),
    ("T8", scored_by(Uncounted())),
    ("T8", scored_by(OnceForAll())),
    ("T9", scored_by(Errors())),
    ("T10", NoGoodOwnTargets),
    ("T11", TakesAnyTargets),
    ("T11", FillsUpTargets),
    ("T12", NoisyTask),
    ("T13", TaskThatClips),
    ("T14", StrayTable),
    ("T15", FlatFeatures),
    ("T15", DetachedFeatures),
    ("T16", scored_by(NaNIsRight())),
]


class SameNameTwice(FakeDataset):
    def __init__(self) -> None:
        super().__init__()
        self.class_names = ("a", "b", "b", "c")


class GoesRound(FakeDataset):
    def __getitem__(self, index: int) -> Sample:  # type: ignore[misc]  # that is what is broken
        return super().__getitem__(index % len(self))


class Empty(FakeDataset):
    def __init__(self) -> None:
        super().__init__(count=0)


class Changed(FakeDataset):
    """Changes the targets of `FakeDataset`."""

    def _changed(self, label: int) -> Target:
        return Label(label)

    def _sample(self, index: int) -> tuple[Tensor, Target | None]:
        image, target = super()._sample(index)
        assert isinstance(target, Label)
        return image, self._changed(target.index)


class NumPyLabels(Changed):
    def _changed(self, label: int) -> Target:
        return Label(np.int64(label))  # type: ignore[arg-type]  # that is what is broken


class LabelsFromOne(Changed):
    def _changed(self, label: int) -> Target:
        return Label(label + 1)


class GoodBoxes(Changed):
    """One box per image, inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.target_kind = Boxes.kind

    def _changed(self, label: int) -> Target:
        return Boxes(boxes=torch.tensor([[1.0, 2.0, 24.0, 20.0]]), labels=torch.tensor([label]))


class WholeNumberBoxes(GoodBoxes):
    def _changed(self, label: int) -> Target:
        return Boxes(boxes=torch.tensor([[1, 2, 24, 20]]), labels=torch.tensor([label]))


class WidthsForCorners(GoodBoxes):
    def _changed(self, label: int) -> Target:
        return Boxes(boxes=torch.tensor([[12.0, 12.0, 6.0, 6.0]]), labels=torch.tensor([label]))


class BoxesOutside(GoodBoxes):
    def _changed(self, label: int) -> Target:
        return Boxes(boxes=torch.tensor([[1.0, 2.0, 25.0, 20.0]]), labels=torch.tensor([label]))


@dataclass(frozen=True)
class Point(Target):
    """A place in the image; flips as its options say."""

    kind = "point"

    x: float
    mirrored: bool = True

    def resized(self, before: tuple[int, int], after: tuple[int, int]) -> "Point":
        return replace(self, x=self.x * after[1] / before[1])

    def cropped(self, top: int, left: int, height: int, width: int) -> "Point":
        return replace(self, x=min(max(self.x - left, 0.0), width))

    def flipped(self, width: int) -> "Point":
        return replace(self, x=width - self.x if self.mirrored else self.x + 1.0)

    def check(self, where: str, *, size: tuple[int, int] | None = None, num_classes: int | None = None) -> None:
        if size is not None and not 0 <= self.x <= size[1]:
            raise TargetError(where=where, expected="a point in the image", got=str(self.x), remedy="Mend it.")


class Points(FakeDataset):
    """Targets of a kind of their own."""

    def __init__(self, *, mirrored: bool = True) -> None:
        super().__init__()
        self.target_kind = Point.kind
        self._mirrored = mirrored

    def _sample(self, index: int) -> tuple[Tensor, Target | None]:
        return super()._sample(index)[0], Point(3.0, self._mirrored)


class OneScratch(FakeDataset):
    def _sample(self, index: int) -> tuple[Tensor, Target | None]:
        self._index = index
        time.sleep(0.002)
        return super()._sample(self._index)


class HandsOutItsCache(FakeDataset):
    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[int, tuple[Tensor, Target | None]] = {}

    def _sample(self, index: int) -> tuple[Tensor, Target | None]:
        if index not in self._cache:
            self._cache[index] = super()._sample(index)
        return self._cache[index]


class DrawsAnewEveryEpoch(FakeDataset):
    def set_epoch(self, epoch: int) -> None:
        self._seed += 1


class DrawsByInstance(FakeDataset):
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        super().__init__(seed=type(self).made)


class OneKey(FakeDataset):
    def key(self, index: int) -> str:
        return "image"


BROKEN_DATASETS: list[tuple[str, Callable[[], TaskDataset]]] = [
    ("D1", SameNameTwice),
    ("D2", GoesRound),
    ("D3", NumPyLabels),
    ("D3", WholeNumberBoxes),
    ("D3", LabelsFromOne),
    ("D3", WidthsForCorners),
    ("D4", lambda: Points(mirrored=False)),
    ("D5", BoxesOutside),
    ("D6", OneScratch),
    ("D7", HandsOutItsCache),
    ("D8", DrawsAnewEveryEpoch),
    ("D8", DrawsByInstance),
    ("D9", OneKey),
]


def ids(broken: Sequence[tuple[str, Any]]) -> list[str]:
    return [f"{number}-{getattr(item, '__name__', 'lambda')}" for number, item in broken]


@pytest.mark.parametrize(("number", "make"), BROKEN_TASKS, ids=ids(BROKEN_TASKS))
def test_each_check_of_a_task_catches_its_own(number: str, make: Callable[[], TaskModel]) -> None:
    report = check(make, on_fail="report")

    assert [finding.check.number for finding in report.failures] == [number], report.summary()


@pytest.mark.parametrize(("number", "make"), BROKEN_DATASETS, ids=ids(BROKEN_DATASETS))
def test_each_check_of_a_data_set_catches_its_own(number: str, make: Callable[[], TaskDataset]) -> None:
    failures = check(make, on_fail="report").failures

    assert failures[0].check.number == number
    if number == "D3":  # a sample that cannot be read fails every check that reads it, and says why each time
        assert len({failure.detail for failure in failures}) == 1
        assert "data set 'fake', sample '" in failures[0].detail
    else:
        assert len(failures) == 1, failures


def test_every_check_is_failed_once() -> None:
    assert {number for number, _ in BROKEN_TASKS} == {check.number for check in CHECKS["task"]}
    assert {number for number, _ in BROKEN_DATASETS} == {check.number for check in CHECKS["dataset"]}


def test_what_is_not_broken_passes() -> None:
    assert check(GoodBoxes, on_fail="report").failures == ()
    assert check(Points).count(Outcome.PASSED) == 8
    assert check(Changed, on_fail="report").failures == ()
