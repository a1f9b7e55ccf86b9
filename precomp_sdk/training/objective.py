"""The training objective: bits plus lambda times the task's distortion, relative to the anchor's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "AnchorPoint",
    "Calibration",
    "ObjectiveTerms",
    "feature_distances",
    "layer_distances",
]

_LEAST = 1e-12  # guards divisions by a distortion that vanished


@dataclass(frozen=True, slots=True)
class AnchorPoint:
    """The anchor at one quality, over the calibration images.

    Args:
        quality: on the codec's scale.
        bpp: total bits over total pixels.
        task_loss: mean over images.
        feature_loss: mean feature distance over images; 0 where features are not matched.
        trade_off: lambda, in bpp per unit of task loss.
        clean_loss: mean task loss of the images without a codec; 0 where the objective does not ask for it.
    """

    quality: float
    bpp: float
    task_loss: float
    feature_loss: float
    trade_off: float
    clean_loss: float = 0.0


class ObjectiveTerms(NamedTuple):
    """What the objective is made of, one value an image.

    Args:
        bpps: (N,) bits per pixel.
        task_losses: (N,) of the decoded images.
        feature_losses: (N,) feature distances of the decoded images.
        clean_losses: (N,) task losses of the processed images without a codec.
        mses: (N,) mean squared differences of processed and source samples.
    """

    bpps: Tensor
    task_losses: Tensor
    feature_losses: Tensor
    clean_losses: Tensor
    mses: Tensor


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the objective needs to know of the anchor, and the weights of the distortion's terms.

    The objective of one image at quality q, with the anchor's averages marked 0:

        distortion = task_weight * task + feature_weight * task0(q) / feature0(q) * feature + clean_weight * clean
        objective = (bpp + lambda(q) * distortion + beta * mse) / (bpp0(q) + lambda(q) * distortion0(q))

    so the anchor scores 1 on average at every quality, and no quality drowns another.

    Source: the Lagrangian of arXiv 2206.05650, with the normalization of this project.
    """

    points: tuple[AnchorPoint, ...]
    task_weight: float = 1.0
    feature_weight: float = 0.0
    beta: float = 0.0
    clean_weight: float = 0.0

    @property
    def ladder(self) -> tuple[float, ...]:
        """The calibrated qualities."""
        return tuple(point.quality for point in self.points)

    def objectives(self, qualities: Sequence[float], terms: ObjectiveTerms) -> Tensor:
        """Return the objective of each image.

        Shapes and units:
            qualities: N, each on the ladder. Returns (N,), on average 1 for the anchor.
        """
        by_quality = {point.quality: point for point in self.points}
        points = [by_quality[float(quality)] for quality in qualities]
        table = torch.tensor(
            [
                (point.trade_off, point.task_loss / max(point.feature_loss, _LEAST), self._anchor(point))
                for point in points
            ],
            dtype=terms.bpps.dtype,
            device=terms.bpps.device,
        )
        trade_offs, exchange, anchor = table.unbind(dim=1)
        distortion = self.task_weight * terms.task_losses
        if self.feature_weight:
            distortion = distortion + self.feature_weight * exchange * terms.feature_losses
        if self.clean_weight:
            distortion = distortion + self.clean_weight * terms.clean_losses
        result: Tensor = (terms.bpps + trade_offs * distortion + self.beta * terms.mses) / anchor
        return result

    def _anchor(self, point: AnchorPoint) -> float:
        decoded = (self.task_weight + self.feature_weight) * point.task_loss
        return point.bpp + point.trade_off * (decoded + self.clean_weight * point.clean_loss)


def feature_distances(
    features: Sequence[Tensor], clean: Sequence[Tensor], weights: Sequence[float] | None = None
) -> Tensor:
    """Return per image the squared distance of features over the clean features' power, averaged over layers.

    Shapes and units:
        features, clean: per layer (N, C, H, W). Returns (N,); 1 means as far away as zero is.

    Args:
        features: of an image that was changed.
        clean: of the image itself.
        weights: factor of each layer, see `TaskModel.feature_weights`; None weighs all alike, as an average.
    """
    layers = layer_distances(features, clean)
    if weights is None:
        return layers.mean(dim=0)
    return (layers * layers.new_tensor(list(weights))[:, None]).sum(dim=0)


def layer_distances(features: Sequence[Tensor], clean: Sequence[Tensor]) -> Tensor:
    """Return the distances of `feature_distances` layer by layer, (layers, N)."""
    distances = [
        (ours - theirs).square().flatten(1).mean(dim=1) / theirs.square().flatten(1).mean(dim=1).clamp_min(1e-6)
        for ours, theirs in zip(features, clean, strict=True)
    ]
    return torch.stack(distances)
