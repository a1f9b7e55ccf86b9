"""Doubles of the three kinds of task, small enough to refine against in milliseconds."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from precomp_refine import Refiner
from precomp_sdk import Boxes, Mask, Scorer, Target, TaskModel
from precomp_sdk.testing import FakeCodec, FakeDataset, FakeProxy, FakeTask

LAMBDAS = {5.0: 2.0, 30.0: 2.0, 70.0: 2.0}


class Nothing(Scorer):
    """Scores no one asks for."""

    metrics = ("none",)

    def _measure(self, prediction: Any, target: Target) -> NDArray[np.float64]:
        return np.zeros(1)

    def combine(self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64]) -> dict[str, float]:
        return {"none": 0.0}


class PixelTask(TaskModel):
    """Tells bright pixels from dark ones."""

    name = "pixels"
    source = "a double"
    target_kind = Mask.kind
    scorer = Nothing()

    def __init__(self) -> None:
        super().__init__()
        self.threshold = torch.nn.Parameter(torch.tensor(0.5))

    def _logits(self, images: Tensor) -> Tensor:
        margin = 12.0 * (images.mean(dim=1, keepdim=True) - self.threshold)
        return torch.cat([-margin, margin], dim=1)

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        wanted = torch.stack([target.probabilities for target in targets])  # type: ignore[misc,union-attr]
        return functional.cross_entropy(self._logits(images), wanted, reduction="none").mean(dim=(1, 2))

    def _predict(self, images: Tensor) -> Sequence[Any]:
        return list(self._logits(images))

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        soft = self._logits(images).softmax(dim=1)
        return [Mask(labels=row.argmax(dim=0), probabilities=row) for row in soft]


class SpotTask(TaskModel):
    """Finds 8x8 cells that are bright: boxes; none in a dark image."""

    name = "spots"
    source = "a double"
    target_kind = Boxes.kind
    scorer = Nothing()

    def _scores(self, images: Tensor) -> Tensor:
        return 20.0 * (functional.avg_pool2d(images.mean(dim=1, keepdim=True), 8)[:, 0] - 0.55)  # (N, H / 8, W / 8)

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        scores = self._scores(images)
        wanted = torch.zeros_like(scores)
        for row, target in enumerate(targets):
            assert isinstance(target, Boxes)
            for left, top in (target.boxes[:, :2] / 8).long().tolist():
                wanted[row, top, left] = 1.0
        return functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none").mean(dim=(1, 2))

    def _predict(self, images: Tensor) -> Sequence[Any]:
        return self._pseudo_labels(images)

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        found = []
        for row in self._scores(images):
            corner = 8.0 * row.gt(0).nonzero().flip(1)
            found.append(Boxes(torch.cat([corner, corner + 8.0], dim=1), torch.zeros(len(corner), dtype=torch.int64)))
        return found


@pytest.fixture
def photographs() -> list[Tensor]:
    dataset = FakeDataset(count=6, size=(24, 32), seed=3)
    return [dataset[index].image for index in range(len(dataset))]


@pytest.fixture
def make() -> Callable[..., Refiner]:
    """Construct a refiner for the fake codec; options may be replaced."""

    def construct(task: TaskModel | None = None, **options: Any) -> Refiner:
        codec = FakeCodec()
        chosen = {"steps": 8, "step_levels": 4.0, "lambdas": LAMBDAS, "patience": 100, **options}
        return Refiner(codec, FakeProxy(codec), (task or FakeTask()).eval(), **chosen)

    return construct
