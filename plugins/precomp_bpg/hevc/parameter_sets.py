"""HEVC's parameter sets, as far as an intra image needs them.

Source:
    ITU-T H.265 (v8), 7.3.1 to 7.3.5, annexes A and E; the fixed values are those of the BPG format.
"""

from dataclasses import dataclass
from typing import Final

from precomp_bpg.hevc.bits import BitReader, BitWriter
from precomp_bpg.hevc.nal import SPS, VPS, make_nal, rbsp
from precomp_bpg.hevc.tools import (
    CodingTools,
    checked,
    need,
    read_extension,
    read_pcm,
    read_sizes,
    refused,
    write_extension,
    write_pcm,
    write_sizes,
)

__all__ = [
    "PictureParameters",
    "SequenceParameters",
    "build_sps",
    "build_vps",
    "parse_pps",
    "parse_sps",
]

_EXTENDED_SAR: Final = 255
_LEVELS: Final = (  # largest luma image, general_level_idc (table A.8)
    (36_864, 30),
    (122_880, 60),
    (245_760, 63),
    (552_960, 90),
    (983_040, 93),
    (2_228_224, 120),
    (8_912_896, 150),
    (35_651_584, 180),
)
_NO_LEVEL_LIMIT: Final = 255  # level 8.5
_BT601: Final = 5  # matrix_coeffs of JFIF's YCbCr
_UNSPECIFIED: Final = 2


@dataclass(frozen=True, slots=True)
class SequenceParameters:
    """An SPS.

    Args:
        chroma_format: 0 gray, 1 4:2:0, 2 4:2:2, 3 4:4:4.
        width: coded luma samples.
        height: coded luma samples.
        bit_depth: of luma and chroma.
        tools: what BPG keeps.
        window: samples that the conformance window takes off, in chroma units: left, right, top, bottom.
        jfif_colour: the VUI says full range and BT.601.
    """

    chroma_format: int
    width: int
    height: int
    bit_depth: int
    tools: CodingTools
    window: tuple[int, int, int, int] = (0, 0, 0, 0)
    jfif_colour: bool = False


@dataclass(frozen=True, slots=True)
class PictureParameters:
    """A PPS."""

    identifier: int
    dependent_slices: bool
    output_flag_present: bool
    extra_slice_header_bits: int
    sign_data_hiding: bool
    init_qp: int
    transform_skip: bool
    cu_qp_delta: bool
    cb_qp_offset: int
    cr_qp_offset: int
    transquant_bypass: bool
    tiles: bool
    wavefront: bool


def _write_profile(writer: BitWriter, sps: SequenceParameters) -> None:
    main = sps.chroma_format == 1 and sps.bit_depth == 8
    profile = 1 if main else 4
    writer.u(8, profile)  # profile space 0, main tier
    writer.u(32, 0x6000_0000 if main else 0x0800_0000)  # compatible with profiles 1 and 2, or 4
    writer.u(4, 0b1001)  # progressive, frames only
    if main:
        writer.u(44, 0)
    else:  # constraint flags: depth at most 12, 10, 8; chroma at most 4:2:2, 4:2:0, none; intra, still, low bit rate
        depths = [sps.bit_depth <= limit for limit in (12, 10, 8)]
        for flag in (*depths, *(sps.chroma_format <= limit for limit in (2, 1, 0)), True, True, True):
            writer.flag(flag)
        writer.u(35, 0)
    samples = sps.width * sps.height
    writer.u(8, next((level for limit, level in _LEVELS if samples <= limit), _NO_LEVEL_LIMIT))


def build_vps(sps: SequenceParameters) -> bytes:
    """Return the VPS of a single intra image as a NAL unit."""
    writer = BitWriter()
    writer.u(32, 0b0000_11_000000_000_1 << 16 | 0xFFFF)  # id, base layer, layers, sub-layers, nesting, reserved
    _write_profile(writer, sps)
    _write_image_buffer(writer)
    writer.u(6, 0)  # highest layer
    writer.ue(0)  # one layer set
    writer.u(2, 0)  # no timing, no extension
    return make_nal(VPS, writer.rbsp())


def _write_image_buffer(writer: BitWriter) -> None:
    writer.flag(True)
    for _ in range(3):  # images - 1, reordering, latency
        writer.ue(0)


