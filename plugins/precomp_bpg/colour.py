"""RGB to the planes of a BPG file and back, in whole numbers, a few rows at a time.

Decoding equals ``bpgdec`` bit for bit wherever it was compared (every colour space, chroma format and bit depth of the
test vectors); encoding is free in BPG and differs from ``bpgenc`` by at most one.

Source:
    Matrices: ITU-T H.273, table 4; filters and roundings: measured on ``bpgdec`` 0.9.8 as a black box.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from precomp_bpg.foreign import LUMA_WEIGHTS, NOT_LUMA
from precomp_bpg.formats import ColourSpace, PixelFormat

__all__ = ["Bytes", "Samples", "planes_to_rgb", "rgb_to_planes"]

Bytes: TypeAlias = NDArray[np.uint8]
Samples: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
_Wide: TypeAlias = NDArray[Any]  # int32, or int64 where limited range needs it

_STRIP_PIXELS: Final = 1 << 16  # bounds the memory of the wide integers, and keeps them in the cache
_FRACTION: Final = 22  # fractional bits of the decoder's matrix: bpgdec's ties need them all
_FORWARD_FRACTION: Final = 16
_CHROMA_FRACTION: Final = 6  # of chroma before it is filtered: the largest that keeps both directions in 32 bits

_FORWARD: Final = ((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329))  # BT.601, times 2**16
_DOWN: Final = (2, -4, -8, 17, 57)  # half of a symmetric filter of ten taps, /128
_DOWN_MARGIN: Final = 4
_UP: Final = (2, -6, 18, 57, -10, 4, -1)  # on c[i-3..i+3] for even samples, mirrored for odd ones, /64
_UP_LEFT: Final = (-1, 4, -11, 40, 40, -11, 4, -1)  # on c[i-3..i+4] for odd samples of left-sited chroma, /64
_UP_MARGIN: Final = 4
_BT601: Final = (0.299, 0.114)  # luma's weights of red and blue


def _strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    rows = max(2, _STRIP_PIXELS // width // 2 * 2)
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def rgb_to_planes(rgb: Bytes, pixel_format: PixelFormat) -> list[Bytes]:
    """Convert to full-range BT.601 YCbCr of 8 bits with centred chroma, or to gray.

    Shapes and units:
        rgb: (3, H, W). Returns (H, W), and unless gray twice (ceil(H / 2), ceil(W / 2)) where the format halves them.
    """
    _, height, width = rgb.shape
    halve_rows, halve_columns = pixel_format == PixelFormat.C420, pixel_format in (PixelFormat.C420, PixelFormat.C422)
    rows, columns = -(-height // 2) if halve_rows else height, -(-width // 2) if halve_columns else width
    luma = np.empty((height, width), np.uint8)
    chroma = [np.empty((rows, columns), np.uint8) for _ in range(0 if pixel_format == PixelFormat.GRAY else 2)]
    for top, bottom in _strips(height, width):
        strip = rgb[:, top:bottom].astype(np.int32)
        luma[top:bottom] = (_weighted(strip, _FORWARD[0]) + (1 << _FORWARD_FRACTION - 1)) >> _FORWARD_FRACTION
        if halve_rows and chroma:
            reach = np.arange(top - _DOWN_MARGIN, bottom + bottom % 2 + _DOWN_MARGIN)
            strip = rgb[:, reach.clip(0, height - 1)].astype(np.int32)
        for plane, weights in zip(chroma, _FORWARD[1:], strict=False):
            drop = _FORWARD_FRACTION - _CHROMA_FRACTION
            samples = (_weighted(strip, weights) + (1 << drop - 1)) >> drop
            shift = _CHROMA_FRACTION
            if halve_rows:
                samples, shift = _halve_rows(samples), shift + 7
            if halve_columns:
                padded = np.pad(samples, ((0, 0), (_DOWN_MARGIN, _DOWN_MARGIN + width % 2)), mode="edge")
                samples, shift = _halve_rows(np.ascontiguousarray(padded.T)).T, shift + 7
            first = top // 2 if halve_rows else top
            rounded = (samples + ((128 << shift) + (1 << shift - 1))) >> shift
            plane[first : first + rounded.shape[0]] = rounded.clip(0, 255)
    return [luma, *chroma]


def _weighted(strip: _Wide, weights: tuple[int, int, int]) -> _Wide:
    total: _Wide = strip[0] * weights[0]
    total += strip[1] * weights[1]
    total += strip[2] * weights[2]
    return total


def _halve_rows(samples: _Wide) -> _Wide:
    """Filter and drop every other row; the margin is there already. Returns values times 128."""
    even, odd = samples[0::2], samples[1::2]
    count = even.shape[0] - _DOWN_MARGIN
    total = np.zeros((count, samples.shape[1]), samples.dtype)
    for index, tap in enumerate(_DOWN):
        near, far = index, 2 * _DOWN_MARGIN + 1 - index  # rows of the pair that shares a tap
        for row in (near, far):
            phase = odd if row % 2 else even
            total += phase[row // 2 : row // 2 + count] * tap
    return total


@dataclass(frozen=True, slots=True)
class _Matrix:
    """Whole-number coefficients times 2**22, and what to take off the samples first."""

    rows: tuple[tuple[int, int, int], ...]
    offsets: tuple[int, int, int]
    dtype: type[np.int32] | type[np.int64]


def _matrix(space: ColourSpace, bit_depth: int, limited: bool) -> _Matrix:
    largest = (1 << bit_depth) - 1
    black, middle = (16 << bit_depth - 8) if limited else 0, 1 << bit_depth - 1
    luma = 255 / (219 << bit_depth - 8) if limited else 255 / largest
    chroma = 255 / (224 << bit_depth - 8) if limited and space not in NOT_LUMA else luma
    if space in NOT_LUMA:
        rows, middle = NOT_LUMA[space](luma), (black if space == ColourSpace.RGB else middle)
    else:
        red, blue = LUMA_WEIGHTS.get(space, _BT601)
        green = 1 - red - blue
        from_cr, from_cb = 2 * (1 - red), 2 * (1 - blue)
        rows = (
            (luma, 0, chroma * from_cr),
            (luma, -chroma * from_cb * blue / green, -chroma * from_cr * red / green),
            (luma, chroma * from_cb, 0),
        )
    fixed = tuple((round(a * 2**_FRACTION), round(b * 2**_FRACTION), round(c * 2**_FRACTION)) for a, b, c in rows)
    # Limited range stretches the extremes beyond 32 bits.
    return _Matrix(fixed, (black, middle, middle), np.int64 if limited or space == ColourSpace.YCGCO else np.int32)


def planes_to_rgb(
    planes: list[Samples], pixel_format: PixelFormat, colour_space: ColourSpace, bit_depth: int, limited_range: bool
) -> Bytes:
    """Convert decoded planes to RGB of 8 bits.

    Args:
        planes: one, or three; luma (H, W), chroma (ceil(H / 2), ceil(W / 2)) where the format halves them.
        pixel_format: of the planes.
        colour_space: what they mean.
        bit_depth: 8 to 12.
        limited_range: samples span 16..235 and 16..240, at 8 bits.

    Returns:
        (3, H, W).
    """
    height, width = planes[0].shape
    matrix = _matrix(colour_space, bit_depth, limited_range)
    rgb = np.empty((3, height, width), np.uint8)
    for top, bottom in _strips(height, width):
        luma = planes[0][top:bottom].astype(matrix.dtype) - matrix.offsets[0]
        if len(planes) == 1:
            rgb[:, top:bottom] = _rounded(luma * matrix.rows[0][0])
            continue
        chroma = [
            _upsampled(plane, top, bottom, width, pixel_format, bit_depth).astype(matrix.dtype) - offset
            for plane, offset in zip(planes[1:], matrix.offsets[1:], strict=True)
        ]
        for channel, row in enumerate(matrix.rows):
            terms: list[_Wide] = [
                samples * weight for samples, weight in zip((luma, *chroma), row, strict=True) if weight
            ]
            for term in terms[1:]:
                terms[0] += term
            rgb[channel, top:bottom] = _rounded(terms[0])
    return rgb


def _rounded(total: _Wide) -> _Wide:
    total += 1 << _FRACTION - 1
    total >>= _FRACTION
    return total.clip(0, 255, out=total)


def _upsampled(
    plane: Samples, top: int, bottom: int, width: int, pixel_format: PixelFormat, bit_depth: int
) -> NDArray[np.int32] | Samples:
    """Return rows ``top`` (even) to ``bottom`` of a chroma plane at luma's resolution."""
    if pixel_format == PixelFormat.C444:
        return plane[top:bottom]
    shift = 6
    if pixel_format.chroma_format == 1:
        reach = np.arange(top // 2 - _UP_MARGIN, -(-bottom // 2) + _UP_MARGIN)
        rows = _double_rows(plane[reach.clip(0, plane.shape[0] - 1)].astype(np.int32), centred=True)[: bottom - top]
        if extra := bit_depth - 8:  # bpgdec rounds here so that its intermediate fits 16 bits
            rows = (rows + (1 << extra - 1)) >> extra
        shift = 12 - extra
    else:
        rows = plane[top:bottom].astype(np.int32)
    centred = pixel_format <= PixelFormat.C444
    columns = np.pad(rows, ((0, 0), (_UP_MARGIN, _UP_MARGIN)), mode="edge")
    samples = _double_rows(np.ascontiguousarray(columns.T), centred=centred).T[:, :width]
    return ((samples + (1 << shift - 1)) >> shift).clip(0, (1 << bit_depth) - 1)


def _double_rows(samples: NDArray[np.int32], *, centred: bool) -> NDArray[np.int32]:
    """Interpolate to twice the rows; the margin is there already. Returns values times 64."""
    count = samples.shape[0] - 2 * _UP_MARGIN
    out = np.zeros((count, 2, samples.shape[1]), np.int32)
    first = _UP_MARGIN - 3
    if centred:
        for index, (even, odd) in enumerate(zip(_UP, reversed(_UP), strict=True)):
            rows = samples[first + index : first + index + count]
            out[:, 0] += rows * even
            out[:, 1] += rows * odd
    else:
        out[:, 0] = samples[_UP_MARGIN : _UP_MARGIN + count] * 64
        for index, tap in enumerate(_UP_LEFT):
            out[:, 1] += samples[first + index : first + index + count] * tap
    return out.reshape(2 * count, -1)
