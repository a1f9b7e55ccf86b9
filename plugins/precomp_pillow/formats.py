"""WebP, AVIF and JPEG 2000, as Pillow brings them."""

import io
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal

import PIL
from PIL import ImageFile, Jpeg2KImagePlugin, WebPImagePlugin, features

from precomp_pillow._base import MAX_PIXELS, PillowCodec, missing
from precomp_sdk import QualityScale
from precomp_sdk.avif_file import check_avif, check_avif_boxes
from precomp_sdk.jpeg2000_file import check_jpeg2000
from precomp_sdk.validation import check_choice, check_whole_number
from precomp_sdk.webp_file import check_webp

__all__ = ["AVIFCodec", "JPEG2000Codec", "WebPCodec"]

_UPGRADE: Final = "pip install --upgrade pillow"
_AV1_ENCODER: Final = "aom"
_CHROMA: Final = {"420": "4:2:0", "422": "4:2:2", "444": "4:4:4"}


class WebPCodec(PillowCodec):
    """Lossy WebP.

    Args:
        method: effort, 0 (fast) to 6 (slow).
        max_pixels: largest image that is encoded or decoded.

    Raises:
        OptionError: an option is out of its range.
        MissingDependencyError: Pillow was built without WebP.
    """

    name: ClassVar[str] = "webp"
    source: ClassVar[str] = "RFC 9649; quality and method of libwebp"
    quality_scale: ClassVar[QualityScale] = QualityScale(
        "quality", 0, 100, higher_is_better=True, ladder=(2, 5, 10, 20, 35, 50, 70)
    )
    file_format: ClassVar[str] = "WEBP"

    def __init__(self, *, method: int = 4, max_pixels: int = MAX_PIXELS) -> None:
        check_whole_number(method, repr(self.name), "method", 0, 6)
        if not features.check("webp"):
            raise missing(self.name, "a Pillow built with WebP", _UPGRADE)
        self._method = method
        self.max_pixels = check_whole_number(max_pixels, repr(self.name), "max_pixels", 1)

    @property
    def options(self) -> Mapping[str, object]:
        """The options this codec was constructed with."""
        return {"method": self._method, "max_pixels": self.max_pixels}

    @property
    def version(self) -> str:
        """Versions of Pillow and libwebp."""
        return f"Pillow {PIL.__version__}, libwebp {features.version('webp')}"

    def _save_options(self, quality: float, width: int, height: int) -> dict[str, object]:
        return {"quality": quality, "method": self._method}

    def _reader(self) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
        return WebPImagePlugin.WebPImageFile

    def _check_payload(self, payload: bytes) -> None:
        check_webp(payload, where=f"{self.name} decoder", max_pixels=self.max_pixels)


