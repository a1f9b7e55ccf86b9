"""Image files of a sender and a receiver: 8-bit RGB and gray."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from precomp_sdk.atomic_io import replacing
from precomp_sdk.errors import ImageError
from precomp_sdk.images import check_image

__all__ = ["read_image", "write_image"]

_MODES = ("RGB", "L", "P", "1")


def read_image(path: Path | str) -> Tensor:
    """Read an image file, turned upright as its EXIF data says.

    Returns:
        (3, H, W) uint8.

    Raises:
        ImageError: it is no image, damaged, or not 8-bit RGB, gray or palette without transparency.
        OSError: there is no such file.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in _MODES or image.has_transparency_data:
                raise _wrong(path, f"an image of mode {image.mode!r}", "Convert it first: Image.convert('RGB').")
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        remedy = "It is damaged, or of a format that Pillow does not read: replace it."
        raise _wrong(path, f"{type(error).__name__}: {error}", remedy) from error
    return torch.from_numpy(np.array(upright)).permute(2, 0, 1).contiguous()


def write_image(image: Tensor, path: Path | str) -> None:
    """Write (3, H, W) uint8 as an image file without loss, in the format of the path's ending.

    Raises:
        ImageError: the image is not ``uint8 (3, H, W)``, or the ending is not ``.png``.
    """
    if Path(path).suffix.lower() != ".png":
        raise ImageError(
            where=str(path), expected="a path that ends in .png", got=Path(path).suffix, remedy="PNG loses nothing."
        )
    pillow_image = Image.fromarray(check_image(image, str(path)).permute(1, 2, 0).cpu().numpy())
    with replacing(Path(path)) as temporary:
        pillow_image.save(temporary, format="PNG")


def _wrong(path: Path | str, got: str, remedy: str) -> ImageError:
    return ImageError(
        where=str(path),
        expected="a whole image of 8-bit RGB or gray, without transparency",
        got=got,
        remedy=remedy,
    )
