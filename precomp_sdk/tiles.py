"""Images of any size in bounded memory: a preprocessor's work in tiles that overlap."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from precomp_sdk.errors import OptionError
from precomp_sdk.images import check_image, to_float, to_uint8
from precomp_sdk.modules import device_of
from precomp_sdk.preprocessor import Preprocessor, Window

__all__ = ["TILE_PX", "preprocess_in_tiles", "reduced_to_square", "works_in_tiles"]

TILE_PX = 1024  #: side of a tile, without its overlap
_STRIP_PX = 256  # rows that are reduced at a time


def works_in_tiles(preprocessor: Preprocessor, size: tuple[int, int], tile_px: int | None = TILE_PX) -> bool:
    """Say whether an image of this height and width goes in tiles: it is larger than one, and gradients are off."""
    larger = tile_px is not None and size[0] * size[1] > tile_px**2
    return larger and preprocessor.tiling is not None and not torch.is_grad_enabled()


def preprocess_in_tiles(
    preprocessor: Preprocessor, image: Tensor, strength: float, *, tile_px: int = TILE_PX, rounded: bool = True
) -> Tensor:
    """Process one image of any size in tiles; the network's memory depends on the tile and not on the image.

    What the preprocessor has to know of the whole image comes from a reduced copy of it (`Preprocessor.look`), so the
    tile's size changes nothing but the order of floating-point sums: at most one level on one sample in 10,000, which
    check N14 of the conformance kit holds every preprocessor to.

    Shapes and units:
        image: (3, H, W) uint8, on the CPU. Returns the same shape, on the CPU: uint8, or float32 in [0, 1].

    Args:
        preprocessor: with a ``tiling``, in evaluation mode, on its device.
        image: the source.
        strength: 0 (mildest compression) .. 1 (strongest).
        tile_px: side of a tile without its overlap; rounded up to the preprocessor's multiple.
        rounded: to 8 bits; False where the image is downscaled before that, at four times the memory for the result.

    Raises:
        OptionError: the preprocessor cannot work in tiles, or the tile's side is not positive.
        ImageError: the image is not ``uint8 (3, H, W)``.
    """
    tiling = preprocessor.tiling
    if tiling is None:
        raise OptionError(
            where=f"preprocessor {preprocessor.name!r}",
            expected="one that works in tiles",
            got="none: it averages over the whole image at full size",
            remedy="Process the image whole, or train a preprocessor with a tiling, such as qa-free or qa-smooth.",
        )
    if tile_px < 1:
        raise OptionError.number("tiles", "tile_px", "a whole number from 1", tile_px)
    check_image(image, "tiles")
    device, multiple = device_of(preprocessor), preprocessor.multiple
    height, width = (-(-side // multiple) * multiple for side in image.shape[1:])
    side = -(-tile_px // multiple) * multiple
    margin = -(-tiling.overlap_px // multiple) * multiple
    result = torch.empty(image.shape, dtype=torch.uint8 if rounded else torch.float32)
    with torch.no_grad():
        strengths = torch.tensor([strength], device=device)
        seen = preprocessor.look(reduced_to_square(image, tiling.reduced_px, multiple).to(device))
        for top in range(0, height, side):
            for left in range(0, width, side):
                window = Window.around(top, left, side, margin, (height, width))
                tile = to_float(_cut(image, window).to(device))[None]
                done = preprocessor.process_tile(tile, seen, window, strengths)[0]
                bottom, right = min(top + side, image.shape[1]), min(left + side, image.shape[2])
                if bottom > top and right > left:
                    inner = done[:, top - window.top : bottom - window.top, left - window.left : right - window.left]
                    result[:, top:bottom, left:right] = (to_uint8(inner) if rounded else inner).cpu()
    return result


def reduced_to_square(image: Tensor, side_px: int, multiple: int = 1) -> Tensor:
    """Reduce an 8-bit image to a square, bilinear and antialiased, a strip of rows at a time.

    The result is that of ``functional.interpolate`` on the whole image, padded to the multiple by repeating its border.

    Shapes and units:
        image: (3, H, W) uint8. Returns (1, 3, side_px, side_px) float32 in [0, 1].
    """
    columns = [
        functional.interpolate(strip, (strip.shape[2], side_px), mode="bilinear", antialias=True, align_corners=False)
        for strip in _strips(image, multiple)
    ]
    narrow = torch.cat(columns, dim=2)
    return functional.interpolate(narrow, (side_px, side_px), mode="bilinear", antialias=True, align_corners=False)


def _strips(image: Tensor, multiple: int) -> Iterator[Tensor]:
    """Yield strips of a padded image, (1, 3, h, W') float."""
    height, width = image.shape[1:]
    right, below = -width % multiple, -height % multiple
    for top in range(0, height, _STRIP_PX):
        last = top + _STRIP_PX >= height
        strip = to_float(image[:, top : top + _STRIP_PX])[None]
        yield functional.pad(strip, (0, right, 0, below if last else 0), mode="replicate")


def _cut(image: Tensor, window: Window) -> Tensor:
    """Return the part of a padded 8-bit image that a window shows."""
    height, width = image.shape[1:]
    rows = torch.arange(window.top, window.top + window.height).clamp(max=height - 1)
    columns = torch.arange(window.left, window.left + window.width).clamp(max=width - 1)
    inside = image[:, window.top : window.top + window.height, window.left : window.left + window.width]
    if inside.shape[1:] == (window.height, window.width):
        return inside
    return image[:, rows][:, :, columns]
