"""The real JPEG codec: libjpeg-turbo through Pillow, in memory."""

import io
import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

import numpy as np
import PIL
import torch
from PIL import Image, ImageFile, features
from torch import Tensor

from precomp_sdk import Codec, CodecError, OptionError, QualityScale, decode_jpeg
from precomp_sdk.jpeg_file import MAX_PIXELS, MAX_SCANS
from precomp_sdk.validation import check_whole_number

from ._tables import quality_percent, scaled_tables

__all__ = ["JPEGCodec", "Subsampling"]

Subsampling = Literal["4:2:0", "4:2:2", "4:4:4", "gray"]

_PILLOW_SUBSAMPLING: Final = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2, "gray": 0}
_buffer_lock = threading.Lock()


class JPEGCodec(Codec):
    """JPEG as Pillow writes it, and every JPEG that libjpeg-turbo reads.

    The decoder returns RGB: gray is repeated, CMYK and YCCK (with Adobe's inversion) are converted. EXIF orientation
    is not applied: it belongs to whoever reads an image, not to a codec. A file that is not whole and valid is an
    error, see `precomp_sdk.jpeg_file`; so is one above a limit, before its pixels take memory or time.

    Args:
        subsampling: chroma resolution, or ``"gray"`` for luma only.
        optimize: Huffman tables made for each image: the same pixels in 7 to 34% fewer bytes, the more the lower the
            quality, for 15% more time. Until version 0.2 the default was False.
        progressive: spectral selection and successive approximation; implies ``optimize``.
        tables: quantization steps in place of Annex K's, ``(2, 8, 8)`` for luma and chroma, whole numbers 1..255 by
            rising frequency row by row; the quality scales them as it scales Annex K's.
        max_pixels: largest image that is encoded or decoded.
        max_scans: most scans of a file that is decoded; encoders write 1 to 12.

    Raises:
        OptionError: an option has no such value.

    Source:
        ITU-T T.81, ITU-T T.871 (JFIF); libjpeg's quality scale.

    Example:
        >>> codec = JPEGCodec(subsampling="4:4:4")
        >>> payload = codec.encode(torch.zeros(3, 5, 7, dtype=torch.uint8), 50)
        >>> tuple(codec.decode(payload).shape)
        (3, 5, 7)
    """

    name = "jpeg"
    source = "ITU-T T.81 and T.871; libjpeg-turbo through Pillow"
    file_suffix = ".jpg"
    quality_scale = QualityScale(
        "quality", 1, 100, higher_is_better=True, ladder=(3, 5, 8, 12, 18, 26, 38), integer=True
    )
    limits = frozenset({"max_pixels", "max_scans"})

    def __init__(
        self,
        *,
        subsampling: Subsampling = "4:2:0",
        optimize: bool = True,
        progressive: bool = False,
        tables: Sequence[Sequence[Sequence[int]]] | None = None,
        max_pixels: int = MAX_PIXELS,
        max_scans: int = MAX_SCANS,
    ) -> None:
        known = get_args(Subsampling)
        if subsampling not in known:
            raise OptionError.choice("'jpeg'", "subsampling", known, subsampling)
        self.subsampling: Final[Subsampling] = subsampling
        self.optimize: Final = bool(optimize)
        self.progressive: Final = bool(progressive)
        self.tables: Final = None if tables is None else _check_tables(tables)
        self.max_pixels: Final = check_whole_number(max_pixels, "'jpeg'", "max_pixels", minimum=1)
        self.max_scans: Final = check_whole_number(max_scans, "'jpeg'", "max_scans", minimum=1)

    @property
    def options(self) -> Mapping[str, object]:
        """The options of this codec, by name."""
        return MappingProxyType(
            {
                "subsampling": self.subsampling,
                "optimize": self.optimize,
                "progressive": self.progressive,
                "tables": self.tables,
                "max_pixels": self.max_pixels,
                "max_scans": self.max_scans,
            }
        )

    @property
    def version(self) -> str:
        """Versions of Pillow and of the library beneath it, which encode; what decodes gives their pixels."""
        return f"Pillow {PIL.__version__}, libjpeg-turbo {features.version_feature('libjpeg_turbo')}"

    def _encode(self, image: Tensor, quality: float) -> bytes:
        if image.shape[1] * image.shape[2] > self.max_pixels:
            raise CodecError(
                where="jpeg encoder",
                expected=f"at most {self.max_pixels} pixels",
                got=f"{image.shape[2]} x {image.shape[1]}",
                remedy="Raise the option max_pixels, or cut the image into tiles.",
            )
        pillow_image = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
        if self.subsampling == "gray":
            pillow_image = pillow_image.convert("L")
        settings: dict[str, Any] = {
            "format": "JPEG",
            "subsampling": _PILLOW_SUBSAMPLING[self.subsampling],
            "optimize": self.optimize,
            "progressive": self.progressive,
        }
        if self.tables is None:
            settings["quality"] = int(quality)
        else:
            base = torch.tensor(self.tables, dtype=torch.float32)
            steps = scaled_tables(base, quality_percent(torch.tensor([quality])))[0].to(torch.int64).flatten(1).tolist()
            settings["qtables"] = steps[:1] if self.subsampling == "gray" else steps
        try:
            return _save(pillow_image, settings)
        except (OSError, ValueError) as error:  # a side above 65500, or libjpeg's own refusal
            raise CodecError(
                where="jpeg encoder",
                expected="an image that libjpeg encodes",
                got=f"{image.shape[2]} x {image.shape[1]}: {error}",
                remedy="Cut the image into tiles of at most 65500 pixels a side.",
            ) from error

    def _decode(self, payload: bytes) -> Tensor:
        samples = decode_jpeg(payload, where="jpeg decoder", max_pixels=self.max_pixels, max_scans=self.max_scans)
        return torch.from_numpy(samples).permute(2, 0, 1).contiguous()


def _save(image: Image.Image, settings: Mapping[str, Any]) -> bytes:
    """Encode; where Pillow's guess of the buffer was too small for a noisy image, once more with a larger one."""
    buffer = io.BytesIO()
    try:
        image.save(buffer, **settings)
    except OSError:
        if not (settings["optimize"] or settings["progressive"]) or max(image.size) > 65500:
            raise
        buffer = io.BytesIO()
        with _buffer_lock:
            before = ImageFile.MAXBLOCK
            ImageFile.MAXBLOCK = max(before, 8 * image.width * image.height + (1 << 16))
            try:
                image.save(buffer, **settings)
            finally:
                ImageFile.MAXBLOCK = before
    return buffer.getvalue()


def _check_tables(tables: Sequence[Sequence[Sequence[int]]]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    try:
        values = torch.as_tensor(tables)
    except (TypeError, ValueError) as error:
        raise _tables_error(str(error)) from error
    if tuple(values.shape) != (2, 8, 8):
        raise _tables_error(f"shape {tuple(values.shape)}")
    if bool(((values != values.round()) | (values < 1) | (values > 255)).any()):
        raise _tables_error("a step that is not a whole number from 1 to 255")
    return tuple(tuple(tuple(int(step) for step in row) for row in table) for table in values.tolist())


def _tables_error(got: str) -> OptionError:
    return OptionError(
        where="'jpeg', option tables",
        expected="2 x 8 x 8 whole numbers from 1 to 255",
        got=got,
        remedy="Give one 8 x 8 table for luma and one for chroma, or leave the option out.",
    )
