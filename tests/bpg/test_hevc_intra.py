"""The byte stream of HEVCIntraCodec: cropping, colour, and what is refused."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from precomp_bpg import BPGCodec, HEVCIntraCodec, parse_bpg
from precomp_bpg._av import load_av
from precomp_bpg.decoder import decode_planes
from precomp_bpg.hevc import SequenceParameters, build_sps, parse_sps
from precomp_bpg.hevc.nal import byte_stream, make_nal, nal_type, split_nals
from precomp_sdk import BitstreamError

END = b"\0\0\0\1\x4a\x01"


@pytest.fixture(scope="module")
def units(image: Callable[..., Tensor]) -> list[bytes]:
    payload = HEVCIntraCodec().encode(image(17, 26), 30)
    assert payload.endswith(END)
    return split_nals(payload[4 : -len(END)], "here")


def stream(units: list[bytes]) -> bytes:
    return byte_stream(units) + END


def with_sps(units: list[bytes], **changed: object) -> bytes:
    sps: SequenceParameters = replace(parse_sps(units[1]), **changed)  # type: ignore[arg-type]
    return stream([units[0], build_sps(sps), *units[2:]])


def test_order_of_units(units: list[bytes]) -> None:
    kinds = [nal_type(unit) for unit in units]
    assert kinds[:4] == [32, 33, 39, 34]
    assert kinds[4:] in ([19], [20])
    sps = parse_sps(units[1])
    assert (sps.width, sps.height, sps.window) == (32, 24, (0, 3, 0, 3))
    assert sps.jfif_colour
    assert torch.equal(HEVCIntraCodec().decode(stream(units)), HEVCIntraCodec().decode(stream(units[1:])))


def test_other_players_show_it(image: Callable[..., Tensor]) -> None:
    source = image(48, 50)
    for chroma in ("420", "422", "444"):
        codec = HEVCIntraCodec(chroma=chroma)  # type: ignore[arg-type]
        payload = codec.encode(source, 24)
        av = load_av()
        context = av.CodecContext.create("hevc", "r")
        frames = [*context.decode(av.Packet(payload)), *context.decode(None)]
        assert [(frame.width, frame.height) for frame in frames] == [(50, 48)]
        assert (frames[0].colorspace, frames[0].color_range) == (5, 2)  # BT.470 B/G as in JFIF, full range
        file = parse_bpg(BPGCodec(chroma=chroma).encode(source, 24))  # type: ignore[arg-type]
        for plane, wanted in zip(frames[0].planes, decode_planes(file.colour, 50, 48), strict=True):
            shown = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width]
            assert np.array_equal(shown, wanted)


def test_even_sizes_need_no_message(image: Callable[..., Tensor]) -> None:
    for chroma, height, width in (("420", 18, 26), ("422", 17, 26), ("444", 17, 25), ("gray", 17, 25)):
        payload = HEVCIntraCodec(chroma=chroma).encode(image(height, width), 30)  # type: ignore[arg-type]
        assert 39 not in [nal_type(unit) for unit in split_nals(payload[4:], "here")]


def test_foreign_messages_are_ignored(units: list[bytes]) -> None:
    expected = HEVCIntraCodec().decode(stream(units))
    foreign = make_nal(39, bytes((5, 17)) + bytes(17) + b"\x80")
    assert torch.equal(HEVCIntraCodec().decode(stream([*units[:2], foreign, *units[2:]])), expected)
    without = HEVCIntraCodec().decode(stream([unit for unit in units if nal_type(unit) != 39]))
    assert without.shape == (3, 18, 26)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"window": (1, 2, 0, 3)}, "no cropping at the left or top"),
        ({"window": (0, 3, 1, 2)}, "no cropping at the left or top"),
        ({"jfif_colour": False}, "8 bits, JFIF's colour"),
        ({"bit_depth": 10}, "8 bits, JFIF's colour"),
        ({"window": (0, 9, 0, 3)}, "an image padded to whole coding blocks"),
        ({"window": (0, 16, 0, 3)}, "an image of 1 to 67108864 pixels"),
        ({"width": 40_000, "height": 40_000}, "an image of 1 to 67108864 pixels"),
        ({"width": 4096, "height": 4096}, "one bit or more for each"),
        ({"width": 31}, "padded to whole"),
    ],
)
def test_sps_refused(units: list[bytes], changed: dict[str, object], message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        HEVCIntraCodec().decode(with_sps(units, **changed))


def test_one_column_that_is_dropped() -> None:
    source = torch.full((3, 1, 1), 99, dtype=torch.uint8)
    payload = HEVCIntraCodec().encode(source, 30)
    units = split_nals(payload[4 : -len(END)], "here")
    sps = parse_sps(units[1])
    assert sps.window == (0, 7, 0, 7)
    nothing_left = replace(sps, chroma_format=3, window=(0, 15, 0, 15))
    with pytest.raises(BitstreamError, match="an image of one or more pixels; got 0x0"):
        HEVCIntraCodec().decode(stream([units[0], build_sps(nothing_left), *units[2:]]))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([0, 2, 3, 4], "one SPS; got 0"),
        ([0, 1, 1, 2, 3, 4], "one SPS; got 2"),
        ([0, 1, 2, 3], "an image in layer 0; got none"),
        ([0, 1, 4], "FFmpeg|one image of"),
    ],
)
def test_units_missing(units: list[bytes], chosen: list[int], message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        HEVCIntraCodec().decode(stream([units[index] for index in chosen]))


def test_truncation_raises(units: list[bytes]) -> None:
    payload = stream(units)
    for length in range(1, len(payload)):
        with pytest.raises(BitstreamError):
            HEVCIntraCodec().decode(payload[:length])
