from dataclasses import fields, replace

import bjontegaard
import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from precomp_sdk import CurveError, RateAccuracyCurve
from precomp_sdk.evaluation import TASK_LOSS, BDRate, Interval, bd_rate
from precomp_sdk.evaluation.rates._pchip import pchip_integral

RATES = [0.2, 0.3, 0.5, 0.8, 1.2, 1.9]
SCORES = [0.31, 0.48, 0.63, 0.72, 0.78, 0.81]


@pytest.mark.parametrize("points", [2, 3, 4, 9])
def test_the_integral_is_scipys(points):
    rng = np.random.default_rng(points)
    x = np.cumsum(rng.uniform(0.01, 1.0, (200, points)), axis=1)
    y = rng.normal(size=(200, points)).round(1)  # rises, falls and flat pieces
    low = x[:, 0] + rng.uniform(0, 0.5, 200) * (x[:, -1] - x[:, 0])
    high = low + rng.uniform(0, 1, 200) * (x[:, -1] - low)
    ours = pchip_integral(x, y, low, high)
    scipys = [
        PchipInterpolator(*row).integrate(*ends) for *row, ends in zip(x, y, zip(low, high, strict=True), strict=True)
    ]
    np.testing.assert_allclose(ours, scipys, atol=1e-10)


def test_agrees_with_the_bjontegaard_package(draw_curve):
    rng = np.random.default_rng(0)
    for _ in range(20):
        rates = [np.sort(rng.uniform(0.1, 2.0, 6)) for _ in range(2)]
        scores = [np.sort(rng.uniform(0.2, 0.9, 6)) for _ in range(2)]
        ours = bd_rate(
            draw_curve("a", rates[0], scores[0]), draw_curve("b", rates[1], scores[1]), "top1", min_overlap=0.0
        )
        theirs = bjontegaard.bd_rate(rates[0], scores[0], rates[1], scores[1], method="pchip", min_overlap=0.0)
        assert ours.value_percent == pytest.approx(theirs, abs=1e-6)


def test_equal_curves_give_zero(draw_curve):
    result = bd_rate(draw_curve("a", RATES, SCORES), draw_curve("b", RATES, SCORES), "top1")
    assert result.value_percent == 0.0
    assert (result.overlap, result.overlap_anchor, result.overlap_test) == (1.0, 1.0, 1.0)
    assert result.monotone
    assert (result.score_low, result.score_high) == (0.31, 0.81)


@pytest.mark.parametrize("metric", ["top1", TASK_LOSS])
def test_a_fifth_fewer_bits_at_every_score_is_minus_20_percent(draw_curve, metric):
    test = draw_curve("b", [0.8 * rate for rate in RATES], SCORES)
    assert bd_rate(draw_curve("a", RATES, SCORES), test, metric).value_percent == pytest.approx(-20.0)


def test_saturated_scores_count_their_cheapest_point(draw_curve):
    anchor = draw_curve("a", [0.2, 0.4, 0.8, 1.6, 3.2], [0.5, 0.7, 0.9, 0.9, 0.9])
    same = draw_curve("b", [0.2, 0.4, 0.8], [0.5, 0.7, 0.9])
    result = bd_rate(anchor, same, "top1")
    assert result.value_percent == pytest.approx(0.0)
    assert result.monotone  # a tie is no fall
    assert (result.anchor_points, result.test_points) == (3, 3)


def test_a_score_that_falls_is_left_out_and_reported(draw_curve):
    anchor = draw_curve("anchor", RATES, SCORES)
    fallen = draw_curve("net", [*RATES[:3], 0.6, *RATES[3:]], [*SCORES[:3], 0.5, *SCORES[3:]])
    result = bd_rate(anchor, fallen, "top1")
    assert result.value_percent == pytest.approx(0.0)
    assert not result.monotone
    assert (result.anchor_drop, result.test_drop) == (0.0, pytest.approx(0.13))
    assert "net is not monotone: a point lies 0.13 below a cheaper one" in result.statement


def test_of_points_with_one_rate_the_best_counts(draw_curve):
    anchor = draw_curve("a", [0.2, 0.4, 0.8], [0.5, 0.7, 0.9])
    doubled = draw_curve("b", [0.2, 0.4, 0.4, 0.8], [0.5, 0.6, 0.7, 0.9])
    assert bd_rate(anchor, doubled, "top1").value_percent == pytest.approx(0.0)


def test_only_the_common_scores_are_compared(draw_curve):
    anchor = draw_curve("a", [1.0, 2.0, 4.0], [0.2, 0.4, 0.6])  # straight in log-rate
    shifted = draw_curve("b", [1.5, 3.0, 6.0], [0.4, 0.6, 0.8])  # at 0.4 and 0.6: 1.5 for 2, 3 for 4
    result = bd_rate(anchor, shifted, "top1")
    assert result.value_percent == pytest.approx(-25.0)
    assert (result.score_low, result.score_high) == (0.4, 0.6)
    assert result.overlap == pytest.approx(1 / 3)
    assert (result.overlap_anchor, result.overlap_test) == (pytest.approx(0.5), pytest.approx(0.5))
    assert result.statement == "b: -25.0% rate against a at equal top1, over 33% of the score range."


