"""Networks outside the loop look at what is sent for the task."""

import csv

import pytest
import torch

from precomp_sdk import Boxes, Notice, OptionError, TargetError, TaskModel
from precomp_sdk.evaluation import EvaluateSettings, evaluate, read_results, write_report
from precomp_sdk.evaluation.evaluator import _TASK
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeTask

SETTINGS = EvaluateSettings(ladder=(5, 15, 40), baselines=("downscale",), tuning_images=8, replicates=40)
DATA = FakeDataset(count=24, sizes=[(24, 24), (20, 32)])


class Counting(FakeCodec):
    """Says how often it encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded = 0

    def _encode(self, image, quality):
        self.encoded += 1
        return super()._encode(image, quality)


class Grey(FakePreprocessor):
    """Leaves nothing to see: every image is a flat grey."""

    def _process(self, images, strengths):
        return images * 0.0 + 0.5


@pytest.fixture(scope="module")
def run():
    events = []
    judges = {"sharp": FakeTask(), "dull": FakeTask(sharpness=10.0)}
    evaluation = evaluate(
        FakeCodec(),
        FakeTask(),
        DATA,
        preprocessors={"net": FakePreprocessor(gain=0.2), "grey": Grey()},
        judges=judges,
        settings=SETTINGS,
        observer=events.append,
    )
    return evaluation, [event.message for event in events if isinstance(event, Notice)]


def test_a_judge_of_the_labels_sees_what_the_task_would():
    settings = EvaluateSettings(
        ladder=(5, 15, 40), baselines=("downscale",), tuning_images=8, replicates=40, judge_pseudo_labels=False
    )
    nets = {"net": FakePreprocessor(gain=0.2)}
    judged = evaluate(FakeCodec(), FakeTask(), DATA, preprocessors=nets, judges={"same": FakeTask()}, settings=settings)
    (judge,) = judged.judges
    assert (judge.label, judge.task, judge.pseudo_labels, judge.metrics) == ("same", "fake", False, ("top1", "top5"))
    assert (judge.clean, judge.uncoded) == (judged.clean, judged.uncoded)
    assert (judge.curves, judge.comparisons) == (judged.curves, judged.comparisons)
    alone = evaluate(FakeCodec(), FakeTask(), DATA, preprocessors=nets, settings=settings)
    assert (alone.curves, alone.comparisons, alone.tuned) == (judged.curves, judged.comparisons, judged.tuned)
    assert alone.judges == ()


def test_a_judge_of_its_own_answers_is_right_where_nothing_is_done(run):
    evaluation, _ = run
    assert [judge.label for judge in evaluation.judges] == ["sharp", "dull"]
    for judge in evaluation.judges:
        assert judge.pseudo_labels
        assert judge.clean.scores["top1"] == 1.0
    assert evaluation.clean.scores["top1"] < 1.0
    assert evaluation.judges[0].clean.task_loss != evaluation.judges[1].clean.task_loss


def test_judges_cost_no_encoding():
    counts = []
    for judges in ({}, {"a": FakeTask(), "b": FakeTask(sharpness=5.0)}):
        codec = Counting()
        evaluate(codec, FakeTask(), DATA, judges=judges, settings=SETTINGS)
        counts.append(codec.encoded)
    assert counts[0] == counts[1] > 0


def test_harm_is_told(run):
    evaluation, notices = run
    for judge in evaluation.judges:
        assert "grey" in {item.test for item in judge.harmed}
        told = [notice for notice in notices if notice.startswith(f"grey harms the judge {judge.label}: ")]
        assert len(told) == sum(item.test == "grey" for item in judge.harmed)
        assert f"grey HARMS {judge.label}" in evaluation.summary()
    assert not any(item.test == "anchor" for judge in evaluation.judges for item in judge.harmed)


def test_the_report_has_the_judges(run, tmp_path):
    evaluation, _ = run
    paths = write_report(evaluation, tmp_path)
    assert {path.name for path in paths} >= {"judges.csv", "results.json"}
    assert read_results(tmp_path / "results.json") == evaluation
    rows = list(csv.DictReader((tmp_path / "judges.csv").read_text().splitlines()))
    points = [(judge, curve, point) for judge in evaluation.judges for curve in judge.curves for point in curve.points]
    metrics = ("top1", "top5", "task_loss")
    coded = [row for row in rows if row["bpp"]]
    assert len(coded) == len(points) * len(metrics)
    judge, curve, point = points[-1]
    assert (coded[-1]["judge"], coded[-1]["curve"], coded[-1]["metric"]) == (judge.label, curve.label, "task_loss")
    assert float(coded[-1]["value"]) == point.task_loss
    assert {row["curve"] for row in rows if not row["bpp"]} == {"clean", "net, no codec", "grey, no codec"}
    svg = (tmp_path / "rate_accuracy.svg").read_text()
    for judge in evaluation.judges:
        assert f"judge {judge.label}" in svg


def test_the_summary_tells_every_judge(run):
    summary = run[0].summary()
    assert "judge dull (against its own clean answers): fake" in summary
    assert summary.count("BD-rate against the anchor") == 3


class Boxed(TaskModel):
    """Of another kind than the data set's targets, and without answers of its own."""

    name = "boxed"
    source = "this test"
    target_kind = "boxes"

    def __init__(self):
        super().__init__()
        self.scorer = FakeTask().scorer

    def _losses(self, images, targets):
        return images.mean(dim=(1, 2, 3))

    def _predict(self, images):
        return [torch.zeros(3) for _ in images]

    def answers(self, images):
        return [Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)) for _ in images]


def test_a_judge_has_to_fit_what_it_is_scored_against():
    with pytest.raises(TargetError, match=r"'boxed'.*targets of kind 'boxes'"):
        evaluate(
            FakeCodec(),
            FakeTask(),
            DATA,
            judges={"boxed": Boxed()},
            settings=EvaluateSettings(judge_pseudo_labels=False),
        )
    with pytest.raises(OptionError, match="predictions as targets"):
        evaluate(FakeCodec(), FakeTask(), DATA, judges={"boxed": Boxed()})


@pytest.mark.parametrize("label", [_TASK, "a.b", "a/b", "values"])
def test_a_label_that_cannot_be_is_refused(label):
    with pytest.raises(OptionError, match=r"judge|members"):
        evaluate(FakeCodec(), FakeTask(), DATA, judges={label: FakeTask()})
