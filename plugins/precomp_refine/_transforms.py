"""Small random changes of what the task networks see, the same for a batch and for its clean images."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from precomp_refine._settings import Settings

__all__ = ["Transform", "draw"]


@dataclass(frozen=True, slots=True)
class Transform:
    """One drawn change: a shift with repeated borders, a mirroring, a bilinear resize.

    Shapes and units:
        call: (N, 3, H, W) to (N, 3, H', W'), differentiable; H' and W' are scaled.
    """

    down_px: int
    right_px: int
    flip: bool
    factor: float

    def __call__(self, images: Tensor) -> Tensor:
        """Apply it."""
        height, width = images.shape[-2:]
        if self.down_px or self.right_px:
            reach = max(abs(self.down_px), abs(self.right_px))
            top, left = reach - self.down_px, reach - self.right_px
            images = functional.pad(images, (reach,) * 4, mode="replicate")[
                ..., top : top + height, left : left + width
            ]
        if self.flip:
            images = images.flip(-1)
        size = (max(1, round(height * self.factor)), max(1, round(width * self.factor)))
        if size != (height, width):
            images = functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        return images


def draw(settings: Settings, generator: torch.Generator) -> Transform:
    """Draw one change."""
    reach = settings.shift_px
    down, right = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
    flip, position = torch.rand(2, generator=generator).tolist()
    return Transform(down, right, settings.flip and flip < 0.5, 1.0 + settings.scale * (2.0 * position - 1.0))
