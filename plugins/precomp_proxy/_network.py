"""The learned half of the generic proxy: a small network on a grid of 4x4 cells."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CellNetwork", "Cells"]

_CONDITION: Final = 16  # units between the strength and a block's scales
_RATE_HINGES: Final = 8  # that bend the bits' correction over the strength


@dataclass(frozen=True, slots=True)
class Cells:
    """What the network says of each cell.

    Shapes and units:
        features: (N, C, h, w).
        luma_weights, chroma_weights: (N, S + 1, h, w), sum to 1: the source and every block size, in the image.
        luma_shares, chroma_shares: (N, S, h, w), sum to 1: every block size, in the bits.
        corrections: (N, K, h, w), of the samples, in steps.
    """

    features: Tensor
    luma_weights: Tensor
    chroma_weights: Tensor
    luma_shares: Tensor
    chroma_shares: Tensor
    corrections: Tensor


class CellNetwork(nn.Module):
    """Residual blocks on the grid of cells, each conditioned on the strength.

    Args:
        inputs: channels of what it sees.
        width: channels C.
        depth: residual blocks.
        luma_candidates: S + 1 of luma.
        chroma_candidates: S + 1 of chroma.
        corrections: K samples of a cell.
    """

    def __init__(
        self, *, inputs: int, width: int, depth: int, luma_candidates: int, chroma_candidates: int, corrections: int
    ) -> None:
        super().__init__()
        self._candidates = (luma_candidates, chroma_candidates)
        self.embed = nn.Conv2d(inputs, width, 1)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm = _ChannelNorm(width)
        self.weights = nn.Conv2d(width, luma_candidates + chroma_candidates, 1)
        self.shares = nn.Conv2d(width, luma_candidates + chroma_candidates - 2, 1)
        self.corrections = nn.Conv2d(width, corrections, 1)
        self.bend = nn.Linear(1, _RATE_HINGES)
        self.log_rate = nn.Linear(width + _RATE_HINGES, 1)
        with torch.no_grad():
            for layer in (self.weights, self.shares, self.corrections, self.log_rate):
                layer.weight.zero_()
                layer.bias.zero_()  # type: ignore[union-attr]  # these layers were built with a bias
            self.bend.weight.fill_(4.0)
            self.bend.bias.copy_(-4.0 * torch.linspace(0.0, 1.0, _RATE_HINGES + 1)[:-1])

    def forward(self, seen: Tensor, strengths: Tensor) -> Cells:
        """Look at cells (N, inputs, h, w) at strengths (N,)."""
        features = self.embed(seen)
        for block in self.blocks:
            features = block(features, strengths)
        features = self.norm(features)
        luma, chroma = self._candidates
        in_image = torch.split(self.weights(features), [luma, chroma], dim=1)
        in_bits = torch.split(self.shares(features.detach()), [luma - 1, chroma - 1], dim=1)  # no gradient to the image
        return Cells(
            features,
            in_image[0].softmax(dim=1),
            in_image[1].softmax(dim=1),
            in_bits[0].softmax(dim=1),
            in_bits[1].softmax(dim=1),
            self.corrections(features),
        )

    def rate(self, cells: Cells, inside: Tensor, strengths: Tensor) -> Tensor:
        """Return an unbounded logarithmic correction of the bits, (N,), from the mean over the coded cells."""
        pooled = (cells.features.detach() * inside).sum(dim=(2, 3)) / inside.sum()
        hinges = torch.relu(self.bend(strengths[:, None]))
        result: Tensor = self.log_rate(torch.cat([pooled, hinges], dim=1))[:, 0]
        return result


class _Block(nn.Module):
    """Depthwise 5x5 convolution, scaled and shifted by the strength, and a perceptron, as a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = _ChannelNorm(width)
        conditions = nn.Linear(_CONDITION, 2 * width)
        self.condition = nn.Sequential(nn.Linear(1, _CONDITION), nn.ReLU(), conditions)
        self.widen = nn.Conv2d(width, 2 * width, 1)
        self.narrow = nn.Conv2d(2 * width, width, 1)
        nn.init.zeros_(conditions.weight)
        nn.init.zeros_(conditions.bias)

    def forward(self, features: Tensor, strengths: Tensor) -> Tensor:
        scale, shift = self.condition(strengths[:, None])[:, :, None, None].chunk(2, dim=1)
        mixed = self.norm(self.spatial(features)) * (1.0 + scale) + shift
        result: Tensor = features + self.narrow(functional.gelu(self.widen(mixed)))
        return result


class _ChannelNorm(nn.Module):
    """Layer normalization over the channels of each cell: what lies elsewhere, or is padding, is not seen.

    Source: Ba et al., arXiv 1607.06450.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width, 1, 1))
        self.shift = nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        centred = features - features.mean(dim=1, keepdim=True)
        return centred * torch.rsqrt(centred.square().mean(dim=1, keepdim=True) + 1e-5) * self.scale + self.shift
