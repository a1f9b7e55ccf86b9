from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from precomp_sdk import Channel, OptionError, Transcoder, UnknownNameError
from precomp_sdk.evaluation import (
    BLUR,
    DOWNSCALE,
    TASK_LOSS,
    Baseline,
    EvaluateSettings,
    GaussianBlur,
    Measurer,
    tune,
)
from precomp_sdk.evaluation.baselines import find_baselines
from precomp_sdk.testing import FakeCodec, FakeDataset, FakeTask


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5])
def test_the_blur_is_scipys(sigma):
    image = torch.rand(2, 3, 20, 33)
    ours = GaussianBlur(sigma=sigma)(image, 0.5).numpy()
    radius = int(np.ceil(3 * sigma))
    scipys = image.numpy()
    for axis in (2, 3):
        scipys = gaussian_filter1d(scipys, sigma, axis=axis, mode="nearest", radius=radius)
    np.testing.assert_allclose(ours, scipys, atol=1e-6)


def test_the_blur_takes_any_size_and_no_notice_of_strength():
    blur = GaussianBlur(sigma=3.0)
    for height, width in ((1, 1), (2, 5), (40, 1)):
        image = torch.rand(1, 3, height, width)
        assert torch.equal(blur(image, 0.0), blur(image, 1.0))
        assert blur(image, 0.0).shape == image.shape
    flat = torch.full((1, 3, 9, 9), 0.25)
    torch.testing.assert_close(blur(flat, 0.5), flat)
    assert not blur.state_dict()


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_a_sigma_is_positive(sigma):
    with pytest.raises(OptionError, match="a sigma above 0"):
        GaussianBlur(sigma=sigma)


def test_baselines_go_by_name_or_as_objects():
    mine = Baseline("mine", "sigma", (0.5,), BLUR.channel)
    assert find_baselines(["downscale", mine, "blur"]) == (DOWNSCALE, mine, BLUR)
    assert find_baselines("blur") == (BLUR,)
    with pytest.raises(UnknownNameError, match="Did you mean 'blur'"):
        find_baselines(["blurr"])
    with pytest.raises(OptionError, match="one setting or more"):
        Baseline("empty", "sigma", (), BLUR.channel)


def test_a_baselines_channel_carries_its_setting():
    for baseline in (BLUR, DOWNSCALE):
        channel = baseline.channel(Transcoder(FakeCodec()), 0.5)
        assert (channel.label, channel.settings) == (baseline.name, {baseline.parameter: 0.5})


def test_tuning_takes_the_lowest_bd_rate():
    dataset = FakeDataset(count=40, seed=3)
    with Measurer(FakeCodec(), FakeTask(), settings=EvaluateSettings(ladder=(5, 15, 30))) as measurer:
        anchor = measurer.curve(dataset)
        tuned = tune(measurer, Baseline("blur", "sigma", (0.3, 0.45, 0.6), BLUR.channel), dataset, {"": anchor})[""]
    assert (tuned.name, tuned.parameter, tuned.images) == ("blur", "sigma", 40)
    values = {tried.value: tried.bd_rate.value_percent for tried in tuned.tried}
    assert list(values) == [0.3, 0.45, 0.6]
    known = {value: percent for value, percent in values.items() if percent is not None}
    assert len(set(known.values())) > 1
    assert tuned.value == min(known, key=known.get)


class _Shift(Channel):
    """Sends the same image, and adds a constant number of levels at the receiver: worse, but no cheaper."""

    def __init__(self, codec, levels):
        super().__init__(codec, label="shift", settings={"levels": levels})
        self._levels = levels

    def receive(self, images, sizes):
        return [image // 2 + int(self._levels) for image in images]


def test_without_a_bd_rate_on_the_metric_the_task_loss_decides_and_then_the_mildest():
    dataset = FakeDataset(count=12, seed=3, contrast=0.5)  # easy: top-1 is 1 at all qualities
    with Measurer(FakeCodec(), FakeTask(), settings=EvaluateSettings(ladder=(15, 40, 70))) as measurer:
        anchor = measurer.curve(dataset)
        assert {point.scores["top1"] for point in anchor.curve().points} == {1.0}
        by_loss = tune(measurer, Baseline("blur", "sigma", (2.0, 0.2), BLUR.channel), dataset, {"": anchor})[""]
        alike = tune(measurer, Baseline("shift", "levels", (3, 3), _Shift), dataset, {"": anchor})[""]
    assert [tried.bd_rate.value_percent for tried in by_loss.tried] == [None, None]
    assert by_loss.tried[0].loss_bd_rate.value_percent is None
    assert by_loss.tried[1].loss_bd_rate.metric == TASK_LOSS
    assert by_loss.value == 0.2
    assert alike.value == 3


def test_tuning_asks_for_twice_the_overlap():
    dataset = FakeDataset(count=40, seed=3)
    only = Baseline("blur", "sigma", (0.45,), BLUR.channel)
    settings = EvaluateSettings(ladder=(5, 15, 30))
    with Measurer(FakeCodec(), FakeTask(), settings) as measurer:
        anchors = {"": measurer.curve(dataset)}

    def tried(min_overlap):
        with Measurer(FakeCodec(), FakeTask(), replace(settings, min_overlap=min_overlap)) as measurer:
            return tune(measurer, only, dataset, anchors)[""].tried[0].bd_rate

    overlap = tried(0.25).overlap
    assert 0.0 < overlap < 1.0
    assert tried(0.6 * overlap).value_percent is None
    assert tried(0.4 * overlap).value_percent is not None
