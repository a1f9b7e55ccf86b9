"""Parameter sets: written, read back, read from x265, and refused."""

from dataclasses import replace

import pytest

from precomp_bpg.hevc import (
    SequenceParameters,
    build_sps,
    build_vps,
    parse_pps,
    parse_slice_header,
    parse_sps,
)
from precomp_bpg.hevc.bits import BitReader, BitWriter
from precomp_bpg.hevc.nal import make_nal, nal_type, rbsp
from precomp_bpg.hevc.tools import CodingTools, PcmTools, read_tools, write_tools
from precomp_sdk import BitstreamError

TOOLS = CodingTools(3, 6, 2, 5, 2, sao=True, strong_smoothing=True)
PLAIN = SequenceParameters(1, 192, 128, 8, TOOLS)
FLAGS = (True, False, True, False, False, True, False, True, False)


def compact(tools: CodingTools) -> bytes:
    writer = BitWriter()
    write_tools(writer, tools)
    return writer.zero_padded()


def test_compact_header_of_bpgenc() -> None:
    assert compact(TOOLS).hex(" ") == "92 47 40"
    assert compact(replace(TOOLS, intra_depth=0)).hex(" ") == "92 4d 00"


@pytest.mark.parametrize(
    "tools",
    [
        TOOLS,
        CodingTools(4, 4, 3, 4, 1, sao=False, strong_smoothing=False),
        CodingTools(6, 6, 5, 5, 0, sao=False, strong_smoothing=True, pcm=PcmTools(7, 8, 5, 5, True)),
        replace(TOOLS, range_flags=FLAGS),
        replace(TOOLS, pcm=PcmTools(8, 5, 3, 5, False), range_flags=(False,) * 9),
    ],
)
def test_tools_survive_both_headers(tools: CodingTools) -> None:
    assert read_tools(BitReader(compact(tools), "header"), 8) == tools
    sps = replace(PLAIN, tools=tools)
    assert parse_sps(build_sps(sps)) == sps


@pytest.mark.parametrize(
    "sps",
    [
        PLAIN,
        SequenceParameters(0, 8, 16, 8, TOOLS),
        SequenceParameters(2, 4096, 8, 10, TOOLS),
        SequenceParameters(3, 264, 32_768, 12, TOOLS, window=(0, 3, 0, 7), jfif_colour=True),
    ],
)
def test_sps_survives(sps: SequenceParameters) -> None:
    nal = build_sps(sps)
    assert nal_type(nal) == 33
    assert b"\0\0\0" not in nal
    assert parse_sps(nal) == sps


