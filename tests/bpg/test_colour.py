"""Colour and chroma: against the same in floating point, in strips, and at the edges."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from precomp_bpg import ColourSpace, PixelFormat, colour
from precomp_bpg.colour import planes_to_rgb, rgb_to_planes
from precomp_bpg.foreign import Alpha, apply_alpha

Floats = NDArray[np.float64]
FORMATS = list(PixelFormat)
SIZES = [(1, 1), (1, 2), (2, 1), (1, 9), (5, 4), (6, 7), (17, 33)]
WEIGHTS = {ColourSpace.BT601: (0.299, 0.114), ColourSpace.BT709: (0.2126, 0.0722), ColourSpace.BT2020: (0.2627, 0.0593)}
DOWN = np.array([2, -4, -8, 17, 57, 57, 17, -8, -4, 2]) / 128
UP_EVEN = np.array([2, -6, 18, 57, -10, 4, -1]) / 64
UP_LEFT = np.array([-1, 4, -11, 40, 40, -11, 4, -1]) / 64


def rows_filtered(plane: Floats, taps: Floats, first: int, step: int, count: int) -> Floats:
    """Rows ``step * i + first ...`` weighted by taps, the border repeated."""
    at = (step * np.arange(count)[:, None] + first + np.arange(len(taps))).clip(0, len(plane) - 1)
    return np.einsum("itw,t->iw", plane[at], taps)


def halved(plane: Floats) -> Floats:
    return rows_filtered(plane, DOWN, -4, 2, -(-len(plane) // 2))


def doubled(plane: Floats, size: int, centred: bool) -> Floats:
    even = rows_filtered(plane, UP_EVEN, -3, 1, len(plane)) if centred else plane
    odd = rows_filtered(plane, UP_EVEN[::-1] if centred else UP_LEFT, -3, 1, len(plane))
    return np.stack((even, odd), 1).reshape(-1, plane.shape[1])[:size]


def shape_of(pixel_format: PixelFormat, height: int, width: int) -> tuple[int, int]:
    code = pixel_format.chroma_format
    return (-(-height // 2) if code == 1 else height), (-(-width // 2) if code in (1, 2) else width)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("pixel_format", FORMATS[:4])
def test_forward(pixel_format: PixelFormat, height: int, width: int) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (3, height, width), dtype=np.uint8)
    red, green, blue = rgb.astype(np.float64)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = [(blue - luma) / 1.772, (red - luma) / 1.402]
    if pixel_format == PixelFormat.C420:
        chroma = [halved(plane) for plane in chroma]
    if pixel_format in (PixelFormat.C420, PixelFormat.C422):
        chroma = [halved(plane.T).T for plane in chroma]
    planes = rgb_to_planes(rgb, pixel_format)
    wanted = [luma] if pixel_format == PixelFormat.GRAY else [luma, chroma[0] + 128, chroma[1] + 128]
    assert len(planes) == len(wanted)
    for got, exact in zip(planes, wanted, strict=True):
        assert got.shape == exact.shape
        assert np.abs(got - exact.clip(0, 255)).max() < 0.55  # rounded once


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("bit_depth", [8, 10, 12])
@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("space", list(ColourSpace))
def test_inverse(space: ColourSpace, limited: bool, bit_depth: int, height: int, width: int) -> None:
    chance = np.random.default_rng(2)
    largest, unit = (1 << bit_depth) - 1, 1 << bit_depth - 8
    for pixel_format in FORMATS[space != ColourSpace.BT601 :]:
        shapes = [(height, width), *[shape_of(pixel_format, height, width)] * (2 if pixel_format else 0)]
        kind = np.uint8 if bit_depth == 8 else np.uint16
        planes = [chance.integers(0, largest + 1, shape).astype(kind) for shape in shapes]
        full = [plane.astype(np.float64) for plane in planes]
        for index, plane in enumerate(full[1:], 1):
            if pixel_format.chroma_format == 1:
                plane = doubled(plane, height, centred=True)
                if bit_depth > 8:
                    plane = np.floor(plane * 64 / unit + 0.5) * unit / 64  # bpgdec's own rounding
            if pixel_format.chroma_format in (1, 2):
                plane = doubled(plane.T, width, centred=pixel_format <= 3).T
                plane = np.floor(plane + 0.5).clip(0, largest)
            full[index] = plane
        black, scale = (16 * unit, 255 / (219 * unit)) if limited else (0, 255 / largest)
        chroma_scale = 255 / (224 * unit) if limited and space in WEIGHTS else scale
        luma = (full[0] - black) * scale
        if not pixel_format:
            exact = np.stack([luma] * 3)
        elif space is ColourSpace.RGB:
            green, blue, red = ((plane - black) * scale for plane in full)
            exact = np.stack((red, green, blue))
        else:
            first, second = ((plane - 128 * unit) * chroma_scale for plane in full[1:])
            if space is ColourSpace.YCGCO:
                exact = np.stack((luma - first + second, luma + first, luma - first - second))
            else:
                kr, kb = WEIGHTS[space]
                red, blue = luma + 2 * (1 - kr) * second, luma + 2 * (1 - kb) * first
                exact = np.stack((red, (luma - kr * red - kb * blue) / (1 - kr - kb), blue))
        got = planes_to_rgb(planes, pixel_format, space, bit_depth, limited)
        assert got.shape == (3, height, width)
        assert np.abs(got - exact.clip(0, 255)).max() < 0.501  # rounded once more, at the end


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_strips_do_not_show(
    pixel_format: PixelFormat, make_image: Callable[..., NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = make_image(37, 29)
    as_encoded = PixelFormat(pixel_format.chroma_format)
    whole = rgb_to_planes(rgb, as_encoded)
    back = planes_to_rgb(whole, pixel_format, ColourSpace.BT601, 8, limited_range=False)
    for pixels in (1, 29 * 4, 29 * 7):
        monkeypatch.setattr(colour, "_STRIP_PIXELS", pixels)
        strips = rgb_to_planes(rgb, as_encoded)
        assert all(np.array_equal(one, other) for one, other in zip(whole, strips, strict=True))
        again = planes_to_rgb(whole, pixel_format, ColourSpace.BT601, 8, limited_range=False)
        assert np.array_equal(back, again)


@pytest.mark.parametrize("pixel_format", FORMATS[1:4])
def test_flat_colour_survives(pixel_format: PixelFormat) -> None:
    for value in ((0, 0, 0), (255, 255, 255), (255, 0, 0), (12, 200, 99)):
        rgb = np.broadcast_to(np.array(value, np.uint8)[:, None, None], (3, 9, 7)).copy()
        planes = rgb_to_planes(rgb, pixel_format)
        back = planes_to_rgb(planes, pixel_format, ColourSpace.BT601, 8, limited_range=False)
        assert np.abs(back.astype(int) - rgb).max() <= 1
        assert np.ptp(back.reshape(3, -1), axis=1).max() == 0


def test_extremes_of_limited_range_do_not_wrap() -> None:
    planes = [np.full((2, 2), value, np.uint8) for value in (255, 255, 255)]
    for space in (ColourSpace.BT601, ColourSpace.BT2020, ColourSpace.YCGCO):
        assert planes_to_rgb(planes, PixelFormat.C444, space, 8, limited_range=True).max() == 255
    planes[0][:] = 0
    assert planes_to_rgb(planes, PixelFormat.C444, ColourSpace.BT2020, 8, limited_range=True)[1].max() == 0


def test_un_premultiply() -> None:
    rgb = np.array([[[0, 10, 100, 255, 50]]] * 3, np.uint8)
    alpha = np.array([[0, 20, 50, 255, 255]], np.uint8)
    divided, kept = apply_alpha(rgb, alpha, Alpha.PREMULTIPLIED)
    assert kept is alpha
    assert divided[0].tolist() == [[255, 128, 255, 255, 50]]
