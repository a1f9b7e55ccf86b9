from dataclasses import replace

import numpy as np
import pytest

from precomp_sdk import CurveError, LabelScorer, OptionError
from precomp_sdk.evaluation import (
    TASK_LOSS,
    MeasuredCurve,
    bd_rate,
    bootstrap_interval,
    compare,
    resample,
)


def compared(anchor, test, metric, **options):
    (result,) = compare(anchor, [test], metrics=[metric], **options)
    return result


RATES = np.geomspace(0.15, 1.5, 6)
TRUTH = 0.05 + 0.85 / (1 + (0.25 / RATES) ** 2.2)


class _SlowScorer(LabelScorer):
    """Has no fast path of its own."""

    def combine_many(self, statistics, counts):
        return super(LabelScorer, self).combine_many(statistics, counts)


def test_the_interval_covers_the_truth_about_95_times_in_100(simulate):
    """Simulated data sets: what is right is drawn with known probabilities, so the true BD-rate is known."""
    rng = np.random.default_rng(11)
    covered = 0
    trials = 120
    for seed in range(trials):
        hardness = rng.random(200)
        anchor = simulate("anchor", RATES, TRUTH, hardness, rng)
        test = simulate("test", 0.8 * RATES, TRUTH, hardness, rng)  # truly -20%
        interval = compared(anchor, test, "top1", replicates=300, seed=seed).interval
        covered += interval.low_percent <= -20.0 <= interval.high_percent
    assert 0.89 <= covered / trials <= 0.99  # 0.95 and about three standard errors downwards


def test_equal_curves_give_zero_and_no_saving(simulate):
    anchor = simulate("anchor", RATES, TRUTH, np.random.default_rng(0).random(60), np.random.default_rng(1))
    result = compared(anchor, replace(anchor, label="same"), "top1", replicates=200)
    assert result.value_percent == 0.0
    assert result.interval.low_percent <= 0.0 <= result.interval.high_percent
    assert not result.saves


def test_a_data_set_without_a_difference_gives_an_interval_around_zero(simulate):
    rng = np.random.default_rng(5)
    hardness = rng.random(150)
    anchor, other = (simulate(label, RATES, TRUTH, hardness, rng) for label in ("anchor", "other"))
    interval = compared(anchor, other, "top1", replicates=300).interval
    assert interval.low_percent < 0.0 < interval.high_percent


def test_the_same_images_are_drawn_for_both_curves(simulate):
    """A tenth off every file is -10% in every replicate, however the images differ."""
    anchor = simulate("anchor", RATES, TRUTH, np.random.default_rng(0).random(80), np.random.default_rng(1))
    tenth = replace(anchor, points=tuple(replace(point, bits=0.9 * point.bits) for point in anchor.points))
    interval = compared(anchor, tenth, "top1", replicates=100).interval
    assert interval.low_percent == pytest.approx(-10.0)
    assert interval.high_percent == pytest.approx(-10.0)


def test_a_seed_gives_the_same_interval(simulate):
    rng = np.random.default_rng(2)
    hardness = rng.random(100)
    curves = [simulate(label, RATES, TRUTH, hardness, rng) for label in ("anchor", "other")]
    first, again, other = (compared(*curves, "top1", replicates=100, seed=seed).interval for seed in (3, 3, 4))
    assert first == again
    assert first.low_percent != other.low_percent
    assert (first.level, first.replicates, first.seed) == (0.95, 100, 3)


def test_a_replicate_is_the_curve_of_the_drawn_images(simulate, monkeypatch):
    """Every number of a replicate equals that of a curve made of the drawn images, one by one."""
    curve = simulate("anchor", RATES, TRUTH, np.random.default_rng(0).random(12), np.random.default_rng(1))
    curve = replace(curve, pixels=np.arange(1.0, 13.0))
    drawn = resample(curve, replicates=3, seed=7)
    picks = np.random.default_rng(7).integers(0, 12, size=(3, 12))
    for replicate, pick in enumerate(picks):
        for index, point in enumerate(curve.points):
            assert drawn.bpp[replicate, index] == pytest.approx(point.bits[pick].sum() / curve.pixels[pick].sum())
            right = np.mean([point.statistics[row][0] for row in pick])
            assert drawn.scores["top1"][replicate, index] == pytest.approx(right)
            assert drawn.scores[TASK_LOSS][replicate, index] == pytest.approx(-point.losses[pick].mean())


def test_many_images_are_drawn_in_parts(simulate, monkeypatch):
    curve = simulate("anchor", RATES, TRUTH, np.random.default_rng(0).random(20), np.random.default_rng(1))
    whole = resample(curve, replicates=50, seed=0)
    monkeypatch.setattr("precomp_sdk.evaluation.rates.bootstrap._COUNTS_AT_A_TIME", 20 * 7)
    parts = resample(curve, replicates=50, seed=0)
    assert parts.bpp.shape == whole.bpp.shape == (50, 6)
    np.testing.assert_allclose(parts.bpp, whole.bpp)  # the stream of draws is the same


def test_a_scorer_without_a_fast_path_gives_the_same(simulate):
    curve = simulate("anchor", RATES, TRUTH, np.random.default_rng(0).random(30), np.random.default_rng(1))
    fast, slow = (resample(item, replicates=20, seed=0) for item in (curve, replace(curve, scorer=_SlowScorer())))
    for metric in ("top1", "top5"):
        np.testing.assert_allclose(fast.scores[metric], slow.scores[metric])


