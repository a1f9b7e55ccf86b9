"""x265 does what it is told: every setting shows in a field, at every size, QP and chroma format."""

import re
from collections.abc import Callable

import numpy as np
import pytest

from precomp_bpg import PixelFormat, _av, encoder
from precomp_bpg.container import CodedImage, slice_qp
from precomp_bpg.encoder import CHROMA, EFFORTS, encode_image
from precomp_bpg.hevc import parse_pps, parse_slice_header
from precomp_bpg.hevc.nal import PPS, nal_type
from precomp_bpg.hevc.tools import CodingTools
from precomp_sdk import CodecError

ImageFactory = Callable[..., np.ndarray]


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("chroma", CHROMA)
def test_fields(chroma: str, effort: str, make_image: ImageFactory) -> None:
    pixel_format = CHROMA[chroma]
    coded = encode_image(make_image(96, 80), 31, pixel_format, effort).image
    sps = coded.sps
    assert (sps.chroma_format, sps.width, sps.height, sps.bit_depth) == (pixel_format, 80, 96, 8)
    assert sps.window == (0, 0, 0, 0)
    depth = 2 if effort == "best" else 0
    assert sps.tools == CodingTools(3, 6, 2, 5, depth, sao=True, strong_smoothing=True)
    assert [nal_type(nal) == PPS for nal in coded.nals] == [True, False]
    pps = parse_pps(coded.nals[0])
    assert pps.init_qp == 26
    assert pps.sign_data_hiding
    assert not any((pps.cu_qp_delta, pps.transform_skip, pps.transquant_bypass, pps.tiles, pps.wavefront))
    assert not any((pps.dependent_slices, pps.output_flag_present, pps.extra_slice_header_bits))
    assert (pps.cb_qp_offset, pps.cr_qp_offset) == (0, 0)
    header = parse_slice_header(coded.nals[1], sps, {0: pps})
    assert (header.qp, header.sao_luma, header.first_in_image) == (31, True, True)


@pytest.mark.parametrize(
    ("height", "width", "coded", "block", "smallest"),
    [
        (1, 1, (16, 16), 16, 16),
        (8, 100, (16, 112), 16, 16),
        (9, 9, (16, 16), 16, 8),
        (17, 33, (24, 40), 16, 8),
        (25, 64, (32, 64), 32, 8),
        (56, 57, (56, 64), 32, 8),
        (57, 200, (64, 200), 64, 8),
    ],
)
def test_padding_and_blocks(
    height: int, width: int, coded: tuple[int, int], block: int, smallest: int, make_image: ImageFactory
) -> None:
    sps = encode_image(make_image(height, width), 40, PixelFormat.C420, "default").image.sps
    assert (sps.height, sps.width) == coded
    assert (1 << sps.tools.log2_ctb, 1 << sps.tools.log2_min_cb) == (block, smallest)


@pytest.mark.parametrize("effort", EFFORTS)
def test_slice_qp_is_the_one_asked_for(effort: str, make_image: ImageFactory) -> None:
    rgb = make_image(16, 24)
    for qp in range(0, 52, 1 if effort == "default" else 17):
        assert slice_qp(encode_image(rgb, qp, PixelFormat.C420, effort).image) == qp


