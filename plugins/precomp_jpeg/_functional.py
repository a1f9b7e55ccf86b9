"""libjpeg as one differentiable function of an image batch."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ._arithmetic import BLOCK, forward_dct, inverse_dct, quantize
from ._colour import crop, downsample, pad_edges, rgb_to_ycc, upsample, ycc_to_rgb
from ._rate import RateOptions, entropy_bits
from ._scan import scan_of

__all__ = ["FACTORS", "Coded", "jpeg_proxy"]

#: chroma subsampling by name: vertical and horizontal factor
FACTORS: Final[dict[str, tuple[int, int]]] = {"4:2:0": (2, 2), "4:2:2": (1, 2), "4:4:4": (1, 1), "gray": (1, 1)}


@dataclass(frozen=True, slots=True)
class Coded:
    """A batch that went through the proxy.

    Attributes:
        images: ``(N, 3, H, W)`` in [0, 1], decoded.
        entropy_bits: ``(N,)``, the coded blocks.
        table_bits: ``(N,)``, the Huffman tables; no gradient.
    """

    images: Tensor
    entropy_bits: Tensor
    table_bits: Tensor


def jpeg_proxy(images: Tensor, steps: Tensor, *, subsampling: str, options: RateOptions) -> Coded:
    """Decode what libjpeg would make of each image, and count the bits of its blocks.

    Shapes and units:
        images: ``(N, 3, H, W)`` float in [0, 1], rounded to 8 bits inside; any H, W >= 1.
        steps: ``(N, 2, 8, 8)`` whole quantization steps of luma and chroma.

    Args:
        images: the images.
        steps: their quantization steps.
        subsampling: a key of `FACTORS`.
        options: gradient rules and what the rate counts.

    Source:
        ITU-T T.81; the integer arithmetic of libjpeg 6b, which libjpeg-turbo keeps.
    """
    with torch.autocast(images.device.type, enabled=False):
        return _run(images.to(torch.float32), steps.to(torch.float32), subsampling, options)


def _run(images: Tensor, steps: Tensor, subsampling: str, options: RateOptions) -> Coded:
    height, width = images.shape[-2:]
    rows, columns = FACTORS[subsampling]
    luma, chroma = rgb_to_ycc(images)
    luma, bits, table_bits = _code(luma, steps[:, :1], (rows, columns), options)
    if subsampling == "gray":
        return Coded((luma / 255.0).expand(-1, 3, -1, -1), bits, table_bits)
    if columns == 2:
        # To the right libjpeg repeats the last pixel before it averages; downwards, the last averaged row.
        chroma = downsample(pad_edges(chroma, _up(height, rows), _up(width, 2 * BLOCK)), rows)
    chroma, chroma_bits, chroma_table_bits = _code(chroma, steps[:, 1:], (1, 1), options)
    if columns == 1:
        chroma = chroma - 128.0
    else:
        chroma = crop(upsample(crop(chroma, chroma.shape[-2], -(-width // 2)), rows), height, width)
    return Coded(ycc_to_rgb(luma, chroma), bits + chroma_bits, table_bits + chroma_table_bits)


def _code(planes: Tensor, steps: Tensor, unit: tuple[int, int], options: RateOptions) -> tuple[Tensor, Tensor, Tensor]:
    """Code luma ``(N, 1, H, W)`` or chroma ``(N, 2, H, W)``: decoded planes, coded bits and table bits ``(N,)``."""
    n, channels, height, width = planes.shape
    padded = pad_edges(planes, _up(height, BLOCK), _up(width, BLOCK))
    down, across = padded.shape[-2] // BLOCK, padded.shape[-1] // BLOCK
    by_plane = steps.expand(-1, channels, -1, -1).reshape(n * channels, 1, BLOCK, 1, BLOCK)
    coefficients = forward_dct(padded).view(n * channels, down, BLOCK, across, BLOCK)
    unrounded, rounded, dequantized = quantize(coefficients, by_plane, options.blend)
    scan = scan_of(down, across, *unit, planes.device)
    bits, table_bits = entropy_bits(unrounded, rounded, channels - 1, scan, options)
    return crop(inverse_dct(dequantized.view(padded.shape)), height, width), bits, table_bits


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
