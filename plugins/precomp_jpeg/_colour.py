"""libjpeg's colour conversion and chroma resampling as differentiable tensor operations; exact values, as there."""

import functools
from typing import Any, Final, cast

import torch
from torch import Tensor
from torch.autograd import Function

from ._arithmetic import clip, exact_dtype, through_clamp

__all__ = ["crop", "downsample", "pad_edges", "rgb_to_ycc", "upsample", "ycc_to_rgb"]

# JFIF's colour space (BT.601, full range) in libjpeg's 16-bit fixed point. All sums of these products stay below 2**24
# units of 2**-16, so float32 holds them exactly.
_TO_YCC: Final = ((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329))
_TO_YCC_BIAS: Final = (32768 - (128 << 16), 32767, 32767)  # rounding; Y is level-shifted here, Cb and Cr by definition
_SHARE: Final = {1: 1 / 4, 2: 1 / 16}  # of upsampling by rows: each doubling multiplies by four
_FROM_CHROMA: Final = ((0, 91881), (-22554, -46802), (116130, 0))  # red, green, blue from Cb, Cr


@functools.lru_cache(maxsize=16)
def _matrices(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """To YCbCr ``(1, 3, 3)``, its bias ``(1, 3, 1)``, and from chroma to RGB ``(1, 3, 2)``."""
    with torch.inference_mode(False):
        parts = (torch.tensor(values, dtype=dtype) / 65536 for values in (_TO_YCC, _TO_YCC_BIAS, _FROM_CHROMA))
        forward, bias, back = (part.to(device) for part in parts)
        return forward[None], bias[None, :, None], back[None]


def _mixed(matrix: Tensor, planes: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``matrix @ planes (+ bias)`` for the channels of every pixel: ``(1, D, C)``, ``(N, C, H, W)``."""
    n, channels, height, width = planes.shape
    pixels = planes.to(matrix.dtype).reshape(n, channels, -1)
    weights = matrix.expand(n, -1, -1)
    product = torch.bmm(weights, pixels) if bias is None else torch.baddbmm(bias, weights, pixels)
    return product.view(n, -1, height, width)


class _RgbToYcc(Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        matrix, bias, _ = _matrices(images.device, exact_dtype(images.device))
        pixels, excess = clip(images * 255.0, 0.0, 255.0)
        ctx.save_for_backward(excess)
        pixels.round_()
        return (
            _mixed(matrix[:, :1], pixels, bias[:, :1]).floor_().to(torch.float32),
            _mixed(matrix[:, 1:], pixels, bias[:, 1:]).floor_().to(torch.float32),
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        matrix = 255.0 * _matrices(grads[0].device, grads[0].dtype)[0].mT
        luma, chroma = grads
        grad = _mixed(matrix[:, :, :1], luma)
        flat = grad.flatten(2)
        flat.baddbmm_(matrix[:, :, 1:].expand(len(flat), -1, -1), chroma.flatten(2))
        return through_clamp(grad, *ctx.saved_tensors)


def rgb_to_ycc(images: Tensor) -> tuple[Tensor, Tensor]:
    """Round ``(N, 3, H, W)`` in [0, 1] to 8 bits and convert to YCbCr.

    Returns:
        Luma ``(N, 1, H, W)`` and chroma ``(N, 2, H, W)``, level-shifted integers in -128..127.
    """
    return cast(tuple[Tensor, Tensor], _RgbToYcc.apply(images))


class _YccToRgb(Function):
    @staticmethod
    def forward(ctx: Any, luma: Tensor, chroma: Tensor) -> Tensor:
        matrix = _matrices(luma.device, exact_dtype(luma.device))[2]
        out = _mixed(matrix, chroma, matrix.new_full((1, 1, 1), 0.5)).floor_().to(torch.float32).add_(luma)
        clamped, excess = clip(out, 0.0, 255.0)
        ctx.save_for_backward(excess)
        return clamped.div_(255.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        grad = through_clamp(grads[0], *ctx.saved_tensors)
        from_chroma = _matrices(grad.device, grad.dtype)[2].mT
        back = torch.cat((torch.ones_like(from_chroma[:, :1]), from_chroma), dim=1) * (1.0 / 255.0)
        return _mixed(back[:, :1], grad), _mixed(back[:, 1:], grad)


def ycc_to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    """Convert luma ``(N, 1, H, W)`` in 0..255 and level-shifted chroma ``(N, 2, H, W)`` to RGB in [0, 1]."""
    return cast(Tensor, _YccToRgb.apply(luma, chroma))


def pad_edges(plane: Tensor, height: int, width: int) -> Tensor:
    """Repeat the last row and column until the plane ``(N, C, H, W)`` is ``height`` by ``width``."""
    down, right = height - plane.shape[-2], width - plane.shape[-1]
    if right:  # not functional.pad: its gradient is not deterministic on a GPU
        plane = torch.cat((plane, plane[..., -1:].expand(*plane.shape[:-1], right)), dim=-1)
    if down:
        plane = torch.cat((plane, plane[..., -1:, :].expand(*plane.shape[:-2], down, -1)), dim=-2)
    return plane


def crop(plane: Tensor, height: int, width: int) -> Tensor:
    """Keep the upper left ``height`` by ``width``."""
    return plane if tuple(plane.shape[-2:]) == (height, width) else plane[..., :height, :width]


@functools.lru_cache(maxsize=64)
def _alternating(width: int, even: float, odd: float, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor((even, odd), device=device).repeat((width + 1) // 2)[:width].contiguous()


class _Downsample(Function):
    @staticmethod
    def forward(ctx: Any, plane: Tensor, rows: int) -> Tensor:
        n, c, h, w = plane.shape
        ctx.rows = rows
        strips = plane.view(n, c, h // rows, rows, w)
        total = strips[..., 0, :] + strips[..., 1, :] if rows == 2 else strips[..., 0, :]
        bias = _alternating(w // 2, 0.25 if rows == 2 else 0.0, 0.5, plane.device)
        return (total[..., 0::2] + total[..., 1::2]).mul_(0.5 / rows).add_(bias).floor_()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        n, c, h, w = grads[0].shape
        rows = ctx.rows
        grad = grads[0].new_empty(n, c, h, rows, w, 2)
        torch.mul(grads[0], 0.5 / rows, out=grad[:, :, :, 0, :, 0])
        grad[:, :, :, 0, :, 1] = grad[:, :, :, 0, :, 0]
        if rows == 2:
            grad[:, :, :, 1] = grad[:, :, :, 0]
        return grad.view(n, c, h * rows, w * 2), None


def downsample(plane: Tensor, rows: int) -> Tensor:
    """Average level-shifted chroma ``(N, C, H, W)`` over ``rows`` (1 or 2) by two samples, rounding as libjpeg does.

    What libjpeg adds before it shifts alternates along a row: 1, 2 of 4 for two rows, and 0, 1 of 2 for one.
    """
    return cast(Tensor, _Downsample.apply(plane, rows))


def _doubled(plane: Tensor, axis: int) -> Tensor:
    """Double the samples along an axis: three of the near one and one of the far, so four times the value."""
    length = plane.shape[axis]
    near, inner = plane * 3.0, length - 1
    shape = [*plane.shape[: axis + 1], 2, *plane.shape[axis + 1 :]]
    first, second = (out := plane.new_empty(shape)).unbind(axis + 1)
    for half, begin, other, border in ((first, 1, 0, 0), (second, 0, 1, inner)):
        far = plane.narrow(axis, other, inner)
        torch.add(near.narrow(axis, begin, inner), far, out=half.narrow(axis, begin, inner))
        torch.mul(plane.narrow(axis, border, 1), 4.0, out=half.narrow(axis, border, 1))
    return out.flatten(axis, axis + 1)


def _halved(grad: Tensor, axis: int) -> Tensor:
    """Undo `_doubled` for gradients."""
    first, second = grad.reshape(*grad.shape[:axis], -1, 2, *grad.shape[axis + 1 :]).unbind(axis + 1)
    total, inner = (first + second).mul_(3.0), first.shape[axis] - 1
    for half, begin, other, border in ((first, 1, 0, 0), (second, 0, 1, inner)):
        total.narrow(axis, other, inner).add_(half.narrow(axis, begin, inner))
        total.narrow(axis, border, 1).add_(half.narrow(axis, border, 1))
    return total


class _Upsample(Function):
    @staticmethod
    def forward(ctx: Any, plane: Tensor, rows: int) -> Tensor:
        ctx.rows = rows
        wide = _doubled(plane, 3)  # first: half as many samples are written two apart
        even, odd = (8 / 16, 7 / 16) if rows == 2 else (1 / 4, 2 / 4)
        bias = _alternating(wide.shape[3], even - 128.0, odd - 128.0, plane.device)
        return (_doubled(wide, 2) if rows == 2 else wide).mul_(_SHARE[rows]).add_(bias).floor_()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        grad = _halved(grads[0], 2) if ctx.rows == 2 else grads[0]
        return _halved(grad, 3).mul_(_SHARE[ctx.rows]), None


def upsample(plane: Tensor, rows: int) -> Tensor:
    """Double the width, and for ``rows`` = 2 the height, by libjpeg's triangular ("fancy") filter.

    Args:
        plane: chroma ``(N, C, h, w)`` in 0..255, cropped to the image. Where w is 1 or 2 samples are repeated, as
            libjpeg does.
        rows: vertical factor, 1 or 2.

    Returns:
        Level-shifted chroma, -128..127.
    """
    if plane.shape[-1] <= 2:
        return plane.repeat_interleave(rows, dim=-2).repeat_interleave(2, dim=-1) - 128.0
    return cast(Tensor, _Upsample.apply(plane, rows))