def test_profile_and_level() -> None:
    def fields(sps: SequenceParameters) -> tuple[int, int, int, int]:
        body = rbsp(build_sps(sps))
        vps = rbsp(build_vps(sps))
        assert vps[:4] == bytes.fromhex("0c01ffff")
        assert vps[4:16] == body[1:13]  # the same profile, tier and level in both
        return body[1], int.from_bytes(body[2:6]), int.from_bytes(body[6:12]), body[12]

    assert fields(PLAIN) == (1, 0x60000000, 0x9 << 44, 30)
    # Constraint flags: depth at most 12, 10, 8; chroma at most 4:2:2, 4:2:0, none; intra, one image, lower bit rate.
    assert fields(replace(PLAIN, chroma_format=3)) == (4, 0x08000000, 0b1001_111_000_111 << 35, 30)
    assert fields(replace(PLAIN, chroma_format=0, bit_depth=10)) == (4, 0x08000000, 0b1001_110_111_111 << 35, 30)
    assert fields(replace(PLAIN, width=8192, height=4352))[3] == 180
    assert fields(replace(PLAIN, width=8192, height=8192))[3] == 255


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        (CodingTools(3, 3, 2, 3, 1, sao=True, strong_smoothing=True), "block sizes that H.265 allows"),
        (CodingTools(3, 7, 2, 5, 1, sao=True, strong_smoothing=True), "block sizes that H.265 allows"),
        (CodingTools(3, 6, 3, 5, 1, sao=True, strong_smoothing=True), "block sizes that H.265 allows"),
        (CodingTools(3, 4, 2, 5, 1, sao=True, strong_smoothing=True), "block sizes that H.265 allows"),
        (CodingTools(3, 6, 2, 5, 5, sao=True, strong_smoothing=True), "block sizes that H.265 allows"),
        (replace(TOOLS, pcm=PcmTools(9, 8, 3, 5, False)), "PCM sizes and depths"),
        (replace(TOOLS, pcm=PcmTools(8, 8, 3, 6, False)), "PCM sizes and depths"),
        (replace(TOOLS, log2_min_cb=4, pcm=PcmTools(8, 8, 3, 5, False)), "PCM sizes and depths"),
        (replace(TOOLS, range_flags=(False,) * 4 + (True,) + (False,) * 4), "extended_precision_processing"),
        (replace(TOOLS, range_flags=(False,) * 8 + (True,)), "cabac_bypass_alignment"),
    ],
)
def test_tools_refused(tools: CodingTools, message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        read_tools(BitReader(compact(tools), "header"), 8)
    with pytest.raises(BitstreamError, match=message):
        parse_sps(build_sps(replace(PLAIN, tools=tools)))


def test_other_extensions_refused() -> None:
    writer = BitWriter()
    write_tools(writer, TOOLS)
    body = BitReader(writer.zero_padded(), "header")
    changed = BitWriter()
    changed.u(18, body.u(18))  # all up to the flag of the extension, which is the last bit
    changed.u(1, 1)
    changed.u(8, 0b0010_0000)
    with pytest.raises(BitstreamError, match="extension bits 0100000"):
        read_tools(BitReader(changed.zero_padded(), "header"), 8)


def sps_with(**changed: int) -> bytes:
    """An SPS written field by field, with some fields changed."""
    fields = [  # name, bits or 0 for ue(v), value
        ("vps", 4, 0), ("sub_layers", 3, 0), ("nesting", 1, 1), ("profile", 96, 1 << 88), ("id", 0, 0),
        ("chroma", 0, 1), ("planes", 1, 0), ("width", 0, 64), ("height", 0, 64), ("window", 1, 0),
        ("luma_depth", 0, 0), ("chroma_depth", 0, 0), ("poc", 0, 4), ("ordering", 1, 1),
        ("a", 0, 0), ("b", 0, 0), ("c", 0, 0), ("cb", 0, 0), ("ctb", 0, 3), ("tb", 0, 0), ("max_tb", 0, 3),
        ("inter", 0, 0), ("intra", 0, 0), ("scaling", 1, 0), ("amp", 1, 1), ("sao", 1, 1), ("pcm", 1, 0),
        ("rps", 0, 0), ("long_term", 1, 0), ("tmvp", 1, 1), ("strong", 1, 1), ("vui", 1, 0),
        ("aspect", 1, 0), ("aspect_idc", 8, 255), ("sar", 32, 7), ("overscan", 1, 0), ("appropriate", 1, 1),
        ("signal", 1, 0), ("format", 3, 5), ("full", 1, 1), ("description", 1, 1), ("primaries", 16, 0x010D),
        ("matrix", 8, 5), ("location", 1, 0), ("top", 0, 1), ("bottom", 0, 1), ("flags", 3, 0), ("display", 1, 0),
        ("l", 0, 1), ("r", 0, 2), ("t", 0, 3), ("u", 0, 4), ("timing", 1, 0), ("ticks", 64, 1), ("poc_timing", 1, 1),
        ("poc_ticks", 0, 0), ("hrd", 1, 0), ("restriction", 1, 0), ("tiles", 3, 0), ("m", 0, 0), ("n", 0, 0),
        ("o", 0, 0), ("p", 0, 0), ("q", 0, 0), ("extension", 1, 0),
    ]  # fmt: skip
    values = {name: changed.get(name, value) for name, _, value in fields}
    assert set(changed) <= set(values)
    absent = set()
    for flag, names in {
        "vui": [name for name, *_ in fields[32:-1]],
        "aspect": ["aspect_idc", "sar"],
        "overscan": ["appropriate"],
        "signal": ["format", "full", "description", "primaries", "matrix"],
        "description": ["primaries", "matrix"],
        "location": ["top", "bottom"],
        "display": ["l", "r", "t", "u"],
        "timing": ["ticks", "poc_timing", "poc_ticks", "hrd"],
        "restriction": ["tiles", "m", "n", "o", "p", "q"],
    }.items():
        if not values[flag]:
            absent |= set(names)
    if values["chroma"] != 3:
        absent.add("planes")
    writer = BitWriter()
    for name, bits, _ in fields:
        if name not in absent:
            writer.u(bits, values[name]) if bits else writer.ue(values[name])
    return make_nal(33, writer.rbsp())


def test_sps_by_hand() -> None:
    tools = replace(TOOLS, intra_depth=0)
    assert parse_sps(sps_with()) == SequenceParameters(1, 64, 64, 8, tools)
    everything = {"vui": 1, "aspect": 1, "overscan": 1, "location": 1, "display": 1, "timing": 1, "restriction": 1}
    assert parse_sps(sps_with(**everything)) == SequenceParameters(1, 64, 64, 8, tools)
    assert parse_sps(sps_with(**everything, signal=1, matrix=6)).jfif_colour
    assert not parse_sps(sps_with(**everything, signal=1, matrix=1)).jfif_colour
    assert not parse_sps(sps_with(**everything, signal=1, full=0)).jfif_colour
    assert not parse_sps(sps_with(vui=1, signal=1, description=0)).jfif_colour


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sub_layers": 1}, "one sub-layer"),
        ({"chroma": 4}, "chroma format 0..3"),
        ({"chroma": 3, "planes": 1}, "joint planes"),
        ({"chroma_depth": 2}, "the same bit depth"),
        ({"poc": 13}, "POC of 4..16 bits"),
        ({"scaling": 1}, "no scaling lists"),
        ({"rps": 1}, "no reference image sets"),
        ({"long_term": 1}, "no long-term references"),
        ({"vui": 1, "timing": 1, "hrd": 1}, "no HRD parameters"),
    ],
)
def test_sps_refused(changed: dict[str, int], message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        parse_sps(sps_with(**changed))


def test_sps_cut_off() -> None:
    whole = build_sps(PLAIN)
    for length in range(3, len(whole) - 1):
        with pytest.raises(BitstreamError):
            parse_sps(whole[:length])


def pps_with(sps: int = 0, cu_qp_delta: int = 0, extra: int = 0, output: int = 0) -> bytes:
    writer = BitWriter()
    writer.ue(3)
    writer.ue(sps)
    writer.u(2, output)
    writer.u(3, extra)
    writer.u(2, 0b10)
    writer.ue(0)
    writer.ue(0)
    writer.ue(2 * 6 - 1)  # init_qp_minus26 = 6
    writer.u(2, 0b01)
    writer.flag(bool(cu_qp_delta))
    if cu_qp_delta:
        writer.ue(cu_qp_delta)
    writer.ue(2)  # cb offset -1
    writer.ue(3)  # cr offset 2
    writer.u(6, 0b000_101)
    return make_nal(34, writer.rbsp())


def test_pps_and_slice_by_hand() -> None:
    pps = parse_pps(pps_with(cu_qp_delta=2, extra=3, output=1))
    assert (pps.identifier, pps.init_qp, pps.cb_qp_offset, pps.cr_qp_offset) == (3, 32, -1, 2)
    assert (pps.sign_data_hiding, pps.transform_skip, pps.cu_qp_delta) == (True, True, True)
    assert (pps.transquant_bypass, pps.tiles, pps.wavefront) == (True, False, True)
    writer = BitWriter()
    writer.u(2, 0b10)
    writer.ue(3)  # PPS
    writer.u(3, 0)  # extra bits
    writer.ue(2)  # intra
    writer.u(1, 1)  # output
    writer.u(2, 0b10)  # SAO of luma, not of chroma
    writer.ue(2 * 5)  # slice_qp_delta = -5
    nal = make_nal(19, writer.rbsp())
    header = parse_slice_header(nal, PLAIN, {3: pps})
    assert (header.sao_luma, header.sao_chroma, header.qp, header.pps) == (True, False, 27, 3)
    with pytest.raises(BitstreamError, match="and its PPS; got first True, PPS 3"):
        parse_slice_header(nal, PLAIN, {0: pps})
    later = make_nal(19, bytes((rbsp(nal)[0] & 0x7F,)) + rbsp(nal)[1:])
    with pytest.raises(BitstreamError, match="got first False"):
        parse_slice_header(later, PLAIN, {3: pps})


def test_pps_refused() -> None:
    with pytest.raises(BitstreamError, match="SPS 0"):
        parse_pps(pps_with(sps=1))


def test_only_intra_slices() -> None:
    writer = BitWriter()
    writer.u(2, 0b10)
    writer.ue(3)
    writer.ue(1)  # P
    writer.u(8, 0)
    with pytest.raises(BitstreamError, match="an intra slice"):
        parse_slice_header(make_nal(19, writer.rbsp()), PLAIN, {3: parse_pps(pps_with())})


def test_padding_and_block_count() -> None:
    assert [TOOLS.padded(size) for size in (1, 8, 9, 64)] == [8, 8, 16, 64]
    assert TOOLS.blocks(65, 128) == 4