@pytest.mark.parametrize("effort", EFFORTS)
def test_x265_knows_every_setting(effort: str, make_image: ImageFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """x265 ignores unknown parameters in silence, but writes what it uses into its SEI when it may."""
    streams = []
    encode = _av.encode_frame

    def with_info(frame: object, preset: str, parameters: str) -> bytes:
        streams.append(encode(frame, preset, parameters.replace("info=0", "info=1")))
        return encode(frame, preset, parameters)

    monkeypatch.setattr(encoder, "encode_frame", with_info)
    encode_image(make_image(64, 64), 29, PixelFormat.C420, effort)
    used = re.search(rb"options: ([ -~]+)", streams[0])
    assert used
    settings = set(used[1].decode().split(" "))
    assert {
        "keyint=1", "bframes=0", "rc-lookahead=0", "scenecut=0", "frame-threads=1", "no-wpp", "repeat-headers",
        "psy-rd=0.00", "psy-rdoq=0.00", "aq-mode=0", "qp=29", "ctu=64", "min-cu-size=8", "sao", "signhide",
    } <= settings  # fmt: skip
    assert ("ipratio=1.00" in settings) == any(item.startswith("ipratio") for item in settings)
    levels = {"fast": "rdoq-level=0", "default": "rdoq-level=2", "best": "rdoq-level=2"}
    assert levels[effort] in settings


def test_efforts_differ(make_image: ImageFactory) -> None:
    rgb = make_image(128, 128)
    sizes = [len(encode_image(rgb, 34, PixelFormat.C420, effort).image.nals[1]) for effort in EFFORTS]
    assert sizes[0] > sizes[1] >= sizes[2] * 0.97


def test_no_message_of_x265_in_the_stream(make_image: ImageFactory) -> None:
    assert all(
        nal_type(nal) in (34, 19, 20) for nal in encode_image(make_image(9, 9), 9, PixelFormat.C420, "best").image.nals
    )


@pytest.mark.parametrize(("height", "width"), [(1, 10_000), (6000, 16)])
def test_very_thin_images(height: int, width: int) -> None:
    rgb = np.zeros((3, height, width), np.uint8)
    coded = encode_image(rgb, 51, PixelFormat.C420, "fast")
    assert (coded.height, coded.width) == (height, width)


@pytest.mark.parametrize(("height", "width"), [(1, 32_769), (8200, 8200)])
def test_too_large(height: int, width: int) -> None:
    rgb = np.broadcast_to(np.zeros((3, 1, 1), np.uint8), (3, height, width))
    with pytest.raises(CodecError, match="at most 67108864 pixels, sides of at most 32768"):
        encode_image(rgb, 30, PixelFormat.C420, "fast")


def test_x265_that_refuses(make_image: ImageFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EFFORTS, "broken", ("no-such-preset", ""))
    with pytest.raises(CodecError, match="x265 to encode 24x16 yuv420p"):
        encode_image(make_image(16, 24), 30, PixelFormat.C420, "broken")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("qp=31", r"QP \(1, 24, 16, 8, \(0, 0, 0, 0\), 30\); got .* 31\)"),
        ("aq-mode=2:crf=20", "chroma format, size, bit depth, window and QP"),
        ("scaling-list=default", "no scaling lists"),
    ],
)
def test_x265_that_does_something_else(
    parameters: str, message: str, make_image: ImageFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EFFORTS, "other", ("superfast", parameters))
    with pytest.raises(CodecError, match=message):
        encode_image(make_image(16, 24), 30, PixelFormat.C420, "other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stream: stream[:40], "SPS, PPS and an IDR slice that BPG can carry"),
        (lambda stream: b"", "SPS, PPS and an IDR slice that BPG can carry"),
        (lambda stream: stream + stream[stream.rindex(b"\0\0\1") :], "chroma format, size, bit depth, window and QP"),
    ],
    ids=["no slice", "nothing", "two slices"],
)
def test_x265_that_writes_something_else(
    change: Callable[[bytes], bytes], message: str, make_image: ImageFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = _av.encode_frame
    monkeypatch.setattr(encoder, "encode_frame", lambda *told: change(encode(*told)))
    with pytest.raises(CodecError, match=message):
        encode_image(make_image(16, 24), 30, PixelFormat.C420, "fast")


def test_version_names_all_three() -> None:
    assert re.fullmatch(r"PyAV [\d.]+, libavcodec [\d.]+, x265 \S+ \(build \d+\)", _av.versions())


def test_coded_image_is_closed(make_image: ImageFactory) -> None:
    coded = encode_image(make_image(16, 24), 30, PixelFormat.C420, "fast").image
    assert isinstance(coded, CodedImage)
    assert not coded.open_end
