"""The preprocessor of the paper: a 1x1 branch plus a U-Net, both with quantization-adaptive gains."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from precomp_qacnn.gain import StrengthGain
from precomp_sdk import Preprocessor, ResolutionCurve
from precomp_sdk.validation import check_number

__all__ = ["PaperQACNN"]

_WIDTHS = (32, 64, 128, 256)
_BOTTOM = 512
_GAIN_HIDDEN = 32


class PaperQACNN(Preprocessor):
    r"""The paper's network, 9.5 M parameters, starting as the identity.

    ::

        image ─┬─▶ 1x1 conv ▶ gain ▶ ReLU ▶ 1x1 conv ▶ gain ─────────────────────────────┐
               └─▶ U-Net: 32 ─▶ 64 ─▶ 128 ─▶ 256 ─▶ 512 ─▶ 256 ─▶ 128 ─▶ 64 ─▶ 32 ─▶ x s ─▶ (+) ─▶ image
                   stride-2 convolutions down, transposed convolutions up, skips concatenated,
                   a gain after each of the four levels down, the bottom and the last level up

    Shapes and units:
        images: (N, 3, H, W) in [0, 1]; padded to multiples of 16 inside. strengths: (N,) in [0, 1].

    Args:
        residual_scale: factor ``s`` on the U-Net's output, so that the first steps of Adam move the image gently.
        resolutions: as for `LightQACNN`; the paper codes at full resolution.

    Raises:
        OptionError: ``residual_scale`` or a pair of ``resolutions`` is out of range.

    Source: Lu et al., arXiv 2206.05650. The published description leaves the width at the bottom open; 512 gives the
    9.46 M parameters reported for the released code.
    """

    name = "qa-paper"
    source = "arXiv 2206.05650"
    multiple = 16

    def __init__(self, *, residual_scale: float = 0.05, resolutions: Sequence[Sequence[float]] = ()) -> None:
        super().__init__()
        check_number(f"preprocessor {self.name!r}", "residual_scale", residual_scale, low=0.0)
        self.residual_scale = residual_scale
        self._resolutions = ResolutionCurve(resolutions)
        self.point1, self.point2 = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.point_gain1, self.point_gain2 = StrengthGain(3, _GAIN_HIDDEN), StrengthGain(3, _GAIN_HIDDEN)
        inputs = (3, *_WIDTHS[:-1])
        self.down = nn.ModuleList(_double(i, o) for i, o in zip(inputs, _WIDTHS, strict=True))
        self.downscale = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for width in _WIDTHS)
        self.bottom = _double(_WIDTHS[-1], _BOTTOM)
        uppers = (_BOTTOM, *reversed(_WIDTHS[1:]))
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(i, o, 3, stride=2, padding=1, output_padding=1)
            for i, o in zip(uppers, reversed(_WIDTHS), strict=True)
        )
        self.up = nn.ModuleList(_double(2 * width, width) for width in reversed(_WIDTHS))
        self.gains = nn.ModuleList(StrengthGain(width, _GAIN_HIDDEN) for width in (*_WIDTHS, _BOTTOM, _WIDTHS[0]))
        self.out = nn.Conv2d(_WIDTHS[0], 3, 1)
        self._start_as_identity()

    @property
    def options(self) -> Mapping[str, Any]:
        """The residual scale and the resolutions."""
        return {"residual_scale": self.residual_scale, "resolutions": self._resolutions.plain()}

    def resolution(self, strength: float) -> float:
        """Return the factor that ``resolutions`` gives."""
        return self._resolutions.at(strength)

    def _start_as_identity(self) -> None:
        with torch.no_grad():
            for point in (self.point1, self.point2):
                point.weight.copy_(torch.eye(3)[:, :, None, None])
                nn.init.zeros_(point.bias)  # type: ignore[arg-type]  # a Conv2d built with a bias has one
            for gain in (self.point_gain1, self.point_gain2):
                nn.init.zeros_(gain.mix.weight)
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        point = torch.relu(self.point_gain1(self.point1(images), strengths))
        point = self.point_gain2(self.point2(point), strengths)
        features, skips = images, []
        for level, downscale, gain in zip(self.down, self.downscale, self.gains, strict=False):
            features = gain(level(features), strengths)
            skips.append(features)
            features = downscale(features)
        features = self.gains[len(_WIDTHS)](self.bottom(features), strengths)  # (N, 512, H/16, W/16)
        for grow, level in zip(self.grow, self.up, strict=True):
            features = level(torch.cat([grow(features), skips.pop()], dim=1))
        features = self.gains[-1](features, strengths)
        result: Tensor = point + self.residual_scale * self.out(features)
        return result


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
