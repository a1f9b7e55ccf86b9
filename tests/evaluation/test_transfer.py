from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from precomp_sdk import CurveError, LabelScorer, NonFiniteError, OptionError, Target
from precomp_sdk.evaluation import TrainedWith, measure_curve, read_transfer, transfer_matrix
from precomp_sdk.evaluation._panel import Panel, split
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeTask

GOOD: dict[str, Any] = {
    "preprocessors": {"p": FakePreprocessor()},
    "codecs": {"c": FakeCodec()},
    "tasks": {"t": FakeTask()},
    "dataset": FakeDataset(count=4),
}


class Ragged(LabelScorer):
    """Statistics whose length depends on the image."""

    def _measure(self, prediction: Any, target: Target) -> NDArray[np.float64]:
        return np.resize(super().measure(prediction, target), 2 + int(target.index))  # type: ignore[union-attr]

    def combine(self, statistics: Sequence[NDArray[np.float64]], counts: NDArray[np.float64]) -> dict[str, float]:
        return super().combine([row[:2] for row in statistics], counts)


class RaggedTask(FakeTask):
    def __init__(self) -> None:
        super().__init__()
        self.scorer = Ragged()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"preprocessors": {}}, "preprocessors: expected one or more"),
        ({"codecs": {}}, "codecs"),
        ({"tasks": {}}, "tasks"),
        ({"trained_with": {"q": TrainedWith()}}, "trained_with: .*'q'"),
        ({"trained_with": {"p": TrainedWith(codecs=("d",))}}, "trained_with of 'p', codecs"),
        ({"trained_with": {"p": TrainedWith(tasks=("d",))}}, "trained_with of 'p', tasks"),
        ({"ladders": {"d": (5, 30)}}, "ladders"),
        ({"anchor_ladders": {"d": (5, 30)}}, "anchor_ladders"),
        ({"replicates": -1}, "replicates"),
    ],
    ids=str,
)
def test_labels_have_to_be_of_the_matrix(change: dict[str, Any], word: str) -> None:
    with pytest.raises(OptionError, match=f"transfer_matrix, {word}"):
        transfer_matrix(**{**GOOD, **change})


def test_backbones_have_to_belong_together() -> None:
    class Other(LabelScorer):
        metrics = ("top1",)

    other = FakeTask()
    other.scorer = Other()
    with pytest.raises(OptionError, match="Make two matrices"):
        transfer_matrix(GOOD["preprocessors"], GOOD["codecs"], {"t": FakeTask(), "u": other}, GOOD["dataset"])


def test_a_curve_needs_two_qualities() -> None:
    with pytest.raises(CurveError, match="ladder of 'c'"):
        transfer_matrix(*GOOD.values(), ladders={"c": (5,)})


def test_a_cell_is_found_by_its_labels() -> None:
    matrix = transfer_matrix(*GOOD.values(), replicates=0, ladders={"c": (5, 30)}, dataset_name="mine")

    assert matrix.cell("p", "c", "t") is matrix.cells[0]
    assert (matrix.dataset, matrix.images, matrix.metrics) == ("mine", 4, ("top1", "top5"))
    assert not matrix.cells[0].in_loop
    with pytest.raises(CurveError, match="Did you mean 'p c t'"):
        matrix.cell("p", "c", "x")


def test_the_plain_codec_may_have_other_qualities() -> None:
    matrix = transfer_matrix(*GOOD.values(), replicates=0, ladders={"c": (5, 30)}, anchor_ladders={"c": (5, 30, 70)})

    cell = matrix.cells[0]
    assert [point.quality for point in cell.anchor.points] == [5, 30, 70]
    assert [point.quality for point in cell.curve.points] == [5, 30]


def test_a_panel_splits_into_what_each_backbone_measures_alone() -> None:
    tasks = {"first": FakeTask(), "ragged": RaggedTask()}
    panel, codec, dataset = Panel(tasks), FakeCodec(), FakeDataset(count=6)

    together = measure_curve(codec, panel, dataset, ladder=(5, 30))

    for label, task in tasks.items():
        alone, part = measure_curve(codec, task, dataset, ladder=(5, 30)), split(together, panel, label)
        assert part.curve() == alone.curve()
        for ours, theirs in zip(part.points, alone.points, strict=True):
            assert [row.tolist() for row in ours.statistics] == [row.tolist() for row in theirs.statistics]
    whole = together.curve().points[0]
    assert set(whole.scores) == {"first/top1", "first/top5", "ragged/top1", "ragged/top5"}
    images, targets = torch.rand(2, 3, 24, 24), [dataset[0].target, dataset[1].target]
    answers = panel.predict(images)
    assert len(answers[0]) == 2
    expected = sum(task.losses(images, targets) for task in tasks.values())  # type: ignore[arg-type]
    assert torch.allclose(panel.losses(images, targets), expected)  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_names_the_image() -> None:
    bad = FakeTask()
    with torch.no_grad():
        bad.filters[0] = torch.nan
    with pytest.raises(NonFiniteError, match="image '0'"):
        transfer_matrix(GOOD["preprocessors"], GOOD["codecs"], {"t": FakeTask(), "bad": bad}, GOOD["dataset"])


@pytest.mark.parametrize("name", ["transfer", "refinement_features"])
def test_files_of_before_the_codecs_versions_are_read(name):
    path = Path(__file__).parents[2] / "docs" / "results" / f"{name}.json"
    matrix = read_transfer(path)
    assert matrix.cells
    assert matrix.codec_versions == {}
