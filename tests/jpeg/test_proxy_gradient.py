"""The proxy's gradients: adjoints of the linear parts, the rules for rounding and rate, and their use."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from precomp_jpeg import JPEGCodec, JPEGProxy
from precomp_jpeg._arithmetic import forward_dct, inverse_dct, quantize, rounding_weight
from precomp_jpeg._colour import downsample, pad_edges, rgb_to_ycc, upsample, ycc_to_rgb
from precomp_jpeg._costs import standard_costs
from precomp_jpeg._rate import RateOptions, _dc_change, _dc_costs, entropy_bits
from precomp_jpeg._scan import differences, scan_of
from precomp_sdk import to_uint8

CPU = torch.device("cpu")
HEADER_BYTES = 625  # of which no image can save any


def assert_adjoint(function: Callable[[Tensor], Tensor], at: Tensor, direction: Tensor, tolerance: float) -> None:
    """<J d, w> = <d, J' w>: the difference of exact values against the gradient, for random w and for J d itself.

    Random w tell the directions, which are many; J d tells the scale, which random w hardly see.
    """
    at = at.clone().requires_grad_()
    value = function(at)
    change = function(at.detach() + direction) - value.detach()
    for weights in (change, *(torch.randn_like(value) for _ in range(4))):
        (gradient,) = torch.autograd.grad((value * weights).sum(), at, retain_graph=True)
        forward, backward = (change * weights).sum(), (direction * gradient).sum()
        scale = change.norm() * weights.norm()
        assert abs(forward - backward) < tolerance * scale


def whole(*shape: int, low: int, high: int) -> Tensor:
    return torch.randint(low, high, shape).float()


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (1, 2, 16, 24)])
def test_forward_transform_has_its_adjoint(shape: tuple[int, ...]) -> None:
    assert_adjoint(forward_dct, whole(*shape, low=-40, high=40), whole(*shape, low=-80, high=80), 1e-3)


def test_inverse_transform_has_its_adjoint() -> None:
    shape = (1, 2, 16, 24)
    assert_adjoint(inverse_dct, whole(*shape, low=-30, high=30), whole(*shape, low=-60, high=60), 5e-3)


@pytest.mark.parametrize("rows", [1, 2])
def test_resampling_has_its_adjoint(rows: int) -> None:
    assert_adjoint(
        lambda plane: downsample(plane, rows),
        whole(1, 2, 8, 16, low=-90, high=90),
        whole(1, 2, 8, 16, low=-30, high=30),
        1e-2,
    )
    for width in (1, 2, 3, 9):
        shape = (2, 2, 5, width)
        assert_adjoint(
            lambda plane: upsample(plane, rows), whole(*shape, low=0, high=128), whole(*shape, low=0, high=128), 1e-2
        )


def test_colour_conversions_have_their_adjoints() -> None:
    pixels, change = whole(2, 3, 4, 5, low=60, high=120) / 255, whole(2, 3, 4, 5, low=-60, high=120) / 255
    assert_adjoint(lambda images: torch.cat(rgb_to_ycc(images), dim=1), pixels, change, 1e-2)
    luma = whole(2, 1, 4, 5, low=100, high=150)
    assert_adjoint(
        lambda chroma: ycc_to_rgb(luma, chroma),
        whole(2, 2, 4, 5, low=-18, high=12),
        whole(2, 2, 4, 5, low=-9, high=9),
        2e-2,
    )
    chroma = whole(2, 2, 4, 5, low=-18, high=12)
    assert_adjoint(
        lambda luma: ycc_to_rgb(luma, chroma),
        whole(2, 1, 4, 5, low=100, high=150),
        whole(2, 1, 4, 5, low=-20, high=20),
        1e-2,
    )


def test_repeated_edges_gather_their_gradient() -> None:
    plane = torch.rand(1, 1, 2, 3, requires_grad=True)
    pad_edges(plane, 4, 5).sum().backward()
    assert plane.grad is not None
    assert plane.grad[0, 0].tolist() == [[1, 1, 3], [3, 3, 9]]


def test_a_clip_blocks_only_what_pushes_outwards() -> None:
    images = torch.tensor([-0.2, 0.5, 1.3]).view(1, 1, 1, 3).expand(1, 3, 1, 3).clone().requires_grad_()
    luma, _ = rgb_to_ycc(images)
    (darker,) = torch.autograd.grad(luma.sum(), images, retain_graph=True)  # descent lowers every value
    (brighter,) = torch.autograd.grad(-luma.sum(), images)
    assert (darker[0, 1, 0] != 0).tolist() == [False, True, True]
    assert (brighter[0, 1, 0] != 0).tolist() == [True, True, False]


def test_the_nearness_of_the_threshold_integrates_to_one() -> None:
    offset = torch.linspace(-0.5, 0.5, 20_001)
    for blend in (0.0, 0.4, 1.0):
        weight = rounding_weight(offset, blend)
        assert torch.trapezoid(weight, offset).item() == pytest.approx(1.0, abs=1e-4)
    assert rounding_weight(torch.tensor([0.0, 0.5]), 1.0).tolist() == [0.0, 3.0]


@pytest.mark.parametrize("blend", [0.0, 0.25, 1.0])
def test_quantization_follows_its_rule_and_its_tables(blend: float) -> None:
    coefficients = whole(2, 1, 8, 2, 8, low=-900, high=900).requires_grad_()
    table = whole(2, 1, 8, 1, 8, low=1, high=40).requires_grad_()
    unrounded, rounded, dequantized = quantize(coefficients, table, blend)
    ties_outwards = torch.sign(coefficients) * torch.floor((coefficients.abs() + 4 * table) / (8 * table))
    assert torch.equal(rounded, ties_outwards.detach())
    through, image = torch.randn_like(rounded), torch.randn_like(rounded)
    got = torch.autograd.grad((unrounded * through).sum() + (dequantized * image).sum(), (coefficients, table))
    # The same in plain operations: a rounding whose derivative is the weight, spelled as value plus a vanishing term.
    quotient = coefficients / (8 * table)
    weight = rounding_weight((quotient - rounded).detach(), blend)
    pretended = rounded.detach() + weight * (quotient - quotient.detach())
    want = torch.autograd.grad((quotient * through).sum() + (pretended * table * image).sum(), (coefficients, table))
    for a, b in zip(got, want, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


def blocks(count: int, density: float) -> tuple[Tensor, Tensor]:
    """Sparse quantized blocks in two rows, and unrounded values around them."""
    shape = (1, 2, 8, count, 8)
    sizes = torch.randint(1, 40, shape).float() ** torch.rand(shape)
    rounded = (sizes.round() * torch.randint(-1, 2, shape)) * (torch.rand(shape) < density)
    return rounded + (torch.rand(shape) - 0.5) * 0.98, rounded


@pytest.mark.parametrize("unit", [(1, 1), (2, 2)])
@pytest.mark.parametrize("density", [0.02, 0.3, 1.0])
@pytest.mark.parametrize("component", [0, 1])
def test_finite_difference_is_a_recount_with_one_coefficient_moved(
    component: int, density: float, unit: tuple[int, int]
) -> None:
    unrounded, rounded = blocks(2, density)
    if component == 1:  # chroma comes in pairs of planes; the second one stays
        unrounded, rounded = (torch.cat([values, values.roll(1, 3)]) for values in (unrounded, rounded))
    scan = scan_of(2, 2, *unit, CPU)
    options = RateOptions("finite-difference", 0.0, optimize=False, stuffing=True)
    leaf = unrounded.clone().requires_grad_()
    bits, _ = entropy_bits(leaf, rounded, component, scan, options)
    (slope,) = torch.autograd.grad(bits.sum(), leaf)
    side = (unrounded - rounded).sign()[:1].flatten()
    moved = rounded[:1].flatten().repeat(256, 1)
    moved[torch.arange(256), torch.arange(256)] += side
    variants = moved.view(256, 2, 8, 2, 8)
    if component == 1:
        variants = torch.stack([variants, rounded[1].expand_as(variants)], dim=1).flatten(0, 1)
    recount, _ = entropy_bits(variants, variants, component, scan, options)
    assert torch.allclose(slope[:1].flatten() * side, recount - bits.detach(), atol=2e-3)
    assert (recount != bits).sum() > 100  # there was something to compare


def test_moving_one_dc_changes_its_own_difference_and_the_next() -> None:
    levels = torch.randint(-3, 4, (2, 40)).float()
    side = torch.randint(0, 2, (2, 40)).float() * 2 - 1
    costs = standard_costs(0, False, CPU)
    before = _dc_costs(differences(levels), costs, None)
    change = _dc_change(differences(levels), side, before, costs, None)
    for place in range(40):
        moved = levels.clone()
        moved[:, place] += side[:, place]
        recount = _dc_costs(differences(moved), costs, None).sum(1) - before.sum(1)
        assert torch.allclose(change[:, place], recount, atol=1e-4)


def test_rate_gradient_carries_the_roundings_weight() -> None:
    unrounded, rounded = blocks(2, 0.3)
    scan = scan_of(2, 2, 1, 1, CPU)
    slopes = []
    for blend in (0.0, 1.0):
        leaf = unrounded.clone().requires_grad_()
        bits, _ = entropy_bits(leaf, rounded, 0, scan, RateOptions("finite-difference", blend, False, True))
        slopes.append(torch.autograd.grad(bits.sum(), leaf)[0])
    assert torch.allclose(slopes[1], slopes[0] * 12 * (unrounded - rounded) ** 2, atol=1e-4)


def test_rate_gradient_of_a_batch_is_that_of_its_images(make_image: Callable[..., Tensor]) -> None:
    images = torch.stack([make_image(24, 40, seed) for seed in range(3)]).float() / 255
    qualities = [8, 40, 90]
    for options in ({}, {"optimize": False}):
        proxy = JPEGProxy(JPEGCodec(**options))
        together = images.clone().requires_grad_()
        output = proxy(together, qualities)
        ((output.bits * torch.tensor([1.0, 2.0, 3.0])).sum() + output.images.square().sum()).backward()
        for index, quality in enumerate(qualities):
            alone = images[index : index + 1].clone().requires_grad_()
            output = proxy(alone, quality)
            ((output.bits * (index + 1.0)).sum() + output.images.square().sum()).backward()
            assert together.grad is not None
            assert alone.grad is not None
            assert torch.allclose(together.grad[index], alone.grad[0], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("rule", ["finite-difference", "smooth"])
def test_rate_never_pulls_on_dc_itself(rule: str) -> None:
    """Brightening all blocks moves only the first difference, so the gradients of all other DCs cancel."""
    level = torch.full((1, 4, 8, 4, 8), 0.0)
    level[:, :, 0, :, 0] = 20.4
    leaf = level.clone().requires_grad_()
    bits, _ = entropy_bits(leaf, level.round(), 0, scan_of(4, 4, 2, 2, CPU), RateOptions(rule, 0.0, False, False))
    (slope,) = torch.autograd.grad(bits.sum(), leaf)
    dc = slope[0, :, 0, :, 0]
    if rule == "smooth":
        assert dc.abs().flatten()[1:].max() == 0
    else:  # moving one of several equal neighbours costs twice, whichever side
        assert (dc.flatten()[1:-1] > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(("rounding", "rate_rule"), [("nearness", "finite-difference"), ("straight-through", "smooth")])
def test_descent_along_the_rates_gradient_shrinks_real_files(
    make_image: Callable[..., Tensor], rounding: str, rate_rule: str
) -> None:
    codec = JPEGCodec()
    proxy = JPEGProxy(codec, rounding=rounding, rate_rule=rate_rule)
    source = torch.stack([make_image(64, 64, seed) for seed in (11, 12)])
    images = (source.float() / 255).requires_grad_()
    qualities = [10, 40]
    optimizer = torch.optim.Adam([images], lr=0.01)
    for _ in range(8):
        optimizer.zero_grad()
        output = proxy(images, qualities)
        (output.bits.sum() / source.numel() + 20.0 * (images - source / 255).square().mean()).backward()
        optimizer.step()
    steered = to_uint8(images.detach())
    for index, quality in enumerate(qualities):
        before, after = (len(codec.encode(batch[index], quality)) for batch in (source, steered))
        assert after - HEADER_BYTES < 0.9 * (before - HEADER_BYTES)


@pytest.mark.parametrize("rounding", ["nearness", "straight-through"])
def test_descent_along_the_images_gradient_steers_real_pixels(rounding: str) -> None:
    codec = JPEGCodec()
    proxy = JPEGProxy(codec, rounding=rounding)
    x = torch.linspace(0, 1, 32)
    target = torch.stack([0.5 + 0.3 * torch.sin(6 * x + 5 * x[:, None] + phase) for phase in range(3)]) * 255
    source = (target * 0.7 + 60).round().to(torch.uint8)
    images = (source.float() / 255)[None].requires_grad_()
    optimizer = torch.optim.Adam([images], lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        (proxy(images, 50).images - target / 255).square().sum().backward()
        optimizer.step()

    def error(image: Tensor) -> float:
        return (codec.transcode(image, 50).image.float() - target).square().mean().item()

    assert error(to_uint8(images.detach())[0]) < 0.2 * error(source)


def test_tables_train_and_the_real_codec_follows(make_image: Callable[..., Tensor]) -> None:
    source = torch.stack([make_image(40, 40, seed) for seed in (21, 22)])
    images = source.float() / 255
    proxy = JPEGProxy(JPEGCodec(), trainable_tables=True)
    plain = JPEGProxy(JPEGCodec())(images, [20, 70])
    first = proxy(images, [20, 70])
    assert torch.equal(first.images, plain.images)
    assert torch.equal(first.bits, plain.bits)
    optimizer = torch.optim.Adam(proxy.parameters(), lr=1.0)
    for _ in range(4):
        optimizer.zero_grad()
        proxy(images, [20, 70]).bits.sum().backward()
        optimizer.step()
    assert proxy.tables.detach().sum() > plain_sum()
    trained = proxy(images, [20, 70])
    assert (trained.bits < first.bits).all()
    codec = proxy.trained_codec()
    for image, quality, want, bits in zip(source, (20, 70), to_uint8(trained.images), trained.bits, strict=True):
        real = codec.transcode(image, quality)
        assert torch.equal(real.image, want)
        assert real.bits == pytest.approx(bits.item(), rel=0.01)


def plain_sum() -> float:
    return float(JPEGProxy(JPEGCodec()).tables.sum())
