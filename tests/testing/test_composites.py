"""The kit on data sets whose targets are composites."""

import pytest
import torch

from precomp_sdk import Boxes, Composite, ConformanceError, Label, Mask, TargetKind
from precomp_sdk.testing import FakeDataset, check


class Pairs(FakeDataset):
    """Gratings with a label and a mask, or something that a test puts in their place."""

    def __init__(self, parts=None):
        super().__init__(count=6)
        self.target_kind = TargetKind.COMPOSITE
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
        ((Label(0), unmade), r"D3 failed.*expected labels \(M,\) int64"),
        ((Label(0), Label(9)), "D4 failed.*got .*9"),
    ):
        with pytest.raises(ConformanceError, match=f"(?s){message}"):
            check(lambda parts=parts: Pairs(parts))


def test_parts_that_change_are_noticed():
    with pytest.raises(ConformanceError, match="D8 failed"):
        check(Restless)
