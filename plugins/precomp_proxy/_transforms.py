"""What block codecs share: YCbCr, halved chroma, block transforms and quantization, all differentiable."""

import math
from functools import cache
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["block_transform", "halve", "inverse_block_transform", "quantize", "to_rgb", "to_ycc", "twice"]

# BT.601, full range
_TO_YCC: Final = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB: Final = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def to_ycc(images: Tensor) -> Tensor:
    """Convert RGB in [0, 1] to luma and chroma, both centred on 0, in units of 8-bit samples.

    Shapes and units:
        images: (N, 3, H, W). Returns (N, 3, H, W), luma in [-128, 127], chroma in [-127.5, 127.5].

    Source: ITU-R BT.601, full range as in JFIF.
    """
    planes = functional.conv2d(images * 255.0, images.new_tensor(_TO_YCC)[:, :, None, None])
    return planes - planes.new_tensor((128.0, 0.0, 0.0))[:, None, None]


def to_rgb(planes: Tensor) -> Tensor:
    """Undo `to_ycc`, without clipping."""
    planes = planes + planes.new_tensor((128.0, 0.0, 0.0))[:, None, None]
    return functional.conv2d(planes, planes.new_tensor(_TO_RGB)[:, :, None, None]) / 255.0


def halve(planes: Tensor) -> Tensor:
    """Average 2x2 samples: (N, C, H, W), H and W even, to (N, C, H / 2, W / 2)."""
    return functional.avg_pool2d(planes, 2)


def twice(planes: Tensor) -> Tensor:
    """Interpolate to twice the height and width; the samples lie in the middle of the 2x2 they stand for."""
    return functional.interpolate(planes, scale_factor=2.0, mode="bilinear", align_corners=False)


@cache
def _cosines(size: int) -> Tensor:
    """Return the orthonormal DCT-II matrix, (size, size), one basis function per row."""
    positions, orders = torch.arange(size) + 0.5, torch.arange(size)[:, None]
    matrix = torch.cos(math.pi / size * orders * positions) * math.sqrt(2.0 / size)
    matrix[0] /= math.sqrt(2.0)
    return matrix


def block_transform(planes: Tensor, size: int) -> Tensor:
    """Apply an orthonormal two-dimensional DCT-II to blocks.

    Shapes and units:
        planes: (N, C, H, W), H and W divisible by ``size``. Returns (N, C, H / size, W / size, size, size).
    """
    count, channels, height, width = planes.shape
    blocks = planes.reshape(count, channels, height // size, size, width // size, size).transpose(3, 4)
    cosines = _cosines(size).to(planes)
    return cosines @ blocks @ cosines.mT


def inverse_block_transform(coefficients: Tensor) -> Tensor:
    """Undo `block_transform`."""
    count, channels, rows, columns, size, _ = coefficients.shape
    cosines = _cosines(size).to(coefficients)
    blocks = cosines.mT @ coefficients @ cosines
    return blocks.transpose(3, 4).reshape(count, channels, rows * size, columns * size)


def quantize(levels: Tensor, dead_zone: Tensor, rounding: float) -> Tensor:
    """Round coefficients, in units of their step, after taking a dead zone off their size.

    The forward value is exact. The derivative that a rounding is given lies between straight-through, 1, and nearness,
    ``12 u**2`` for the offset u in [-1/2, 1/2] from the integer, as ``rounding`` goes from 0 to 1.

    Shapes and units:
        levels: any shape; dead_zone: broadcast to it, in [0, 1/2]. Returns the shape of ``levels``, whole numbers.

    Source: rate-distortion optimized quantization acts like a dead zone (encoders of ITU-T H.265); straight-through
    estimator, Bengio et al., arXiv 1308.3432; the nearness rule is this project's, see docs/method.md.
    """
    sizes = levels.abs() - dead_zone
    with torch.no_grad():
        rounded = sizes.round()
        slopes = (1.0 - rounding) + rounding * 12.0 * (sizes - rounded).square()
        signs = levels.sign()
    return signs * (rounded + slopes * (sizes - sizes.detach()))
