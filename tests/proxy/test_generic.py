"""The generic proxy: the contract's shapes, where its gradients come from, and that it learns a codec."""

from pathlib import Path

import pytest
import torch

from precomp_data import Scenes
from precomp_pillow import WebPCodec
from precomp_proxy import GenericProxy
from precomp_proxy._coder import PlaneCoder, between_knots
from precomp_proxy._transforms import block_transform, inverse_block_transform, quantize, to_rgb, to_ycc
from precomp_sdk import NotFittedError, OptionError, QualityError, QualityScale, Registry, TaskDataset
from precomp_sdk.evaluation import EvaluateProxySettings, evaluate_proxy
from precomp_sdk.testing import FakeCodec
from precomp_sdk.training import FitProxySettings, fit_proxy, load_proxy, save_proxy


class Kept(TaskDataset):
    """The upper left quarter of images that take long to draw, drawn once."""

    name, source, target_kind = "kept", "another set", None

    def __init__(self, dataset: TaskDataset) -> None:
        self._images = [dataset[index].image[:, :64, :64] for index in range(len(dataset))]

    def __len__(self) -> int:
        return len(self._images)

    def _sample(self, index: int) -> tuple[torch.Tensor, None]:
        return self._images[index], None


@pytest.fixture
def proxy() -> GenericProxy:
    made = GenericProxy(FakeCodec(), width=8, depth=1)
    made.mark_fitted()
    return made


def test_a_codec_without_a_proxy_gets_it_and_is_told_to_fit_it_first() -> None:
    registry = Registry()
    made = registry.proxy_for(FakeCodec())
    assert type(made) is GenericProxy
    with pytest.raises(NotFittedError, match="Fit it first"):
        made(torch.rand(1, 3, 8, 8), 30)


@pytest.mark.parametrize("size", [(1, 1), (7, 33), (32, 32), (40, 20)])
def test_any_size_gives_a_image_positive_bits_and_finite_gradients(proxy: GenericProxy, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, requires_grad=True)
    output = proxy(images, [5, 70])
    assert output.images.shape == images.shape
    assert output.images.min() >= 0
    assert output.images.max() <= 1
    assert (output.bits > 0).all()
    (gradient,) = torch.autograd.grad(output.images.square().sum() + output.bits.log().sum(), images)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_every_image_of_a_mixed_batch_is_treated_by_itself(proxy: GenericProxy) -> None:
    _randomize(proxy)
    images, qualities = torch.rand(3, 3, 24, 40), [5, 30, 70]
    together = proxy(images, qualities)
    for index, quality in enumerate(qualities):
        alone = proxy(images[index : index + 1], quality)
        torch.testing.assert_close(alone.images[0], together.images[index])
        torch.testing.assert_close(alone.bits[0], together.bits[index])


def test_bits_count_only_what_is_coded(proxy: GenericProxy) -> None:
    """An image that fills its blocks costs what it costs beside padding, but for what the padding repeats."""
    _randomize(proxy)
    image = torch.rand(1, 3, 32, 32)
    wide = torch.cat([image, image[..., -1:].expand(-1, -1, -1, 1)], dim=-1)  # one more column: 8 more are coded
    assert proxy(image, 70).bits < proxy(wide, 70).bits < 1.5 * proxy(image, 70).bits


def test_the_gradient_of_the_bits_is_that_of_the_coefficients_alone(proxy: GenericProxy) -> None:
    _randomize(proxy)
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    (whole,) = torch.autograd.grad(proxy(images, 30).bits.sum(), images)
    look = proxy.network.forward
    proxy.network.forward = lambda seen, strengths: look(seen.detach(), strengths)  # type: ignore[method-assign]
    (without_network,) = torch.autograd.grad(proxy(images, 30).bits.sum(), images)
    torch.testing.assert_close(whole, without_network)
    assert whole.abs().sum() > 0
    (of_shares,) = torch.autograd.grad(proxy(images, 30).bits.sum(), proxy.network.shares.weight)
    assert of_shares.abs().sum() > 0  # the value learns all the same


def test_stronger_compression_means_larger_steps_and_fewer_bits(proxy: GenericProxy) -> None:
    with torch.no_grad():
        bits = proxy(torch.rand(1, 3, 32, 32).expand(3, -1, -1, -1), [5, 30, 70]).bits
    assert bits[0] < bits[1] < bits[2]


@pytest.mark.slow
def test_it_learns_a_codec_from_its_images() -> None:
    codec, ladder = WebPCodec(method=0), (10, 50)
    fitted, unfitted = GenericProxy(codec, width=16, depth=1), GenericProxy(codec, width=16, depth=1)
    unfitted.mark_fitted()
    fit_proxy(
        fitted,
        Kept(Scenes(count=16)),
        settings=FitProxySettings(ladder=ladder, steps=100, batch_size=2, learning_rate=5e-3),
    )
    unseen = Kept(Scenes(split="val", count=8))
    before, after = (
        evaluate_proxy(item, unseen, settings=EvaluateProxySettings(ladder=ladder, workers=1))
        for item in (unfitted, fitted)
    )
    for start, end in zip(before.points, after.points, strict=True):
        assert end.bits_error_median < 0.25 < start.bits_error_median
        assert end.proxy_psnr_db > start.proxy_psnr_db
        assert end.rate_step.success == 1.0
    assert after.points[0].gain_db > 0.5


