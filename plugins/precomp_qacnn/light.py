"""A light preprocessor: smoothing where the task does not look, and a correction on the codec's own 8x8 grid."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_qacnn._samples import full_precision, upsampled
from precomp_qacnn.gain import StrengthGain
from precomp_sdk import OptionError, Preprocessor, ResolutionCurve
from precomp_sdk.validation import check_number, check_whole_number

__all__ = ["SMOOTHING_REACH_PX", "LightQACNN"]

_BLOCK = 8  # JPEG's transform block, and the smallest coding block of HEVC
# Gaussians from anti-aliasing to half a block, and their reach: what lies beyond is below float32's resolution, or for
# the widest 1% of its weight.
_SMOOTHINGS_PX = ((0.7, 4), (1.2, 7), (2.0, 9), (3.5, 9))
SMOOTHING_REACH_PX = max(reach for _, reach in _SMOOTHINGS_PX)
_BAND = 16  # samples that one matrix product smooths at a time; no less than the reach
_STRIP_PX = 128  # rows that are smoothed, and mixed, at a time
_WEIGHTS_PER_BLOCK = 2  # smoothing weights on a side of a block: one per 4x4 pixels, interpolated between
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # BT.601, as JFIF


class LightQACNN(Preprocessor):
    r"""A quantization-adaptive network for real senders, starting as the identity.

    ::

        image ─┬─▶ 8x8 unshuffle ▶ 1x1 conv ▶ [mix ▶ gain] x depth ─┬─▶ weights per Gaussian ──┐
               │   (192, H/8, W/8)   (C)                            └─▶ correction, 8x8 shuffle│x s
               │                                  strength ▶ weights for the whole image ──▶(+)
               └─▶ Gaussians 0.7 .. 3.5 px of luma and chroma, each minus the image ──────────▶ x ─▶ (+ image)

    Smoothing is what moves real bits: a weighted sum of the image's differences to four smoothed versions of itself,
    with weights that depend on the compression strength and, through the network, on the place. The network sees every
    8x8 block of the image, aligned to the codec's grid, as one position with 192 channels, so its cost per pixel is a
    64th of its parameters. Four mixers see 136 pixels around a pixel; their averaged context adds the whole image.

    Shapes and units:
        images: (N, 3, H, W) in [0, 1]; padded to multiples of 8 inside. strengths: (N,) in [0, 1].

    Args:
        width: channels C between the blocks.
        depth: number of mixers.
        residual_scale: factor ``s`` on the correction.
        resolutions: at what share of height and width images are coded: pairs of strength and factor, see
            `precomp_sdk.ResolutionCurve`; none for full resolution.
        fade: two strengths: up to the first the image is left alone, from the second on it gets the whole change, and
            between them a share that grows evenly. None: the whole change at every strength. Where a codec does the
            task no harm there is nothing to save, and a network that learns there all the same costs the task some of
            its score.

    Raises:
        OptionError: ``width``, ``depth``, ``residual_scale`` or a pair of ``resolutions`` is out of range, or ``fade``
            is not two strengths that rise.

    Source: quantization-adaptive gains of arXiv 2206.05650; mixers after ConvNeXt, arXiv 2201.03545; context after
    squeeze-and-excitation, arXiv 1709.01507; the smoothing branch is this project's.
    """

    name = "qa-light"
    source = "arXiv 2206.05650 (gains); smoothing branch and block-aligned network of this project"
    multiple = _BLOCK
    to_ycc: Tensor
    to_rgb: Tensor

    def __init__(
        self,
        *,
        width: int = 96,
        depth: int = 4,
        residual_scale: float = 0.05,
        resolutions: Sequence[Sequence[float]] = (),
        fade: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        where = f"preprocessor {self.name!r}"
        width = check_whole_number(width, where, "width", 1, 1024)
        depth = check_whole_number(depth, where, "depth", 0, 64)
        check_number(where, "residual_scale", residual_scale, low=0.0)
        self._resolutions = ResolutionCurve(resolutions)
        self._fade = None if fade is None else _check_fade(fade)
        self._options = {
            "width": width,
            "depth": depth,
            "residual_scale": residual_scale,
            "resolutions": self._resolutions.plain(),
            "fade": None if self._fade is None else list(self._fade),
        }
        self.residual_scale = residual_scale
        pixels = 3 * _BLOCK * _BLOCK
        smoothings = 2 * len(_SMOOTHINGS_PX)  # for luma, and for both chroma planes
        self.embed = nn.Conv2d(pixels, width, 1)
        self.mixers = nn.ModuleList(_Mixer(width) for _ in range(depth))
        self.norm: nn.Module = nn.GroupNorm(1, width)
        self.local_weights = nn.Conv2d(width, smoothings * _WEIGHTS_PER_BLOCK**2, 1)
        self.bend, self.global_weights = nn.Linear(1, _BLOCK), nn.Linear(_BLOCK, smoothings)
        self.correction = nn.Conv2d(width, pixels, 1)
        ycc = torch.tensor(_TO_YCC)
        self.register_buffer("to_ycc", ycc[:, :, None, None], persistent=False)
        self.register_buffer("to_rgb", torch.linalg.inv(ycc)[:, :, None, None], persistent=False)
        self._start_as_identity()

    def _start_as_identity(self) -> None:
        with torch.no_grad():
            for layer in (self.local_weights, self.global_weights, self.correction):
                layer.weight.zero_()
                layer.bias.zero_()  # type: ignore[union-attr]  # these layers were built with a bias
            self.bend.weight.fill_(4.0)  # hinges spread over [0, 1]
            self.bend.bias.copy_(-4.0 * torch.linspace(0.0, 1.0, _BLOCK + 1)[:-1])

    @property
    def options(self) -> Mapping[str, Any]:
        """Width, depth, residual scale, resolutions and fade."""
        return self._options

    def resolution(self, strength: float) -> float:
        """Return the factor that ``resolutions`` gives."""
        return self._resolutions.at(strength)

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return self._changed(images, self._embed(images), strengths)

    def _changed(self, images: Tensor, features: Tensor, strengths: Tensor) -> Tensor:
        """Return the images, smoothed and corrected by what the first mixer sees of them, (N, C, H/8, W/8)."""
        for mixer in self.mixers:
            features = mixer(features, strengths)
        everywhere = self.global_weights(torch.relu(self.bend(strengths[:, None])))[:, :, None, None]
        share: Tensor | None = None
        if self._fade is not None:
            begin, end = self._fade
            share = ((strengths - begin) / (end - begin)).clamp(0.0, 1.0)[:, None, None, None]

        def change(images: Tensor, features: Tensor, above: int = 0, below: int = 0) -> Tensor:
            """Return the rows between those above and below, which only smoothing looks at."""
            local = functional.pixel_shuffle(self.local_weights(features), _WEIGHTS_PER_BLOCK)  # (N, 2K, H/4, W/4)
            inside = features[:, :, above // _BLOCK : features.shape[2] - below // _BLOCK]
            correction = functional.pixel_shuffle(self.correction(inside), _BLOCK)
            with full_precision(images.device):
                smoothed = self._smooth(images, (local + everywhere).to(images.dtype), above, below)
            processed = smoothed + self.residual_scale * correction
            if share is None:
                return processed
            images = images[:, :, above : images.shape[2] - below]
            return images + share * (processed - images)

        return _by_strips(change, [images, self.norm(features)], _STRIP_PX, halo_px=_BAND)

    def _embed(self, images: Tensor) -> Tensor:
        """Return what the first mixer sees: (N, C, H/8, W/8)."""

        def embed(images: Tensor) -> Tensor:
            embedded: Tensor = self.embed(functional.pixel_unshuffle(images - 0.5, _BLOCK) * 4.0)
            return embedded

        return _by_strips(embed, [images], _STRIP_PX)

    def _smooth(self, images: Tensor, weights: Tensor, above: int, below: int) -> Tensor:
        """Return the inner rows, with the weighted differences to the smoothed images: weights (N, 2K, H/4, W/4)."""
        ycc = functional.conv2d(images, self.to_ycc)
        wide = _widened(ycc, above, below)
        images, ycc = (planes[:, :, above : planes.shape[2] - below] for planes in (images, ycc))
        height, width = images.shape[-2:]
        weights = _upsampled_inside(weights, (height, width), above, below)
        luma, chroma = torch.zeros_like(ycc[:, :1]), torch.zeros_like(ycc[:, 1:])
        for index, (sigma_px, reach_px) in enumerate(_SMOOTHINGS_PX):
            band = _band(sigma_px, reach_px, wide)
            smoothed = _smoothed(wide, band)
            difference = smoothed[:, :, :height, :width] - ycc
            other = len(_SMOOTHINGS_PX) + index
            luma = torch.addcmul(luma, difference[:, :1], weights[:, index : index + 1])
            chroma = torch.addcmul(chroma, difference[:, 1:], weights[:, other : other + 1])
        return images + functional.conv2d(torch.cat([luma, chroma], dim=1), self.to_rgb)


class _Mixer(nn.Module):
    """Depthwise 5x5 convolution, a whole-image context, a perceptron and a strength gain, as a residual."""

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
        context = self.context(mixed.mean(dim=(2, 3)))[:, :, None, None]

        def perceptron(mixed: Tensor, features: Tensor) -> Tensor:
            widened = functional.gelu(self.widen(mixed + context))
            result: Tensor = features + self.gain(self.narrow(widened), strengths)
            return result

        return _by_strips(perceptron, [mixed, features], _STRIP_PX // _BLOCK)


def _by_strips(function: Callable[..., Tensor], planes: Sequence[Tensor], rows: int, halo_px: int = 0) -> Tensor:
    """Apply a function of places to strips of so many rows, which stay in a processor's cache; whole where that counts.

    Args:
        function: of all planes; the rows that it returns lie as theirs. With a halo it also gets how many rows of it
            are above and below, and returns the rows between.
        planes: (N, C, H, W), and others with H / k rows of the same places.
        rows: of a strip of the first.
        halo_px: how far the function looks up and down, in rows of the first; k divides it, and ``rows``.
    """
    height = planes[0].shape[2]
    whole = torch.is_grad_enabled() or torch.compiler.is_compiling()
    if whole or height <= 2 * rows:
        return function(*planes)
    done = []
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        above, below = min(top, halo_px), min(height - bottom, halo_px)
        first, last = top - above, bottom + below
        parts = (one[:, :, first * one.shape[2] // height : last * one.shape[2] // height] for one in planes)
        done.append(function(*parts, above, below) if halo_px else function(*parts))
    return torch.cat(done, dim=2)


def _check_fade(fade: Sequence[float]) -> tuple[float, float]:
    """Return where the change begins and where it is whole."""
    try:
        begin, end = (float(strength) for strength in fade)
    except (TypeError, ValueError):
        begin, end = 1.0, 0.0
    if not 0.0 <= begin < end <= 1.0:
        raise OptionError(
            where="option 'fade'",
            expected="two strengths from 0 to 1, the first below the second",
            got=repr(fade),
            remedy="Take the strengths of the mildest quality and of one at which the codec harms the task.",
        )
    return begin, end


def _band(sigma_px: float, reach_px: int, like: Tensor) -> Tensor:
    """Return the matrix (16 + 2 * reach, 16) that smooths sixteen samples between their neighbours by a Gaussian.

    A matrix product takes a third of the time of a convolution of one channel by 19 taps on a CPU.
    """
    offsets = torch.arange(_BAND + 2 * reach_px)[:, None] - reach_px - torch.arange(_BAND)
    band = torch.where(offsets.abs() <= reach_px, torch.exp(-offsets.square() / (2.0 * sigma_px**2)), 0.0)
    return (band / band[:, :1].sum()).to(like)


def _widened(planes: Tensor, above: int, below: int) -> Tensor:
    """Repeat the border of planes (N, C, H, W): 16 samples above and left, and as many more below and right.

    Rows that are known above and below what is to be smoothed stand in for repeated ones.
    """
    for dim, first, last in ((2, above, below), (3, 0, 0)):
        length = planes.shape[dim]
        sides = [-1] * 4
        sides[dim] = _BAND - first
        before = planes.narrow(dim, 0, 1).expand(sides)
        inside = length - first - last
        sides[dim] = (inside + _BAND - 1) // _BAND * _BAND - inside + _BAND - last
        after = planes.narrow(dim, length - 1, 1).expand(sides)
        planes = torch.cat([before, planes, after], dim=dim)
    return planes


def _upsampled_inside(weights: Tensor, size: tuple[int, int], above: int, below: int) -> Tensor:
    """Interpolate weights of cells to pixels, (N, 2K, H, W), of the rows between those above and below."""
    cell = _BLOCK // _WEIGHTS_PER_BLOCK
    context = [min(rows, cell) for rows in (above, below)]  # one cell is all that a linear interpolation sees
    weights = weights[:, :, (above - context[0]) // cell : weights.shape[2] - (below - context[1]) // cell]
    wide = upsampled(weights, (size[0] + sum(context), size[1]))
    return wide[:, :, context[0] : context[0] + size[0]]


def _smoothed(planes: Tensor, band: Tensor) -> Tensor:
    """Smooth planes (N, C, H + 32, W + 32) by a band, to (N, C, H, W)."""
    if torch.compiler.is_compiling():  # for an export with shapes that are not known: copies of the stretches
        tall = torch.matmul(band.T, _copied_stretches(planes, band, dim=2)).flatten(2, 3)
        return torch.matmul(_copied_stretches(tall, band, dim=3), band).flatten(3, 4)
    done = []
    for plane in planes.flatten(0, 1):
        stretches = _stretches(plane, band).transpose(1, 2)  # (H / 16, R, W)
        done.append(torch.bmm(band.T.expand(len(stretches), -1, -1), stretches).flatten(0, 1))
    tall = torch.cat(done)  # (N C H, W)
    stretches = _stretches(tall.T, band)  # (W / 16, N C H, R)
    wide = torch.bmm(stretches, band.expand(len(stretches), -1, -1)).transpose(0, 1)
    return wide.reshape(*planes.shape[:2], len(done[0]), -1)


def _stretches(plane: Tensor, band: Tensor) -> Tensor:
    """Return views (S / 16 - 2, W, R) of a plane (S, W): 16 samples of the first axis with those in reach of them."""
    aside = (3 * _BAND - len(band)) // 2
    return plane[aside : len(plane) - aside].unfold(0, len(band), _BAND)


def _copied_stretches(planes: Tensor, band: Tensor, dim: int) -> Tensor:
    """Return the same along an axis of planes, with copies: (..., S, ...) to (..., S / 16 - 2, R, ...)."""
    reach_px = (len(band) - _BAND) // 2
    count = planes.shape[dim] // _BAND - 2
    stretches = planes.reshape(*planes.shape[:dim], count + 2, _BAND, *planes.shape[dim + 1 :])
    before, inside, after = (stretches.narrow(dim, first, count) for first in range(3))
    ends = before.narrow(dim + 1, _BAND - reach_px, reach_px), after.narrow(dim + 1, 0, reach_px)
    return torch.cat([ends[0], inside, ends[1]], dim=dim + 1)
