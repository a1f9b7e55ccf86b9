"""Reads any image Pillow reads into 8-bit sRGB samples."""

from collections.abc import Callable
from io import BytesIO
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from precomp_sdk import DatasetError

__all__ = ["MAX_PIXELS", "is_image_name", "load_image", "read_image", "to_rgb"]

MAX_PIXELS = 89_478_485  #: default limit, Pillow's own (``PIL.Image.MAX_IMAGE_PIXELS``): 256 MiB as RGB

_BACKGROUND = (255, 255, 255)  # what lies under transparent pixels
_NOT_IMAGES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})  # no pixels, or an outside program draws them
_TURNS = {  # EXIF 2.32, section 4.6.4, tag 0x0112
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_TAG = 0x0112


def read_image(image: str | PathLike[str] | bytes, *, max_pixels: int = MAX_PIXELS, where: str | None = None) -> Tensor:
    """Read an image file, or its bytes.

    Gray, 1-bit, palette, CMYK and 16-bit gray images are converted; transparent pixels lie on white; the EXIF
    orientation is applied; of an animation or a file of several pages the first frame is taken. An embedded colour
    profile is ignored, as the networks pretrained on such files ignored it.

    Shapes and units:
        returns: (3, H, W) uint8, sRGB.

    Args:
        image: a path, or the bytes of a file.
        max_pixels: larger images are refused before they are decoded. Pillow's own limit holds as well: raise
            ``PIL.Image.MAX_IMAGE_PIXELS`` too where larger images are wanted.
        where: names the image in messages; the path by default.

    Raises:
        DatasetError: it cannot be read, is no image, is empty, broken or too large, or has samples without a
            defined range (32-bit).
    """
    return load_image(image, to_rgb, max_pixels=max_pixels, where=where)


def load_image(
    file: str | PathLike[str] | bytes,
    convert: Callable[[Image.Image, str], Tensor],
    *,
    max_pixels: int,
    where: str | None,
) -> Tensor:
    """Decode an image file, or its bytes, and convert the loaded Pillow image; see `read_image`.

    Raises:
        DatasetError: it cannot be read, is no image, is empty, broken or too large, or cannot be converted.
    """
    if isinstance(file, bytes):
        where, data = where or f"image of {len(file)} bytes", file
    else:
        where = where or str(file)
        try:
            data = Path(file).read_bytes()
        except OSError as error:
            raise _unreadable(where, "a file that can be read", error.strerror or type(error).__name__) from error
    if not data:
        raise _unreadable(where, "an image", "an empty file (0 bytes)")
    try:
        with Image.open(BytesIO(data)) as image:
            _check_header(image, max_pixels, where)
            image.load()
            return convert(image, where)
    except DatasetError:
        raise
    except UnidentifiedImageError as error:
        raise _unreadable(where, "an image that Pillow can read", "something else") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(where, max_pixels, str(error)) from error
    except Exception as error:  # Pillow's readers raise whatever their parsing runs into
        reason = str(error) or type(error).__name__
        raise _unreadable(
            where, "a whole and valid image", f"a corrupt, truncated or unsupported one ({reason})"
        ) from error


def to_rgb(image: Image.Image, where: str) -> Tensor:
    """Convert a loaded Pillow image as `read_image` does.

    Shapes and units:
        returns: (3, H, W) uint8, sRGB.

    Raises:
        DatasetError: its samples have no defined range, or Pillow knows no conversion.
    """
    turn = _TURNS.get(_orientation(image))
    samples = np.asarray(_flatten(_to_8_bit(image, where)))
    if turn is not None:
        samples = np.asarray(Image.fromarray(samples).transpose(turn))
    return torch.from_numpy(np.ascontiguousarray(samples.transpose(2, 0, 1)).copy())  # (H, W, 3) -> (3, H, W)


def is_image_name(name: str) -> bool:
    """Say whether a file name has the extension of an image format that Pillow reads; hidden files do not."""
    suffix = Path(name).suffix.lower()
    kind = Image.registered_extensions().get(suffix)
    return not name.startswith(".") and kind in Image.OPEN and kind not in _NOT_IMAGES


def _check_header(image: Image.Image, max_pixels: int, where: str) -> None:
    if image.format in _NOT_IMAGES:
        raise _unreadable(where, "an image made of pixels", f"a file of format {image.format}")
    limit = min(max_pixels, Image.MAX_IMAGE_PIXELS or max_pixels)
    if image.width * image.height > limit:
        raise _too_large(where, limit, f"{image.width} x {image.height}")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken metadata leaves the pixels as they stand
        return 1


def _to_8_bit(image: Image.Image, where: str) -> Image.Image:
    """Scale gray images of 16 bits; Pillow's own conversion would clip them at 255."""
    if image.mode == "F" or image.mode.startswith("I"):
        samples = np.asarray(image)
        if samples.dtype.kind == "f" or samples.min() < 0 or samples.max() > 65535:
            raise DatasetError(
                where=where,
                expected="8 or 16 bits per sample",
                got=f"{image.mode!r} samples from {samples.min()} to {samples.max()}",
                remedy="Convert the image to 8 or 16 bits, so that its black and white are defined.",
            )
        return Image.fromarray(((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    return image


def _flatten(image: Image.Image) -> Image.Image:
    """Convert to RGB, transparent pixels on the background."""
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", layer.size, (*_BACKGROUND, 255))
    return Image.alpha_composite(ground, layer).convert("RGB")


def _unreadable(where: str, expected: str, got: str) -> DatasetError:
    return DatasetError(where=where, expected=expected, got=got, remedy="Replace the file, or take it out of the set.")


def _too_large(where: str, limit: int, got: str) -> DatasetError:
    return DatasetError(
        where=where,
        expected=f"an image of at most {limit} pixels",
        got=got,
        remedy="Downscale it, or raise max_pixels and, beyond its own limit, PIL.Image.MAX_IMAGE_PIXELS.",
    )
