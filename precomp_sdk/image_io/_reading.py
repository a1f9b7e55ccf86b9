"""Images from files and from whatever a program holds them in."""

from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from precomp_sdk.errors import ImageError
from precomp_sdk.image_io._files import (
    OpenedImage,
    ReadSettings,
    check_pixels,
    opened,
    refuse_format,
    unreadable,
)
from precomp_sdk.image_io._orientation import orientation_of, turn_upright
from precomp_sdk.image_io._samples import scale_samples, scale_to_8_bit, to_srgb
from precomp_sdk.images import to_uint8

__all__ = ["DecodedImage", "ImageSource", "as_image", "decode_image", "decode_labels", "read_image"]

ImageSource: TypeAlias = "str | PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[Any] | Tensor"

_DEFAULTS = ReadSettings()
_LOSSY = ("JPEG", "MPO")


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image file, upright, and how it was stored.

    Shapes and units:
        samples: (3, H, W) uint8, sRGB; or (H, W) int64, labels.

    Args:
        samples: as the image is looked at.
        orientation: of the file, 1 to 8: `turn_upright` brings what was measured on stored samples to these.
    """

    samples: Tensor
    orientation: int

    @property
    def stored_size(self) -> tuple[int, int]:
        """(height, width) of the samples as the file stores them."""
        height, width = int(self.samples.shape[-2]), int(self.samples.shape[-1])
        return (width, height) if self.orientation >= 5 else (height, width)


def read_image(
    source: str | PathLike[str] | bytes, *, settings: ReadSettings = _DEFAULTS, where: str | None = None
) -> Tensor:
    """Read an image file, or its bytes; `precomp_sdk.image_io` says what becomes of it.

    Shapes and units:
        returns: (3, H, W) uint8, sRGB, upright.

    Args:
        source: a path, or the bytes of a file.
        settings: limits and levels.
        where: names the image in messages; the path by default.

    Raises:
        ImageError: it cannot be read, is no image, is empty, broken or too large, or has samples without a known range.
    """
    return decode_image(source, settings=settings, where=where).samples


def decode_image(
    source: str | PathLike[str] | bytes | Image.Image, *, settings: ReadSettings = _DEFAULTS, where: str | None = None
) -> DecodedImage:
    """Read an image as `read_image` does, or a Pillow image, and say how it was stored; raises what that raises."""
    where = where or _name_of(source)
    if isinstance(source, Image.Image):
        return _upright(_loaded(source, settings, where), settings, where)
    with opened(source, settings, where) as found:
        return _upright(found, settings, where)


def decode_labels(
    source: str | PathLike[str] | bytes | Image.Image, *, settings: ReadSettings = _DEFAULTS, where: str | None = None
) -> DecodedImage:
    """Read an image whose samples are classes: gray of any depth, or palette indices, whose colours do not matter.

    Nothing is scaled. The file's own orientation is applied.

    Shapes and units:
        returns: samples (H, W) int64.

    Raises:
        ImageError: as `read_image` raises it; or it has colours or a lossy format, so its samples are no classes.
    """
    where = where or _name_of(source)
    if isinstance(source, Image.Image):
        return _labels(_loaded(source, settings, where), where)
    with opened(source, settings, where) as found:
        return _labels(found, where)


def as_image(source: ImageSource, *, settings: ReadSettings = _DEFAULTS, where: str | None = None) -> Tensor:
    """Return an image of any common type as a uint8 tensor: what every function that takes an image accepts.

    A file (path or bytes) or a Pillow image is converted as `precomp_sdk.image_io` says. Arrays are (H, W), (H, W, 1),
    (H, W, 3) or (H, W, 4) with alpha; tensors are (H, W), (1, H, W), (3, H, W) or (4, H, W). Integers of 8 bits are
    taken as they are, of 16 by `ReadSettings.white_level`; floats lie in [0, 1] and are rounded to 8 bits.

    Shapes and units:
        returns: (3, H, W) uint8, sRGB, on the CPU; a tensor of that kind itself.

    Raises:
        ImageError: it is of no such type, shape or range, or as `read_image` raises it.

    Example:
        >>> as_image(np.zeros((4, 6), np.uint8)).shape
        torch.Size([3, 4, 6])
    """
    if isinstance(source, str | PathLike | bytes | bytearray | memoryview):
        return read_image(
            source if isinstance(source, str | PathLike) else bytes(source), settings=settings, where=where
        )
    where = where or f"image ({type(source).__name__})"
    if isinstance(source, Image.Image):
        return decode_image(source, settings=settings, where=where).samples
    if isinstance(source, Tensor):
        if source.dtype == torch.uint8 and source.ndim == 3 and source.shape[0] == 3 and source.numel():
            return source.cpu()
        values = source.detach().cpu()
        values = values.float() if values.is_floating_point() else values
        array = (values[None] if values.ndim == 2 else values).numpy()
        if array.ndim != 3 or array.shape[0] not in (1, 3, 4):
            expected = "a tensor (3, H, W), (1, H, W), (H, W), or (4, H, W) with alpha"
            raise _shape_error(
                where, expected, tuple(source.shape), "Put the channels first; give one image at a time."
            )
        return _from_array(np.moveaxis(array, 0, -1), settings, where)
    if isinstance(source, np.ndarray):
        array = source[..., None] if source.ndim == 2 else source
        if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
            expected = "an array (H, W, 3), (H, W, 1), (H, W), or (H, W, 4) with alpha"
            raise _shape_error(where, expected, source.shape, "Put the channels last; give one image at a time.")
        return _from_array(array, settings, where)
    raise ImageError(
        where=where,
        expected="a path, the bytes of a file, a Pillow image, an array or a tensor",
        got=f"{' '.join(repr(source).split()):.80}",
        remedy="Convert it to one of these.",
    )


def _from_array(array: NDArray[Any], settings: ReadSettings, where: str) -> Tensor:
    """Convert (H, W, C) samples of any type."""
    if array.size == 0:
        raise _shape_error(where, "an image of at least one pixel", array.shape, "Look at what it was made from.")
    check_pixels((array.shape[1], array.shape[0]), settings, where)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "f":
        if not (float(array.min()) >= 0.0 and float(array.max()) <= 1.0):  # also where one is not a number
            raise ImageError(
                where=where,
                expected="floats in [0, 1]",
                got=f"{array.min():g} to {array.max():g}",
                remedy="Divide by the value that is white, or round to uint8.",
            )
        array = to_uint8(torch.from_numpy(np.ascontiguousarray(array, np.float32))).numpy()
    elif array.dtype.kind not in "ui":
        raise _shape_error(where, "numbers", array.dtype, "Convert it to uint8.")
    if array.dtype != np.uint8:
        array = scale_samples(array, settings.white_level, where)
    return _tensor(to_srgb(Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array))))


def _upright(found: OpenedImage, settings: ReadSettings, where: str) -> DecodedImage:
    samples = _tensor(to_srgb(scale_to_8_bit(found.image, found.low, settings.white_level, where)))
    return _turned(samples, found)


def _labels(found: OpenedImage, where: str) -> DecodedImage:
    image = found.image
    kind = image.format
    if kind in _LOSSY:
        got, remedy = (
            f"the lossy format {kind}, which mixes the classes",
            "Write masks as PNG, from the classes themselves.",
        )
    elif image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
        got = f"an image of mode {image.mode!r}"
        remedy = "Write the classes themselves, 0, 1, 2 ..., as samples of an 8-bit gray PNG."
    else:
        return _turned(torch.from_numpy(np.array(image, dtype=np.int64)), found)
    expected = "one class per pixel: a gray or a palette image in a format without loss"
    raise unreadable(where, expected, got, remedy)


def _turned(samples: Tensor, found: OpenedImage) -> DecodedImage:
    """Apply the orientation that the loaded image still has: Pillow applies that of TIFF itself."""
    left = orientation_of(found.image) if found.orientation != 1 else 1
    return DecodedImage(turn_upright(samples, left).contiguous(), found.orientation)


def _loaded(image: Image.Image, settings: ReadSettings, where: str) -> OpenedImage:
    """Load a Pillow image that a program holds; it stays as it is."""
    refuse_format(image.format, where)
    check_pixels(image.size, settings, where)
    orientation = orientation_of(image)
    try:
        image.load()
    except Exception as error:  # Pillow's readers raise whatever their parsing runs into
        reason = str(error) or type(error).__name__
        raise unreadable(where, "a whole and valid image", f"a corrupt or truncated one ({reason})") from error
    return OpenedImage(image, None, orientation)


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()  # (H, W, 3) -> (3, H, W)


def _name_of(source: object) -> str:
    if isinstance(source, bytes):
        return f"image of {len(source)} bytes"
    return f"image ({type(source).__name__})" if isinstance(source, Image.Image) else str(source)


def _shape_error(where: str, expected: str, got: object, remedy: str) -> ImageError:
    return ImageError(where=where, expected=expected, got=str(got), remedy=remedy)
