import numpy as np
import pytest

from precomp_sdk import (
    CurveDone,
    CurveError,
    DatasetError,
    Notice,
    OptionError,
    PointMeasured,
    RunFinished,
    RunStarted,
    StepDone,
    TargetError,
)
from precomp_sdk.evaluation import BLUR, TASK_LOSS, Baseline, EvaluateSettings, compare, evaluate, measure_curve
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeTask

LADDER = (5, 15, 40)
ONE_BLUR = Baseline("blur", "sigma", (0.4, 0.6), BLUR.channel)


@pytest.fixture(scope="module")
def run():
    """One evaluation of everything, with its events."""
    events = []
    evaluation = evaluate(
        FakeCodec(level=5),
        FakeTask(),
        FakeDataset(count=60, sizes=[(24, 24), (20, 32)], unreadable=[7]),
        preprocessors={"net": FakePreprocessor(gain=0.2), "idle": FakePreprocessor()},
        settings=EvaluateSettings(
            ladder=LADDER,
            baselines=(ONE_BLUR, "downscale"),
            tuning_images=20,
            replicates=100,
            batch_size=16,
            skip_unreadable=True,
        ),
        observer=events.append,
    )
    return evaluation, events


def test_it_says_what_was_measured(run):
    evaluation, _ = run
    assert (evaluation.dataset, evaluation.task, evaluation.codec) == ("fake", "fake", "fake")
    assert (evaluation.images, [item.key for item in evaluation.skipped]) == (59, ["7"])
    assert evaluation.codec_options == {"level": 5}
    assert evaluation.codec_version.startswith("zlib")
    assert (evaluation.quality_name, evaluation.metrics) == ("quality", ("top1", "top5"))
    assert evaluation.environment["torch"]
    assert evaluation.seconds > 0


def test_the_plain_curve_comes_first_and_every_curve_is_over_the_whole_set(run):
    evaluation, _ = run
    assert [curve.label for curve in evaluation.curves] == ["anchor", "net", "idle", "blur", "downscale"]
    assert all([point.quality for point in curve.points] == list(LADDER) for curve in evaluation.curves)
    again = measure_curve(
        FakeCodec(level=5),
        FakeTask(),
        FakeDataset(count=60, sizes=[(24, 24), (20, 32)], unreadable=[7]),
        settings=EvaluateSettings(ladder=LADDER, skip_unreadable=True),
    )
    for one, other in zip(evaluation.curve("anchor").points, again.curve().points, strict=True):
        assert (one.bpp, one.scores) == (other.bpp, other.scores)
        assert one.task_loss == pytest.approx(other.task_loss, abs=1e-6)


def test_every_other_curve_is_compared_on_every_metric_and_the_loss(run):
    evaluation, _ = run
    pairs = [(item.test, item.metric) for item in evaluation.comparisons]
    names = ("top1", "top5", TASK_LOSS)
    assert pairs == [(label, metric) for label in ("net", "idle", "blur", "downscale") for metric in names]
    assert all(item.anchor == "anchor" for item in evaluation.comparisons)
    assert evaluation.comparison("idle", TASK_LOSS).value_percent == 0.0
    idle = evaluation.comparison("idle")
    assert idle.value_percent == 0.0
    assert (idle.interval.low_percent, idle.interval.high_percent) == (0.0, 0.0)
    assert evaluation.comparison("net").metric == "top1"


def test_a_comparison_is_that_of_the_measured_curves(run):
    evaluation, _ = run
    dataset = FakeDataset(count=60, sizes=[(24, 24), (20, 32)], unreadable=[7])
    anchor, net = (
        measure_curve(
            FakeCodec(level=5),
            FakeTask(),
            dataset,
            preprocessor=preprocessor,
            label=label,
            settings=EvaluateSettings(ladder=LADDER, skip_unreadable=True, batch_size=16),
        )
        for preprocessor, label in ((None, "anchor"), (FakePreprocessor(gain=0.2), "net"))
    )
    expected = compare(anchor, [net], metrics=[TASK_LOSS], replicates=100)[0]
    got = evaluation.comparison("net", TASK_LOSS)
    assert got.value_percent == pytest.approx(expected.value_percent, abs=1e-4)
    assert got.interval.low_percent == pytest.approx(expected.interval.low_percent, abs=1e-3)


def test_baselines_are_tuned_on_a_part_of_the_images(run):
    evaluation, _ = run
    assert [(tuned.name, tuned.images) for tuned in evaluation.tuned] == [("blur", 20), ("downscale", 20)]
    assert [tried.value for tried in evaluation.tuned[0].tried] == [0.4, 0.6]
    assert evaluation.curve("blur").settings == {"sigma": evaluation.tuned[0].value}
    assert evaluation.tuning_dataset == "fake"


def test_the_events_tell_the_whole_run(run):
    evaluation, events = run
    assert isinstance(events[0], RunStarted)
    assert events[0].stage == "evaluate"
    assert isinstance(events[-1], RunFinished)
    steps = [event for event in events if isinstance(event, StepDone)]
    done = [step.step for step in steps]
    assert done == sorted(set(done))
    assert done[-1] == events[0].total_steps
    assert {step.total_steps for step in steps} == {events[0].total_steps}
    assert tuple(event.curve for event in events if isinstance(event, CurveDone)) == evaluation.curves
    assert sum(isinstance(event, PointMeasured) for event in events) == 5 * len(LADDER)
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert notices[0].startswith("skipped 7: ")
    assert "with 59 images, confidence intervals come out too narrow" in notices
    assert any("no BD-rate against anchor on top5" in notice for notice in notices)