class AVIFCodec(PillowCodec):
    """AVIF: an AV1 intra image in an ISO file.

    Args:
        chroma: ``"420"``, ``"422"`` or ``"444"``.
        speed: effort, 10 (fast) to 0 (slow).
        max_pixels: largest image that is encoded or decoded.

    Raises:
        OptionError: an option has a value it does not take.
        MissingDependencyError: Pillow was built without an AVIF encoder.
    """

    name: ClassVar[str] = "avif"
    source: ClassVar[str] = "AV1 Image File Format 1.1 (AOMedia); quality and speed of libavif"
    quality_scale: ClassVar[QualityScale] = QualityScale(
        "quality", 0, 100, higher_is_better=True, ladder=(5, 15, 25, 35, 45, 52, 60)
    )
    file_format: ClassVar[str] = "AVIF"

    def __init__(
        self, *, chroma: Literal["420", "422", "444"] = "420", speed: int = 6, max_pixels: int = MAX_PIXELS
    ) -> None:
        check_choice(chroma, repr(self.name), "chroma", _CHROMA)
        check_whole_number(speed, repr(self.name), "speed", 0, 10)
        self._plugin()
        self._chroma, self._speed = chroma, speed
        self.max_pixels = check_whole_number(max_pixels, repr(self.name), "max_pixels", 1)

    @property
    def options(self) -> Mapping[str, object]:
        """The options this codec was constructed with."""
        return {"chroma": self._chroma, "speed": self._speed, "max_pixels": self.max_pixels}

    @property
    def version(self) -> str:
        """Versions of Pillow, libavif and its encoder."""
        encoder = self._plugin().get_codec_version(_AV1_ENCODER)
        return f"Pillow {PIL.__version__}, libavif {features.version('avif')}, {_AV1_ENCODER} {encoder}"

    def _plugin(self) -> Any:
        try:
            from PIL import AvifImagePlugin
        except ImportError as error:
            raise missing(self.name, "a Pillow of 11.3 or later", _UPGRADE) from error
        if not AvifImagePlugin.SUPPORTED or AvifImagePlugin.get_codec_version(_AV1_ENCODER) is None:
            raise missing(self.name, f"a Pillow built with AVIF and {_AV1_ENCODER}", _UPGRADE)
        return AvifImagePlugin

    def _save_options(self, quality: float, width: int, height: int) -> dict[str, object]:
        # One thread and no tiling of its own: the bytes must not depend on the machine's cores.
        return {
            "quality": int(quality),
            "subsampling": _CHROMA[self._chroma],
            "speed": self._speed,
            "codec": _AV1_ENCODER,
            "max_threads": 1,
            "autotiling": False,
        }

    def _reader(self) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
        reader: Callable[[io.BytesIO], ImageFile.ImageFile] = self._plugin().AvifImageFile
        return reader

    def _check_payload(self, payload: bytes) -> None:
        check_avif_boxes(payload, where=f"{self.name} decoder")

    def _check_opened(self, payload: bytes, size: tuple[int, int]) -> None:
        check_avif(payload, size, where=f"{self.name} decoder")


class JPEG2000Codec(PillowCodec):
    """JPEG 2000 with the irreversible wavelet, as a bare codestream.

    Its quality is the PSNR that OpenJPEG aims at, so that a simpler image takes fewer bits; the format's other knob,
    a compression ratio, would give every image the same.

    Args:
        levels: wavelet decompositions, 0 to 10, fewer where the image is too small for them. It is the only setting
            that trades time: the format has no effort.
        max_pixels: largest image that is encoded or decoded.

    Raises:
        OptionError: an option is out of its range.
        MissingDependencyError: Pillow was built without OpenJPEG.
    """

    name: ClassVar[str] = "jpeg2000"
    file_suffix: ClassVar[str] = ".jp2"
    source: ClassVar[str] = "ITU-T T.800; fixed quality of OpenJPEG"
    quality_scale: ClassVar[QualityScale] = QualityScale(
        "PSNR in dB", 10, 70, higher_is_better=True, ladder=(22, 24, 26, 28, 30, 32, 35), integer=False
    )
    file_format: ClassVar[str] = "JPEG2000"

    def __init__(self, *, levels: int = 5, max_pixels: int = MAX_PIXELS) -> None:
        check_whole_number(levels, repr(self.name), "levels", 0, 10)
        if not features.check("jpg_2000"):
            raise missing(self.name, "a Pillow built with OpenJPEG", _UPGRADE)
        self._levels = levels
        self.max_pixels = check_whole_number(max_pixels, repr(self.name), "max_pixels", 1)

    @property
    def options(self) -> Mapping[str, object]:
        """The options this codec was constructed with."""
        return {"levels": self._levels, "max_pixels": self.max_pixels}

    @property
    def version(self) -> str:
        """Versions of Pillow and OpenJPEG."""
        return f"Pillow {PIL.__version__}, OpenJPEG {features.version('jpg_2000')}"

    def _save_options(self, quality: float, width: int, height: int) -> dict[str, object]:
        return {
            "quality_mode": "dB",
            "quality_layers": [quality],
            "irreversible": True,
            "mct": 1,
            "no_jp2": True,
            "num_resolutions": 1 + min(self._levels, min(width, height).bit_length() - 1),
        }

    def _reader(self) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
        return Jpeg2KImagePlugin.Jpeg2KImageFile

    def _check_payload(self, payload: bytes) -> None:
        check_jpeg2000(payload, where=f"{self.name} decoder")
