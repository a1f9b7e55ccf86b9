"""A trainable proxy for any codec: a block codec's skeleton, and a small network that learns the rest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_proxy._coder import CodedPlanes, PlaneCoder
from precomp_proxy._network import CellNetwork
from precomp_proxy._transforms import halve, to_rgb, to_ycc, twice
from precomp_sdk import (
    ANY_CODEC,
    Codec,
    OptionError,
    ProxyCodec,
    ProxyOutput,
    load_fitting_proxy,
    pad_to_multiple,
)

__all__ = ["GenericProxy"]

_CELL_PX: Final = 4  # side of a cell, the network's grid
_LUMA_SIZES_PX: Final = (4, 8, 16, 32)
_CHROMA_SIZES: Final = (4, 8, 16)  # in samples of the halved planes
_MULTIPLE_PX: Final = 32
_CODED_PX: Final = 8  # an image is coded up to the next multiple of this
_LARGEST_LOG_CORRECTION: Final = 0.7  # of the bits: a factor of 2 either way
_HEADER_BITS: Final = 400.0  # where the learned header starts


class GenericProxy(ProxyCodec):
    r"""Learns any codec from examples of its images and bits, conditioned on its strength.

    ::

        image ─▶ YCbCr ─┬─▶ luma ─────▶ DCT of 4 .. 32 ▶ quantize ▶ inverse ─┬─▶ candidates ─▶ blend ─▶ (+) ─▶ RGB
                        └─▶ chroma/2 ─▶ DCT of 4 .. 16 ▶ quantize ▶ inverse ─┘        ▲          ▲
                                             │           candidates - source, in steps│          │
                                             │                    └─▶ network ─▶ weights per 4x4, correction
                                             └─▶ bits per block ─▶ weights per 4x4 ─▶ sum ─▶ x correction ─▶ + header

    Built in is what transform codecs share: YCbCr with halved chroma, block transforms of several sizes, quantization
    with straight-through rounding, a smooth count of bits. Learned are the steps and dead zones, which size the codec
    takes where, what prediction and loop filters add, how much chroma detail survives, and what a coefficient costs.

    The image's gradient flows through everything; that of the bits only through the coefficients: the network's
    share in the bits (which block size, the correction) counts for the value and not for the gradient, so that nothing
    can lower the predicted bits but smaller coefficients.

    A subclass that sets ``codec_name`` and ``weights_files`` is a codec's own fitted proxy: it starts fitted wherever
    the codec has the options that one of the files was fitted to, in whatever version of the codec's library.

    Args:
        codec: any registered codec.
        width: channels of the network.
        depth: its residual blocks.
        rounding: the derivative of quantization, from straight-through (0) to nearness (1).

    Raises:
        OptionError: an option is out of its range.

    Source: this project; the steps follow the exponential scales of ITU-T H.265 and T.81's successors, residual blocks
    after ConvNeXt, arXiv 2201.03545, conditioned after FiLM, arXiv 1709.07871.
    """

    name = "generic-proxy"
    source = "this project: block transforms, learned steps, restoration and rate"
    codec_name = ANY_CODEC
    needs_fitting = True
    weights_files: ClassVar[tuple[Path, ...]] = ()  #: that `precomp_sdk.training.save_proxy` wrote for this codec

    def __init__(self, codec: Codec, *, width: int = 48, depth: int = 3, rounding: float = 0.3) -> None:
        super().__init__(codec)
        for option, value, right, expected in (
            ("width", width, width >= 1, "a whole number of 1 or more"),
            ("depth", depth, depth >= 0, "a whole number of 0 or more"),
            ("rounding", rounding, 0.0 <= rounding <= 1.0, "a number from 0 to 1"),
        ):
            if not right:
                raise OptionError.number(f"proxy {self.name!r}", option, expected, value)
        self._options = {"width": width, "depth": depth, "rounding": rounding}
        self.luma = PlaneCoder(_LUMA_SIZES_PX, _CELL_PX, rounding)
        self.chroma = PlaneCoder(_CHROMA_SIZES, _CELL_PX // 2, rounding)
        self.network = CellNetwork(
            inputs=_CELL_PX**2 * (len(_LUMA_SIZES_PX) + 1) + 2 * (_CELL_PX // 2) ** 2 * (len(_CHROMA_SIZES) + 1),
            width=width,
            depth=depth,
            luma_candidates=len(_LUMA_SIZES_PX) + 1,
            chroma_candidates=len(_CHROMA_SIZES) + 1,
            corrections=_CELL_PX**2 + 2 * (_CELL_PX // 2) ** 2,
        )
        self.chroma_detail = nn.Parameter(torch.tensor(-2.0))  # what survives beyond half resolution, before a sigmoid
        self.log_header_bits = nn.Parameter(torch.tensor(_HEADER_BITS).log())
        load_fitting_proxy([path for path in self.weights_files if path.exists()], self)

    @property
    def options(self) -> Mapping[str, Any]:
        """Width, depth and rounding."""
        return self._options

    def _predict(self, images: Tensor, qualities: Tensor) -> ProxyOutput:
        scale = self.quality_scale
        strengths = torch.tensor([scale.strength(quality) for quality in qualities.tolist()]).to(images)
        height, width = images.shape[-2:]
        luma, chroma, detail = _planes(pad_to_multiple(images, _MULTIPLE_PX))
        coded = self.luma(luma, strengths), self.chroma(chroma, strengths)
        cells = self.network(_cells(luma, coded[0], _CELL_PX, chroma, coded[1], _CELL_PX // 2), strengths)
        steps = coded[0].steps[:, None, None, None]
        brightness, colour = cells.corrections[:, : _CELL_PX**2], cells.corrections[:, _CELL_PX**2 :]
        decoded_luma = _blend(luma, coded[0], cells.luma_weights, _CELL_PX)
        decoded_chroma = _blend(chroma, coded[1], cells.chroma_weights, _CELL_PX // 2)
        decoded_luma = decoded_luma + steps * functional.pixel_shuffle(brightness, _CELL_PX)
        decoded_chroma = decoded_chroma + steps * functional.pixel_shuffle(colour, _CELL_PX // 2)
        decoded_chroma = twice(decoded_chroma) + torch.sigmoid(self.chroma_detail) * detail
        decoded = to_rgb(torch.cat([decoded_luma, decoded_chroma], dim=1)).clamp(0.0, 1.0)
        inside = _inside(height, width, coded[0].cell_bits)
        bits = sum(
            (inside * shares * planes.cell_bits).sum(dim=(1, 2, 3))
            for shares, planes in zip((cells.luma_shares, cells.chroma_shares), coded, strict=True)
        )
        correction = torch.exp(_LARGEST_LOG_CORRECTION * torch.tanh(self.network.rate(cells, inside, strengths)))
        return ProxyOutput(
            images=decoded[..., :height, :width].to(images.dtype),
            bits=(bits * correction + self.log_header_bits.exp()),
        )


def _planes(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return luma (N, 1, H, W), halved chroma (N, 2, H / 2, W / 2), and what halving takes away, (N, 2, H, W)."""
    planes = to_ycc(images)
    luma, chroma = planes[:, :1], planes[:, 1:]
    halved = halve(chroma)
    return luma, halved, chroma - twice(halved)


