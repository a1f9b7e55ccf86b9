"""HEVC byte streams: NAL units, start codes and emulation prevention."""

from collections.abc import Iterable
from typing import Final

from precomp_sdk import BitstreamError

__all__ = [
    "EOB",
    "IDR_TYPES",
    "PPS",
    "SEI_TYPES",
    "SPS",
    "VPS",
    "byte_stream",
    "check_sei",
    "layer_id",
    "make_nal",
    "nal_type",
    "rbsp",
    "set_layer",
    "split_nals",
]

VPS: Final = 32
SPS: Final = 33
PPS: Final = 34
EOB: Final = 37  #: end of bitstream
IDR_TYPES: Final = (19, 20)  #: IDR_W_RADL, IDR_N_LP
SEI_TYPES: Final = (39, 40)  #: prefix and suffix

_START_CODE: Final = b"\x00\x00\x00\x01"
_HEADER_BYTES: Final = 2


def split_nals(data: bytes, where: str) -> list[bytes]:
    """Split a byte stream whose first NAL unit has no start code.

    Raises:
        BitstreamError: a NAL unit is shorter than its header, or its header is impossible.

    Source:
        ITU-T H.265, 7.3.1 and annex B.
    """
    parts = data.split(b"\x00\x00\x01")
    # Zeros before a start code belong to it; those at the end of the last unit might be data.
    nals = [part.rstrip(b"\x00") for part in parts[:-1]] + parts[-1:]
    for nal in nals:
        if len(nal) <= _HEADER_BYTES and not (len(nal) == _HEADER_BYTES and nal_type(nal) in (36, EOB)):
            raise BitstreamError(
                where=where,
                expected="NAL units of three or more bytes",
                got=f"one of {len(nal)}",
                remedy="The file is truncated or damaged; fetch it again.",
            )
        if nal[0] & 0x80 or not nal[1] & 7:  # forbidden_zero_bit, nuh_temporal_id_plus1
            raise BitstreamError(
                where=where,
                expected="a NAL unit header of H.265",
                got=nal[:2].hex(" "),
                remedy="The file is damaged; fetch it again.",
            )
    return nals


def byte_stream(nals: Iterable[bytes]) -> bytes:
    """Join NAL units, each behind a four-byte start code."""
    return b"".join(_START_CODE + nal for nal in nals)


def nal_type(nal: bytes) -> int:
    """The ``nal_unit_type``."""
    return nal[0] >> 1 & 0x3F


def layer_id(nal: bytes) -> int:
    """The ``nuh_layer_id``; BPG gives the alpha plane 1 and everything else 0."""
    return (nal[0] & 1) << 5 | nal[1] >> 3


def set_layer(nal: bytes, layer: int) -> bytes:
    """Return the NAL unit with another ``nuh_layer_id``, 0..31."""
    return bytes((nal[0] & 0xFE, layer << 3 | nal[1] & 7)) + nal[2:]


def rbsp(nal: bytes, limit: int | None = None) -> bytes:
    """Return what follows the NAL unit's header, without emulation prevention.

    Args:
        nal: the unit.
        limit: look at no more than this many of its bytes.
    """
    out = bytearray()
    start = _HEADER_BYTES
    data = nal[: None if limit is None else start + limit]
    # Left to right, since 00 00 03 00 00 03 shares no bytes between its two matches.
    while (found := data.find(b"\x00\x00\x03", start)) >= 0:
        out += data[start : found + 2]
        start = found + 3
    return bytes(out + data[start:])


def make_nal(kind: int, payload: bytes) -> bytes:
    """Return a NAL unit of layer 0: header and ``payload``, an RBSP, with emulation prevention."""
    out = bytearray((kind << 1, 1))
    zeros = 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


def check_sei(nal: bytes, where: str) -> None:
    """Refuse an SEI unit that ends inside a message: its messages are skipped, but a file may be cut off in one.

    Raises:
        BitstreamError: it does.

    Source:
        ITU-T H.265, 7.3.5.
    """
    body, at = rbsp(nal), 0
    while body[at:] not in (b"\x80", b""):
        sizes = []
        for _ in range(2):  # payload type, payload size: each a run of 255s and a byte that ends it
            begin = at
            while body[at : at + 1] == b"\xff":
                at += 1
            sizes.append(sum(body[begin : at + 1]))
            at += 1
        at += sizes[1]
    if body[at:] != b"\x80":
        raise BitstreamError(
            where=where,
            expected="whole SEI messages",
            got=f"one that ends {at - len(body)} bytes behind its unit",
            remedy="The file is truncated or damaged; fetch it again.",
        )
