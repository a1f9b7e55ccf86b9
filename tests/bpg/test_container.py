"""The BPG file: every field of its header, its extensions, its layers, and what is refused."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from precomp_bpg import Alpha, ColourSpace, PixelFormat, decode_bpg, parse_bpg, slice_qp
from precomp_bpg._numbers import write_ue7
from precomp_bpg.container import MAX_PIXELS, CodedImage, check_size, first_image, write_bpg
from precomp_bpg.encoder import encode_image
from precomp_bpg.hevc.nal import make_nal, nal_type
from precomp_sdk import BitstreamError

Builder = Callable[..., bytes]


@pytest.fixture(scope="module")
def coded(make_image: Callable[..., np.ndarray]) -> CodedImage:
    return encode_image(make_image(17, 26), 33, PixelFormat.C420, "default").image


@pytest.fixture(scope="module")
def gray(make_image: Callable[..., np.ndarray]) -> CodedImage:
    return encode_image(make_image(17, 26, 9), 20, PixelFormat.GRAY, "default").image


def test_what_is_written_is_the_format(coded: CodedImage, file_builder: Builder) -> None:
    payload = write_bpg(26, 17, PixelFormat.C420, coded)
    assert payload[:8].hex(" ") == "42 50 47 fb 20 00 1a 11"
    assert payload == file_builder(26, 17, coded)
    file = parse_bpg(payload)
    assert file.colour == coded
    assert (file.width, file.height, file.pixel_format, file.bit_depth) == (26, 17, PixelFormat.C420, 8)
    assert (file.colour_space, file.limited_range, file.alpha) == (ColourSpace.BT601, False, Alpha.NONE)
    assert not file.animation
    assert file.alpha_plane is None
    assert slice_qp(file.colour) == 33


@pytest.mark.parametrize(("pixel_format", "first"), [(0, "00"), (1, "20"), (2, "40"), (3, "60")])
def test_format_byte(pixel_format: int, first: str, make_image: Callable[..., np.ndarray]) -> None:
    coded = encode_image(make_image(9, 9), 40, PixelFormat(pixel_format), "fast")
    payload = write_bpg(9, 9, coded.pixel_format, coded.image)
    assert payload[4:6].hex() == first + "00"
    assert parse_bpg(payload).pixel_format == pixel_format


def test_every_flag(coded: CodedImage, gray: CodedImage, file_builder: Builder) -> None:
    payload = file_builder(
        26, 17, coded, pixel_format=4, alpha=gray, alpha_bits=(1, 1), colour_space=3, limited=1, animation=1
    )
    file = parse_bpg(payload)
    assert (file.pixel_format, file.alpha, file.colour_space) == (4, Alpha.PREMULTIPLIED, ColourSpace.BT709)
    assert file.limited_range
    assert file.animation
    assert file.alpha_plane == gray
    for bits, alpha in (((1, 0), Alpha.STRAIGHT), ((0, 1), Alpha.CMYK_W)):
        assert parse_bpg(file_builder(26, 17, coded, alpha=gray, alpha_bits=bits)).alpha is alpha


def test_extensions_are_skipped(coded: CodedImage, file_builder: Builder) -> None:
    plain = decode_bpg(file_builder(26, 17, coded)).rgb
    for extension in (b"", b"\x02\x05hello", write_ue7(77) + write_ue7(300) + bytes(300)):
        for length in (None, 0):
            payload = file_builder(26, 17, coded, extension=extension, length=length)
            assert np.array_equal(decode_bpg(payload).rgb, plain)


def test_bytes_behind_the_image_are_ignored(coded: CodedImage, file_builder: Builder) -> None:
    payload = file_builder(26, 17, coded)
    assert np.array_equal(decode_bpg(payload + b"\0\0\1more").rgb, decode_bpg(payload).rgb)


def test_first_image_of_an_animation(coded: CodedImage, gray: CodedImage, file_builder: Builder) -> None:
    second = b"\0\0\0\1" + coded.nals[0] + b"\0\0\1" + make_nal(1, b"\xd0\x80")
    payload = file_builder(26, 17, coded, animation=1, later=second, extension=b"\x05\x03\x00\x01\x19")
    file = parse_bpg(payload)
    assert file.colour.nals[:2] == coded.nals
    assert np.array_equal(decode_bpg(payload).rgb, decode_bpg(file_builder(26, 17, coded)).rgb)
    another = b"\0\0\1" + coded.nals[1]
    assert parse_bpg(file_builder(26, 17, coded, animation=1, later=another)).colour == coded


def test_sei_and_delimiters_are_dropped(coded: CodedImage, file_builder: Builder) -> None:
    later = b"\0\0\1" + make_nal(40, b"\x84\x02\xab\xcd\x80") + b"\0\0\1" + make_nal(35, b"\x50")
    for length in (None, 0):
        assert parse_bpg(file_builder(26, 17, coded, later=later, length=length)).colour == coded
    with pytest.raises(BitstreamError, match="whole SEI messages"):
        parse_bpg(file_builder(26, 17, coded, later=later[:-7], length=0))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("", "a file that starts with 42 50 47 fb; got nothing"),
        ("504e47fb", "a file that starts with"),
        ("425047fb", "expected 3 more bits; got 0"),
        ("425047fbc000 0101", "pixel format 0..5; got 6"),
        ("425047fb2100 0101", r"a bit depth out of \(8, 10, 12\); got 9"),
        ("425047fb2600 0101", "a bit depth"),
        ("425047fb2050 0101", "colour space 0..4, and 0 for gray; got 5"),
        ("425047fb0010 0101", "colour space 0..4, and 0 for gray; got 1"),
        ("425047fb2000 8001", "shortest form; got 80 01"),
        ("425047fb2000 01", "shortest form; got the end"),
        ("425047fb2000 010100", "image data up to byte 10; got 9 bytes"),
        ("425047fb2000 01010540", "image data up to byte 14; got 10 bytes"),
        ("425047fb2008 010100 8f00 00", "image data"),
    ],
)
def test_header_refused(head: str, message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        parse_bpg(bytes.fromhex(head))


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (0, 17, "got 0x17"),
        (26, 0, "got 26x0"),
        (40_000, 40_000, "an image of 1 to 67108864 pixels"),
        ((1 << 32) - 1, (1 << 32) - 1, "an image of 1 to 67108864 pixels"),
        (40_000, 1, "sides of at most 32768"),
        (8192, 8193, "an image of 1 to 67108864 pixels"),
        (8192, 8192, "one bit or more for each of 262144 blocks"),
    ],
)
def test_size_claims(coded: CodedImage, file_builder: Builder, width: int, height: int, message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        parse_bpg(file_builder(width, height, coded))


def test_flat_images_pass_the_bound_on_blocks() -> None:
    flat = np.full((3, 1024, 2048), 128, np.uint8)
    image = encode_image(flat, 51, PixelFormat.GRAY, "fast").image
    payload = write_bpg(2048, 1024, PixelFormat.GRAY, image)
    assert len(payload) < 1000
    assert np.array_equal(decode_bpg(payload).rgb, flat)
    check_size(8192, 8192, image.sps.tools, MAX_PIXELS // 64**2 // 8, "here")


@pytest.mark.parametrize(
    ("nals", "message"),
    [
        ([34], "an image in layer 0; got none"),
        ([], "an image in layer 0; got none"),
        ([34, 33], "no VPS or SPS among the image data; got NAL unit type 33"),
        ([32, 34, 19], "no VPS or SPS among the image data; got NAL unit type 32"),
        ([34, 1], "an IDR image that starts with its first slice; got NAL unit type 1"),
        ([34, 21], "an IDR image that starts with its first slice; got NAL unit type 21"),
        ([34, -19], "an IDR image that starts with its first slice; got NAL unit type 19"),
    ],
)
def test_image_refused(nals: list[int], message: str) -> None:
    units = [make_nal(abs(kind), b"\xc0\x80" if kind > 0 else b"\x40\x80") for kind in nals]
    with pytest.raises(BitstreamError, match=message):
        first_image(units, 0, "here")


def test_slices_of_one_image_stay_together() -> None:
    units = [make_nal(34, b"\x80"), make_nal(19, b"\xc0\x80"), make_nal(19, b"\x40\x80"), make_nal(19, b"\xc1\x80")]
    assert first_image(units, 0, "here") == tuple(units[:3])


def test_missing_alpha_image(coded: CodedImage, gray: CodedImage, file_builder: Builder) -> None:
    payload = file_builder(26, 17, coded, alpha=CodedImage(gray.sps, gray.nals[:1]), alpha_bits=(1, 0))
    with pytest.raises(BitstreamError, match="an image in layer 1"):
        parse_bpg(payload)


def test_lossless_of_jctvc_is_refused_with_its_reason(
    make_image: Callable[..., np.ndarray], file_builder: Builder
) -> None:
    from precomp_bpg._av import encode_frame, load_av
    from precomp_bpg.hevc import parse_pps, parse_sps
    from precomp_bpg.hevc.nal import split_nals

    frame = load_av().VideoFrame(64, 64, "yuv444p")
    for plane, source in zip(frame.planes, make_image(64, 64), strict=True):
        plane.update(source)
    stream = encode_frame(frame, "superfast", "log-level=none:info=0:keyint=1:repeat-headers=1:lossless=1:pools=none")
    nals = split_nals(stream.lstrip(b"\0").removeprefix(b"\x01"), "x265")
    sps = parse_sps(next(nal for nal in nals if nal_type(nal) == 33))
    kept = tuple(nal for nal in nals if nal_type(nal) in (34, 19, 20))
    assert parse_pps(kept[0]).transquant_bypass
    # x265's own lossless files decode, to the very image (planes G, B, R: colour space 1).
    decoded = decode_bpg(file_builder(64, 64, CodedImage(sps, kept), pixel_format=3, colour_space=1)).rgb
    assert np.array_equal(decoded, make_image(64, 64)[[2, 0, 1]])
    flags = tuple(index == 2 for index in range(9))
    claimed = CodedImage(replace(sps, tools=replace(sps.tools, range_flags=flags)), kept)
    with pytest.raises(BitstreamError, match="implicit RDPCM in lossless blocks, which FFmpeg decodes wrongly"):
        decode_bpg(file_builder(64, 64, claimed, pixel_format=3))
