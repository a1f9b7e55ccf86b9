"""WebP, AVIF and JPEG 2000, as Pillow brings them."""

import io
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal

import PIL
from PIL import ImageFile, Jpeg2KImagePlugin, WebPImagePlugin, features

from precomp_pillow._base import PillowCodec, check_choice, check_claim, check_whole_number, damaged, missing
from precomp_sdk import QualityScale

__all__ = ["AVIFCodec", "JPEG2000Codec", "WebPCodec"]

_UPGRADE: Final = "pip install --upgrade pillow"
_AV1_ENCODER: Final = "aom"
_CHROMA: Final = {"420": "4:2:0", "422": "4:2:2", "444": "4:4:4"}


class WebPCodec(PillowCodec):
    """Lossy WebP.

    Args:
        method: effort, 0 (fast) to 6 (slow).

    Raises:
        OptionError: the method is out of its range.
        MissingDependencyError: Pillow was built without WebP.
    """

    name: ClassVar[str] = "webp"
    source: ClassVar[str] = "RFC 9649; quality and method of libwebp"
    quality_scale: ClassVar[QualityScale] = QualityScale(
        "quality", 0, 100, higher_is_better=True, ladder=(2, 5, 10, 20, 35, 50, 70)
    )
    file_format: ClassVar[str] = "WEBP"

    def __init__(self, *, method: int = 4) -> None:
        check_whole_number(self.name, "method", method, 0, 6)
        if not features.check("webp"):
            raise missing(self.name, "a Pillow built with WebP", _UPGRADE)
        self._method = method

    @property
    def options(self) -> Mapping[str, object]:
        """The options this codec was constructed with."""
        return {"method": self._method}

    @property
    def version(self) -> str:
        """Versions of Pillow and libwebp."""
        return f"Pillow {PIL.__version__}, libwebp {features.version('webp')}"

    def _save_options(self, quality: float, width: int, height: int) -> dict[str, object]:
        return {"quality": quality, "method": self._method}

    def _reader(self) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
        return WebPImagePlugin.WebPImageFile

    def _check_payload(self, payload: bytes) -> None:
        """Look at the size first: libwebp takes memory for the whole canvas when it opens a file."""
        kind, body = payload[12:16], payload[20:30]
        if payload[:4] != b"RIFF" or payload[8:12] != b"WEBP" or len(body) < 10:
            raise damaged(self.name, "a RIFF file of type WEBP", payload[:16].hex(" "))
        little = int.from_bytes
        if kind == b"VP8 ":
            size = little(body[6:8], "little") & 0x3FFF, little(body[8:10], "little") & 0x3FFF
        elif kind == b"VP8L":
            packed = little(body[1:5], "little")
            size = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        elif kind == b"VP8X":
            size = little(body[4:7], "little") + 1, little(body[7:10], "little") + 1
        else:
            raise damaged(self.name, "an image chunk", kind.hex(" "))
        check_claim(self.name, *size)


class AVIFCodec(PillowCodec):
    """AVIF: an AV1 intra image in an ISO file.

    Args:
        chroma: ``"420"``, ``"422"`` or ``"444"``.
        speed: effort, 10 (fast) to 0 (slow).

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

    def __init__(self, *, chroma: Literal["420", "422", "444"] = "420", speed: int = 6) -> None:
        check_choice(self.name, "chroma", chroma, _CHROMA)
        check_whole_number(self.name, "speed", speed, 0, 10)
        self._plugin()
        self._chroma, self._speed = chroma, speed

    @property
    def options(self) -> Mapping[str, object]:
        """The options this codec was constructed with."""
        return {"chroma": self._chroma, "speed": self._speed}

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


class JPEG2000Codec(PillowCodec):
    """JPEG 2000 with the irreversible wavelet, as a bare codestream.

    Its quality is the PSNR that OpenJPEG aims at, so that a simpler image takes fewer bits; the format's other knob,
    a compression ratio, would give every image the same.

    Args:
        levels: wavelet decompositions, 0 to 10, fewer where the image is too small for them. It is the only setting
            that trades time: the format has no effort.

    Raises:
        OptionError: ``levels`` is out of its range.
        MissingDependencyError: Pillow was built without OpenJPEG.
    """

    name: ClassVar[str] = "jpeg2000"
    source: ClassVar[str] = "ITU-T T.800; fixed quality of OpenJPEG"
    quality_scale: ClassVar[QualityScale] = QualityScale(
        "PSNR in dB", 10, 70, higher_is_better=True, ladder=(22, 24, 26, 28, 30, 32, 35), integer=False
    )
    file_format: ClassVar[str] = "JPEG2000"

    def __init__(self, *, levels: int = 5) -> None:
        check_whole_number(self.name, "levels", levels, 0, 10)
        if not features.check("jpg_2000"):
            raise missing(self.name, "a Pillow built with OpenJPEG", _UPGRADE)
        self._levels = levels

    @property
    def options(self) -> Mapping[str, object]:
        """The options this codec was constructed with."""
        return {"levels": self._levels}

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
        """Walk from marker to marker: OpenJPEG fills in what a truncated codestream lacks."""
        if payload[:4] != b"\xff\x4f\xff\x51":
            raise damaged(self.name, "a codestream that starts with SOC and SIZ", payload[:4].hex(" "))
        at = 2
        while (marker := payload[at : at + 2]) != b"\xff\xd9":
            length = int.from_bytes(payload[at + 2 : at + 4])
            if marker == b"\xff\x90":  # a tile part: its header says where it ends, 0 means at the EOC marker
                whole = int.from_bytes(payload[at + 6 : at + 10])
                at = at + whole if whole else len(payload) - 2
            else:
                at += 2 + length
            if length < 2 or at > len(payload) - 2:
                raise damaged(self.name, "a codestream up to its EOC marker", f"{len(payload)} bytes")
