"""The proxy report: each figure on proxies whose faults are known."""

import json
import math

import pytest
import torch

from precomp_sdk import DatasetError, Event, NotFittedError, OptionError, ProxyOutput, QualityError, RunFinished
from precomp_sdk.evaluation import EvaluateProxySettings, evaluate_proxy
from precomp_sdk.testing import FakeCodec, FakeDataset, FakeProxy

IMAGES = FakeDataset(count=6, size=(24, 24))


class Dear(FakeProxy):
    """Predicts a quarter more bits than its parent, and another image."""

    def _predict(self, images: torch.Tensor, qualities: torch.Tensor) -> ProxyOutput:
        output = super()._predict(images, qualities)
        return ProxyOutput((output.images + 0.1).clamp(0, 1), output.bits * 1.25)


class Backwards(FakeProxy):
    """Right in every value and wrong in every direction."""

    def _predict(self, images: torch.Tensor, qualities: torch.Tensor) -> ProxyOutput:
        output = super()._predict(images, qualities)
        bits = 2 * output.bits.detach() - output.bits
        return ProxyOutput(2 * output.images.detach() - output.images, bits)


def test_a_perfect_image_is_told_from_the_trivial_one() -> None:
    report = evaluate_proxy(
        FakeProxy(FakeCodec()), IMAGES, settings=EvaluateProxySettings(ladder=(5, 30, 50), workers=1)
    )
    assert report.images == 6
    for point in report.points:
        assert point.proxy_psnr_db == pytest.approx(100)  # the double decodes what the codec does
        assert point.source_psnr_db < 60
        assert point.gain_db == point.proxy_psnr_db - point.source_psnr_db
    assert report.ladder_rank_correlation == pytest.approx(1.0)


def test_it_says_what_was_measured() -> None:
    proxy = FakeProxy(FakeCodec())
    proxy.mark_fitted("zlib of yesterday")
    report = json.loads(
        evaluate_proxy(proxy, IMAGES, settings=EvaluateProxySettings(ladder=(30,), images=1, workers=1)).json()
    )
    assert (report["proxy"], report["proxy_options"]) == ("fake", {})
    assert report["fitted_to"] == "zlib of yesterday"
    assert report["codec_version"] == FakeCodec().version


def test_errors_of_image_and_bits_are_seen() -> None:
    exact = evaluate_proxy(
        FakeProxy(FakeCodec()), IMAGES, settings=EvaluateProxySettings(ladder=(30,), workers=1)
    ).points[0]
    wrong = evaluate_proxy(Dear(FakeCodec()), IMAGES, settings=EvaluateProxySettings(ladder=(30,), workers=1)).points[0]
    assert wrong.bits_bias == pytest.approx(1.25 * (1 + exact.bits_bias) - 1, abs=1e-6)
    assert wrong.proxy_psnr_db == pytest.approx(20, abs=0.5)
    assert wrong.rank_correlation == pytest.approx(exact.rank_correlation)
    assert wrong.bits_error_p95 >= wrong.bits_error_median


def test_the_gradient_check_tells_a_right_direction_from_a_wrong_one() -> None:
    right = evaluate_proxy(
        FakeProxy(FakeCodec()), IMAGES, settings=EvaluateProxySettings(ladder=(50,), step_levels=4, workers=1)
    ).points[0]
    wrong = evaluate_proxy(
        Backwards(FakeCodec()), IMAGES, settings=EvaluateProxySettings(ladder=(50,), step_levels=4, workers=1)
    ).points[0]
    assert right.rate_step.success == 1.0
    assert right.rate_step.median_change < 0
    assert wrong.rate_step.success == 0.0
    assert wrong.rate_step.median_change > 0
    assert wrong.proxy_psnr_db == right.proxy_psnr_db


def test_images_of_unequal_sizes_and_unreadable_ones_do() -> None:
    dataset = FakeDataset(count=6, labelled=False, sizes=((8, 8), (9, 13)), unreadable=(1,))
    assert (
        evaluate_proxy(
            FakeProxy(FakeCodec()), dataset, settings=EvaluateProxySettings(workers=1, skip_unreadable=True)
        ).images
        == 5
    )
    with pytest.raises(DatasetError, match="unreadable"):
        evaluate_proxy(FakeProxy(FakeCodec()), dataset, settings=EvaluateProxySettings(workers=1))


def test_they_are_spread_over_the_set() -> None:
    assert (
        evaluate_proxy(
            FakeProxy(FakeCodec()), IMAGES, settings=EvaluateProxySettings(ladder=(30,), images=2, workers=1)
        ).images
        == 2
    )


def test_it_is_written_as_a_table_and_as_json() -> None:
    report = evaluate_proxy(
        FakeProxy(FakeCodec()), IMAGES, settings=EvaluateProxySettings(ladder=(5, 30), images=2, workers=1)
    )
    assert [row[0] for row in report.table.rows] == ["5", "30"]
    lines = report.summary().splitlines()
    assert any(line.split()[:3] == list(report.table.rows[1][:3]) for line in lines)
    record = json.loads(report.json())
    assert math.isnan(report.points[0].rank_correlation)  # of two images there is none
    assert record["points"][0]["rank_correlation"] is None
    assert record["codec_options"] == {"level": 6}


def test_events_say_how_far_it_is() -> None:
    events: list[Event] = []
    evaluate_proxy(
        FakeProxy(FakeCodec()), IMAGES, settings=EvaluateProxySettings(batch_size=4, workers=1), observer=events.append
    )
    assert [getattr(event, "step", None) for event in events[1:-1]] == [20, 30]  # images times qualities
    assert isinstance(events[-1], RunFinished)


def test_the_proxy_and_its_mode_are_left_as_they_were() -> None:
    proxy = FakeProxy(FakeCodec()).train()
    evaluate_proxy(proxy, IMAGES, settings=EvaluateProxySettings(ladder=(30,), workers=1))
    assert proxy.training
    assert proxy.log_scale.grad is None


@pytest.mark.parametrize("option", ["images", "batch_size", "step_levels"])
def test_options_out_of_range_are_refused(option: str) -> None:
    with pytest.raises(OptionError, match=option):
        EvaluateProxySettings(**{option: 0})  # type: ignore[arg-type]


def test_what_cannot_be_measured_is_said() -> None:
    class Unfitted(FakeProxy):
        needs_fitting = True

    with pytest.raises(NotFittedError, match="Fit it first"):
        evaluate_proxy(Unfitted(FakeCodec()), IMAGES)
    with pytest.raises(DatasetError, match="one image or more"):
        evaluate_proxy(FakeProxy(FakeCodec()), FakeDataset(count=0))
    with pytest.raises(DatasetError, match="none that can be read"):
        evaluate_proxy(
            FakeProxy(FakeCodec()),
            FakeDataset(count=1, unreadable=(0,)),
            settings=EvaluateProxySettings(skip_unreadable=True),
        )
    with pytest.raises(QualityError):
        evaluate_proxy(FakeProxy(FakeCodec()), IMAGES, settings=EvaluateProxySettings(ladder=(300,)))
