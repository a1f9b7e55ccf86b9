"""What the codecs of this plugin share: arrays, options, and a decoder that believes no header."""

import io
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile
from torch import Tensor

from precomp_sdk import BitstreamError, Codec, CodecError, MissingDependencyError

__all__ = [
    "MAX_PIXELS",
    "PillowCodec",
    "check_claim",
    "check_size",
    "damaged",
    "missing",
    "pixels",
    "refused",
    "tensor",
]

MAX_PIXELS: Final = 1 << 26  #: largest image that is coded unless asked for more, 67 megapixels


class PillowCodec(Codec):
    """A codec of one of Pillow's own formats.

    Pillow's reader is called by its class: `PIL.Image.open` would try other formats and warn about sizes that are
    refused here anyway.
    """

    file_format: ClassVar[str]  #: Pillow's name of the format
    limits = frozenset({"max_pixels"})
    max_pixels: int  #: largest image that is encoded or decoded

    @abstractmethod
    def _save_options(self, quality: float, width: int, height: int) -> dict[str, object]:
        """Options of ``Image.save``."""

    @abstractmethod
    def _reader(self) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
        """Pillow's reader of the format."""

    def _check_payload(self, payload: bytes) -> None:
        """Refuse what the reader would accept in error."""

    def _check_opened(self, payload: bytes, size: tuple[int, int]) -> None:
        """Refuse what would be decoded for long, once its (width, height) is known."""

    def _encode(self, image: Tensor, quality: float) -> bytes:
        height, width = image.shape[1:]
        check_size(self.name, image, self.max_pixels)
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
                check_claim(self.name, *image.size, self.max_pixels)
                self._check_opened(payload, image.size)
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


def check_size(codec: str, image: Tensor, max_pixels: int) -> None:
    """Refuse to encode an image that the decoder would refuse.

    Raises:
        CodecError: it is too large.
    """
    if image.shape[1] * image.shape[2] > max_pixels:
        raise CodecError(
            where=f"{codec} encoder",
            expected=f"at most {max_pixels} pixels",
            got=f"{image.shape[2]} x {image.shape[1]}",
            remedy="Raise the option max_pixels, or cut the image into tiles.",
        )


def check_claim(codec: str, width: int, height: int, max_pixels: int) -> None:
    """Refuse an image that is too large to decode, before its pixels take memory.

    Raises:
        BitstreamError: it is.
    """
    if width < 1 or height < 1 or width * height > max_pixels:
        raise damaged(codec, f"an image of 1 to {max_pixels} pixels", f"{width}x{height}")


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