def _cells(
    luma: Tensor, coded_luma: CodedPlanes, luma_cell: int, chroma: Tensor, coded_chroma: CodedPlanes, chroma_cell: int
) -> Tensor:
    """Return what the network sees of cells, (N, inputs, H / 4, W / 4): texture and quantization errors, in steps."""
    seen = []
    for planes, coded, cell in ((luma, coded_luma, luma_cell), (chroma, coded_chroma, chroma_cell)):
        steps = coded.steps[:, None, None, None]
        ground = functional.interpolate(
            functional.avg_pool2d(planes, 2 * cell), scale_factor=2.0 * cell, mode="bilinear", align_corners=False
        )
        texture = ((planes - ground) / steps).clamp(-4.0, 4.0)
        errors = (coded.planes - planes[:, None]).flatten(1, 2) / steps
        seen.append(functional.pixel_unshuffle(torch.cat([texture, errors], dim=1), cell))
    return torch.cat(seen, dim=1)


def _blend(planes: Tensor, coded: CodedPlanes, weights: Tensor, cell: int) -> Tensor:
    """Return the weighted mean of the planes themselves (weights' first channel) and their quantized versions."""
    weights = functional.interpolate(weights, scale_factor=float(cell), mode="nearest")[
        :, :, None
    ]  # (N, S + 1, 1, H, W)
    return planes * weights[:, 0] + (coded.planes * weights[:, 1:]).sum(dim=1)


def _inside(height: int, width: int, cell_bits: Tensor) -> Tensor:
    """Return 1 for the cells that are coded and 0 for padding, (1, 1, H / 4, W / 4)."""
    masks = [
        torch.arange(cells, device=cell_bits.device) * _CELL_PX < -(-side // _CODED_PX) * _CODED_PX
        for side, cells in zip((height, width), cell_bits.shape[-2:], strict=True)
    ]
    return (masks[0][:, None] & masks[1]).to(cell_bits)[None, None]
