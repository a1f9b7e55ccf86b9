"""JPEG's strongest free encoders, as anchors: every JPEG decoder reads their files.

They need the extra ``precomp-sdk[jpeg]``. Without it both are still listed, and say at construction what to install.
"""

import importlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from precomp_sdk import Codec, CodecError, MissingDependencyError, QualityScale, decode_jpeg
from precomp_sdk.jpeg_file import MAX_PIXELS, MAX_SCANS
from precomp_sdk.validation import check_whole_number

from .codec import JPEGCodec, Subsampling

__all__ = ["JpegliCodec", "MozJPEGCodec"]

_INSTALL: Final = "pip install 'precomp-sdk[jpeg]'"


class MozJPEGCodec(JPEGCodec):
    """`JPEGCodec`, its files then packed losslessly by MozJPEG: the same pixels, by the best progression it finds.

    Args:
        subsampling: chroma resolution, or ``"gray"`` for luma only.
        tables: quantization steps in place of Annex K's, see `JPEGCodec`.
        max_pixels: largest image that is encoded or decoded.
        max_scans: most scans of a file that is decoded.

    Raises:
        OptionError: an option has no such value.
        MissingDependencyError: ``mozjpeg-lossless-optimization`` is not installed.
    """

    name = "mozjpeg"
    source = "ITU-T T.81; libjpeg-turbo through Pillow, then MozJPEG's lossless optimization"

    def __init__(
        self,
        *,
        subsampling: Subsampling = "4:2:0",
        tables: Sequence[Sequence[Sequence[int]]] | None = None,
        max_pixels: int = MAX_PIXELS,
        max_scans: int = MAX_SCANS,
    ) -> None:
        super().__init__(subsampling=subsampling, tables=tables, max_pixels=max_pixels, max_scans=max_scans)
        _load("mozjpeg_lossless_optimization", "mozjpeg-lossless-optimization", self.name)

    @property
    def options(self) -> Mapping[str, object]:
        """The options of this codec, by name."""
        moot = ("optimize", "progressive")  # MozJPEG chooses both
        return {name: value for name, value in super().options.items() if name not in moot}

    @property
    def version(self) -> str:
        """Versions of what encodes, and of what packs."""
        return f"{super().version}, mozjpeg-lossless-optimization {installed_version('mozjpeg-lossless-optimization')}"

    def _encode(self, image: Tensor, quality: float) -> bytes:
        payload = super()._encode(image, quality)
        library = _load("mozjpeg_lossless_optimization", "mozjpeg-lossless-optimization", self.name)
        try:
            packed: bytes = library.optimize(payload)
        except ValueError as error:
            raise _refused(self.name, image, error) from error
        return min(packed, payload, key=len)  # of tiny images the progression's headers cost more than they save


class JpegliCodec(Codec):
    """JPEG by Google's jpegli: adaptive dead zones and its own tables, at 4:2:0.

    Args:
        max_pixels: largest image that is encoded or decoded.
        max_scans: most scans of a file that is decoded.

    Raises:
        OptionError: a limit is no whole number of 1 or more.
        MissingDependencyError: ``pyjpegli`` is not installed.
    """

    name = "jpegli"
    source = "ITU-T T.81; google/jpegli through pyjpegli"
    quality_scale = QualityScale(
        "quality", 1, 100, higher_is_better=True, ladder=(3, 8, 15, 25, 38, 52, 66), integer=True
    )
    limits = frozenset({"max_pixels", "max_scans"})

    def __init__(self, *, max_pixels: int = MAX_PIXELS, max_scans: int = MAX_SCANS) -> None:
        self.max_pixels: Final = check_whole_number(max_pixels, "'jpegli'", "max_pixels", minimum=1)
        self.max_scans: Final = check_whole_number(max_scans, "'jpegli'", "max_scans", minimum=1)
        _load("pyjpegli", "pyjpegli", self.name)

    @property
    def options(self) -> Mapping[str, object]:
        """The options of this codec, by name."""
        return {"max_pixels": self.max_pixels, "max_scans": self.max_scans}

    @property
    def version(self) -> str:
        """Version of the package that encodes."""
        return f"pyjpegli {installed_version('pyjpegli')}"

    def _encode(self, image: Tensor, quality: float) -> bytes:
        height, width = image.shape[1:]
        if width * height > self.max_pixels:
            raise CodecError(
                where="jpegli encoder",
                expected=f"at most {self.max_pixels} pixels",
                got=f"{width} x {height}",
                remedy="Raise the option max_pixels, or cut the image into tiles.",
            )
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        try:
            return bytes(_load("pyjpegli", "pyjpegli", self.name).encode(pixels.tobytes(), width, height, int(quality)))
        except Exception as error:  # its errors come as several kinds
            raise _refused(self.name, image, error) from error

    def _decode(self, payload: bytes) -> Tensor:
        samples = decode_jpeg(payload, where="jpegli decoder", max_pixels=self.max_pixels, max_scans=self.max_scans)
        return torch.from_numpy(samples).permute(2, 0, 1).contiguous()


def _load(module: str, package: str, codec: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            where=f"{codec!r}", expected=f"the package {package}", got=str(error), remedy=f"Install it: {_INSTALL}"
        ) from error


def _refused(codec: str, image: Tensor, error: Exception) -> CodecError:
    return CodecError(
        where=f"{codec} encoder",
        expected=f"to encode an image of shape {tuple(image.shape)}",
        got=repr(error),
        remedy="JPEG's sides end at 65500 pixels: cut the image into tiles.",
    )
