"""HEIC, through pillow-heif."""

import io
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

import numpy as np
from torch import Tensor

from precomp_pillow._base import MAX_PIXELS, check_claim, check_size, damaged, missing, pixels, refused, tensor
from precomp_sdk import BitstreamError, Codec, QualityScale
from precomp_sdk.heif_file import check_heif
from precomp_sdk.validation import check_choice, check_whole_number

__all__ = ["HEICCodec"]

_CHROMA: Final = {"420": 420, "422": 422, "444": 444}
_EFFORTS: Final = {"fast": "superfast", "default": "slow", "best": "placebo"}  # libheif's own default is slow
_TREE_PX: Final = 32


class HEICCodec(Codec):
    """HEIC: an HEVC intra image in an ISO file. The wheels of ``pillow-heif`` bundle x265 (GPL).

    Args:
        chroma: ``"420"``, ``"422"`` or ``"444"``.
        effort: ``"fast"``, ``"default"`` or ``"best"``.
        max_pixels: largest image that is encoded or decoded.

    Raises:
        OptionError: an option has a value it does not take.
        MissingDependencyError: pillow-heif is not installed, or has no HEVC encoder.
    """

    name: ClassVar[str] = "heic"
    source: ClassVar[str] = "ISO/IEC 23008-12; quality of libheif with x265"
    quality_scale: ClassVar[QualityScale] = QualityScale(
        "quality", 0, 100, higher_is_better=True, ladder=(2, 10, 18, 25, 32, 40, 48)
    )
    limits = frozenset({"max_pixels"})

    def __init__(
        self,
        *,
        chroma: Literal["420", "422", "444"] = "420",
        effort: Literal["fast", "default", "best"] = "default",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        check_choice(chroma, repr(self.name), "chroma", _CHROMA)
        check_choice(effort, repr(self.name), "effort", _EFFORTS)
        _library()
        self._chroma, self._effort = chroma, effort
        self.max_pixels = check_whole_number(max_pixels, repr(self.name), "max_pixels", 1)

    @property
    def options(self) -> Mapping[str, object]:
        """The options this codec was constructed with."""
        return {"chroma": self._chroma, "effort": self._effort, "max_pixels": self.max_pixels}

    @property
    def version(self) -> str:
        """Versions of pillow-heif, libheif and its encoder."""
        library = _library()
        about = library.libheif_info()
        return f"pillow-heif {library.__version__}, libheif {about['libheif']}, {about['HEIF']}"

    def _encode(self, image: Tensor, quality: float) -> bytes:
        check_size(self.name, image, self.max_pixels)
        array, target = pixels(image), io.BytesIO()
        height, width = array.shape[:2]
        # Without x265's thread pool, or the bytes depend on the machine's cores.
        parameters = {"preset": _EFFORTS[self._effort], "x265:pools": "none"}
        if self._effort == "best" and min(width, height) < _TREE_PX:
            parameters["x265:ctu"] = str(_TREE_PX)  # x265's placebo does not start on less with the block libheif picks
        try:
            _library().from_bytes("RGB", (width, height), array.tobytes()).save(
                target, quality=int(quality), chroma=_CHROMA[self._chroma], enc_params=parameters
            )
        except Exception as error:  # libheif's errors come as several kinds
            raise refused(self.name, image, error) from error
        return target.getvalue()

    def _decode(self, payload: bytes) -> Tensor:
        check_heif(payload, where=f"{self.name} decoder")
        try:
            image = _library().open_heif(io.BytesIO(payload), convert_hdr_to_8bit=True)
            width, height = image.size
            check_claim(self.name, width, height, self.max_pixels)
            array = np.asarray(image[0])
        except BitstreamError:
            raise
        except Exception as error:
            raise damaged(self.name, "a HEIC file that decodes", repr(error)) from error
        if array.ndim != 3 or array.shape[2] not in (3, 4) or array.dtype != np.uint8:
            raise damaged(self.name, "8-bit RGB", f"{array.dtype} {array.shape}")
        return tensor(array[..., :3])


def _library() -> Any:
    try:
        import pillow_heif
    except ImportError as error:
        raise missing("heic", "pillow-heif", "pip install pillow-heif") from error
    if not pillow_heif.libheif_info()["HEIF"]:
        raise missing("heic", "a pillow-heif with an HEVC encoder", "pip install pillow-heif")
    return pillow_heif
