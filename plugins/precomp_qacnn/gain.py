"""The quantization-adaptive layer: one gain per channel, as a function of the compression strength."""

import torch
from torch import Tensor, nn

__all__ = ["StrengthGain"]


class StrengthGain(nn.Module):
    """Scales each channel by a gain that a small perceptron reads off the compression strength; starts at 1.

    The paper feeds lambda / 8 and ends in a ReLU. Here the strength in [0, 1] comes in, whatever the codec, and the
    perceptron's output is added to 1, so that an untrained layer changes nothing and no channel is born dead.

    Shapes and units:
        features: (N, C, H, W); strengths: (N,) in [0, 1]; returns (N, C, H, W).

    Args:
        channels: C.
        hidden: width of the perceptron.

    Source: arXiv 2206.05650, the quantization-adaptive layers.
    """

    def __init__(self, channels: int, hidden: int = 16) -> None:
        super().__init__()
        self.bend, self.mix = nn.Linear(1, hidden), nn.Linear(hidden, channels)
        with torch.no_grad():  # hinges spread over [0, 1]: the function can bend anywhere on the ladder
            self.bend.weight.fill_(4.0)
            self.bend.bias.copy_(-4.0 * torch.linspace(0.0, 1.0, hidden + 1)[:-1])
            nn.init.normal_(self.mix.weight, std=0.01)
            nn.init.zeros_(self.mix.bias)

    def forward(self, features: Tensor, strengths: Tensor) -> Tensor:
        """Scale a batch."""
        gains: Tensor = 1.0 + self.mix(torch.relu(self.bend(strengths[:, None])))  # (N, C)
        return features * gains[:, :, None, None]
