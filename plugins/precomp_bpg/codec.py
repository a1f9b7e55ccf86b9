"""BPG as a codec of precomp_sdk."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final, Literal

import numpy as np
import torch
from torch import Tensor

from precomp_bpg._av import load_av, versions
from precomp_bpg.binaries import BpgPrograms
from precomp_bpg.colour import Bytes, rgb_to_planes
from precomp_bpg.container import MAX_PIXELS, parse_bpg, slice_qp, write_bpg
from precomp_bpg.decoder import decode_parsed
from precomp_bpg.encoder import CHROMA, EFFORTS, encode_image
from precomp_bpg.formats import PixelFormat
from precomp_sdk import BitstreamError, Codec, CodecError, OptionError, QualityScale
from precomp_sdk.validation import check_choice, check_whole_number

__all__ = ["BPGCodec"]

_X265_SHIFT: Final = 3  # bpgenc's x265 codes intra images this much below its -q
_BACKENDS: Final = ("x265", "bpgenc")
_SCALES: Final = ("slice", "bpgenc")
_ENCODERS: Final = ("x265", "jctvc")


class BPGCodec(Codec):
    """BPG: an HEVC intra image in a small container.

    Args:
        chroma: ``"420"``, ``"422"``, ``"444"``, or ``"gray"``, which drops the colour.
        effort: ``"fast"``, ``"default"`` or ``"best"``.
        backend: ``"x265"`` encodes and decodes in this process (PyAV); ``"bpgenc"`` runs the programs ``bpgenc`` and
            ``bpgdec``, and needs no PyAV.
        qp_scale: what the quality means: ``"slice"`` is the QP in the slice header; ``"bpgenc"`` is the value of
            ``bpgenc -q``, whose x265 codes three below it.
        encoder: ``"x265"`` or ``"jctvc"``, the one inside ``bpgenc``; only ``"x265"`` without it.
        bpgenc: the program, by name or path.
        bpgdec: the program, by name or path.
        timeout_s: how long a program may work on one image.
        max_pixels: largest image that is encoded or decoded.

    Raises:
        OptionError: an option has a value it does not take.
        MissingDependencyError: PyAV with libx265, or a program, is not installed.
    """

    name: ClassVar[str] = "bpg"
    source: ClassVar[str] = "BPG image format specification 0.9.5 (F. Bellard); ITU-T H.265 intra"
    quality_scale: ClassVar[QualityScale] = QualityScale(
        "QP", 0, 51, higher_is_better=False, ladder=(25, 28, 31, 34, 37, 40, 44)
    )
    limits = frozenset({"max_pixels", "timeout_s"})

    unsafe_options: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"backend": "program", "bpgenc": "program", "bpgdec": "program"}
    )

    def __init__(
        self,
        *,
        chroma: Literal["420", "422", "444", "gray"] = "420",
        effort: Literal["fast", "default", "best"] = "default",
        backend: Literal["x265", "bpgenc"] = "x265",
        qp_scale: Literal["slice", "bpgenc"] = "slice",
        encoder: Literal["x265", "jctvc"] = "x265",
        bpgenc: str = "bpgenc",
        bpgdec: str = "bpgdec",
        timeout_s: float = 120.0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        check_choice(chroma, "'bpg'", "chroma", CHROMA)
        check_choice(effort, "'bpg'", "effort", EFFORTS)
        check_choice(backend, "'bpg'", "backend", _BACKENDS)
        check_choice(qp_scale, "'bpg'", "qp_scale", _SCALES)
        if encoder == "jctvc" and backend == "x265":
            raise OptionError(
                where="'bpg', option 'encoder'",
                expected="'x265', which backend 'x265' encodes with",
                got=repr(encoder),
                remedy="jctvc is inside the program bpgenc: add backend='bpgenc'.",
            )
        check_choice(encoder, "'bpg'", "encoder", _ENCODERS if backend == "bpgenc" else _ENCODERS[:1])
        if not isinstance(timeout_s, int | float | np.number) or not timeout_s > 0:
            raise OptionError(
                where="'bpg'", expected="timeout_s above 0", got=repr(timeout_s), remedy="Give a number of seconds."
            )
        self.max_pixels: Final = check_whole_number(max_pixels, "'bpg'", "max_pixels", 1)
        self._options: dict[str, object] = {
            "chroma": chroma,
            "effort": effort,
            "backend": backend,
            "qp_scale": qp_scale,
            "max_pixels": self.max_pixels,
        }
        self._chroma, self._effort, self._encoder, self._qp_scale = chroma, effort, encoder, qp_scale
        self._programs: BpgPrograms | None = None
        if backend == "bpgenc":
            self._programs = BpgPrograms(bpgenc, bpgdec, timeout_s)
            self._options |= {"encoder": encoder, "bpgenc": bpgenc, "bpgdec": bpgdec}
        else:
            load_av()

    @property
    def options(self) -> Mapping[str, object]:
        """The options this codec was constructed with."""
        return self._options

    @property
    def version(self) -> str:
        """Versions of PyAV, libavcodec and x265, or of ``bpgenc``."""
        return self._programs.version() if self._programs else versions()

    def _encode(self, image: Tensor, quality: float) -> bytes:
        rgb = np.ascontiguousarray(image.numpy())
        if self._programs:
            return self._encode_outside(self._programs, rgb, int(quality))
        qp = int(quality) if self._qp_scale == "slice" else max(int(quality) - _X265_SHIFT, 0)
        coded = encode_image(rgb, qp, CHROMA[self._chroma], self._effort, self.max_pixels)
        return write_bpg(coded.width, coded.height, coded.pixel_format, coded.image)

    def _encode_outside(self, programs: BpgPrograms, rgb: Bytes, quality: int) -> bytes:
        exact = self._qp_scale == "slice"
        q = quality + _X265_SHIFT if exact and self._encoder == "x265" else quality
        if q > self.quality_scale.maximum:
            raise CodecError(
                where="bpgenc",
                expected=f"a slice QP up to {self.quality_scale.maximum - _X265_SHIFT:g}, as far as its x265 goes",
                got=str(quality),
                remedy="Use qp_scale='bpgenc', encoder='jctvc' or backend='x265'.",
            )
        source = rgb_to_planes(rgb, PixelFormat.GRAY)[0] if self._chroma == "gray" else rgb
        payload = programs.encode(source, q, self._chroma, self._effort, self._encoder)
        try:
            file = parse_bpg(payload, max_pixels=self.max_pixels)
            got = (file.height, file.width, slice_qp(file.colour) if exact else quality)
        except BitstreamError as error:
            raise _unlike("a BPG file", str(error)) from error
        if got != (*rgb.shape[1:], quality):
            raise _unlike(f"height, width and slice QP {(*rgb.shape[1:], quality)}", str(got))
        return payload

    def _decode(self, payload: bytes) -> Tensor:
        file = parse_bpg(
            payload, max_pixels=self.max_pixels
        )  # refuses what is truncated or too large, before a program sees it
        if self._programs is None:
            return torch.from_numpy(decode_parsed(file).rgb)
        rgb = self._programs.decode(payload)
        if rgb.shape[1:] != (file.height, file.width):
            raise BitstreamError(
                where="bpgdec",
                expected=f"an image of {file.width}x{file.height}, as the file says",
                got=f"{rgb.shape[2]}x{rgb.shape[1]}",
                remedy="Decode it with backend='x265'.",
            )
        return torch.from_numpy(rgb)


def _unlike(expected: str, got: str) -> CodecError:
    return CodecError(
        where="bpgenc",
        expected=f"it to write {expected}",
        got=got,
        remedy="This bpgenc differs from version 0.9.8: use qp_scale='bpgenc', or backend='x265'.",
    )
