"""What the codecs of this plugin share: arrays, options, and a decoder that believes no header."""

import io
from abc import abstractmethod
from collections.abc import Callable, Collection
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile
from torch import Tensor

from precomp_sdk import BitstreamError, Codec, CodecError, MissingDependencyError, OptionError, nearest

__all__ = [
    "MAX_PIXELS",
    "PillowCodec",
    "check_choice",
    "check_claim",
    "check_whole_number",
    "damaged",
    "missing",
    "pixels",
    "refused",
    "tensor",
]

MAX_PIXELS: Final = 1 << 26  #: the largest image that is decoded, 67 megapixels


class PillowCodec(Codec):
    """A codec of one of Pillow's own formats.

    Pillow's reader is called by its class: `PIL.Image.open` would try other formats and warn about sizes that are
    refused here anyway.
    """

    file_format: ClassVar[str]  #: Pillow's name of the format

    @abstractmethod
    def _save_options(self, quality: float, width: int, height: int) -> dict[str, object]:
        """Options of ``Image.save``."""

    @abstractmethod
    def _reader(self) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
        """Pillow's reader of the format."""

    def _check_payload(self, payload: bytes) -> None:
        """Refuse what the reader would accept in error."""

    def _encode(self, image: Tensor, quality: float) -> bytes:
        height, width = image.shape[1:]
        target = io.BytesIO()
        try:
            options = self._save_options(quality, width, height)
            Image.fromarray(pixels(image)).save(target, self.file_format, **options)
        except Exception as error:  # each format's library has errors of its own
            raise refused(self.name, image, error) from error
        return target.getvalue()

    def _decode(self, payload: bytes) -> Tensor:
        self._check_payload(payload)
        try:
            with self._reader()(io.BytesIO(payload)) as image:
                check_claim(self.name, *image.size)
                image.load()
                return tensor(np.asarray(image.convert("RGB")))
        except BitstreamError:
            raise
        except Exception as error:  # rubbish makes the libraries raise anything, SyntaxError and SystemError too
            raise damaged(self.name, f"a {self.file_format} file that decodes", repr(error)) from error


def pixels(image: Tensor) -> NDArray[np.uint8]:
    """Return an image (3, H, W) as a contiguous array (H, W, 3)."""
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def tensor(array: NDArray[np.uint8]) -> Tensor:
    """Return an array (H, W, 3) as a contiguous image (3, H, W) with memory of its own."""
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def check_claim(codec: str, width: int, height: int) -> None:
    """Refuse an image that is too large to decode, before its pixels take memory.

    Raises:
        BitstreamError: it is.
    """
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise damaged(codec, f"an image of 1 to {MAX_PIXELS} pixels", f"{width}x{height}")


def check_choice(codec: str, option: str, value: object, valid: Collection[str]) -> None:
    """Refuse a value that an option does not take.

    Raises:
        OptionError: it is none of ``valid``.
    """
    if not isinstance(value, str) or value not in valid:
        raise OptionError(
            where=f"{codec!r}, option {option!r}",
            expected=f"one of {list(valid)}",
            got=repr(value),
            remedy=nearest(str(value), valid),
        )


def check_whole_number(codec: str, option: str, value: object, smallest: int, largest: int) -> None:
    """Refuse a value that is not a whole number of a range.

    Raises:
        OptionError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise OptionError(
            where=f"{codec!r}, option {option!r}",
            expected=f"a whole number from {smallest} to {largest}",
            got=repr(value),
            remedy="Give one of them.",
        )


def damaged(codec: str, expected: str, got: str) -> BitstreamError:
    """The error of a payload that does not decode."""
    return BitstreamError(
        where=f"{codec} decoder",
        expected=expected,
        got=got,
        remedy="The file is truncated, damaged or not of this format.",
    )


def refused(codec: str, image: Tensor, error: Exception) -> CodecError:
    """The error of an image that does not encode."""
    return CodecError(
        where=f"{codec} encoder",
        expected=f"to encode an image of shape {tuple(image.shape)}",
        got=repr(error),
        remedy="The format or its library has a limit here: check the image's size and the codec's options.",
    )


def missing(codec: str, needed: str, command: str) -> MissingDependencyError:
    """The error of a package that is not installed."""
    return MissingDependencyError(where=f"{codec!r}", expected=needed, got="none", remedy=f"Install it: {command}")
