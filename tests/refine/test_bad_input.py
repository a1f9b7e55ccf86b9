from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from precomp_refine import Refiner
from precomp_sdk import (
    CalibrationError,
    ContractError,
    ImageError,
    Mask,
    NonFiniteError,
    NotFittedError,
    OptionError,
    ProxyOutput,
    QualityError,
    Target,
    TargetError,
    stack_images,
)
from precomp_sdk.testing import FakeCodec, FakeDataset, FakeProxy, FakeTask

from .conftest import LAMBDAS, PixelTask

Make = Callable[..., Refiner]


class Frozen(FakeTask):
    """A loss without a gradient."""

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return super()._losses(images.detach(), targets)


class Detached(FakeTask):
    """A loss without any graph."""

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return super()._losses(images, targets).detach()


class Silent(FakeTask):
    """Neither pseudo-labels nor features."""

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        return super(FakeTask, self)._pseudo_labels(images)

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        return super(FakeTask, self)._features(images)


class Poisoned(FakeTask):
    """NaN for one of two images: in the loss, or in its gradient alone."""

    def __init__(self, *, loss: bool) -> None:
        super().__init__()
        self._loss = loss

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        rows = list(super()._losses(images, targets))
        for row, image in enumerate(images):
            if image.mean() < 0.2:
                zero = (image - image.detach()).abs().sum()
                rows[row] = rows[row] + (zero / zero if self._loss else zero.sqrt())  # NaN, or 0 with a slope of NaN
        return torch.stack(rows)


class Unfitted(FakeProxy):
    needs_fitting = True


