"""Plain HEVC intra: BPG's image as a byte stream that any HEVC decoder plays."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Final, Literal

import numpy as np
import torch
from torch import Tensor

from precomp_bpg._av import load_av, versions
from precomp_bpg.colour import planes_to_rgb
from precomp_bpg.container import MAX_PIXELS, CodedImage, check_size, first_image
from precomp_bpg.decoder import decode_planes
from precomp_bpg.encoder import CHROMA, EFFORTS, encode_image
from precomp_bpg.formats import ColourSpace, PixelFormat
from precomp_bpg.hevc import build_sps, build_vps, parse_sps
from precomp_bpg.hevc.nal import EOB, SPS, VPS, byte_stream, make_nal, nal_type, rbsp, split_nals
from precomp_bpg.hevc.tools import refused
from precomp_sdk import BitstreamError, Codec, QualityScale
from precomp_sdk.validation import check_choice, check_whole_number

__all__ = ["HEVCIntraCodec"]

_WHERE: Final = "HEVC intra stream"
_PREFIX_SEI: Final = 39
_USER_DATA: Final = 5  # payload type user_data_unregistered
_ODD_SIZE: Final = bytes.fromhex("7f0d3c51b6d84a0e9a44c1e2f05b6d17")  # names our message; the number means nothing else
_END: Final = b"\x00\x00\x00\x01" + bytes((EOB << 1, 1))


class HEVCIntraCodec(Codec):
    """One HEVC intra image as a byte stream of annex B.

    The SPS carries the cropping, and full-range BT.601 as its colour. Where chroma is halved, the SPS can only crop to
    even sizes: a user data message of 22 bytes then says which last row or column to drop, and other players show it.
    The stream ends in an end-of-bitstream unit, by which a truncated one is known.

    Args:
        chroma: ``"420"``, ``"422"``, ``"444"``, or ``"gray"``, which drops the colour.
        effort: ``"fast"``, ``"default"`` or ``"best"``.
        max_pixels: largest image that is encoded or decoded.

    Raises:
        OptionError: an option has a value it does not take.
        MissingDependencyError: PyAV with libx265 is not installed.
    """

    name: ClassVar[str] = "hevc-intra"
    file_suffix: ClassVar[str] = ".hevc"
    source: ClassVar[str] = "ITU-T H.265 (v8), annex B"
    quality_scale: ClassVar[QualityScale] = QualityScale(
        "QP", 0, 51, higher_is_better=False, ladder=(25, 28, 31, 34, 37, 40, 44)
    )
    limits = frozenset({"max_pixels"})

    def __init__(
        self,
        *,
        chroma: Literal["420", "422", "444", "gray"] = "420",
        effort: Literal["fast", "default", "best"] = "default",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        check_choice(chroma, repr(self.name), "chroma", CHROMA)
        check_choice(effort, repr(self.name), "effort", EFFORTS)
        load_av()
        self._chroma, self._effort = chroma, effort
        self.max_pixels: Final = check_whole_number(max_pixels, repr(self.name), "max_pixels", 1)

    @property
    def options(self) -> Mapping[str, object]:
        """The options this codec was constructed with."""
        return {"chroma": self._chroma, "effort": self._effort, "max_pixels": self.max_pixels}

    @property
    def version(self) -> str:
        """Versions of PyAV, libavcodec and x265."""
        return versions()

    def _encode(self, image: Tensor, quality: float) -> bytes:
        coded = encode_image(
            np.ascontiguousarray(image.numpy()), int(quality), CHROMA[self._chroma], self._effort, self.max_pixels
        )
        across, down = _units(coded.image.sps.chroma_format)
        right, odd_width = divmod(coded.image.sps.width - coded.width, across)
        below, odd_height = divmod(coded.image.sps.height - coded.height, down)
        sps = replace(coded.image.sps, window=(0, right, 0, below), jfif_colour=True)
        nals = [build_vps(sps), build_sps(sps)]
        if odd_width or odd_height:
            message = _ODD_SIZE + bytes((odd_height << 1 | odd_width,))
            nals.append(make_nal(_PREFIX_SEI, bytes((_USER_DATA, len(message))) + message + b"\x80"))
        return byte_stream((*nals, *coded.image.nals)) + _END

    def _decode(self, payload: bytes) -> Tensor:
        if not payload.startswith(b"\x00\x00\x00\x01") or not payload.endswith(_END):
            raise BitstreamError(
                where=_WHERE,
                expected="a start code first and an end-of-bitstream unit last",
                got=f"{payload[:4].hex(' ')} .. {payload[-len(_END) :].hex(' ')}",
                remedy="The stream is truncated, or not one of this codec.",
            )
        nals = split_nals(payload[4 : -len(_END)], _WHERE)
        sets = [nal for nal in nals if nal_type(nal) == SPS]
        if len(sets) != 1:
            raise refused(_WHERE, "one SPS", len(sets))
        sps = parse_sps(sets[0])
        across, down = _units(sps.chroma_format)
        left, right, top, below = sps.window
        width, height = sps.width - across * right, sps.height - down * below
        check_size(width, height, sps.tools, len(payload), _WHERE, self.max_pixels)
        if left or top or not sps.jfif_colour or sps.bit_depth != 8:
            raise refused(_WHERE, "8 bits, JFIF's colour and no cropping at the left or top", sps)
        if (sps.width, sps.height) != (sps.tools.padded(width), sps.tools.padded(height)):
            raise refused(_WHERE, "an image padded to whole coding blocks", f"{sps.width}x{sps.height}")
        odd = _odd_size(nals)
        width, height = width - (odd & 1), height - (odd >> 1)
        if not (width and height):
            raise refused(_WHERE, "an image of one or more pixels", f"{width}x{height}")
        others = [nal for nal in nals if nal_type(nal) not in (VPS, SPS)]
        image = CodedImage(replace(sps, window=(0, 0, 0, 0), jfif_colour=False), first_image(others, 0, _WHERE))
        planes = decode_planes(image, width, height)
        rgb = planes_to_rgb(planes, PixelFormat(sps.chroma_format), ColourSpace.BT601, 8, limited_range=False)
        return torch.from_numpy(rgb)


def _units(chroma_format: int) -> tuple[int, int]:
    """Luma samples per chroma sample, across and down."""
    return (2 if chroma_format in (1, 2) else 1), (2 if chroma_format == 1 else 1)


def _odd_size(nals: list[bytes]) -> int:
    """Bit 0: drop the last column; bit 1: drop the last row."""
    for nal in nals:
        if nal_type(nal) == _PREFIX_SEI:
            body = rbsp(nal)
            if body[:1] == bytes((_USER_DATA,)) and body[2:18] == _ODD_SIZE and len(body) > 18:
                return body[18] & 3
    return 0
