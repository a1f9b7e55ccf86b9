"""The light network, shown what the task network sees."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_qacnn.light import LightQACNN
from precomp_sdk import ModuleReference, OptionError, TaskModel

__all__ = ["GuidedQACNN"]

_PROBE_PX = 64  # side of the image that tells how many channels the features have


class GuidedQACNN(LightQACNN):
    r"""`LightQACNN`, guided by the task network's features of the source, so that it can tell object from background.

    ::

        image ─┬─▶ task network, frozen ▶ features (C', H', W') each ▶ norm ▶ 1x1 conv ▶ to (C, H/8, W/8) ─▶(+)
               └─▶ 8x8 unshuffle ▶ 1x1 conv ▶ (C, H/8, W/8) ──────────────────────────────────────────────▶ (+) ▶ mixers

    What is smoothed most is what the task does not look at; a network of 136 pixels' view that learns from a few
    thousand images cannot know that, the task network does. The sender pays one pass of the task network an image,
    without gradients. The task network's weights are not in this network's weights file; its ONNX graph holds them.

    Shapes and units:
        images: (N, 3, H, W) in [0, 1]; padded to multiples of 8 inside. strengths: (N,) in [0, 1].

    Args:
        task: the task network, which must offer features (`TaskModel.features`); they are taken at every call, so that
            fitting or loading it later counts.
        width: as `LightQACNN` has it, like the rest.
        depth: number of mixers.
        residual_scale: factor on the correction.
        resolutions: at what share of height and width images are coded.
        fade: up to which strength the image is left alone, and from which on it gets the whole change.

    Raises:
        OptionError: the task offers no feature maps, a pair of ``resolutions`` is out of range, or ``fade`` is not two
            strengths that rise.

    Source: `LightQACNN`; the guidance is this project's, after class activation maps, arXiv 1512.04150: the last
    features of a classifier say where its classes are.
    """

    name = "qa-guided"
    source = "arXiv 2206.05650 (gains); arXiv 1512.04150 (where a network looks); guidance of this project"
    requires = ("task",)

    def __init__(
        self,
        task: TaskModel,
        *,
        width: int = 96,
        depth: int = 4,
        residual_scale: float = 0.05,
        resolutions: Sequence[Sequence[float]] = (),
        fade: Sequence[float] | None = None,
    ) -> None:
        super().__init__(width=width, depth=depth, residual_scale=residual_scale, resolutions=resolutions, fade=fade)
        self._guide = ModuleReference(task)
        features = self._features(torch.full((1, 3, _PROBE_PX, _PROBE_PX), 0.5))
        shapes = [tuple(found.shape) for found in features]
        if not shapes or any(len(shape) != 4 for shape in shapes):
            raise OptionError(
                where=f"preprocessor {self.name!r}, task {task.name!r}",
                expected="features that are maps, (N, C, H, W)",
                got=str(shapes),
                remedy="Choose other layers by the task's option for them, or take 'qa-light'.",
            )
        self.guides = nn.ModuleList(_Guide(found.shape[1], width) for found in features)

    def _embed(self, images: Tensor) -> Tensor:
        embedded = super()._embed(images)
        for guide, found in zip(self.guides, self._features(images), strict=True):
            embedded = embedded + guide(found, embedded.shape[-2:])
        return embedded

    def guide_map(self, images: Tensor, strength: float) -> Tensor | None:
        """Return how strong the task network's last features are."""
        found: Tensor = self._features(images)[-1].square().mean(dim=1).sqrt()
        return found

    def _features(self, images: Tensor) -> list[Tensor]:
        """Return the task network's features of a batch, without gradients and where the batch is."""
        with torch.no_grad(), self._guide.evaluating() as task:
            weight = next(task.parameters(), images)  # it may lie elsewhere, in another precision
            return [found.to(images) for found in task.features(images.detach().to(weight))]


class _Guide(nn.Module):
    """Brings one map of features (N, C', H', W') to the size and the channels of another."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.project = nn.Conv2d(channels, width, 1)

    def forward(self, found: Tensor, size: Sequence[int]) -> Tensor:
        projected: Tensor = self.project(self.norm(found))
        wide = projected.to(torch.promote_types(projected.dtype, torch.float32))  # antialiasing has no bfloat16
        resized = functional.interpolate(wide, tuple(size), mode="bilinear", antialias=True, align_corners=False)
        return resized.to(projected.dtype)
