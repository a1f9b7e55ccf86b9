"""The proxy's pixels are libjpeg's, bit by bit."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from precomp_jpeg import JPEGCodec, JPEGProxy
from precomp_sdk import to_uint8

SUBSAMPLINGS = ("4:2:0", "4:2:2", "4:4:4", "gray")
QUALITIES = (5, 10, 30, 50, 75, 95)
SIZES = ((1, 1), (1, 9), (2, 2), (3, 5), (5, 3), (8, 8), (9, 6), (15, 16), (16, 17), (17, 33), (160, 160))


def by_pillow(image: Tensor, quality: int, subsampling: str) -> Tensor:
    """Independent of JPEGCodec: what a user's own Pillow call gives."""
    pillow_image = Image.fromarray(image.permute(1, 2, 0).numpy())
    buffer = io.BytesIO()
    if subsampling == "gray":
        pillow_image.convert("L").save(buffer, "JPEG", quality=quality)
    else:
        pillow_image.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return torch.from_numpy(np.array(Image.open(buffer).convert("RGB"))).permute(2, 0, 1)


def predicted(images: Tensor, qualities: list[int], subsampling: str) -> Tensor:
    proxy = JPEGProxy(JPEGCodec(subsampling=subsampling))
    with torch.no_grad():
        return to_uint8(proxy(images.float() / 255, qualities).images)


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_pixels_equal_pillows_for_any_size_with_mixed_qualities(
    make_image: Callable[..., Tensor], size: tuple[int, int], subsampling: str
) -> None:
    qualities = [1, *QUALITIES, 100]
    images = torch.stack([make_image(*size, seed) for seed in range(len(qualities))])
    real = torch.stack([by_pillow(image, q, subsampling) for image, q in zip(images, qualities, strict=True)])
    assert torch.equal(predicted(images, qualities, subsampling), real)


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_pixels_equal_pillows_for_noise_and_for_extremes(subsampling: str) -> None:
    noise = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)
    extremes = torch.randint(0, 2, (3, 40, 56), dtype=torch.uint8) * 255
    checker = ((torch.arange(40)[:, None] + torch.arange(56)) % 2 * 255).to(torch.uint8).expand(3, -1, -1)
    flat = torch.full((3, 40, 56), 129, dtype=torch.uint8)
    for quality in (1, 5, 40, 100):
        images = torch.stack([noise, extremes, checker, flat])
        real = torch.stack([by_pillow(image, quality, subsampling) for image in images])
        assert torch.equal(predicted(images, [quality] * 4, subsampling), real)


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("quality", QUALITIES)
def test_pixels_equal_pillows_on_photographs(photographs: list[Tensor], quality: int, subsampling: str) -> None:
    unequal = [
        index
        for index, image in enumerate(photographs)
        if not torch.equal(predicted(image[None], [quality], subsampling)[0], by_pillow(image, quality, subsampling))
    ]
    assert not unequal


def test_every_quality_has_libjpegs_steps(make_image: Callable[..., Tensor]) -> None:
    qualities = list(range(1, 101))
    images = make_image(16, 16, 3).expand(100, -1, -1, -1)
    real = torch.stack([by_pillow(images[0], quality, "4:2:0") for quality in qualities])
    assert torch.equal(predicted(images, qualities, "4:2:0"), real)


def test_options_that_only_change_the_coding_change_no_pixel(make_image: Callable[..., Tensor]) -> None:
    image = make_image(33, 47, 1)
    for options in ({"optimize": False}, {"progressive": True}):
        codec = JPEGCodec(**options)
        output = JPEGProxy(codec)(image[None].float() / 255, 30)
        assert torch.equal(to_uint8(output.images)[0], codec.transcode(image, 30).image)


@pytest.mark.parametrize("option", [{"rounding": "straight-through"}, {"rounding": 0.3}, {"rate_rule": "smooth"}])
def test_backward_rules_leave_the_forward_value_alone(
    make_image: Callable[..., Tensor], option: dict[str, str | float]
) -> None:
    images = make_image(24, 40, 2)[None].float() / 255
    codec = JPEGCodec()
    usual = JPEGProxy(codec)(images.clone().requires_grad_(), 20)
    other = JPEGProxy(codec, **option)(images.clone().requires_grad_(), 20)
    assert torch.equal(usual.images, other.images)
    assert torch.equal(usual.bits, other.bits)


def test_values_are_exact_when_matrix_products_are_allowed_to_be_sloppy(make_image: Callable[..., Tensor]) -> None:
    image = make_image(64, 64, 4)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = predicted(image[None], [90], "4:2:0")[0]
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(got, by_pillow(image, 90, "4:2:0"))


def test_half_precision_and_out_of_range_inputs_are_rounded_and_clipped(make_image: Callable[..., Tensor]) -> None:
    proxy = JPEGProxy(JPEGCodec())
    image = make_image(16, 24, 5)[None]
    wide = image.float() / 255 * 1.4 - 0.2
    assert torch.equal(proxy(wide, 50).images, proxy(wide.clamp(0, 1), 50).images)
    coarse = (image.float() / 255).to(torch.bfloat16)
    assert proxy(coarse, 50).images.dtype == torch.float32
    assert torch.equal(proxy(coarse, 50).images, proxy(coarse.float(), 50).images)


def test_nan_reaches_the_output_instead_of_crashing(make_image: Callable[..., Tensor]) -> None:
    images = make_image(16, 16, 6)[None].float() / 255
    images[0, 1, 3, 3] = torch.nan
    images.requires_grad_()
    output = JPEGProxy(JPEGCodec())(images, 50)
    (output.images.sum() + output.bits.sum()).backward()
    assert bool(output.images.isnan().any())


def test_a_cuda_device_gives_the_same_integers(make_image: Callable[..., Tensor]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    images = torch.stack([make_image(48, 72, seed) for seed in range(4)]).float() / 255
    proxy = JPEGProxy(JPEGCodec())
    here = proxy(images, [5, 30, 75, 95])
    there = proxy.cuda()(images.cuda(), [5, 30, 75, 95])
    assert torch.equal(here.images, there.images.cpu())
    assert torch.allclose(here.bits, there.bits.cpu(), rtol=1e-5)
