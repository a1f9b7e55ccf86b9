"""The proxy's bits are those of the file that libjpeg writes."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from precomp_jpeg import JPEGCodec, JPEGProxy
from precomp_jpeg._arithmetic import forward_dct, quantize
from precomp_jpeg._colour import rgb_to_ycc
from precomp_jpeg._huffman import code_of, optimal_code, stuffed_bits
from precomp_jpeg._rate import RateOptions, entropy_bits
from precomp_jpeg._scan import Scan, scan_of
from precomp_jpeg._tables import AC_CODES, DC_CODES, base_tables
from precomp_sdk.testing import natural_image

SUBSAMPLINGS = ("4:2:0", "4:2:2", "4:4:4", "gray")
CPU = torch.device("cpu")


def bits_without_stuffing(payload: bytes) -> int:
    scan = payload.rindex(b"\xff\xda")
    return 8 * (len(payload) - payload.count(b"\xff\x00", scan))


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_bits_equal_the_files_less_its_stuffed_bytes(
    make_image: Callable[..., Tensor], subsampling: str, optimize: bool
) -> None:
    codec = JPEGCodec(subsampling=subsampling, optimize=optimize)
    proxy = JPEGProxy(codec, stuffing=False)
    qualities = [1, 5, 20, 50, 90, 100]
    for size in ((1, 1), (7, 25), (24, 24), (41, 50)):  # 1x1, 7x25 and 41x50 need blocks that only complete a unit
        images = torch.stack([make_image(*size, seed) for seed in range(len(qualities))])
        real = [
            bits_without_stuffing(codec.encode(image, quality))
            for image, quality in zip(images, qualities, strict=True)
        ]
        assert proxy(images.float() / 255, qualities).bits.tolist() == real


@pytest.mark.parametrize("optimize", [False, True])
def test_long_runs_and_large_values_are_counted(optimize: bool) -> None:
    """Single high frequencies (runs beyond 15), extremes (large sizes) and flat images (empty blocks)."""
    x = torch.arange(32.0)
    ripple = (
        128
        + 30 * torch.cos((2 * x + 1) * 7 * torch.pi / 16)[None] * torch.cos((2 * x + 1) * 5 * torch.pi / 16)[:, None]
    )
    high = ripple.round().to(torch.uint8).expand(3, -1, -1)
    steps = ((x[:, None] // 8 + x // 8) % 2 * 255).to(torch.uint8).expand(3, -1, -1)
    noise = torch.randint(0, 2, (3, 32, 32), dtype=torch.uint8) * 255
    flat = torch.full((3, 32, 32), 77, dtype=torch.uint8)
    images = torch.stack([high, steps, noise, flat])
    codec = JPEGCodec(subsampling="4:4:4", optimize=optimize)
    for quality in (10, 60, 100):
        real = [bits_without_stuffing(codec.encode(image, quality)) for image in images]
        assert JPEGProxy(codec, stuffing=False)(images.float() / 255, quality).bits.tolist() == real


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("quality", [5, 10, 30, 50, 75, 95])
def test_bits_are_within_half_a_percent_on_photographs(photographs: list[Tensor], quality: int, optimize: bool) -> None:
    codec = JPEGCodec(optimize=optimize)
    proxy = JPEGProxy(codec)
    errors = [
        abs(proxy(image[None].float() / 255, quality).bits.item() / (8 * len(codec.encode(image, quality))) - 1)
        for image in photographs
    ]
    assert torch.tensor(errors).median() < 0.003  # the bar is 0.02
    assert max(errors) < 0.01


@pytest.mark.parametrize("subsampling", ["4:2:0", "gray"])
def test_progressive_bits_are_close_on_photographs(photographs: list[Tensor], subsampling: str) -> None:
    codec = JPEGCodec(subsampling=subsampling, progressive=True)
    proxy = JPEGProxy(codec)
    errors = []
    for quality in (5, 30, 75):
        for image in photographs[::2]:
            bits = proxy(image[None].float() / 255, quality).bits.item()
            errors.append(abs(bits / (8 * len(codec.encode(image, quality))) - 1))
    assert torch.tensor(errors).median() < 0.02


def test_progressive_bits_are_of_an_image_of_any_size() -> None:
    codec = JPEGCodec(progressive=True)
    images, qualities = [natural_image(*size) for size in ((96, 64), (120, 200))], (10, 75)
    ratios = [
        float(JPEGProxy(codec)(image[None].float() / 255, quality).bits) / (8 * len(codec.encode(image, quality)))
        for image in images
        for quality in qualities
    ]
    assert max(abs(ratio - 1) for ratio in ratios) < 0.02


def test_the_scale_that_is_fitted_is_of_the_entropy_coded_bits_alone() -> None:
    proxy = JPEGProxy(JPEGCodec(optimize=False))
    image = natural_image(64, 96)[None].float() / 255
    before = proxy(image, 50).bits.item()
    with torch.no_grad():
        proxy.log_scale.fill_(0.1)
    entropy = (proxy(image, 50).bits.item() - before) / (math.exp(0.1) - 1)
    header = before - entropy
    assert 8 * 600 < header < 8 * 650  # tables and markers, whatever the image


def test_dc_is_predicted_in_the_order_of_the_minimum_coded_units(make_image: Callable[..., Tensor]) -> None:
    """Two by two luma blocks make a unit at 4:2:0; raster order would count other bits."""
    codec = JPEGCodec(subsampling="4:2:0")
    image = make_image(48, 48, 9)
    luma, _ = rgb_to_ycc(image[None].float() / 255)
    options = RateOptions("finite-difference", 1.0, optimize=False, stuffing=False)
    coefficients = forward_dct(luma).view(1, 6, 8, 6, 8)
    unrounded, rounded, _ = quantize(coefficients, base_tables(CPU)[0].view(1, 1, 8, 1, 8), 1.0)
    units, _ = entropy_bits(unrounded, rounded, 0, scan_of(6, 6, 2, 2, CPU), options)
    raster, _ = entropy_bits(unrounded, rounded, 0, scan_of(6, 6, 1, 1, CPU), options)
    assert units.item() != raster.item()
    real = bits_without_stuffing(codec.encode(image, 50))
    assert JPEGProxy(codec, stuffing=False)(image[None].float() / 255, 50).bits.item() == real


def test_scan_of_four_by_three_blocks_in_units_of_two_by_two() -> None:
    scan = scan_of(3, 3, 2, 2, CPU)
    assert scan.order is not None
    assert scan.order.tolist() == [0, 1, 3, 4, 2, 5, 6, 7, 8]
    assert scan.dummies == 16 - 9
    assert scan_of(2, 3, 1, 2, CPU) == Scan(None, 2)


def test_bits_depend_on_differences_of_dc_only(make_image: Callable[..., Tensor]) -> None:
    """A brighter copy costs what the image costs, but for the very first difference."""
    proxy = JPEGProxy(JPEGCodec(subsampling="gray", optimize=False), stuffing=False)
    dark = (make_image(32, 32, 1) // 4 + 20).float() / 255
    bright = dark + 16 * 8 / 255  # whole steps of the DC at quality 50: 16 * 8 in coefficients, 16 in samples
    costs = proxy(torch.stack([dark, bright]), 50).bits
    assert abs(costs[0] - costs[1]) <= 16


def test_optimal_codes_are_limited_to_sixteen_bits_and_leave_the_ones_free() -> None:
    frequencies = [0] * 256
    a, b = 1, 1
    for symbol in range(30):  # Fibonacci: the deepest tree there is
        frequencies[symbol] = a
        a, b = b, a + b
    code = optimal_code(frequencies)
    lengths = [length for length in code.lengths if length]
    assert len(lengths) == 30
    assert max(lengths) == 16
    assert sum(2.0**-length for length in lengths) < 1.0
    for symbol in range(30):
        assert code.codes[symbol] != 2 ** code.lengths[symbol] - 1
    assert code.table_bits == 8 * (2 + 2 + 17 + 30)


def libjpegs_lengths(frequencies: Sequence[int]) -> list[int]:
    """T.81, figures K.1 to K.3, word for word, with libjpeg's choice among equals: the last of the least."""
    frequency, size, others = [*frequencies, 1], [0] * 257, [-1] * 257

    def least(than: int) -> int:
        found, best = -1, 1_000_000_000
        for symbol, count in enumerate(frequency):
            if count and count <= best and symbol != than:
                found, best = symbol, count
        return found

    while (second := least(first := least(-1))) >= 0:
        frequency[first] += frequency[second]
        frequency[second] = 0
        for symbol, joined in ((first, second), (second, -1)):
            size[symbol] += 1
            while others[symbol] >= 0:
                symbol = others[symbol]
                size[symbol] += 1
            if joined >= 0:
                others[symbol] = joined
    bits = [size.count(length) for length in range(max(size) + 1)]
    bits[0] = 0
    for length in range(len(bits) - 1, 16, -1):
        while bits[length] > 0:
            shorter = max(j for j in range(length - 1) if bits[j])
            bits[length] -= 2
            bits[length - 1] += 1
            bits[shorter + 1] += 2
            bits[shorter] -= 1
    bits[max(length for length, count in enumerate(bits) if count)] -= 1
    order = sorted((s for s in range(256) if frequencies[s]), key=lambda symbol: (size[symbol], symbol))
    lengths = [0] * 256
    for symbol, length in zip(order, [n for n, count in enumerate(bits) for _ in range(count)], strict=True):
        lengths[symbol] = length
    return lengths


