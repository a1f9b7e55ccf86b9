"""libjpeg's colour conversion and chroma resampling as differentiable tensor operations; exact values, as there."""

import functools
from typing import Any, Final, cast

import torch
from torch import Tensor
from torch.autograd import Function

from ._arithmetic import through_clamp

__all__ = ["crop", "downsample", "pad_edges", "rgb_to_ycc", "upsample", "ycc_to_rgb"]

# JFIF's colour space (BT.601, full range) in libjpeg's 16-bit fixed point. All sums of these products stay below 2**24
# units of 2**-16, so float32 holds them exactly.
_TO_YCC: Final = ((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329))
_TO_YCC_BIAS: Final = (32768 - (128 << 16), 32767, 32767)  # rounding; Y is level-shifted here, Cb and Cr by definition
_RED_FROM_CR: Final = 91881 / 65536
_BLUE_FROM_CB: Final = 116130 / 65536
_GREEN_FROM_CB: Final = -22554 / 65536
_GREEN_FROM_CR: Final = -46802 / 65536


def _weighted(first: Tensor, second: Tensor, third: Tensor, weights: tuple[float, float, float], out: Tensor) -> Tensor:
    torch.mul(first, weights[0], out=out)
    return out.add_(second, alpha=weights[1]).add_(third, alpha=weights[2])


