"""Bits, Exp-Golomb codes and ue7."""

import random

import pytest

from precomp_bpg._numbers import read_ue7, write_ue7
from precomp_bpg.hevc.bits import BitReader, BitWriter
from precomp_sdk import BitstreamError


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8100"), (256, "8200"), (16_383, "ff7f"), ((1 << 32) - 1, "8fffffff7f")],
)
def test_ue7_of_known_numbers(value: int, written: str) -> None:
    assert write_ue7(value).hex() == written
    assert read_ue7(b"\xaa" + bytes.fromhex(written) + b"\x05", 1, "here") == (value, 1 + len(written) // 2)


@pytest.mark.parametrize("written", ["", "81", "8001", "80", "9fffffff7f", "818080808001", "ffffffffff"])
def test_ue7_refuses(written: str) -> None:
    with pytest.raises(BitstreamError, match=r"here: expected a number of at most 32 bits"):
        read_ue7(bytes.fromhex(written), 0, "here")


def test_what_is_written_is_read() -> None:
    chance = random.Random(0)
    writer = BitWriter()
    items = [(chance.randrange(4), chance.randrange(1, 20), chance.getrandbits(30)) for _ in range(500)]
    for kind, bits, value in items:
        match kind:
            case 0:
                writer.u(bits, value % (1 << bits))
            case 1:
                writer.flag(bool(value & 1))
            case _:
                writer.ue(value >> bits)
    reader = BitReader(writer.rbsp(), "here")
    for kind, bits, value in items:
        match kind:
            case 0:
                assert reader.u(bits) == value % (1 << bits)
            case 1:
                assert reader.flag() == bool(value & 1)
            case 2:
                assert reader.ue() == value >> bits
            case _:
                code = value >> bits
                assert reader.se() == ((code + 1) // 2 if code % 2 else -code // 2)
    assert reader.flag()  # the stop bit
    assert reader.left < 8
    assert reader.u(reader.left) == 0


@pytest.mark.parametrize(("bits", "value"), [("1", 0), ("010", 1), ("011", -1), ("00100", 2), ("00101", -2)])
def test_signed_codes_of_the_standard(bits: str, value: int) -> None:
    assert BitReader(int(bits.ljust(8, "0"), 2).to_bytes(), "here").se() == value


def test_end_of_data() -> None:
    reader = BitReader(b"\xff", "here")
    assert reader.u(5) == 31
    with pytest.raises(BitstreamError, match="here: expected 4 more bits; got 3, then the end"):
        reader.u(4)


def test_endless_zeros() -> None:
    with pytest.raises(BitstreamError, match="32 leading zeros"):
        BitReader(bytes(100), "here").ue()
    longest = BitWriter()
    longest.ue((1 << 32) - 1)
    assert BitReader(longest.zero_padded(), "here").ue() == (1 << 32) - 1