def _nearly_apart(simulate) -> tuple[MeasuredCurve, MeasuredCurve]:
    """Two curves that overlap a little: in some replicates they do not."""
    hardness = (np.arange(40) + 0.5) / 40
    rng = np.random.default_rng(0)
    low = simulate("low", RATES[:3], np.array([0.2, 0.35, 0.5]), hardness, rng, jitter=1.0)
    high = simulate("high", 0.5 * RATES[:3], np.array([0.5, 0.7, 0.9]), hardness, rng, jitter=1.0)
    return low, high


def test_replicates_without_overlap_only_widen_the_interval(simulate):
    low, high = _nearly_apart(simulate)
    result = compared(low, high, "top1", replicates=400, min_overlap=0.0)
    assert result.interval.invalid_fraction > 0.025
    assert result.interval.low_percent is None
    assert result.interval.high_percent is None
    assert not result.saves  # although every replicate that has a value lies far below zero


def test_few_replicates_without_overlap_move_the_ends_outwards(simulate):
    low, high = _nearly_apart(simulate)
    drawn = [resample(curve, replicates=400, seed=0) for curve in (low, high)]
    fraction = bootstrap_interval(*drawn, "top1").invalid_fraction
    wide = bootstrap_interval(*drawn, "top1", level=1 - 2 * fraction - 0.02)
    valid = [replace(item, bpp=item.bpp, scores=dict(item.scores)) for item in drawn]
    keep = drawn[0].scores["top1"].max(axis=1) > drawn[1].scores["top1"].min(axis=1) + 1e-6
    for item in valid:
        item.scores["top1"] = item.scores["top1"][keep]
    valid = [replace(item, bpp=item.bpp[keep]) for item in valid]
    narrow = bootstrap_interval(*valid, "top1", level=1 - 2 * fraction - 0.02)
    assert wide.low_percent <= narrow.low_percent
    assert wide.high_percent >= narrow.high_percent


def test_too_few_images_get_no_interval(simulate):
    rng = np.random.default_rng(0)
    curves = [simulate(label, RATES, TRUTH, rng.random(9), rng, jitter=0.0) for label in ("anchor", "other")]
    result = compared(curves[0], curves[0], "top1", replicates=50)
    assert result.interval is None
    assert not result.saves


def test_curves_of_other_images_are_refused(simulate):
    rng = np.random.default_rng(0)
    anchor = simulate("anchor", RATES, TRUTH, rng.random(20), rng)
    fewer = anchor.subset(range(19))
    with pytest.raises(CurveError, match="same images"):
        compared(anchor, fewer, "top1", replicates=5)
    drawn = resample(anchor, replicates=5, seed=0)
    for other in (resample(anchor, replicates=5, seed=1), resample(anchor, replicates=6, seed=0)):
        with pytest.raises(CurveError, match="drawn with one seed"):
            bootstrap_interval(drawn, other, "top1")


def test_bad_options_are_refused(simulate):
    rng = np.random.default_rng(0)
    anchor = simulate("anchor", RATES, TRUTH, rng.random(20), rng)
    with pytest.raises(OptionError, match="replicates"):
        resample(anchor, replicates=0, seed=0)
    drawn = resample(anchor, replicates=5, seed=0)
    with pytest.raises(CurveError, match="the metric 'mAP'"):
        bootstrap_interval(drawn, drawn, "mAP")
    for level in (0.0, 1.0, float("nan")):
        with pytest.raises(OptionError, match="level"):
            bootstrap_interval(drawn, drawn, "top1", level=level)
    with pytest.raises(OptionError, match="replicates"):
        compare(anchor, [anchor], replicates=-1)
    for overlap in (-0.1, 1.5, float("nan"), float("inf")):
        with pytest.raises(OptionError, match="option 'min_overlap'"):
            compare(anchor, [anchor], min_overlap=overlap)


def test_curves_are_compared_in_order_on_every_metric_with_one_drawing_for_all(simulate):
    rng = np.random.default_rng(0)
    hardness = rng.random(40)
    anchor, first, second = (simulate(label, RATES, TRUTH, hardness, rng) for label in ("anchor", "first", "second"))
    together = compare(anchor, [first, second], replicates=50, seed=3)
    names = ("top1", "top5", TASK_LOSS)
    assert [(item.test, item.metric) for item in together] == [
        (test, name) for test in ("first", "second") for name in names
    ]
    alone = [compared(anchor, test, name, replicates=50, seed=3) for test in (first, second) for name in names]
    assert together == tuple(alone)
    assert all(item.interval is None for item in compare(anchor, [first], replicates=0))
    assert compare(anchor, []) == ()


def test_a_subset_holds_the_chosen_images(simulate):
    rng = np.random.default_rng(0)
    anchor = simulate("anchor", RATES, TRUTH, rng.random(20), rng)
    part = anchor.subset([3, 5, 7])
    assert (part.keys, part.indices, len(part)) == (("3", "5", "7"), (3, 5, 7), 3)
    np.testing.assert_array_equal(part.points[2].bits, anchor.points[2].bits[[3, 5, 7]])
    expected = sum(point[0] for point in (anchor.points[1].statistics[row] for row in (3, 5, 7))) / 3
    assert part.curve().points[1].scores["top1"] == pytest.approx(expected)
    assert bd_rate(anchor.curve(), anchor.curve(), "top1").value_percent == 0.0
