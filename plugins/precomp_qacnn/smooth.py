"""Removal only: a convex mix of the image and smoothed versions of it, at a small multiple of an encoder's own cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_qacnn._overview import CELL_PX, Overview
from precomp_qacnn._samples import full_precision, upsampled
from precomp_qacnn.gain import StrengthGain
from precomp_qacnn.light import _check_fade
from precomp_sdk import Preprocessor, ResolutionCurve, Tiling, Window, pad_to_multiple

__all__ = ["SmoothQACNN"]

_LEVELS = 4  # smoothed versions: of 2, 4, 8 and 16 pixels
_BLOCK = 2**_LEVELS
_DECISIONS = 1 + 2 * (_LEVELS - 1)  # the finest level whole, then luma and chroma of each
_REACH_PX = 64  # a share of removal depends on cells around, those on what lies within them
_ENERGIES = _LEVELS + 2  # of luma's levels and of both chroma planes'
_HINGES = 8
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # BT.601, as JFIF


class SmoothQACNN(Preprocessor):
    r"""Removes detail where machines do not look, and cannot add any: what it sends lies within what came in.

    ::

        image ─┬─▶ reduced, 224 x 224 ─▶ guide, frozen ─▶ 1x1 conv ─▶ mixers ─▶ map (C, 27, 27) ─────────┐ fixed cost
               │                                                                                         ▼
               ├─▶ means of 2, 4, 8, 16 pixels ─▶ energy of each level per cell of 8 x 8 ─▶ 1x1 convs x gain ─▶ removed
               │           │                                                                             │ shares
               │           └─▶ 16: mix ─▶ 8: mix ─▶ 4: mix ─▶ 2: luma and chroma mixed apart ◀───────────┤ in [0, 1]
               └────────────────────────────────────────────────▶ image: mix ◀───────────────────────────┘

    Every level is ``share * smoother + (1 - share) * level``, from the coarsest to the image, so an output sample is a
    convex mix of what stands around it in the image (in luma and chroma apart): contrast can be lost and not gained,
    nothing can be written that was not there. What the network sees of the whole image comes from the reduced pass
    (`look`); everything else depends on 64 pixels around a sample at most, so that an image is processed in tiles, each
    with its part of the map.

    Shapes and units:
        images: (N, 3, H, W) in [0, 1]; padded to multiples of 16 inside. strengths: (N,) in [0, 1].

    Args:
        width: channels C of the map.
        depth: number of mixers on the map.
        guide: look through the first layers of the SqueezeNet that ships, frozen (1.4 MB, in no weights file);
            without it the reduced image is looked at directly.
        reduced_px: side of the reduced image.
        resolutions: at what share of height and width images are coded, as `LightQACNN` has it.
        fade: up to which strength the image is left alone, and from which on it gets the whole change, likewise.

    Raises:
        OptionError: an option is out of its range.

    Source: this project; gains of arXiv 2206.05650; mixing a pyramid's levels after Burt and Adelson, IEEE Trans.
    Commun. 31(4), 1983.
    """

    name = "qa-smooth"
    source = "this project; gains of arXiv 2206.05650"
    multiple = _BLOCK
    to_ycc: Tensor
    to_rgb: Tensor

    def __init__(
        self,
        *,
        width: int = 48,
        depth: int = 2,
        guide: bool = True,
        reduced_px: int = 224,
        resolutions: Sequence[Sequence[float]] = (),
        fade: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.overview = Overview(self.name, width=width, depth=depth, guide=guide, reduced_px=reduced_px)
        width = self.overview.width
        self._resolutions = ResolutionCurve(resolutions)
        self._fade = None if fade is None else _check_fade(fade)
        self._options = {
            "width": width,
            "depth": depth,
            "guide": bool(guide),
            "reduced_px": reduced_px,
            "resolutions": self._resolutions.plain(),
            "fade": None if self._fade is None else list(self._fade),
        }
        self.from_energies = nn.Conv2d(_ENERGIES, width, 1)
        self.from_map = nn.Conv2d(width, width, 1)
        self.spread = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.gain = StrengthGain(width)
        self.decide = nn.Conv2d(width, _DECISIONS, 1)
        self.bend, self.everywhere = nn.Linear(1, _HINGES), nn.Linear(_HINGES, _DECISIONS)
        ycc = torch.tensor(_TO_YCC)
        self.register_buffer("to_ycc", ycc[:, :, None, None], persistent=False)
        self.register_buffer("to_rgb", torch.linalg.inv(ycc)[:, :, None, None], persistent=False)
        self._start_as_identity()

    def _start_as_identity(self) -> None:
        with torch.no_grad():
            for layer in (self.decide, self.everywhere):
                layer.weight.zero_()
                layer.bias.zero_()  # type: ignore[union-attr]  # these layers were built with a bias
            self.bend.weight.fill_(4.0)  # hinges spread over [0, 1]
            self.bend.bias.copy_(-4.0 * torch.linspace(0.0, 1.0, _HINGES + 1)[:-1])

    @property
    def options(self) -> Mapping[str, Any]:
        """Width, depth, guide, size of the reduced image, resolutions and fade."""
        return self._options

    def resolution(self, strength: float) -> float:
        """Return the factor that ``resolutions`` gives."""
        return self._resolutions.at(strength)

    @property
    def tiling(self) -> Tiling:
        """64 pixels around a tile, and the guide's reduced image."""
        return Tiling(overlap_px=_REACH_PX, reduced_px=self.overview.reduced_px)

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return self._remove(images, self.overview.of_images(images), strengths)

    def guide_map(self, images: Tensor, strength: float) -> Tensor | None:
        """Return the share of detail that is kept, by cells of 8 x 8 pixels."""
        padded = pad_to_multiple(images, _BLOCK)
        strengths = padded.new_full((len(padded),), strength)
        kept = 1.0 - self._shares(self._levels(padded), padded, self.overview.of_images(padded), strengths).mean(dim=1)
        return kept[:, : -(-images.shape[2] // CELL_PX), : -(-images.shape[3] // CELL_PX)]

    def _process_tile(self, tiles: Tensor, seen: Tensor, window: Window, strengths: Tensor) -> Tensor:
        return self._remove(tiles, self.overview.of_window(seen, window), strengths)

    def look(self, reduced: Tensor) -> Tensor:
        """Return the map (N, C, h, w) of what lies where in whole images, reduced to (N, 3, S, S)."""
        found: Tensor = self.overview(reduced)
        return found

    def _remove(self, images: Tensor, seen: Tensor, strengths: Tensor) -> Tensor:
        """Smooth images (N, 3, H, W), or tiles of them, by a map that was resized to their cells (N, C, H/8, W/8)."""
        with full_precision(images.device):
            levels = self._levels(images)
        shares = self._shares(levels, images, seen, strengths).to(images.dtype)  # (N, decisions, H/8, W/8)
        with full_precision(images.device):
            mixed = levels[-1]
            for place in range(_LEVELS - 1, 0, -1):
                level = levels[place - 1]
                first = 2 * place - 1
                mixed = _mix(level, mixed, shares[:, first : first + 2])
            size = (images.shape[2], images.shape[3])
            smoother = upsampled(functional.conv2d(mixed, self.to_rgb), size)
            return torch.lerp(images, smoother, upsampled(shares[:, :1], size))

    def _levels(self, images: Tensor) -> list[Tensor]:
        """Return means of 2, 4, 8 and 16 pixels, as luma and chroma."""
        levels = [functional.conv2d(_halved(images), self.to_ycc)]
        for _ in range(_LEVELS - 1):
            levels.append(_halved(levels[-1]))
        return levels

    def _shares(self, levels: Sequence[Tensor], images: Tensor, seen: Tensor, strengths: Tensor) -> Tensor:
        """Return how much of each level is removed, (N, decisions, H/8, W/8), in [0, 1]."""
        found = self.from_energies(self._energies(levels, images)) + self.from_map(seen)
        found = functional.gelu(found)
        found = functional.gelu(self.gain(found + self.spread(found), strengths))
        raw = self.decide(found) + self.everywhere(torch.relu(self.bend(strengths[:, None])))[:, :, None, None]
        if self._fade is not None:
            begin, end = self._fade
            raw = raw * ((strengths - begin) / (end - begin)).clamp(0.0, 1.0)[:, None, None, None]
        return _Unit.apply(raw) if raw.requires_grad else raw.clamp(0.0, 1.0)  # type: ignore[no-any-return]

    def _energies(self, levels: Sequence[Tensor], images: Tensor) -> Tensor:
        """Return log variances within 2, 4, 8 and 16 pixels, of luma and the finer of chroma, (N, 6, H/8, W/8)."""
        luma = functional.conv2d(images, self.to_ycc[:1])
        within = _halved(luma.square()) - levels[0][:, :1].square()
        parts = [functional.avg_pool2d(within, CELL_PX // 2)]
        for place in range(1, _LEVELS):
            fine, coarse = levels[place - 1], levels[place]
            inside = _halved(fine.square()) - coarse.square()
            wanted = inside if place == 2 else inside[:, :1]
            pooled = functional.avg_pool2d(wanted, CELL_PX // 2 ** (place + 1)) if place < 3 else _doubled(wanted)
            parts.append(pooled)
        energies = torch.cat(parts, dim=1)
        return torch.log(energies.clamp_min(0.0) + 1e-6) / 4 + 2.0


def _halved(planes: Tensor) -> Tensor:
    """Return the means of 2 x 2 samples; pooling takes three times as long on a CPU."""
    rows = planes[:, :, ::2] + planes[:, :, 1::2]
    return (rows[:, :, :, ::2] + rows[:, :, :, 1::2]) * 0.25


def _doubled(cells: Tensor) -> Tensor:
    return functional.interpolate(cells, scale_factor=2, mode="nearest")


def _mix(level: Tensor, coarser: Tensor, shares: Tensor) -> Tensor:
    """Return the level with shares (N, 2, H/8, W/8) of its luma and its chroma replaced by what is coarser."""
    size = (level.shape[2], level.shape[3])
    smoother, resized = upsampled(coarser, size), upsampled(shares, size)
    share = torch.cat([resized[:, :1], resized[:, 1:], resized[:, 1:]], dim=1)
    return torch.lerp(level, smoother, share)


class _Unit(torch.autograd.Function):
    """Clips to [0, 1]; outside, only gradients pass that lead back inside."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor) -> Tensor:
        ctx.save_for_backward(raw)
        return raw.clamp(0.0, 1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (raw,), gradient = ctx.saved_tensors, gradients[0]
        stuck = ((raw < 0) & (gradient > 0)) | ((raw > 1) & (gradient < 0))
        return gradient.masked_fill(stuck, 0.0)
