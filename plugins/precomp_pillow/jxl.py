"""JPEG XL, through either of two packages."""

import importlib
from collections.abc import Mapping
from importlib.metadata import version as installed_version
from typing import Any, ClassVar, Final, Literal

import numpy as np
from torch import Tensor

from precomp_pillow._base import (
    MAX_PIXELS,
    check_size,
    damaged,
    missing,
    pixels,
    refused,
    tensor,
)
from precomp_sdk import Codec, QualityScale
from precomp_sdk.jxl_file import decode_jxl
from precomp_sdk.validation import check_choice, check_whole_number

__all__ = ["JPEGXLCodec"]

_MODULES: Final = {"pillow-jxl-plugin": "pillow_jxl", "imagecodecs": "imagecodecs"}
_SIGNATURE: Final = b"\xff\x0a"


class JPEGXLCodec(Codec):
    """Lossy JPEG XL, as a bare codestream.

    Args:
        effort: 1 (fast) to 9 (slow).
        backend: ``"pillow-jxl-plugin"``, ``"imagecodecs"``, or ``"auto"`` for the first of them that is installed.
            Each decodes the other's files; their bytes differ by a few percent.
        max_pixels: largest image that is encoded or decoded.

    Raises:
        OptionError: an option has a value it does not take.
        MissingDependencyError: the package is not installed.
    """

    name: ClassVar[str] = "jpeg-xl"
    file_suffix: ClassVar[str] = ".jxl"
    source: ClassVar[str] = "ISO/IEC 18181-1; quality and effort of libjxl"
    quality_scale: ClassVar[QualityScale] = QualityScale(
        "quality", 1, 99, higher_is_better=True, ladder=(3, 8, 15, 30, 45, 60, 72)
    )
    limits = frozenset({"max_pixels"})

    def __init__(
        self,
        *,
        effort: int = 7,
        backend: Literal["auto", "pillow-jxl-plugin", "imagecodecs"] = "auto",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        check_whole_number(effort, repr(self.name), "effort", 1, 9)
        check_choice(backend, repr(self.name), "backend", ("auto", *_MODULES))
        self.max_pixels = check_whole_number(max_pixels, repr(self.name), "max_pixels", 1)
        wanted = list(_MODULES) if backend == "auto" else [backend]
        self._effort, self._backend = effort, next((name for name in wanted if _load(name)), wanted[0])
        self._library()

    @property
    def options(self) -> Mapping[str, object]:
        """The options this codec was constructed with; ``"auto"`` shows as the package it found."""
        return {"effort": self._effort, "backend": self._backend, "max_pixels": self.max_pixels}

    @property
    def version(self) -> str:
        """The package that does the work, and its version."""
        return f"{self._backend} {installed_version(self._backend)}"

    def _library(self) -> Any:
        library = _load(self._backend)  # by name: a codec travels to worker processes, a module does not
        if library is None:
            raise missing(self.name, " or ".join(_MODULES), f"pip install {self._backend}")
        return library

    def _encode(self, image: Tensor, quality: float) -> bytes:
        check_size(self.name, image, self.max_pixels)
        array, library = pixels(image), self._library()
        try:
            if self._backend == "imagecodecs":
                return bytes(
                    library.jpegxl_encode(
                        array, distance=_distance(quality), effort=self._effort, numthreads=1, usecontainer=False
                    )
                )
            encoder = library.Encoder(
                mode="RGB",
                lossless=False,
                quality=quality,
                decoding_speed=0,
                effort=self._effort,
                use_container=False,
                use_original_profile=False,
                num_threads=0,  # none but this one
            )
            height, width = array.shape[:2]
            return bytes(
                encoder(
                    array.tobytes(), width, height, jpeg_encode=False, exif=None, jumb=None, xmp=None, compress=False
                )
            )
        except Exception as error:  # libjxl's errors come as those of the package
            raise refused(self.name, image, error) from error

    def _decode(self, payload: bytes) -> Tensor:
        if payload[:2] != _SIGNATURE:
            raise damaged(self.name, "a codestream, which starts with ff 0a", payload[:2].hex(" ") or "no bytes")
        image, _ = decode_jxl(
            payload, where=f"{self.name} decoder", max_pixels=self.max_pixels, package=_MODULES[self._backend]
        )
        if image.mode != "RGB":
            raise damaged(self.name, "8-bit RGB", f"an image of mode {image.mode!r}")
        return tensor(np.asarray(image))


def _load(package: str) -> Any | None:
    try:
        module = importlib.import_module(_MODULES[package])
    except ImportError:
        return None
    needed = ("jpegxl_encode", "jpegxl_decode") if package == "imagecodecs" else ("Encoder", "Decoder")
    return module if all(hasattr(module, name) for name in needed) else None


def _distance(quality: float) -> float:
    """What libjxl makes of a quality: a Butteraugli distance, 0.1 to 24."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality * quality - 23 / 20 * quality + 25
