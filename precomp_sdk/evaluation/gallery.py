"""A few images as they were sent: those a preprocessor saves most and least on, and those it breaks."""

from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from precomp_sdk.channel import Channel
from precomp_sdk.codec import Codec
from precomp_sdk.data import TaskDataset
from precomp_sdk.evaluation.harm import common_qualities
from precomp_sdk.evaluation.statistics import MeasuredCurve
from precomp_sdk.modules import evaluation_mode

__all__ = ["TILE_PX", "GalleryImage", "choose_images", "collect_gallery", "tile_bits"]

TILE_PX = 64  #: side of the tiles that are encoded one by one, larger where there would be too many
_MAX_TILES = 96
_THUMBNAIL_PX = 384  # longer side at most
_LOSSLESS_BYTES = 48_000  # a thumbnail that takes more is compressed with loss
_WEBP_QUALITY = 90
_GAIN = 4  # of the difference

BREAKS, MOST, LEAST = "breaks", "saves most", "saves least"


@dataclass(frozen=True, slots=True)
class GalleryImage:
    """One image of the gallery.

    Args:
        label: of the curve it was sent for.
        reason: ``"breaks"`` (its loss rises most), ``"saves most"`` or ``"saves least"``.
        key: names the image.
        quality: at which it was sent.
        anchor_bits: as the anchor sends it.
        bits: as it was sent.
        anchor_loss: task loss of what the anchor's receiver has.
        loss: ... of what the receiver has.
        source: a thumbnail, as the bytes of a WebP file; so are the other images.
        sent: what the encoder gets.
        received: what the receiver has.
        difference: received as if the codec lost nothing, minus source: 4 times, around gray.
        tile_px: side of a tile in the source.
        source_tile_bits: bits of each tile of the source, encoded by itself: rows from the top.
        sent_tile_bits: likewise of what was sent.
    """

    label: str
    reason: str
    key: str
    quality: float
    anchor_bits: float
    bits: float
    anchor_loss: float
    loss: float
    source: bytes
    sent: bytes
    received: bytes
    difference: bytes
    tile_px: int
    source_tile_bits: tuple[tuple[int, ...], ...]
    sent_tile_bits: tuple[tuple[int, ...], ...]

    @property
    def bits_change_percent(self) -> float:
        """Of its bits against the anchor's, at equal quality."""
        return 100.0 * (self.bits / self.anchor_bits - 1.0)


def choose_images(
    anchor: MeasuredCurve, test: MeasuredCurve, quality: float, count: int
) -> tuple[tuple[str, int], ...]:
    """Return reasons and rows of the images to show, no image twice.

    The reasons take turns, so that each has its share; an image breaks only where its loss rises.
    """
    before, after = anchor.point(quality), test.point(quality)
    change, rise = after.bits / before.bits, after.losses - before.losses
    ranked: dict[str, list[int]] = {
        BREAKS: [int(row) for row in np.argsort(-rise, kind="stable") if rise[row] > 0],
        MOST: np.argsort(change, kind="stable").tolist(),
        LEAST: np.argsort(-change, kind="stable").tolist(),
    }
    chosen: dict[int, str] = {}
    while len(chosen) < min(count, len(test)):
        for reason, rows in ranked.items():
            row = next((row for row in rows if row not in chosen), None)
            if row is not None and len(chosen) < count:
                chosen[row] = reason
    return tuple((reason, row) for wanted in ranked for row, reason in chosen.items() if reason == wanted)


def collect_gallery(
    dataset: TaskDataset, channel: Channel, anchor: MeasuredCurve, test: MeasuredCurve, count: int
) -> tuple[GalleryImage, ...]:
    """Send a few images once more and keep what is to be seen of them, small.

    Args:
        dataset: that the curves were measured on.
        channel: that sent the test's images.
        anchor: the anchor's curve.
        test: the channel's.
        count: how many images at most.

    Returns:
        The images at the middle one of the common qualities; none where there is no common one.
    """
    scale = channel.codec.quality_scale
    qualities = sorted(common_qualities(anchor, test), key=scale.strength)
    if not qualities or anchor.indices != test.indices:
        return ()
    quality = qualities[len(qualities) // 2]
    before, after = anchor.point(quality), test.point(quality)
    gallery = []
    with evaluation_mode(*channel.modules), torch.no_grad():
        for reason, row in choose_images(anchor, test, quality, count):
            source = dataset[test.indices[row]].image
            transmission = channel.start([source], [quality])
            (coded,) = transmission.coded
            sent, received = coded.to_encoder()[0], transmission.result().images[0]
            restored = channel.receive([sent], [(source.shape[1], source.shape[2])])[0]
            tile_px, grid = _grid(source)
            gallery.append(
                GalleryImage(
                    label=test.label,
                    reason=reason,
                    key=test.keys[row],
                    quality=quality,
                    anchor_bits=float(before.bits[row]),
                    bits=float(after.bits[row]),
                    anchor_loss=float(before.losses[row]),
                    loss=float(after.losses[row]),
                    source=_thumbnail(source),
                    sent=_thumbnail(sent),
                    received=_thumbnail(received),
                    difference=_thumbnail(_difference(restored, source)),
                    tile_px=tile_px,
                    source_tile_bits=tile_bits(channel.codec, source, grid, coded.qualities[0]),
                    sent_tile_bits=tile_bits(channel.codec, sent, grid, coded.qualities[0]),
                )
            )
    return tuple(gallery)


def tile_bits(codec: Codec, image: Tensor, grid: tuple[int, int], quality: float) -> tuple[tuple[int, ...], ...]:
    """Return the bits of each tile of an 8-bit image (3, H, W), each encoded by itself: headers count in each.

    Args:
        codec: the real codec.
        image: what to encode.
        grid: rows and columns; no more than there are pixels.
        quality: on the codec's scale.
    """
    rows, columns = (_edges(*pair) for pair in zip(image.shape[1:], grid, strict=True))
    return tuple(
        tuple(8 * len(codec.encode(image[:, top:bottom, left:right].contiguous(), quality)) for left, right in columns)
        for top, bottom in rows
    )


def _grid(image: Tensor) -> tuple[int, tuple[int, int]]:
    """Return the side of a tile, and how many rows and columns of tiles there are."""
    side = TILE_PX
    while True:
        rows, columns = (max(1, round(length / side)) for length in image.shape[1:])
        if rows * columns <= _MAX_TILES:
            return side, (rows, columns)
        side += TILE_PX // 2


def _edges(length: int, count: int) -> list[tuple[int, int]]:
    edges = [place * length // min(count, length) for place in range(min(count, length) + 1)]
    return list(pairwise(edges))


def _difference(image: Tensor, source: Tensor) -> Tensor:
    """Return the difference of two 8-bit images, times 4, around gray."""
    change = image.cpu().to(torch.int16) - source.cpu().to(torch.int16)
    return (128 + _GAIN * change).clamp(0, 255).to(torch.uint8)


def _thumbnail(image: Tensor) -> bytes:
    """Return an 8-bit image (3, H, W) as a small WebP file."""
    pixels: NDArray[np.uint8] = image.cpu().permute(1, 2, 0).contiguous().numpy()
    small = Image.fromarray(pixels)
    small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    exact = _webp(small, lossless=True)
    return exact if len(exact) <= _LOSSLESS_BYTES else _webp(small, lossless=False)


def _webp(image: Image.Image, *, lossless: bool) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "WEBP", lossless=lossless, quality=_WEBP_QUALITY, method=2)
    return buffer.getvalue()
