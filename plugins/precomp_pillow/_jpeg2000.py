"""Is a JPEG 2000 codestream whole: OpenJPEG fills in what is missing, and does not say so."""

from dataclasses import dataclass
from typing import Final

from precomp_pillow._base import damaged

__all__ = ["check_codestream"]

_SIZ, _COD, _SOT, _EOC = b"\xff\x51", b"\xff\x52", b"\xff\x90", b"\xff\xd9"
_MAX_SEGMENTS: Final = 200_000  # of an image of 65535 tiles, each in three parts


@dataclass(frozen=True, slots=True)
class _Size:
    """What SIZ says: tiles, components, and the shorter side of a tile."""

    tiles: int
    components: int
    tile_side: int


def check_codestream(payload: bytes) -> None:
    """Refuse a codestream that is truncated, lacks tiles, or claims more packets than it has bytes.

    Walks from marker to marker. A packet takes a byte or more, and there is one for each tile, layer, component and
    resolution: so few bytes cannot cost much time.

    Raises:
        BitstreamError: it does.

    Source:
        ITU-T T.800, annex A (markers), B.9 and B.10 (packets).
    """
    if payload[:4] != b"\xff\x4f" + _SIZ:
        raise damaged("jpeg2000", "a codestream that starts with SOC and SIZ", payload[:4].hex(" "))
    size = _read_size(payload)
    seen: set[int] = set()
    at = 2
    for _ in range(_MAX_SEGMENTS):
        marker = payload[at : at + 2]
        if marker == _EOC:
            break
        length = int.from_bytes(payload[at + 2 : at + 4])
        if marker == _COD and at + 12 <= len(payload):
            _check_packets(payload[at + 4 : at + 12], size, len(payload))
        if marker == _SOT:  # a tile part: its header says where it ends, 0 means at the EOC marker
            seen.add(int.from_bytes(payload[at + 4 : at + 6]))
            whole = int.from_bytes(payload[at + 6 : at + 10])
            at = at + whole if whole else len(payload) - 2
        else:
            at += 2 + length
        if length < 2 or at > len(payload) - 2:
            raise damaged("jpeg2000", "a codestream up to its EOC marker", f"{len(payload)} bytes")
    else:
        raise damaged("jpeg2000", f"at most {_MAX_SEGMENTS} segments", "more")
    if seen != set(range(size.tiles)):
        raise damaged("jpeg2000", f"parts of all {size.tiles} tiles", f"parts of {len(seen)}")


def _read_size(payload: bytes) -> _Size:
    """Read SIZ (A.5.1)."""
    numbers = [int.from_bytes(payload[at : at + 4]) for at in range(8, 40, 4)]
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = numbers
    components = int.from_bytes(payload[40:42])
    if len(payload) < 42 or not (tile_width and tile_height and tile_left <= left < right and tile_top <= top < bottom):
        raise damaged("jpeg2000", "an image of one or more pixels in one or more tiles", payload[4:42].hex(" "))
    if not 1 <= components <= 4:
        raise damaged("jpeg2000", "1 to 4 components", str(components))
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    if tiles > len(payload):
        raise damaged("jpeg2000", "one byte or more for each tile", f"{tiles} tiles in {len(payload)} bytes")
    return _Size(tiles, components, min(tile_width, tile_height, right - left, bottom - top))


def _check_packets(style: bytes, size: _Size, length: int) -> None:
    """Hold COD's claims (A.6.1) against the length; resolutions that may be empty are not counted."""
    layers = int.from_bytes(style[2:4])
    levels = min(style[5], size.tile_side.bit_length() - 1)
    packets = size.tiles * layers * size.components * (levels + 1)
    if packets > length:
        raise damaged("jpeg2000", "one byte or more for each packet", f"{packets} packets in {length} bytes")