def test_optimal_codes_are_libjpegs_for_any_frequencies() -> None:
    generator = torch.Generator().manual_seed(3)
    for used in (1, 2, 3, 12, 40, 162, 256):
        for most in (1, 2, 3, 50, 10**6):
            frequencies = torch.zeros(256, dtype=torch.int64)
            chosen = torch.randperm(256, generator=generator)[:used]
            frequencies[chosen] = torch.randint(1, most + 1, (used,), generator=generator)
            assert list(optimal_code(frequencies.tolist()).lengths) == libjpegs_lengths(frequencies.tolist())


def test_a_file_whose_codes_had_to_be_limited_is_counted() -> None:
    """Few loud blocks among many quiet ones: the unlimited code would be 17 bits deep."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(3, 512, 512, generator=generator)
    loudness = torch.rand(1, 64, 64, generator=generator) ** 8 * 100
    image = 128 + noise * loudness.repeat_interleave(8, 1).repeat_interleave(8, 2)
    image = image.round().clamp(0, 255).to(torch.uint8)
    codec = JPEGCodec(subsampling="gray", optimize=True)
    real = bits_without_stuffing(codec.encode(image, 95))
    assert JPEGProxy(codec, stuffing=False)(image[None].float() / 255, 95).bits.item() == real


def test_optimal_codes_of_one_symbol() -> None:
    frequencies = [0] * 256
    frequencies[7] = 12
    assert optimal_code(frequencies).lengths[7] == 1


def test_expected_stuffing_is_what_a_simulation_stuffs() -> None:
    """Symbols drawn with the chances their lengths stand for, coded with random magnitudes, at each of 8 phases."""
    code = code_of(*AC_CODES[0])
    symbols = torch.tensor([s for s in range(256) if code.lengths[s]])
    lengths = torch.tensor(code.lengths)[symbols]
    codes = torch.tensor(code.codes)[symbols]
    sizes = symbols % 16
    expected = stuffed_bits(codes[None], lengths[None], sizes[None], follows_itself=True)[0]
    weights = 0.5 ** lengths.double()
    drawn = torch.multinomial(weights, 60_000, replacement=True)
    magnitudes = torch.rand(len(drawn))
    text = "".join(
        f"{codes[i]:0{lengths[i]}b}" + (f"{int(m * 2 ** int(sizes[i])):0{sizes[i]}b}" if sizes[i] else "")
        for i, m in zip(drawn.tolist(), magnitudes.tolist(), strict=True)
    )
    windows = sum(
        text[phase + 8 * k : phase + 8 * k + 8] == "1" * 8 for phase in range(8) for k in range(len(text) // 8)
    )
    assert expected[drawn].sum().item() == pytest.approx(windows, rel=0.05)


@pytest.mark.parametrize("follows_itself", [False, True])
def test_expected_stuffing_is_what_following_each_bit_gives(follows_itself: bool) -> None:
    """The closed form against chances carried from bit to bit, for every symbol of every standard code."""
    for counts, symbols in (*DC_CODES, *AC_CODES):
        code = code_of(counts, symbols)
        lengths, codes = torch.tensor([code.lengths]), torch.tensor([code.codes])
        sizes = torch.arange(256)[None] % 16 % 12
        found = stuffed_bits(codes, lengths, sizes, follows_itself=follows_itself)[0]
        ones = [1.0] + 7 * [0.0]  # chances of k ones before the symbol, the last for seven and more
        for _ in range(3 if follows_itself else 1):
            wanted, before = bit_by_bit(code.lengths, code.codes, sizes[0].tolist(), ones)
            ones = before if follows_itself else ones
        assert torch.allclose(found, torch.tensor(wanted, dtype=torch.float64), atol=1e-12)
        assert found[lengths[0] == 0].abs().max() == 0


def bit_by_bit(
    lengths: Sequence[int], codes: Sequence[int], sizes: Sequence[int], ones: list[float]
) -> tuple[list[float], list[float]]:
    """Expected runs of eight ones that end in each symbol, and the chances of k ones after a symbol of the table."""
    expected, after, total = [], [0.0] * 8, sum(0.5**length for length in lengths if length)
    for length, code, size in zip(lengths, codes, sizes, strict=True):
        chances, runs = list(ones), 0.0
        bits = [code >> length - 1 - i & 1 for i in range(length)] + [0.5] * size
        for one in bits if length else []:
            runs += chances[7] * one
            moved = [1.0 - one, *(chance * one for chance in chances[:7])]
            moved[7] += chances[7] * one
            chances = moved
        expected.append(runs)
        if length:
            after = [a + 0.5**length / total * chance for a, chance in zip(after, chances, strict=True)]
    return expected, after


def test_trainable_rate_corrects_the_bits(make_image: Callable[..., Tensor]) -> None:
    images = make_image(16, 16, 0)[None].float() / 255
    proxy = JPEGProxy(JPEGCodec(), trainable_rate=True)
    plain = proxy(images, 50).bits
    assert {name for name, _ in proxy.named_parameters()} == {"log_scale", "offset_bits"}
    with torch.no_grad():
        proxy.offset_bits += 100.0
    assert proxy(images, 50).bits.item() == pytest.approx(plain.item() + 100.0)
    proxy(images, 50).bits.sum().backward()
    assert proxy.log_scale.grad is not None
    assert proxy.log_scale.grad > 0
    assert proxy.offset_bits.grad == 1.0