class _RgbToYcc(Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        n, _, h, w = images.shape
        scaled = images * 255.0
        pixels = scaled.clamp(0.0, 255.0)
        ctx.save_for_backward(scaled.sub_(pixels))
        red, green, blue = pixels.round_().unbind(1)
        luma, chroma = images.new_empty(n, 1, h, w), images.new_empty(n, 2, h, w)
        for weights, bias, out in zip(_TO_YCC, _TO_YCC_BIAS, (luma[:, 0], chroma[:, 0], chroma[:, 1]), strict=True):
            first, second, third = (weight / 65536 for weight in weights)
            _weighted(red, green, blue, (first, second, third), out).add_(bias / 65536).floor_()
        return luma, chroma

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (excess,) = ctx.saved_tensors
        luma, (blue, red) = grads[0][:, 0], grads[1].unbind(1)
        grad = torch.empty_like(excess)
        for i, column in enumerate(zip(*_TO_YCC, strict=True)):
            first, second, third = (weight * 255 / 65536 for weight in column)
            _weighted(luma, blue, red, (first, second, third), grad[:, i])
        return through_clamp(grad, excess)


def rgb_to_ycc(images: Tensor) -> tuple[Tensor, Tensor]:
    """Round ``(N, 3, H, W)`` in [0, 1] to 8 bits and convert to YCbCr.

    Returns:
        Luma ``(N, 1, H, W)`` and chroma ``(N, 2, H, W)``, level-shifted integers in -128..127.
    """
    return cast(tuple[Tensor, Tensor], _RgbToYcc.apply(images))


class _YccToRgb(Function):
    @staticmethod
    def forward(ctx: Any, luma: Tensor, chroma: Tensor) -> Tensor:
        n, _, h, w = luma.shape
        blue, red = (chroma - 128.0).unbind(1)
        out = luma.new_empty(n, 3, h, w)
        torch.mul(red, _RED_FROM_CR, out=out[:, 0])
        torch.mul(blue, _GREEN_FROM_CB, out=out[:, 1]).add_(red, alpha=_GREEN_FROM_CR)
        torch.mul(blue, _BLUE_FROM_CB, out=out[:, 2])
        out.add_(0.5).floor_().add_(luma)
        clamped = out.clamp(0.0, 255.0)
        ctx.save_for_backward(out.sub_(clamped))
        return clamped.div_(255.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (excess,) = ctx.saved_tensors
        grad = through_clamp(grads[0], excess).mul_(1.0 / 255.0)
        red, green, blue = grad.unbind(1)
        n, _, h, w = grad.shape
        chroma = grad.new_empty(n, 2, h, w)
        torch.mul(blue, _BLUE_FROM_CB, out=chroma[:, 0]).add_(green, alpha=_GREEN_FROM_CB)
        torch.mul(red, _RED_FROM_CR, out=chroma[:, 1]).add_(green, alpha=_GREEN_FROM_CR)
        return (red + green).add_(blue).unsqueeze(1), chroma


def ycc_to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    """Convert luma ``(N, 1, H, W)`` and chroma ``(N, 2, H, W)`` in 0..255 to RGB in [0, 1]."""
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


class _UpsampleRows(Function):
    """Doubles the height: three of the near row and one of the far, so four times the value."""

    @staticmethod
    def forward(_ctx: Any, plane: Tensor) -> Tensor:
        n, c, h, w = plane.shape
        out = plane.new_empty(n, c, h, 2, w)
        near = plane * 3.0
        torch.add(near[:, :, 1:], plane[:, :, :-1], out=out[:, :, 1:, 0])
        torch.add(near[:, :, :1], plane[:, :, :1], out=out[:, :, :1, 0])
        torch.add(near[:, :, :-1], plane[:, :, 1:], out=out[:, :, :-1, 1])
        torch.add(near[:, :, -1:], plane[:, :, -1:], out=out[:, :, -1:, 1])
        return out.view(n, c, 2 * h, w)

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        n, c, h, w = grads[0].shape
        up, down = grads[0].reshape(n, c, h // 2, 2, w).unbind(3)
        grad = (up + down).mul_(3.0)
        grad[:, :, :-1] += up[:, :, 1:]
        grad[:, :, :1] += up[:, :, :1]
        grad[:, :, 1:] += down[:, :, :-1]
        grad[:, :, -1:] += down[:, :, -1:]
        return grad


class _UpsampleColumns(Function):
    """Doubles the width, ``scale`` times three of the near sample and one of the far, plus a bias; rounds down."""

    @staticmethod
    def forward(ctx: Any, plane: Tensor, scale: float, even: float, odd: float) -> Tensor:
        ctx.scale = scale
        n, c, h, w = plane.shape
        out = plane.new_empty(n, c, h, w, 2)
        left, right = out[..., 0], out[..., 1]
        near = plane * 3.0
        torch.add(near[..., 1:], plane[..., :-1], out=left[..., 1:])
        torch.add(near[..., :1], plane[..., :1], out=left[..., :1])
        torch.add(near[..., :-1], plane[..., 1:], out=right[..., :-1])
        torch.add(near[..., -1:], plane[..., -1:], out=right[..., -1:])
        bias = _alternating(2 * w, even, odd, plane.device)
        return out.view(n, c, h, 2 * w).mul_(scale).add_(bias).floor_()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        n, c, h, w = grads[0].shape
        left, right = grads[0].reshape(n, c, h, w // 2, 2).unbind(-1)
        grad = (left + right).mul_(3.0)
        grad[..., :-1] += left[..., 1:]
        grad[..., :1] += left[..., :1]
        grad[..., 1:] += right[..., :-1]
        grad[..., -1:] += right[..., -1:]
        return grad.mul_(ctx.scale), None, None, None


def upsample(plane: Tensor, rows: int) -> Tensor:
    """Double the width, and for ``rows`` = 2 the height, by libjpeg's triangular ("fancy") filter.

    Args:
        plane: chroma ``(N, C, h, w)`` in 0..255, cropped to the image. Where w is 1 or 2 samples are repeated, as
            libjpeg does.
        rows: vertical factor, 1 or 2.
    """
    if plane.shape[-1] <= 2:
        return plane.repeat_interleave(rows, dim=-2).repeat_interleave(2, dim=-1)
    if rows == 2:
        tall = cast(Tensor, _UpsampleRows.apply(plane))
        return cast(Tensor, _UpsampleColumns.apply(tall, 1 / 16, 8 / 16, 7 / 16))
    return cast(Tensor, _UpsampleColumns.apply(plane, 1 / 4, 1 / 4, 2 / 4))
