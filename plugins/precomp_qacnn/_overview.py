"""What a network sees of the whole image at a fixed cost: a map that a small frozen guide makes of a reduced copy."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_qacnn._guide import GUIDE_CHANNELS, SqueezeGuide
from precomp_sdk import Window
from precomp_sdk.validation import check_whole_number

__all__ = ["CELL_PX", "Overview", "PlaceNorm"]

CELL_PX = 8  #: pixels on a side of what shares one place of a map that was brought to an image's size


class Overview(nn.Module):
    """The map of a whole image, and the part of it that belongs to a tile.

    ::

        image ─▶ reduced, S x S ─▶ guide, frozen ─▶ 1x1 conv ─▶ mixers ─▶ map (C, S/8, S/8) ─▶ its cells (C, H/8, W/8)

    Shapes and units:
        reduced: (N, 3, S, S) in [0, 1]. Returns (N, C, about S/8, S/8).

    Args:
        name: of the preprocessor, for messages.
        width: channels C of the map.
        depth: number of mixers on the map.
        guide: look through the first layers of the SqueezeNet that ships; without it the reduced image is looked at
            directly.
        reduced_px: side S of the reduced image.
        depth_option: what the preprocessor calls ``depth``, for messages.

    Raises:
        OptionError: an option is out of its range.
    """

    def __init__(
        self, name: str, *, width: int, depth: int, guide: bool, reduced_px: int, depth_option: str = "depth"
    ) -> None:
        super().__init__()
        where = f"preprocessor {name!r}"
        self.width: int = check_whole_number(width, where, "width", 1, 1024)
        depth = check_whole_number(depth, where, depth_option, 0, 64)
        self.reduced_px: int = check_whole_number(reduced_px, where, "reduced_px", 64, 1024)
        self.guide = SqueezeGuide() if guide else None
        inputs = GUIDE_CHANNELS if guide else (3 * CELL_PX**2,)
        self.project = nn.ModuleList(
            nn.Sequential(PlaceNorm(count), nn.Conv2d(count, self.width, 1)) for count in inputs
        )
        self.mixers = nn.ModuleList(_Mixer(self.width) for _ in range(depth))
        self.norm = PlaceNorm(self.width)

    def forward(self, reduced: Tensor) -> Tensor:
        """Return the map of whole images that were reduced."""
        if self.guide is None:
            return self._mapped([functional.pixel_unshuffle(reduced - 0.5, CELL_PX)])
        with torch.no_grad():
            maps = self.guide(reduced)
        return self._mapped(maps)

    def _mapped(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the map from what the guide saw, the finest first."""
        found = self.project[0](maps[0])
        for projection, coarse in zip(list(self.project)[1:], maps[1:], strict=True):
            size = (found.shape[2], found.shape[3])
            found = found + functional.interpolate(projection(coarse), size, mode="bilinear", align_corners=False)
        for mixer in self.mixers:
            found = mixer(found)
        result: Tensor = self.norm(found)
        return result

    def of_images(self, images: Tensor) -> Tensor:
        """Return the map of whole images (N, 3, H, W), at the size of their cells: (N, C, H/8, W/8)."""
        cells = (images.shape[2] // CELL_PX, images.shape[3] // CELL_PX)
        return functional.interpolate(self(self._reduced(images)), cells, mode="bilinear", align_corners=False)

    def strength_of(self, images: Tensor) -> Tensor | None:
        """Return how strong the guide's last features are, (N, about S/16, S/16); None without a guide."""
        if self.guide is None:
            return None
        with torch.no_grad():
            found: Tensor = self.guide(self._reduced(images))[-1].square().mean(dim=1).sqrt()
        return found

    def _reduced(self, images: Tensor) -> Tensor:
        side = self.reduced_px
        return functional.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)

    @staticmethod
    def of_window(seen: Tensor, window: Window) -> Tensor:
        """Return the part of a map that belongs to the cells of a window, as `of_images` would have it there."""
        rows = _cells(seen.shape[2], window.size[0], window.top, window.height)
        columns = _cells(seen.shape[3], window.size[1], window.left, window.width)
        return _resampled(_resampled(seen, rows, 2), columns, 3)


def _cells(count: int, length_px: int, first_px: int, part_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return where the cells of a part of an image lie between ``count`` samples of its map, as in `interpolate`."""
    places = torch.arange(first_px // CELL_PX, (first_px + part_px) // CELL_PX, dtype=torch.float32)
    at = ((places + 0.5) * (count / (length_px // CELL_PX)) - 0.5).clamp_min(0.0)
    low = at.floor().long().clamp(max=count - 1)
    return low, (low + 1).clamp(max=count - 1), at - low


def _resampled(seen: Tensor, cells: tuple[Tensor, Tensor, Tensor], axis: int) -> Tensor:
    """Take samples of a map between two neighbours each, along an axis."""
    low, high, share = (part.to(seen.device) for part in cells)
    shape = [1] * seen.ndim
    shape[axis] = -1
    return torch.lerp(seen.index_select(axis, low), seen.index_select(axis, high), share.to(seen.dtype).view(shape))


class PlaceNorm(nn.Module):
    """Normalizes the channels of every place by themselves: no place depends on another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        centred = features - features.mean(dim=1, keepdim=True)
        scaled = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.weight[:, None, None] + self.bias[:, None, None]


class _Mixer(nn.Module):
    """Depthwise 5x5 convolution, the map's average, and a perceptron, as a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = PlaceNorm(width)
        self.context = nn.Linear(width, width)
        self.widen, self.narrow = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        mixed = self.norm(self.spatial(features))
        mixed = mixed + self.context(mixed.mean(dim=(2, 3)))[:, :, None, None]
        result: Tensor = features + self.narrow(functional.gelu(self.widen(mixed)))
        return result
