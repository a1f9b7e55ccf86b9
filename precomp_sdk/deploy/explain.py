"""What a sender does to one image, laid open: where it looks, what it changes, where the bits go."""

import math
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precomp_sdk.atomic_io import write_whole
from precomp_sdk.deploy.compressor import Compressor
from precomp_sdk.errors import OptionError
from precomp_sdk.evaluation.gallery import tile_bits
from precomp_sdk.image_io import ImageSource, as_image
from precomp_sdk.images import downscale, to_float, to_uint8

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Explanation", "explain"]

_GAIN: Final = 4.0  # of the difference, around gray
_GUIDE_PX: Final = 512  # the longer side of what is asked where the preprocessor looks
_SHOWN_PX: Final = 1024  # the longer side of what is drawn
_TILES: Final = 16  # along the longer side


@dataclass(frozen=True, slots=True)
class Explanation:
    """One image on its way.

    Args:
        source: (3, H, W) uint8; so are the two that follow.
        processed: what the preprocessor made of it, at full size.
        received: what the receiver has.
        guide: where the preprocessor looks, (h, w) in [0, 1]; None where it looks nowhere in particular.
        source_tile_bits: bits of each tile of the source, encoded by itself, over those of a gray one: headers do not
            count; rows from the top.
        sent_tile_bits: likewise of what was sent.
        quality_name: what the codec's knob is called.
        asked: the quality that was asked for.
        quality: at which it was coded.
        resolution: factor of height and width at which it was coded.
        bits: of the payload.
        anchor_bits: of the source, at the quality that was asked for.
        reason: why quality and resolution are not what was asked for, empty where they are.
    """

    source: Tensor
    processed: Tensor
    received: Tensor
    guide: NDArray[np.float64] | None
    source_tile_bits: tuple[tuple[int, ...], ...]
    sent_tile_bits: tuple[tuple[int, ...], ...]
    quality_name: str
    asked: float
    quality: float
    resolution: float
    bits: int
    anchor_bits: int
    reason: str = ""

    @property
    def facts(self) -> dict[str, object]:
        """Return its numbers and words by name, without images and tiles."""
        named = ("quality_name", "asked", "quality", "resolution", "bits", "anchor_bits", "reason")
        return {name: getattr(self, name) for name in named}

    @property
    def summary(self) -> str:
        """Return in a line what was done, and what it saved."""
        moved = (self.processed.float() - self.source.float()).abs()
        told = f"{self.quality_name} {self.quality:g}"
        if self.resolution != 1.0:
            told += f" at {self.resolution:g} of height and width"
        told += f": {self.bits // 8} bytes, {100.0 * (self.bits / self.anchor_bits - 1.0):+.0f}% of the codec alone at "
        told += (
            f"{self.asked:g}; samples moved by {float(moved.mean()):.2f} levels on average, {int(moved.max())} at most"
        )
        return told + (f"; {self.reason}" if self.reason else "")

    def figure(self) -> "Figure":
        """Return six panels: source, processed, received, difference, where it looks, where bits are saved."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        _, height, width = self.source.shape
        figure = Figure(figsize=(13.5, 1.3 + 8.6 * height / width), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(self.summary, fontsize=10, wrap=True)
        axes = figure.subplots(2, 3)
        difference = (127.5 + _GAIN * (self.processed.float() - self.source.float())).clamp(0, 255).to(torch.uint8)
        images = (
            ("source", self.source),
            (
                "unchanged" if torch.equal(self.processed, self.source) else "as the preprocessor makes it",
                self.processed,
            ),
            ("as the receiver has it", self.received),
            (f"changed by the preprocessor, {_GAIN:g} times, around gray", difference),
        )
        for place, (title, image) in zip(axes.flat, images, strict=False):
            place.imshow(_drawn(image))
            place.set_title(title, fontsize=10)
        self._draw_guide(axes[1, 1])
        self._draw_bits(axes[1, 2], figure)
        for place in axes.flat:
            place.set_xticks([])
            place.set_yticks([])
        return figure

    def png(self) -> bytes:
        """Return the figure as a PNG file."""
        buffer = BytesIO()
        self.figure().savefig(buffer, format="png")
        return buffer.getvalue()

    def save(self, path: Path | str) -> None:
        """Write the figure as a PNG file, atomically.

        Raises:
            OptionError: the name does not end in ``.png``.
        """
        if Path(path).suffix.lower() != ".png":
            raise OptionError.value("explain", "output", "a name that ends in .png", str(path), "Rename it.")
        write_whole(Path(path), self.png())

    def _draw_guide(self, axes: "Axes") -> None:
        gray = _drawn(self.source).mean(axis=2)
        axes.imshow(gray, cmap="gray", vmin=0, vmax=255)
        extent = (-0.5, gray.shape[1] - 0.5, gray.shape[0] - 0.5, -0.5)
        if self.guide is not None:
            axes.imshow(self.guide, cmap="viridis", alpha=0.6, vmin=0, vmax=1, extent=extent, interpolation="bilinear")
            axes.set_title("where it looks (bright)", fontsize=10)
        else:
            axes.set_title("it looks at no place in particular", fontsize=10)

    def _draw_bits(self, axes: "Axes", figure: "Figure") -> None:
        before, after = (np.array(bits, dtype=float) for bits in (self.source_tile_bits, self.sent_tile_bits))
        _, height, width = self.source.shape
        change = (
            100.0 * (after - before) / np.maximum(before, before.mean() / 10)
        )  # a flat sky has no share to speak of
        shown = axes.imshow(change, cmap="RdBu_r", vmin=-100, vmax=100, extent=(0, width, height, 0), aspect="equal")
        axes.set_title("bits of each part, against the codec alone", fontsize=10)
        figure.colorbar(shown, ax=axes, format="%+.0f%%", shrink=0.7)


@torch.no_grad()
def explain(compressor: Compressor, image: ImageSource, quality: float) -> Explanation:
    """Send one image and keep everything that can be seen of it.

    Args:
        compressor: with any preprocessor, and with or without a chooser.
        image: as `Compressor.compress` takes it.
        quality: on the codec's scale; with a chooser, the operating point.

    Raises:
        PrecompError: as `Compressor.compress` raises it.
    """
    source = as_image(image)
    height, width = int(source.shape[1]), int(source.shape[2])
    found = compressor.compress_chosen(source, quality)
    processed = compressor.channel.preprocess([source], [found.quality])[0]
    whole = processed if processed.dtype == torch.uint8 else to_uint8(processed.cpu())
    cell = max(height, width) / _TILES
    grid = (max(1, round(height / cell)), max(1, round(width / cell)))
    codec = compressor.codec
    sent = whole
    if found.resolution != 1.0:
        sent = to_uint8(downscale(to_float(whole)[None], found.resolution))[0]
    small = (min(grid[0], int(sent.shape[1])), min(grid[1], int(sent.shape[2])))
    return Explanation(
        source=source,
        processed=whole,
        received=compressor.decompress(found.payload, (height, width)),
        guide=_guide_of(compressor, source, found.quality),
        source_tile_bits=_own_bits(compressor, source, small, quality),
        sent_tile_bits=_own_bits(compressor, sent, small, found.quality),
        quality_name=codec.quality_scale.name,
        asked=quality,
        quality=found.quality,
        resolution=found.resolution,
        bits=8 * len(found.payload),
        anchor_bits=8 * len(codec.encode(source, quality)),
        reason=found.reason,
    )


def _own_bits(
    compressor: Compressor, image: Tensor, grid: tuple[int, int], quality: float
) -> tuple[tuple[int, ...], ...]:
    """Return the bits of each tile without what its headers take: those of a gray one."""
    pairs = zip(*(tile_bits(compressor.codec, item, grid, quality) for item in (image, _gray(image))), strict=True)
    return tuple(tuple(max(0, own - gray) for own, gray in zip(*rows, strict=True)) for rows in pairs)


def _gray(image: Tensor) -> Tensor:
    return torch.full_like(image, 128)


def _guide_of(compressor: Compressor, source: Tensor, quality: float) -> NDArray[np.float64] | None:
    """Return where the preprocessor looks, stretched to [0, 1]."""
    factor = min(1.0, _GUIDE_PX / max(source.shape[1:]))
    images = downscale(to_float(source)[None], factor)
    found = compressor.preprocessor.guide_map(images, compressor.codec.quality_scale.strength(quality))
    if found is None:
        return None
    values = found[0].double().cpu().numpy()
    low, high = float(values.min()), float(values.max())
    result: NDArray[np.float64] = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return result


def _drawn(image: Tensor) -> NDArray[np.uint8]:
    """Return an image as Matplotlib takes it, no larger than is shown."""
    step = max(1, math.ceil(max(image.shape[1:]) / _SHOWN_PX))
    result: NDArray[np.uint8] = image[:, ::step, ::step].permute(1, 2, 0).contiguous().numpy()
    return result
