"""NanoDet-m's network: ShuffleNetV2, a path aggregation without convolutions, and a head for each stride."""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BINS", "CLASSES", "STRIDES", "NanoDetM"]

CLASSES = 80  #: of COCO
BINS = 8  #: of the distribution of a box side, in strides
STRIDES = (8, 16, 32)

_STAGES = ((24, 116, 4), (116, 232, 8), (232, 464, 4))  # channels in and out, and blocks
_WIDTH = 96  # of neck and heads
_SLOPE = 0.1


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1)


def _depthwise(channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels)


def _leaky() -> nn.LeakyReLU:
    return nn.LeakyReLU(_SLOPE)


class _Block(nn.Module):
    """ShuffleNetV2's block: half the channels go through, or with a stride of 2 all go both ways."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.aside = nn.Sequential(_depthwise(inputs, 2), _conv(inputs, half), _leaky()) if stride == 2 else None
        entering = inputs if stride == 2 else half
        self.main = nn.Sequential(
            _conv(entering, half), _leaky(), _depthwise(half, stride), _conv(half, half), _leaky()
        )

    def forward(self, images: Tensor) -> Tensor:
        if self.aside is not None:
            found = torch.cat([self.aside(images), self.main(images)], dim=1)
        else:
            kept, worked = images.chunk(2, dim=1)
            found = torch.cat([kept, self.main(worked)], dim=1)
        return functional.channel_shuffle(found, 2)


def _head() -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [_depthwise(_WIDTH), _leaky(), _conv(_WIDTH, _WIDTH), _leaky()]
    return nn.Sequential(*layers, _conv(_WIDTH, CLASSES + 4 * BINS))


class NanoDetM(nn.Module):
    """NanoDet-m with batch normalization folded into its convolutions, 0.95 M parameters.

    Shapes and units:
        images: (N, 3, H, W), BGR, normalized as `NanoDet` does; H and W multiples of 32. Returns scores in [0, 1],
        (N, cells, 80), and log weights of the distributions of each box's sides, (N, cells, 4, 8), cells of stride 8
        first, row by row.

    Source: RangiLyu/nanodet, nanodet-m (Apache-2.0); ShuffleNetV2, Ma et al., arXiv 1807.11164; generalized focal loss,
    Li et al., arXiv 2006.04388.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1), _leaky(), nn.MaxPool2d(3, 2, 1))
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(outputs if place else inputs, outputs, 1 if place else 2) for place in range(count)))
            for inputs, outputs, count in _STAGES
        )
        self.lateral = nn.ModuleList(_conv(outputs, _WIDTH) for _, outputs, _ in _STAGES)
        self.heads = nn.ModuleList(_head() for _ in STRIDES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores and log weights."""
        found, levels = self.stem(images), []
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            found = stage(found)
            levels.append(lateral(found))
        for place in (1, 0):  # from coarse to fine, then back
            levels[place] = levels[place] + _scaled(levels[place + 1], 2.0)
        for place in (1, 2):
            levels[place] = levels[place] + _scaled(levels[place - 1], 0.5)
        raw = torch.cat([head(level).flatten(2) for head, level in zip(self.heads, levels, strict=True)], dim=2)
        found = raw.transpose(1, 2)
        return found[..., :CLASSES].sigmoid(), found[..., CLASSES:].reshape(*found.shape[:2], 4, BINS)


def _scaled(images: Tensor, factor: float) -> Tensor:
    return functional.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)
