import numpy as np
import pytest
import torch
from precomp_haar import HaarCodec, TextureNet
from precomp_haar.codec import _backward, _forward

from precomp_sdk import Label, OptionError, Registry, TargetError
from precomp_sdk.testing import FakeDataset, parametrize_with_checks
from precomp_sdk.training import FitTaskSettings, fit_task


@parametrize_with_checks([HaarCodec, lambda: TextureNet(num_classes=4)])
def test_conformance(component, check) -> None:
    check(component)


def test_both_are_found_by_their_names() -> None:
    registry = Registry()
    assert registry.codecs["haar"] is HaarCodec
    assert registry.tasks["texture-net"] is TextureNet
    (status,) = [item for item in registry.plugins() if item.name == "haar"]
    assert (status.package, status.state) == ("precomp-haar", "ok")


def test_the_transform_is_orthonormal() -> None:
    planes = np.random.default_rng(0).normal(size=(3, 16, 24))
    coefficients = _forward(planes)
    np.testing.assert_allclose(_backward(coefficients), planes, atol=1e-12)
    assert np.square(coefficients).sum() == pytest.approx(np.square(planes).sum())


def test_a_fine_step_is_almost_lossless() -> None:
    image = FakeDataset(size=(19, 30))[2].image
    error = HaarCodec().transcode(image, 0).image.int() - image.int()
    assert error.abs().max() <= 3


def test_the_network_learns() -> None:
    torch.manual_seed(0)
    images = FakeDataset(count=160, contrast=0.3)
    settings = FitTaskSettings(epochs=6, batch_size=8, learning_rate=1e-2)
    unseen = FakeDataset(count=40, contrast=0.3, seed=1)
    result = fit_task(TextureNet(num_classes=4, filters=24), images, settings=settings, validation=unseen)
    assert result.scores["top1"] > 0.7  # 0.25 by chance


@pytest.mark.parametrize("options", [{"num_classes": 0}, {"num_classes": 3, "filters": 0}])
def test_wrong_sizes_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="1 or more"):
        TextureNet(**options)


def test_a_wrong_effort_is_refused() -> None:
    with pytest.raises(OptionError, match="0 to 9"):
        HaarCodec(effort=10)


def test_a_data_set_of_other_classes_is_refused() -> None:
    task = TextureNet(num_classes=4)
    task.check_dataset(())
    with pytest.raises(TargetError, match="4 classes; got 2"):
        task.check_dataset(("a", "b"))
    with pytest.raises(TargetError, match="from 0 to 3; got 4"):
        task.losses(torch.rand(1, 3, 8, 8), [Label(4)])