class Flat(FakeProxy):
    """Decoded images without a gradient."""

    def _predict(self, images: Tensor, qualities: Tensor) -> ProxyOutput:
        output = super()._predict(images, qualities)
        return ProxyOutput(output.images.detach(), output.bits)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"steps": 0}, "'steps': expected 1 or more; got 0"),
        ({"check_every": 0}, "check_every"),
        ({"patience": 0}, "patience"),
        ({"batch_size": 0}, "batch_size"),
        ({"step_levels": 0.0}, "step_levels"),
        ({"step_levels": float("nan")}, "step_levels"),
        ({"budget_ms": -1.0}, "budget_ms"),
        ({"min_psnr_db": 0.0}, "min_psnr_db"),
        ({"max_change": 0}, "max_change"),
        ({"task_weight": 0.0}, "feature_weight"),
        ({"feature_weight": -1.0}, "feature_weight"),
        ({"shift_px": -1}, "shift_px"),
        ({"scale": 1.0}, "scale"),
        ({"when_nothing": "untuched"}, "Did you mean 'untouched'"),
        ({"shares": [1.0, 1.0]}, "1 numbers above 0, one per task network"),
        ({"shares": [0.0]}, "shares"),
        ({"lambda_scale": 0.0}, "lambda_scale"),
        ({"calibration_images": 0}, "calibration_images"),
        ({"lambdas": {}}, "lambdas"),
        ({"lambdas": {5: 0.0}}, "lambdas"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(make: Make, options: dict[str, Any], word: str) -> None:
    with pytest.raises(OptionError, match=r"'refine', option") as caught:
        make(**options)
    assert word in str(caught.value)


def test_a_proxy_of_another_codec_is_refused() -> None:
    with pytest.raises(OptionError, match=r"'level': 6.*'level': 1.*Construct the proxy with the codec"):
        Refiner(FakeCodec(), FakeProxy(FakeCodec(level=1)), FakeTask())


def test_lambda_has_to_be_known(make: Make, photographs: list[Tensor]) -> None:
    for options in ({"lambdas": "auto"}, {"feature_weight": 0.5}):
        with pytest.raises(NotFittedError, match="prepare"):
            make(**options).refine(photographs, 5)


def test_a_codec_that_does_not_hurt_has_no_lambda(make: Make) -> None:
    refiner = make(lambdas="auto")
    with pytest.raises(CalibrationError, match="falls as the rate grows"):
        refiner.prepare(FakeDataset(count=4, contrast=0.0, noise=0.0), (99, 100))


def test_a_proxy_has_to_be_fitted(photographs: list[Tensor]) -> None:
    codec = FakeCodec()
    with pytest.raises(NotFittedError, match="fit_proxy"):
        Refiner(codec, Unfitted(codec), FakeTask(), lambdas=LAMBDAS).refine(photographs, 5)


def test_a_proxy_needs_a_gradient(photographs: list[Tensor]) -> None:
    codec = FakeCodec()
    with pytest.raises(ContractError, match="Choose a differentiable proxy"):
        Refiner(codec, Flat(codec), FakeTask(), lambdas=LAMBDAS).refine(photographs, 5)


@pytest.mark.parametrize("kind", [Frozen, Detached])
def test_a_task_without_a_gradient_is_named(make: Make, photographs: list[Tensor], kind: type[FakeTask]) -> None:
    with pytest.raises(ContractError, match=r"against 'fake': expected a task loss with a gradient"):
        make(kind()).refine(photographs, 5)


def test_a_task_has_to_offer_what_is_asked_of_it(make: Make, photographs: list[Tensor]) -> None:
    with pytest.raises(OptionError, match="its own predictions as targets"):
        make(Silent()).refine(photographs, 5)
    refiner = make(PixelTask(), feature_weight=1.0)
    with pytest.raises(OptionError, match="intermediate features"):
        refiner.prepare(FakeDataset(count=4), (5, 30))


def test_images_and_qualities_are_checked(make: Make, photographs: list[Tensor]) -> None:
    broken = stack_images(photographs)
    broken[2, 0, 3, 3] = torch.nan
    with pytest.raises(ImageError, match="NaN"):
        make().refine(broken, 5)
    with pytest.raises(ImageError, match="'refine'"):
        make().refine(torch.rand(3, 8, 8), 5)
    with pytest.raises(ImageError, match="uint8 samples"):
        make().refine([torch.rand(3, 8, 8)], 5)
    with pytest.raises(QualityError):
        make().refine(photographs, 500)
    with pytest.raises(ContractError, match="one quality"):
        make().refine(photographs, [5, 5])


def test_targets_have_to_fit(make: Make, photographs: list[Tensor]) -> None:
    masks = [Mask(torch.zeros(24, 32, dtype=torch.int64))] * 6
    with pytest.raises(TargetError):
        make().refine(photographs, 5, targets=masks)
    with pytest.raises(OptionError, match="no transformations, or targets of the networks' own"):
        make(PixelTask(), flip=True).refine(photographs, 5, targets=masks)
    with pytest.raises(TargetError, match="6 targets"):
        make().refine(photographs, 5, targets=FakeTask().pseudo_labels(stack_images(photographs[:5])))


def test_a_loss_that_is_not_finite_is_an_error(make: Make, photographs: list[Tensor]) -> None:
    photographs[1] = photographs[1] // 8
    with pytest.raises(NonFiniteError, match="the untouched image"):
        make(Poisoned(loss=True)).refine(photographs, 5)


def test_a_gradient_that_is_not_finite_ends_that_image_alone(make: Make, photographs: list[Tensor]) -> None:
    photographs[1] = photographs[1] // 8

    refined = make(Poisoned(loss=False)).refine(photographs, 70).images

    assert [source.stopped for source in refined].count("steps") == 5
    assert (refined[1].stopped, refined[1].steps) == ("non-finite gradient", 0)
    assert torch.equal(refined[1].image, photographs[1])


def test_images_left_out_while_preparing_are_told_once_and_by_name(make: Make) -> None:
    dataset = FakeDataset(count=8, unreadable=(2,))
    refiner = make(lambdas="auto", others=[FakeTask(sharpness=10.0).eval()])
    with pytest.warns(RuntimeWarning, match="preparing 'refine'.*2") as told:
        refiner.prepare(dataset)
    assert len(told) == 1
