from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from precomp_sdk import CurveError, EnsembleTask, LabelScorer, NonFiniteError, OptionError, Target
from precomp_sdk.evaluation import (
    BLUR,
    Baseline,
    EvaluateSettings,
    Measurer,
    TrainedWith,
    evaluate,
    measure_curve,
    read_transfer,
    transfer_matrix,
)
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
        return np.resize(super()._measure(prediction, target), 2 + int(target.index))  # type: ignore[union-attr]

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
        ({"settings": {"d": EvaluateSettings()}}, "settings: .*'d'"),
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
    with pytest.raises(CurveError, match="'c', ladder"):
        transfer_matrix(*GOOD.values(), settings=EvaluateSettings(ladder=(5,)))


def test_a_cell_is_found_by_its_labels() -> None:
    matrix = transfer_matrix(*GOOD.values(), settings=EvaluateSettings(replicates=0, ladder=(5, 30)))

    assert matrix.cell("p", "c", "t") is matrix.cells[0]
    assert (matrix.dataset, matrix.images, matrix.metrics) == ("fake", 4, ("top1", "top5"))
    assert not matrix.cells[0].in_loop
    with pytest.raises(CurveError, match="Did you mean 'p c t'"):
        matrix.cell("p", "c", "x")


def test_the_plain_codec_may_have_other_qualities() -> None:
    matrix = transfer_matrix(
        *GOOD.values(), settings={"c": EvaluateSettings(replicates=0, ladder=(5, 30), anchor_ladder=(5, 30, 70))}
    )

    cell = matrix.cells[0]
    assert [point.quality for point in cell.anchor.points] == [5, 30, 70]
    assert [point.quality for point in cell.curve.points] == [5, 30]


def test_members_of_an_ensemble_are_measured_as_each_is_alone() -> None:
    tasks = {"first": FakeTask(), "ragged": RaggedTask()}
    panel, codec, dataset = EnsembleTask(members=tasks), FakeCodec(), FakeDataset(count=6)
    settings = EvaluateSettings(ladder=(5, 30))

    with Measurer(codec, panel, settings) as measurer:
        together, clean = measurer.curves(dataset), measurer.clean_members(dataset)
        whole = measurer.curve(dataset)

    assert list(together) == list(clean) == list(tasks)
    for label, task in tasks.items():
        alone, part = measure_curve(codec, task, dataset, settings=settings), together[label]
        assert part.curve() == alone.curve()
        for ours, theirs in zip(part.points, alone.points, strict=True):
            assert [row.tolist() for row in ours.statistics] == [row.tolist() for row in theirs.statistics]
        with Measurer(codec, task, settings) as measurer:
            assert measurer.clean(dataset) == clean[label]
    means = np.mean([part.points[0].losses for part in together.values()], axis=0)
    np.testing.assert_allclose(whole.points[0].losses, means, rtol=1e-6)


def test_baselines_are_rows_of_their_own_tuned_for_each_backbone() -> None:
    blur = Baseline("blur", "sigma", (0.3, 0.6), BLUR.channel)
    settings = EvaluateSettings(ladder=(5, 15, 30), baselines=(blur, "equal-bits"), tuning_images=20, replicates=0)
    tasks = {"sharp": FakeTask(), "dull 1.0": FakeTask(sharpness=4.0)}
    dataset = FakeDataset(count=40, seed=3)

    matrix = transfer_matrix(GOOD["preprocessors"], GOOD["codecs"], tasks, dataset, settings=settings)

    assert matrix.preprocessors == ("p", "blur", "equal-bits")
    assert len(matrix.cells) == 6
    for label, task in tasks.items():
        alone = evaluate(FakeCodec(), task, dataset, settings=settings)
        for name in ("blur", "equal-bits"):
            cell = matrix.cell(name, "c", label)
            assert (cell.codec_in_loop, cell.task_in_loop) == (False, False)
            assert cell.curve == alone.curve(name)
            assert cell.comparisons == tuple(item for item in alone.comparisons if item.test == name)


def test_controls_alone_are_the_default() -> None:
    matrix = transfer_matrix(*GOOD.values())
    assert matrix.preprocessors == ("p", "equal-bits")


def test_baselines_are_the_same_for_all_codecs_and_no_preprocessor_is_called_like_one() -> None:
    settings = {"c": EvaluateSettings(baselines=()), "d": EvaluateSettings()}
    codecs = {"c": FakeCodec(), "d": FakeCodec(level=3)}
    with pytest.raises(OptionError, match="the same baselines"):
        transfer_matrix(GOOD["preprocessors"], codecs, GOOD["tasks"], GOOD["dataset"], settings=settings)
    with pytest.raises(OptionError, match="labels that are no baseline's"):
        transfer_matrix({"equal-bits": FakePreprocessor()}, GOOD["codecs"], GOOD["tasks"], GOOD["dataset"])


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