def test_too_little_overlap_has_no_value(draw_curve):
    anchor = draw_curve("a", [1.0, 2.0], [0.2, 0.5])
    test = draw_curve("b", [1.0, 2.0], [0.45, 0.9])
    result = bd_rate(anchor, test, "top1")
    assert result.value_percent is None
    assert "share only 7% of the score range, less than 25%" in result.statement
    assert bd_rate(anchor, test, "top1", min_overlap=0.05).value_percent is not None


def test_no_overlap_has_no_value(draw_curve):
    result = bd_rate(draw_curve("a", [1, 2], [0.2, 0.4]), draw_curve("b", [1, 2], [0.6, 0.9]), "top1")
    assert result.value_percent is None
    assert (result.overlap, result.overlap_anchor, result.overlap_test) == (0.0, 0.0, 0.0)
    assert result.statement == "b: no BD-rate against a on top1: no score is reached by both curves."
    assert not result.saves


def test_a_flat_curve_has_no_value(draw_curve):
    result = bd_rate(draw_curve("a", [1, 2], [0.9, 0.9]), draw_curve("b", [1, 2], [0.5, 0.9]), "top1")
    assert result.value_percent is None
    assert result.reason == "no point of a scores more than the cheapest"
    assert result.overlap_anchor == 0.0


def test_saves_needs_the_whole_interval_below_zero(draw_curve):
    result = bd_rate(draw_curve("a", RATES, SCORES), draw_curve("b", [0.9 * rate for rate in RATES], SCORES), "top1")
    assert not result.saves  # no interval
    interval = Interval(0.95, -12.0, -8.0, 100, 0.0, 0)
    assert replace(result, interval=interval).saves
    assert not replace(result, interval=replace(interval, high_percent=0.5)).saves
    assert not replace(result, interval=replace(interval, high_percent=None)).saves
    assert "95% interval [-12.0, -8.0]" in replace(result, interval=interval).statement
    shaky = replace(interval, high_percent=None, invalid_fraction=0.2)
    assert "[-12.0, ?] (20.0% of the replicates have none)" in replace(result, interval=shaky).statement


def test_one_point_is_no_curve(draw_curve):
    with pytest.raises(CurveError, match="two or more points"):
        bd_rate(draw_curve("a", RATES, SCORES), draw_curve("b", [1.0], [0.5]), "top1")
    with pytest.raises(CurveError, match="two or more points"):
        bd_rate(RateAccuracyCurve("a", ()), draw_curve("b", RATES, SCORES), "top1")


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_rates_must_be_positive_and_finite(draw_curve, rate):
    with pytest.raises(CurveError, match="positive rate"):
        bd_rate(draw_curve("a", RATES, SCORES), draw_curve("b", [rate, 1.0], [0.5, 0.6]), "top1")


def test_scores_must_be_finite(draw_curve):
    with pytest.raises(CurveError, match="finite values of 'top1'"):
        bd_rate(draw_curve("a", RATES, SCORES), draw_curve("b", [0.5, 1.0], [0.5, float("nan")]), "top1")


def test_an_unknown_metric_names_the_near_one(draw_curve):
    with pytest.raises(CurveError, match="Did you mean 'top1'"):
        bd_rate(draw_curve("a", RATES, SCORES), draw_curve("b", RATES, SCORES), "top")


def test_harm_is_an_interval_above_zero_or_a_curve_below(draw_curve):
    anchor = draw_curve("anchor", RATES, SCORES)
    dearer = bd_rate(anchor, draw_curve("test", [rate * 1.2 for rate in RATES], SCORES), "top1")
    below = bd_rate(anchor, draw_curve("test", RATES, [score - 0.6 for score in SCORES]), "top1")
    above = bd_rate(anchor, draw_curve("test", RATES, [score + 0.6 for score in SCORES]), "top1")
    flat = bd_rate(anchor, draw_curve("test", RATES, [0.5] * 6), "top1")

    assert (dearer.harms, dearer.test_below) == (True, False)
    assert (below.value_percent, below.test_below, below.harms) == (None, True, True)
    assert (above.harms, above.test_below, flat.harms) == (False, False, False)
    assert not bd_rate(anchor, anchor, "top1").harms
    for low, harms in ((0.1, True), (0.0, False), (-0.1, False), (None, False)):
        assert replace(dearer, interval=Interval(0.95, low, 30.0, 100, 0.0, 0)).harms is harms
    older = {field.name: getattr(below, field.name) for field in fields(below) if field.name != "test_below"}
    assert not BDRate(**older).test_below  # files of before this was recorded say nothing of it
