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
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from precomp_sdk import BitstreamError, Codec, CodecError, OptionError, QualityScale, nearest

from ._tables import quality_percent, scaled_tables

__all__ = ["JPEGCodec", "Subsampling"]

Subsampling = Literal["4:2:0", "4:2:2", "4:4:4", "gray"]

#: Pillow's own limit against decompression bombs; refused here, before memory is taken
MAXIMUM_PIXELS: Final = 89_478_485
_PILLOW_SUBSAMPLING: Final = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2, "gray": 0}
_END_OF_IMAGE: Final = b"\xff\xd9"
_START_OF_SCAN: Final = b"\xff\xda"
_buffer_lock = threading.Lock()


class JPEGCodec(Codec):
    """JPEG as Pillow writes it, and every JPEG that libjpeg-turbo reads.

    The decoder returns RGB: gray is repeated, CMYK and YCCK (with Adobe's inversion) are converted. EXIF orientation
    is not applied: it belongs to whoever reads an image, not to a codec.

    Args:
        subsampling: chroma resolution, or ``"gray"`` for luma only.
        optimize: Huffman tables made for each image.
        progressive: spectral selection and successive approximation; implies ``optimize``.
        tables: quantization steps in place of Annex K's, ``(2, 8, 8)`` for luma and chroma, whole numbers 1..255 by
            rising frequency row by row; the quality scales them as it scales Annex K's.

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
    quality_scale = QualityScale(
        "quality", 1, 100, higher_is_better=True, ladder=(3, 5, 8, 12, 18, 26, 38), integer=True
    )

    def __init__(
        self,
        *,
        subsampling: Subsampling = "4:2:0",
        optimize: bool = False,
        progressive: bool = False,
        tables: Sequence[Sequence[Sequence[int]]] | None = None,
    ) -> None:
        known = get_args(Subsampling)
        if subsampling not in known:
            raise OptionError(
                where="'jpeg', option subsampling",
                expected=f"one of {', '.join(known)}",
                got=repr(subsampling),
                remedy=nearest(str(subsampling), known),
            )
        self.subsampling: Final[Subsampling] = subsampling
        self.optimize: Final = bool(optimize)
        self.progressive: Final = bool(progressive)
        self.tables: Final = None if tables is None else _check_tables(tables)

    @property
    def options(self) -> Mapping[str, object]:
        """The options of this codec, by name."""
        return MappingProxyType(
            {
                "subsampling": self.subsampling,
                "optimize": self.optimize,
                "progressive": self.progressive,
                "tables": self.tables,
            }
        )

    @property
    def version(self) -> str:
        """Versions of Pillow and of the library beneath it."""
        return f"Pillow {PIL.__version__}, libjpeg-turbo {features.version_feature('libjpeg_turbo')}"

    def _encode(self, image: Tensor, quality: float) -> bytes:
        if image.shape[1] * image.shape[2] > MAXIMUM_PIXELS:
            raise CodecError(
                where="jpeg encoder",
                expected=f"at most {MAXIMUM_PIXELS} pixels",
                got=f"{image.shape[2]} x {image.shape[1]}",
                remedy="Cut the image into tiles.",
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
        # Pillow takes a file without its end for whole when only the last bytes are missing.
        if payload.rfind(_END_OF_IMAGE) < payload.find(_START_OF_SCAN):
            raise _bitstream_error("no end-of-image marker after the scan")
        try:
            with JpegImageFile(io.BytesIO(payload)) as image:
                width, height = image.size
                if width * height > MAXIMUM_PIXELS:
                    raise _bitstream_error(f"a header that claims {width} x {height} pixels")
                samples = np.array(image.convert("RGB"))
        except BitstreamError:
            raise
        except Exception as error:  # fed rubbish, Pillow raises OSError, SyntaxError, ValueError, struct.error, ...
            raise _bitstream_error(f"{type(error).__name__}: {error}") from error
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


def _bitstream_error(got: str) -> BitstreamError:
    return BitstreamError(
        where="jpeg decoder",
        expected="a whole, valid JPEG file",
        got=got,
        remedy="Check where the payload was cut or changed; decode only what an encoder returned.",
    )
