"""HEVC's slice headers, as far as an intra image's QP needs them.

Source:
    ITU-T H.265 (v8), 7.3.6.
"""

from dataclasses import dataclass
from typing import Final

from precomp_bpg.hevc.bits import BitReader
from precomp_bpg.hevc.nal import rbsp
from precomp_bpg.hevc.parameter_sets import PictureParameters, SequenceParameters
from precomp_bpg.hevc.tools import need, refused

__all__ = ["SliceHeader", "parse_slice_header"]

_SLICE_HEADER_BYTES: Final = 64  # more than the fields up to slice_qp_delta take in an intra slice


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """The header of an IDR image's intra slice, as far as its QP."""

    first_in_image: bool
    pps: int
    sao_luma: bool
    sao_chroma: bool
    qp: int


def parse_slice_header(nal: bytes, sps: SequenceParameters, images: dict[int, PictureParameters]) -> SliceHeader:
    """Read the header of an IDR image's first slice, as far as its QP.

    Args:
        nal: the slice.
        sps: its SPS.
        images: the PPSs by identifier.

    Raises:
        BitstreamError: it is damaged, not the first or not intra, or its PPS is missing.
    """
    reader = BitReader(rbsp(nal, _SLICE_HEADER_BYTES), "slice header")
    first = reader.flag()
    reader.u(1)
    identifier = reader.ue()
    if not first or identifier not in images:
        raise refused(reader.where, "the first slice of an image, and its PPS", f"first {first}, PPS {identifier}")
    pps = images[identifier]
    reader.u(pps.extra_slice_header_bits)
    need(reader, "an intra slice", reader.ue(), 2)
    if pps.output_flag_present:
        reader.u(1)
    sao_luma = sps.tools.sao and reader.flag()
    sao_chroma = sps.tools.sao and sps.chroma_format > 0 and reader.flag()
    return SliceHeader(first, identifier, sao_luma, sao_chroma, pps.init_qp + reader.se())