def test_it_is_saved_with_its_options_and_loaded_again(tmp_path: Path, proxy: GenericProxy) -> None:
    _randomize(proxy)
    save_proxy(tmp_path / "proxy.safetensors", proxy)
    again = GenericProxy(FakeCodec(), width=8, depth=1)
    saved = load_proxy(tmp_path / "proxy.safetensors", again)
    assert saved.options == {"width": 8, "depth": 1, "rounding": 0.3}
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(again(images, 30).images, proxy(images, 30).images)


def test_a_subclass_with_weights_starts_fitted_where_the_options_are_those_of_the_file(
    tmp_path: Path, proxy: GenericProxy
) -> None:
    class Own(GenericProxy):
        name, source, codec_name = "own", "a test", "fake"
        weights_files = (tmp_path / "missing.safetensors", tmp_path / "own.safetensors")

    first = Own(FakeCodec(), width=8, depth=1)
    assert not first.fitted
    first.mark_fitted()
    save_proxy(tmp_path / "own.safetensors", first)
    assert Own(FakeCodec(), width=8, depth=1).fitted
    assert Own(FakeCodec(), width=8, depth=1, rounding=1.0).fitted  # another gradient, the same weights
    assert not Own(FakeCodec(level=1), width=8, depth=1).fitted  # another codec, as far as bits go
    assert not Own(FakeCodec(), width=9, depth=1).fitted


@pytest.mark.parametrize("scale", [(0.7, 0.9), (0.1, 0.3), (-0.7, 1e-9), (0.0, 1 / 3), (1.0, 2.0)])
def test_a_scale_of_fractions_goes_through_32_bits(scale: tuple[float, float]) -> None:
    class Fractions(FakeCodec):
        quality_scale = QualityScale("q", *scale, higher_is_better=True, ladder=scale, integer=False)

    proxy = GenericProxy(Fractions(), width=8, depth=1)
    proxy.mark_fitted()
    assert proxy(torch.rand(2, 3, 16, 16), torch.tensor(scale)).bits.shape == (2,)
    with pytest.raises(QualityError):
        proxy(torch.rand(1, 3, 16, 16), scale[1] + 1e-5)


@pytest.mark.parametrize(
    ("options", "told"),
    [({"width": 0}, "'width': .*1 or more"), ({"depth": -1}, "'depth': .*0 or more"), ({"rounding": 1.5}, "0 to 1")],
)
def test_options_out_of_range_are_refused(options: dict[str, float], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        GenericProxy(FakeCodec(), **options)  # type: ignore[arg-type]


def test_colour_and_transforms_can_be_undone() -> None:
    images = torch.rand(2, 3, 32, 64)
    torch.testing.assert_close(to_rgb(to_ycc(images)), images, atol=2e-6, rtol=0)
    for size in (4, 8, 32):
        coefficients = block_transform(images, size)
        assert coefficients.shape == (2, 3, 32 // size, 64 // size, size, size)
        torch.testing.assert_close(coefficients.square().sum(), images.square().sum())  # orthonormal
        torch.testing.assert_close(inverse_block_transform(coefficients), images)


def test_quantization_is_exact_forward_and_follows_its_rule_backward() -> None:
    levels = torch.tensor([-2.7, -0.6, 0.3, 0.65, 1.9], requires_grad=True)
    zone = torch.tensor(0.2)
    for rounding in (0.0, 1.0):
        quantized = quantize(levels, zone, rounding)
        assert quantized.tolist() == [-3.0 + 1.0, -0.0, 0.0, 0.0, 2.0]
        (slopes,) = torch.autograd.grad(quantized.sum(), levels)
        offsets = (levels.detach().abs() - zone) - (levels.detach().abs() - zone).round()
        expected = torch.ones(5) if rounding == 0 else 12 * offsets.square()
        torch.testing.assert_close(slopes, expected)


def test_a_bit_count_falls_to_nothing_with_its_coefficients_and_so_does_its_slope() -> None:
    coder = PlaneCoder((4, 8), 4, 0.3)
    planes = (torch.randn(1, 1, 16, 16) * 1e-3).requires_grad_(True)
    bits = coder(planes, torch.tensor([0.5])).cell_bits
    assert bits.shape == (1, 2, 4, 4)
    assert bits.sum() < 1e-3
    (slope,) = torch.autograd.grad(bits.sum(), planes)
    assert slope.abs().max() < 1e-2


def test_values_between_knots_are_interpolated() -> None:
    table = torch.tensor([0.0, 1.0, 4.0])
    assert between_knots(table, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 1.5])).tolist() == [0, 0.5, 1, 2.5, 4, 4]


def _randomize(proxy: GenericProxy) -> None:
    """Move the layers that start at zero, so that they take part."""
    with torch.no_grad():
        for parameter in proxy.network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
