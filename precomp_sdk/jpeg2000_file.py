"""Is a JPEG 2000 file whole, and is it worth its cost: OpenJPEG fills in what is missing without a word."""

from dataclasses import dataclass
from typing import Final

from precomp_sdk.errors import BitstreamError
from precomp_sdk.heif_file import boxes, first_boxes

__all__ = ["check_jpeg2000", "jpeg2000_profile"]

_SIZ, _COD, _COC, _SOT, _SOD, _EOC = b"\xff\x51", b"\xff\x52", b"\xff\x53", b"\xff\x90", b"\xff\x93", b"\xff\xd9"
_BOXES: Final = b"\x00\x00\x00\x0cjP  \r\n\x87\n"  # how a JP2 file begins, with its codestream in a box
_CODESTREAM: Final = b"jp2c"
_MAX_BOXES: Final = 1000
_MAX_SEGMENTS: Final = 200_000
_MAX_TILES: Final = 16_384  # each costs OpenJPEG some 30 us, however small
_LARGEST: Final = 15  # exponent of a precinct's side where a file names none


@dataclass(frozen=True, slots=True)
class _Size:
    """What SIZ says: tiles, the size of a tile, and the sampling (across, down) of each component."""

    tiles: int
    width: int
    height: int
    sampling: tuple[tuple[int, int], ...]


class _FaultError(Exception):
    """What was expected and what came instead."""


def check_jpeg2000(payload: bytes, *, where: str = "JPEG 2000 file") -> None:
    """Refuse a file that is truncated, lacks tiles, or claims more packets than it has bytes.

    Walks from marker to marker. A packet takes a byte or more, and there is one for each tile, layer, component,
    resolution and precinct: so few bytes cannot cost much time or memory.

    Args:
        payload: a codestream, or a JP2 file with one in it.
        where: names the file in errors.

    Raises:
        BitstreamError: it does.

    Source:
        ITU-T T.800, annex A (markers), B.6 (precincts), B.9 and B.10 (packets), I.4 (boxes).
    """
    try:
        _check(_codestream(payload) if payload.startswith(_BOXES) else payload)
    except _FaultError as fault:
        expected, got = fault.args
        raise BitstreamError(
            where=where, expected=expected, got=got, remedy="The file is truncated, damaged or not of this format."
        ) from None


def _codestream(payload: bytes) -> bytes:
    at = 0
    for _ in range(_MAX_BOXES):
        length, kind, header = int.from_bytes(payload[at : at + 4]), payload[at + 4 : at + 8], 8
        if length == 1:
            length, header = int.from_bytes(payload[at + 8 : at + 16]), 16
        if kind == _CODESTREAM:
            return payload[at + header : at + length if length else len(payload)]
        if length < header:
            break
        at += length
    raise _FaultError("a box with a codestream", f"none in the first {_MAX_BOXES} boxes of {len(payload)} bytes")


def _check(payload: bytes) -> None:
    if payload[:4] != b"\xff\x4f" + _SIZ:
        raise _FaultError("a codestream that starts with SOC and SIZ", payload[:4].hex(" ") or "no bytes")
    size = _read_size(payload)
    seen: set[int] = set()
    at, after, tiles = 2, 0, size.tiles
    for _ in range(_MAX_SEGMENTS):
        marker = payload[at : at + 2]
        if marker == _EOC:
            break
        length = int.from_bytes(payload[at + 2 : at + 4])
        if marker == _SOT:  # a tile part: its header says where it ends, 0 means at the EOC marker
            seen.add(int.from_bytes(payload[at + 4 : at + 6]))
            whole = int.from_bytes(payload[at + 6 : at + 10])
            after, tiles = at + whole if whole else len(payload) - 2, 1
        elif marker in (_COD, _COC):
            _check_packets(payload[at + 4 : at + 2 + length], marker == _COC, size, tiles, len(payload))
        at = after if marker == _SOD else at + 2 + length
        if (length < 2 and marker != _SOD) or at > len(payload) - 2:
            raise _FaultError("a codestream up to its EOC marker", f"{len(payload)} bytes")
    else:
        raise _FaultError(f"at most {_MAX_SEGMENTS} segments", "more")
    if seen != set(range(size.tiles)):
        raise _FaultError(f"parts of all {size.tiles} tiles", f"parts of {len(seen)}")


def _read_size(payload: bytes) -> _Size:
    """Read SIZ (A.5.1)."""
    numbers = [int.from_bytes(payload[at : at + 4]) for at in range(8, 40, 4)]
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = numbers
    components = int.from_bytes(payload[40:42])
    if len(payload) < 42 or not (tile_width and tile_height and tile_left <= left < right and tile_top <= top < bottom):
        raise _FaultError("an image of one or more pixels in one or more tiles", payload[4:42].hex(" "))
    if not 1 <= components <= 4:
        raise _FaultError("1 to 4 components", str(components))
    if len(payload) < 42 + 3 * components:
        raise _FaultError("the sampling of each component", f"{len(payload)} bytes")
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    if tiles > min(len(payload), _MAX_TILES):
        raise _FaultError(
            f"one byte or more for each tile, and at most {_MAX_TILES} tiles", f"{tiles} in {len(payload)} bytes"
        )
    sampling = tuple((max(1, payload[at + 1]), max(1, payload[at + 2])) for at in range(42, 42 + 3 * components, 3))
    return _Size(tiles, min(tile_width, right - left), min(tile_height, bottom - top), sampling)


def _check_packets(body: bytes, of_component: bool, size: _Size, tiles: int, length: int) -> None:
    """Hold the claims of COD (A.6.1) or COC (A.6.2) against the length."""
    style = body[1:] if of_component else body[:1] + body[5:]  # Scod, then levels and what follows them
    if len(style) < 6:
        raise _FaultError("a whole coding style", f"one of {len(body)} bytes")
    layers = 1 if of_component else int.from_bytes(body[2:4])
    levels, sides = style[1], style[6:] if style[0] & 1 else b""
    packets = 0
    for across, down in size.sampling[:1] if of_component else size.sampling:
        width, height = -(-size.width // across), -(-size.height // down)
        for shift in range(min(levels, min(width, height).bit_length() - 1) + 1):  # those below may be empty
            place = levels - shift
            side = sides[place] if place < len(sides) else _LARGEST << 4 | _LARGEST
            packets += _pieces(width, shift, side & 15) * _pieces(height, shift, side >> 4)
    packets *= tiles * layers
    if packets > length:
        raise _FaultError("one byte or more for each packet", f"{packets} packets in {length} bytes")


def _pieces(extent: int, shift: int, exponent: int) -> int:
    """Return how many precincts a side of a resolution has."""
    at_resolution = -(-extent // (1 << shift))
    return -(-at_resolution // (1 << exponent))


def jpeg2000_profile(payload: bytes) -> bytes:
    """Return the ICC profile of a JP2 file, which Pillow does not read; empty where it has none.

    Source:
        ITU-T T.800, I.5.3.3 (colr).
    """
    if not payload.startswith(_BOXES):
        return b""
    header = first_boxes(payload).get(b"jp2h", b"")
    for kind, body in boxes(header):
        if kind == b"colr" and body[:1] in (b"\2", b"\3"):  # a restricted profile, or any (JPX)
            return body[3:]
    return b""
