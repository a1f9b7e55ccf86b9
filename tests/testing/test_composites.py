"""The kit on data sets whose targets are composites."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional

from precomp_sdk import (
    Boxes,
    Composite,
    ConformanceError,
    EnsembleTask,
    ImageTarget,
    Label,
    Mask,
    MaskScorer,
    ModuleTask,
    OptionError,
)
from precomp_sdk.testing import FakeDataset, FakeTask, check


class Pairs(FakeDataset):
    """Gratings with a label and a mask, or something that a test puts in their place."""

    def __init__(self, parts=None):
        super().__init__(count=6)
        self.target_kind = Composite.kind
        self._parts = parts

    def _sample(self, index):
        image, label = super()._sample(index)
        if self._parts is not None:
            return image, Composite(self._parts)
        return image, Composite((label, Composite((Mask(torch.full((24, 24), index % 4)),))))


class Restless(Pairs):
    """Never draws the same label twice."""

    calls = 0

    def _sample(self, index):
        image, _ = super()._sample(index)
        type(self).calls += 1
        return image, Composite((Label(self.calls % 4), Label(0)))


def test_their_parts_are_looked_at():
    check(Pairs)
    unmade = Boxes(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int32))
    for parts, message in (
        ((Label(0), unmade), r"D3 failed.*sample .0., part 1: expected labels \(1,\) int64"),
        ((Label(0), Label(9)), "D3 failed.*part 1: expected a label, a whole number from 0 to 3; got 9"),
    ):
        with pytest.raises(ConformanceError, match=f"(?s){message}"):
            check(lambda parts=parts: Pairs(parts))


def test_parts_that_change_are_noticed():
    with pytest.raises(ConformanceError, match="D8 failed"):
        check(Restless)


class Pixels(nn.Module):
    """Two classes of pixels by their brightness."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 2, 3, padding=1)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([-1.0, 1.0])[:, None, None, None].expand_as(self.head.weight))

    def forward(self, images):
        return self.head(images - images.mean(dim=(2, 3), keepdim=True))


def pixels():
    def losses(logits, targets):
        labels = torch.stack([target.labels for target in targets])
        return functional.cross_entropy(logits, labels, reduction="none").mean(dim=(1, 2))

    return ModuleTask(
        Pixels(),
        loss=losses,
        predict=list,
        pseudo_labels=lambda logits: [Mask(row.argmax(dim=0)) for row in logits],
        scorer=MaskScorer(2),
        target_kind="mask",
        name="pixels",
    )


def test_a_task_of_several_kinds_passes_every_check_with_targets_of_its_members():
    report = check(lambda: EnsembleTask(members={"pixels": pixels(), "fake": FakeTask(classes=2)}))

    told = {finding.check.number: finding.detail for finding in report.findings if finding.outcome != "passed"}
    assert told == {"T15": "it offers no features"}


@dataclass(frozen=True)
class Angle(ImageTarget):
    kind = "angle"
    degrees: float


class AngleTask(FakeTask):
    """Takes targets of a kind that the kit knows nothing of."""

    target_kind = "angle"

    def _losses(self, images, targets):
        return super()._losses(images, [Label(round(target.degrees / 45)) for target in targets])

    def _predict_with_losses(self, images, targets):
        return self._predict(images), self._losses(images, targets)

    def _pseudo_labels(self, images):
        raise OptionError(where="angles", expected="labels", got="none", remedy="Use a data set.")


def test_a_kind_that_the_kit_cannot_make_is_a_failure_not_a_pass():
    with pytest.raises(ConformanceError, match=r"T2 failed.*\n.*give it TaskSettings\(targets=...\)"):
        check(AngleTask)
