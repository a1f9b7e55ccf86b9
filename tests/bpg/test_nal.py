"""NAL units, start codes, emulation prevention and SEI."""

import random

import pytest

from precomp_bpg.hevc.nal import (
    byte_stream,
    check_sei,
    layer_id,
    make_nal,
    nal_type,
    rbsp,
    set_layer,
    split_nals,
)
from precomp_sdk import BitstreamError


def test_emulation_prevention_by_hand() -> None:
    assert make_nal(33, bytes.fromhex("0000000000000102000003")).hex(" ") == (
        "42 01 00 00 03 00 00 03 00 00 03 01 02 00 00 03 03"
    )


def test_emulation_prevention_round_trip() -> None:
    chance = random.Random(1)
    for _ in range(300):
        body = bytes(chance.choice((0, 0, 0, 1, 2, 3, 4, 255)) for _ in range(chance.randrange(1, 40))) + b"\x80"
        nal = make_nal(34, body)
        assert rbsp(nal) == body
        assert not any(code in nal for code in (b"\0\0\0", b"\0\0\1", b"\0\0\2"))


def test_only_the_front_is_looked_at() -> None:
    assert rbsp(make_nal(19, b"\x01\x02\x03\x04"), 2) == b"\x01\x02"


def test_split_by_both_start_codes() -> None:
    nals = [make_nal(34, b"\x11\x80"), make_nal(19, b"\x22\x80"), make_nal(40, b"\x33\x80")]
    assert split_nals(nals[0] + b"\0\0\1" + nals[1] + b"\0\0\0\1" + nals[2], "here") == nals
    assert split_nals(nals[0] + b"\0\0\0\0\0\1" + nals[1] + b"\0\0", "here") == [nals[0], nals[1] + b"\0\0"]
    assert byte_stream(nals[:2]) == b"\0\0\0\1" + nals[0] + b"\0\0\0\1" + nals[1]


def test_end_of_bitstream_has_no_body() -> None:
    end = bytes((37 << 1, 1))
    assert split_nals(make_nal(34, b"\x80") + b"\0\0\1" + end, "here")[-1] == end


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "three or more bytes; got one of 0"),
        ("4401", "three or more bytes; got one of 2"),
        ("440180 000001 26", "three or more bytes; got one of 1"),
        ("440180 000001 000001 260180", "three or more bytes; got one of 0"),
        ("c40180", "NAL unit header of H.265; got c4 01"),
        ("440080", "NAL unit header of H.265; got 44 00"),
    ],
)
def test_split_refuses(data: str, message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        split_nals(bytes.fromhex(data), "here")


def test_layers() -> None:
    nal = make_nal(34, b"\x80")
    assert (nal_type(nal), layer_id(nal)) == (34, 0)
    moved = set_layer(nal, 1)
    assert (nal_type(moved), layer_id(moved), moved[1]) == (34, 1, 9)
    assert set_layer(moved, 0) == nal


def test_sei_whole_or_not() -> None:
    message = bytes((132, 17)) + bytes(range(17)) + bytes((255, 1, 255, 3)) + bytes(258) + b"\x80"
    check_sei(make_nal(40, message), "here")
    for cut in (1, 2, 5, 100, 270, len(message) - 1):
        with pytest.raises(BitstreamError, match="whole SEI messages"):
            check_sei(make_nal(40, message[:cut]), "here")
