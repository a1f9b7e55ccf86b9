"""Picture files of a sender and a receiver: 8-bit RGB and gray."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from precomp_sdk.errors import ImageError
from precomp_sdk.files import replacing
from precomp_sdk.images import check_image

__all__ = ["read_image", "write_image"]

_MODES = ("RGB", "L", "P", "1")


def read_image(path: Path | str) -> Tensor:
    """Read a picture file, turned upright as its EXIF data says.

    Returns:
        (3, H, W) uint8.

    Raises:
        ImageError: it is no picture, damaged, or not 8-bit RGB, gray or palette without transparency.
        OSError: there is no such file.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in _MODES or picture.has_transparency_data:
                raise _wrong(path, f"a picture of mode {picture.mode!r}", "Convert it first: Image.convert('RGB').")
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except FileNotFoundError:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        remedy = "It is damaged, or of a format that Pillow does not read: replace it."
        raise _wrong(path, f"{type(error).__name__}: {error}", remedy) from error
    return torch.from_numpy(np.array(upright)).permute(2, 0, 1).contiguous()


def write_image(image: Tensor, path: Path | str) -> None:
    """Write (3, H, W) uint8 as a picture file without loss, in the format of the path's ending.

    Raises:
        ImageError: the image is not ``uint8 (3, H, W)``, or the ending is not ``.png``.
    """
    if Path(path).suffix.lower() != ".png":
        raise ImageError(
            where=str(path), expected="a path that ends in .png", got=Path(path).suffix, remedy="PNG loses nothing."
        )
    picture = Image.fromarray(check_image(image, str(path)).permute(1, 2, 0).cpu().numpy())
    with replacing(Path(path)) as temporary:
        picture.save(temporary, format="PNG")


def _wrong(path: Path | str, got: str, remedy: str) -> ImageError:
    return ImageError(
        where=str(path),
        expected="a whole picture of 8-bit RGB or gray, without transparency",
        got=got,
        remedy=remedy,
    )