def build_sps(sps: SequenceParameters) -> bytes:
    """Return the SPS as a NAL unit: the fields given, the fixed ones as BPG has them."""
    writer = BitWriter()
    writer.u(8, 1)  # VPS 0, one sub-layer, nesting
    _write_profile(writer, sps)
    writer.ue(0)
    writer.ue(sps.chroma_format)
    if sps.chroma_format == 3:
        writer.flag(False)  # separate planes
    writer.ue(sps.width)
    writer.ue(sps.height)
    writer.flag(any(sps.window))
    if any(sps.window):
        for offset in sps.window:
            writer.ue(offset)
    writer.ue(sps.bit_depth - 8)
    writer.ue(sps.bit_depth - 8)
    writer.ue(4)  # log2_max_pic_order_cnt_lsb: 8
    _write_image_buffer(writer)
    write_sizes(writer, sps.tools)
    writer.ue(sps.tools.intra_depth)  # for inter blocks, which there are none of
    writer.ue(sps.tools.intra_depth)
    writer.u(2, 0b01)  # no scaling lists, AMP
    writer.flag(sps.tools.sao)
    write_pcm(writer, sps.tools.pcm)
    writer.ue(0)  # no reference image sets
    writer.u(2, 0b01)  # no long-term references, temporal motion vectors
    writer.flag(sps.tools.strong_smoothing)
    writer.flag(sps.jfif_colour)
    if sps.jfif_colour:
        _write_vui(writer)
    write_extension(writer, sps.tools.range_flags)
    return make_nal(SPS, writer.rbsp())


def _write_vui(writer: BitWriter) -> None:
    writer.u(2, 0)  # aspect ratio, overscan
    writer.u(6, 0b1_101_1_1)  # video signal: unspecified format, full range, colour description
    writer.u(24, 1 << 16 | 13 << 8 | _BT601)  # sRGB primaries and transfer
    writer.u(8, 0)  # chroma location, neutral, fields, display window, timing, restrictions


def parse_sps(nal: bytes) -> SequenceParameters:
    """Read an SPS.

    Raises:
        BitstreamError: it is damaged, or has what a BPG file cannot carry.
    """
    reader = BitReader(rbsp(nal), "SPS")
    reader.u(4)
    need(reader, "one sub-layer", reader.u(3), 0)
    reader.u(1)
    reader.u(96)  # profile, tier, level
    reader.ue()
    chroma_format = reader.ue()
    if chroma_format > 3 or (chroma_format == 3 and reader.flag()):
        raise refused(reader.where, "chroma format 0..3 in joint planes", chroma_format)
    width, height = reader.ue(), reader.ue()
    window = tuple(reader.ue() if present else 0 for present in [reader.flag()] * 4)
    bit_depth = 8 + reader.ue()
    need(reader, "the same bit depth for chroma", 8 + reader.ue(), bit_depth)
    need(reader, "POC of 4..16 bits", reader.ue() <= 12, True)
    reader.flag()
    for _ in range(3):
        reader.ue()
    sizes = read_sizes(reader)
    reader.ue()
    depth = reader.ue()
    need(reader, "no scaling lists", reader.u(1), 0)
    reader.u(1)
    sao = reader.flag()
    pcm = read_pcm(reader) if reader.flag() else None
    need(reader, "no reference image sets", reader.ue(), 0)
    need(reader, "no long-term references", reader.u(1), 0)
    reader.u(1)
    strong = reader.flag()
    jfif = reader.flag() and _read_vui(reader)
    flags = read_extension(reader) if reader.flag() else None
    tools = checked(CodingTools(*sizes, depth, sao, strong, pcm, flags), bit_depth, reader.where)
    return SequenceParameters(
        chroma_format, width, height, bit_depth, tools, (window[0], window[1], window[2], window[3]), jfif
    )


def _read_vui(reader: BitReader) -> bool:
    """Skip the VUI; return whether it says full range and BT.601."""
    if reader.flag() and reader.u(8) == _EXTENDED_SAR:
        reader.u(32)
    if reader.flag():
        reader.u(1)
    full, matrix = False, _UNSPECIFIED
    if reader.flag():
        reader.u(3)
        full = reader.flag()
        if reader.flag():
            reader.u(16)
            matrix = reader.u(8)
    if reader.flag():
        reader.ue()
        reader.ue()
    reader.u(3)
    if reader.flag():
        for _ in range(4):
            reader.ue()
    if reader.flag():
        reader.u(64)
        if reader.flag():
            reader.ue()
        need(reader, "no HRD parameters", reader.u(1), 0)
    if reader.flag():
        reader.u(3)
        for _ in range(5):
            reader.ue()
    return full and matrix in (_BT601, _BT601 + 1)


def parse_pps(nal: bytes) -> PictureParameters:
    """Read a PPS.

    Raises:
        BitstreamError: it is damaged.
    """
    reader = BitReader(rbsp(nal), "PPS")
    identifier = reader.ue()
    need(reader, "SPS 0", reader.ue(), 0)
    dependent, output_flag, extra = reader.flag(), reader.flag(), reader.u(3)
    hiding = reader.flag()
    reader.u(1)
    reader.ue()
    reader.ue()
    init_qp = 26 + reader.se()
    reader.u(1)
    skip = reader.flag()
    cu_qp_delta = reader.flag()
    if cu_qp_delta:
        reader.ue()
    cb, cr = reader.se(), reader.se()
    reader.u(3)  # slice offsets, weighted prediction
    bypass, tiles, wavefront = reader.flag(), reader.flag(), reader.flag()
    return PictureParameters(
        identifier, dependent, output_flag, extra, hiding, init_qp, skip, cu_qp_delta, cb, cr, bypass, tiles, wavefront
    )
