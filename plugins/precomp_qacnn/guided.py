"""The light network, shown where the task network looks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_qacnn.light import LightQACNN
from precomp_sdk import TaskModel

__all__ = ["GuidedQACNN"]

_PROBE = 64  # side of the picture that tells how many channels the task network's features have


class GuidedQACNN(LightQACNN):
    name = "qa-guided"
    source = "arXiv 2206.05650 (gains); guidance by the task network's features, of this project"
    parts = ("task",)

    def __init__(
        self,
        task: TaskModel,
        *,
        width: int = 96,
        depth: int = 4,
        residual_scale: float = 0.05,
        resolutions: Sequence[Sequence[float]] = (),
    ) -> None:
        super().__init__(width=width, depth=depth, residual_scale=residual_scale, resolutions=resolutions)
        self._task = (task,)  # in a tuple: its weights are not this network's
        with torch.no_grad():
            maps = self._maps(torch.full((1, 3, _PROBE, _PROBE), 0.5))
        self.guides = nn.ModuleList(_Guide(found.shape[1], width) for found in maps)

    def _embed(self, images: Tensor) -> Tensor:
        embedded = super()._embed(images)
        for guide, found in zip(self.guides, self._maps(images), strict=True):
            embedded = embedded + guide(found, embedded.shape[-2:])
        return embedded

    def _maps(self, images: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return self._task[0].features(images.detach().clamp(0.0, 1.0))


class _Guide(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.project = nn.Conv2d(channels, width, 1)

    def forward(self, found: Tensor, size: tuple[int, int]) -> Tensor:
        projected: Tensor = self.project(self.norm(found))
        return functional.interpolate(projected, size, mode="bilinear", antialias=True, align_corners=False)
