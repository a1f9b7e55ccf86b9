"""The coding tools of an HEVC sequence that a BPG file keeps: its compact header.

Source:
    The BPG format's ``hevc_header``; ITU-T H.265 (v8), 7.3.2.2 and 7.4.3.2 for ranges.
"""

from dataclasses import dataclass
from typing import Final

from precomp_bpg.hevc.bits import BitReader, BitWriter
from precomp_sdk import BitstreamError

__all__ = [
    "CodingTools",
    "PcmTools",
    "checked",
    "need",
    "read_extension",
    "read_pcm",
    "read_sizes",
    "read_tools",
    "refused",
    "write_extension",
    "write_pcm",
    "write_sizes",
    "write_tools",
]

_IMPLICIT_RDPCM: Final = 2
_NOT_IN_FFMPEG: Final = ((4, "extended_precision_processing"), (8, "cabac_bypass_alignment"))


@dataclass(frozen=True, slots=True)
class PcmTools:
    """PCM coding: bit depths of luma and chroma, and block sizes as powers of two."""

    luma_bits: int
    chroma_bits: int
    log2_min: int
    log2_max: int
    loop_filter_off: bool


@dataclass(frozen=True, slots=True)
class CodingTools:
    """What BPG keeps of an SPS; sizes are powers of two.

    Args:
        log2_min_cb: smallest coding block, 3..6.
        log2_ctb: coding tree block, 4..6.
        log2_min_tb: smallest transform block, 2..5.
        log2_max_tb: largest transform block, 2..5.
        intra_depth: ``max_transform_hierarchy_depth_intra``.
        sao: sample adaptive offset.
        strong_smoothing: strong intra smoothing.
        pcm: PCM coding, or None.
        range_flags: the nine flags of the range extension in their order in the SPS; None where it is absent.
    """

    log2_min_cb: int
    log2_ctb: int
    log2_min_tb: int
    log2_max_tb: int
    intra_depth: int
    sao: bool
    strong_smoothing: bool
    pcm: PcmTools | None = None
    range_flags: tuple[bool, ...] | None = None

    @property
    def implicit_rdpcm(self) -> bool:
        """Whether ``implicit_rdpcm_enabled_flag`` is set."""
        return self.range_flags is not None and self.range_flags[_IMPLICIT_RDPCM]

    def padded(self, size: int) -> int:
        """Round a width or a height up to whole smallest coding blocks."""
        return -(-size >> self.log2_min_cb) << self.log2_min_cb

    def blocks(self, width: int, height: int) -> int:
        """Number of coding tree blocks that cover an image."""
        return -(-width >> self.log2_ctb) * -(-height >> self.log2_ctb)


def read_tools(reader: BitReader, bit_depth: int) -> CodingTools:
    """Read BPG's compact header.

    Raises:
        BitstreamError: a value is out of H.265's range, or names a tool that the decoder does not have.
    """
    sizes = read_sizes(reader)
    depth, sao = reader.ue(), reader.flag()
    pcm = read_pcm(reader) if reader.flag() else None
    strong = reader.flag()
    flags = read_extension(reader) if reader.flag() else None
    return checked(CodingTools(*sizes, depth, sao, strong, pcm, flags), bit_depth, reader.where)


def write_tools(writer: BitWriter, tools: CodingTools) -> None:
    """Append BPG's compact header."""
    write_sizes(writer, tools)
    writer.ue(tools.intra_depth)
    writer.flag(tools.sao)
    write_pcm(writer, tools.pcm)
    writer.flag(tools.strong_smoothing)
    write_extension(writer, tools.range_flags)


def read_sizes(reader: BitReader) -> tuple[int, int, int, int]:
    """Read the four block sizes: coding block, coding tree block, transform blocks."""
    min_cb = reader.ue() + 3
    ctb = min_cb + reader.ue()
    min_tb = reader.ue() + 2
    return min_cb, ctb, min_tb, min_tb + reader.ue()


def write_sizes(writer: BitWriter, tools: CodingTools) -> None:
    """Append the four block sizes."""
    writer.ue(tools.log2_min_cb - 3)
    writer.ue(tools.log2_ctb - tools.log2_min_cb)
    writer.ue(tools.log2_min_tb - 2)
    writer.ue(tools.log2_max_tb - tools.log2_min_tb)


def read_pcm(reader: BitReader) -> PcmTools:
    """Read what follows a set ``pcm_enabled_flag``."""
    luma, chroma = reader.u(4) + 1, reader.u(4) + 1
    smallest = reader.ue() + 3
    return PcmTools(luma, chroma, smallest, smallest + reader.ue(), reader.flag())


def write_pcm(writer: BitWriter, pcm: PcmTools | None) -> None:
    """Append ``pcm_enabled_flag`` and what follows it."""
    writer.flag(pcm is not None)
    if pcm:
        writer.u(4, pcm.luma_bits - 1)
        writer.u(4, pcm.chroma_bits - 1)
        writer.ue(pcm.log2_min - 3)
        writer.ue(pcm.log2_max - pcm.log2_min)
        writer.flag(pcm.loop_filter_off)


def read_extension(reader: BitReader) -> tuple[bool, ...] | None:
    """Read what follows a set ``sps_extension_present_flag``."""
    in_range = reader.flag()
    if others := reader.u(7):
        raise refused(reader.where, "no SPS extension but the range extension", f"extension bits {others:07b}")
    return tuple(reader.flag() for _ in range(9)) if in_range else None


def write_extension(writer: BitWriter, flags: tuple[bool, ...] | None) -> None:
    """Append ``sps_extension_present_flag`` and what follows it."""
    writer.flag(flags is not None)
    if flags is not None:
        writer.u(8, 0x80)
        for flag in flags:
            writer.flag(flag)


def checked(tools: CodingTools, bit_depth: int, where: str) -> CodingTools:
    """Return ``tools`` if H.265 allows them and FFmpeg decodes them.

    Raises:
        BitstreamError: it does not.
    """
    largest = min(tools.log2_ctb, 5)
    if not (
        4 <= tools.log2_ctb <= 6
        and tools.log2_min_tb < tools.log2_min_cb
        and tools.log2_max_tb <= largest
        and tools.intra_depth <= tools.log2_ctb - tools.log2_min_tb
    ):
        raise refused(where, "block sizes that H.265 allows", tools)
    pcm = tools.pcm
    if pcm and not (
        max(pcm.luma_bits, pcm.chroma_bits) <= bit_depth
        and min(tools.log2_min_cb, 5) <= pcm.log2_min <= pcm.log2_max <= largest
    ):
        raise refused(where, "PCM sizes and depths that H.265 allows", pcm)
    for index, name in _NOT_IN_FFMPEG:
        if tools.range_flags and tools.range_flags[index]:
            raise refused(where, "tools of the range extension that FFmpeg decodes", name)
    return tools


def refused(where: str, expected: str, got: object) -> BitstreamError:
    """The error of a stream that is damaged or of a kind not decoded."""
    return BitstreamError(
        where=where, expected=expected, got=str(got), remedy="The file is damaged, or of a kind not decoded here."
    )


def need(reader: BitReader, expected: str, got: int, value: int) -> None:
    """Refuse a field that has another value than the one it may have.

    Raises:
        BitstreamError: it has.
    """
    if got != value:
        raise refused(reader.where, expected, got)