def test_the_summary_holds_every_curve_and_comparison(run):
    evaluation, _ = run
    summary = evaluation.summary()
    assert "59 images, 1 unreadable ones skipped" in summary
    assert "level=5" in summary
    for curve in evaluation.curves:
        assert f"{curve.points[0].bpp:.4f}" in summary
    item = evaluation.comparison("net", TASK_LOSS)
    row = next(line for line in summary.splitlines() if line.startswith("net") and TASK_LOSS in line)
    assert row.split()[2] == f"{item.value_percent:+.2f}%"
    assert str(item.interval) in row
    assert "no BD-rate against anchor on top5" in summary


def test_curves_and_comparisons_are_found_by_label(run):
    evaluation, _ = run
    with pytest.raises(CurveError, match="Did you mean 'downscale'"):
        evaluation.curve("downscaled")
    with pytest.raises(CurveError, match="'net on top1'"):
        evaluation.comparison("nett")
    with pytest.raises(CurveError, match="a metric"):
        evaluation.comparison("net", "mAP")


def test_a_tuning_set_of_ones_own():
    events = []
    evaluation = evaluate(
        FakeCodec(),
        FakeTask(),
        FakeDataset(count=20),
        settings=EvaluateSettings(ladder=LADDER, baselines=(ONE_BLUR,), replicates=0, batch_size=8),
        tuning_dataset=FakeDataset(count=12, seed=9),
        observer=events.append,
    )
    assert evaluation.tuned[0].images == 12
    assert all(item.interval is None for item in evaluation.comparisons)
    assert [event.step for event in events if isinstance(event, StepDone)][-1] == events[0].total_steps
    assert not any("too narrow" in event.message for event in events if isinstance(event, Notice))


@pytest.mark.parametrize(("values", "told"), [((0.9, 0.4), True), ((0.4, 0.9), False), ((0.9,), False)])
def test_a_baseline_that_is_best_at_the_edge_of_what_was_tried_is_reported(values, told):
    events = []
    evaluate(
        FakeCodec(),
        FakeTask(),
        FakeDataset(count=30),
        settings=EvaluateSettings(
            ladder=LADDER, baselines=(Baseline("blur", "sigma", values, BLUR.channel),), replicates=0
        ),
        observer=events.append,
    )
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert ("blur did best at the last sigma tried: try more" in notices) == told


def test_plain_alone_needs_nothing_else():
    evaluation = evaluate(
        FakeCodec(), FakeTask(), FakeDataset(count=12), settings=EvaluateSettings(ladder=LADDER, baselines=())
    )
    assert [curve.label for curve in evaluation.curves] == ["anchor"]
    assert evaluation.comparisons == evaluation.tuned == evaluation.uncoded == ()
    assert "BD-rate" not in evaluation.summary()


def test_a_single_preprocessor_goes_by_its_name_and_keeps_its_mode():
    preprocessor, task = FakePreprocessor(gain=0.1).train(), FakeTask().train()
    evaluation = evaluate(
        FakeCodec(),
        task,
        FakeDataset(count=12),
        preprocessors=preprocessor,
        settings=EvaluateSettings(ladder=LADDER, baselines=(), replicates=20),
    )
    assert evaluation.curves[1].label == "fake"
    assert task.training
    assert preprocessor.training
    assert np.isfinite(evaluation.comparison("fake", TASK_LOSS).score_low)


def test_images_without_labels_are_scored_against_the_tasks_own_answers():
    dataset = FakeDataset(count=12, labelled=False)
    with pytest.raises(TargetError, match="pseudo_labels=True"):
        evaluate(FakeCodec(), FakeTask(), dataset, settings=EvaluateSettings(ladder=LADDER, baselines=()))
    evaluation = evaluate(
        FakeCodec(), FakeTask(), dataset, settings=EvaluateSettings(ladder=LADDER, baselines=(), pseudo_labels=True)
    )
    assert evaluation.clean.scores["top1"] == 1.0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"settings": EvaluateSettings(ladder=(10,))}, CurveError, "two or more qualities"),
        ({"settings": EvaluateSettings(ladder=(10, 10))}, CurveError, "two or more qualities"),
        ({"settings": EvaluateSettings(anchor_ladder=(10, 10))}, CurveError, "anchor_ladder: .*two or more qualities"),
        ({"settings": EvaluateSettings(baselines=("blur", "blur"))}, OptionError, "a label of its own"),
        ({"preprocessors": {"anchor": FakePreprocessor()}}, OptionError, "a label of its own"),
        ({"judges": {"task": FakeTask()}}, OptionError, "labels other than 'task'"),
        ({"tuning_dataset": FakeDataset(count=0)}, DatasetError, "one image or more"),
        ({"tuning_dataset": FakeDataset(labelled=False)}, TargetError, "no targets"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(options, error, message):
    events = []
    with pytest.raises(error, match=message):
        evaluate(FakeCodec(), FakeTask(), FakeDataset(count=12), observer=events.append, **options)
    assert events == []


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("codec", "fake", "evaluate, codec: expected an object of Codec; got 'fake'"),
        ("task", FakeTask, "evaluate, task: expected an object of TaskModel; got the class FakeTask"),
        ("dataset", [], r"evaluate, dataset: expected an object of TaskDataset; got \[\]"),
        ("preprocessors", "qa-light", "evaluate, preprocessor: expected an object of Preprocessor; got 'qa-light'"),
        ("judges", {"mine": FakeTask}, "judge 'mine': .* got the class FakeTask"),
        ("preprocessors", {"mine": FakePreprocessor}, "preprocessor 'mine': .* got the class FakePreprocessor"),
    ],
)
def test_what_is_no_part_is_named(name, value, told):
    parts = {"codec": FakeCodec(), "task": FakeTask(), "dataset": FakeDataset(count=4)}
    with pytest.raises(OptionError, match=told):
        evaluate(**{**parts, name: value})
