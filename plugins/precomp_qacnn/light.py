"""A light preprocessor that works on the codec's own 8x8 grid."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from precomp_qacnn.gain import StrengthGain
from precomp_sdk import Preprocessor

__all__ = ["LightQACNN"]

_BLOCK = 8  # JPEG's transform block, and the smallest coding block of HEVC


class LightQACNN(Preprocessor):
    r"""A quantization-adaptive network for real senders, starting as the identity.

    ::

        image ▶ 8x8 unshuffle ▶ 1x1 conv ▶ [mix ▶ gain] x depth ▶ 1x1 conv ▶ 8x8 shuffle ▶ x s ▶ (+ image)
                (192, H/8, W/8)   (C)          │                   (192)
                                               └─ depthwise 5x5, whole-picture context, perceptron; residual

    Every 8x8 block of the picture, aligned to the codec's grid, is one position with 192 channels: the network sees all
    the coefficients the codec will quantize together, and its cost per pixel is a 64th of its parameters. Five mixers
    see 168 pixels around a pixel; the averaged context adds the whole picture.

    Shapes and units:
        images: (N, 3, H, W) in [0, 1]; padded to multiples of 8 inside. strengths: (N,) in [0, 1].

    Args:
        width: channels C between the blocks.
        depth: number of mixers.
        residual_scale: factor ``s`` on the correction.

    Source: quantization-adaptive gains of arXiv 2206.05650; mixers after ConvNeXt, arXiv 2201.03545; context after
    squeeze-and-excitation, arXiv 1709.01507.
    """

    name = "qa-light"
    source = "arXiv 2206.05650 (gains); block-aligned architecture of this project"
    multiple = _BLOCK

    def __init__(self, *, width: int = 96, depth: int = 5, residual_scale: float = 0.05) -> None:
        super().__init__()
        self._options = {"width": width, "depth": depth, "residual_scale": residual_scale}
        self.residual_scale = residual_scale
        pixels = 3 * _BLOCK * _BLOCK
        self.embed = nn.Conv2d(pixels, width, 1)
        self.mixers = nn.ModuleList(_Mixer(width) for _ in range(depth))
        self.norm = nn.GroupNorm(1, width)
        self.head = nn.Conv2d(width, pixels, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]  # a Conv2d built with a bias has one

    @property
    def options(self) -> Mapping[str, Any]:
        """Width, depth and residual scale."""
        return self._options

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        features = self.embed(functional.pixel_unshuffle(images - 0.5, _BLOCK) * 4.0)  # (N, C, H/8, W/8)
        for mixer in self.mixers:
            features = mixer(features, strengths)
        correction = functional.pixel_shuffle(self.head(self.norm(features)), _BLOCK)
        return images + self.residual_scale * correction


class _Mixer(nn.Module):
    """Depthwise 5x5 convolution, a whole-picture context, a perceptron and a strength gain, as a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.context = nn.Linear(width, width)
        self.widen = nn.Conv2d(width, 2 * width, 1)
        self.narrow = nn.Conv2d(2 * width, width, 1)
        self.gain = StrengthGain(width)

    def forward(self, features: Tensor, strengths: Tensor) -> Tensor:
        mixed = self.norm(self.spatial(features))
        mixed = mixed + self.context(mixed.mean(dim=(2, 3)))[:, :, None, None]
        mixed = self.narrow(functional.gelu(self.widen(mixed)))
        result: Tensor = features + self.gain(mixed, strengths)
        return result
