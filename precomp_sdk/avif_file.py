"""What an AVIF file costs to decode: dav1d decodes every frame of an image, shown or not, in whatever size it has."""

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from precomp_sdk.errors import BitstreamError
from precomp_sdk.heif_file import boxes, first_boxes, item_parts, item_places, item_types, joined

__all__ = ["check_avif", "check_avif_boxes"]

_ROOM: Final = 4  # the frames of a file (layers, alpha, a thumbnail) may have this many times the image's pixels, and
_ROOM_PIXELS: Final = 1 << 22  # this many more
_PIXEL_BYTES: Final = 6  # noise without loss, 12 bits, 4:4:4, takes 4.5
_ROOM_BYTES: Final = 1 << 22
_MOST_UNITS: Final = 10_000
_MOST_BOXES: Final = 5_000
_ITEM_BYTES: Final = {b"iinf": 20, b"iloc": 6, b"ipma": 3, b"iref": 2}  # least that one item takes
_MOST_ITEMS: Final = 20_000  # libavif looks each up among all; a grid of 1024 tiles counts as 9,000
_ENTRY_BYTES: Final = {b"stsc": 12, b"stco": 4, b"co64": 8}
_MOST_LOOKS: Final = 20_000_000  # of chunks at the table of their samples
_BRANCHES: Final = (b"meta", b"iprp", b"moov", b"trak", b"mdia", b"minf", b"stbl")
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6  # AV1, 6.2.2


def check_avif_boxes(payload: bytes, *, where: str = "AVIF file") -> None:
    """Refuse a file of so many items or chunks that libavif takes seconds to open it: it looks each up among all.

    Args:
        payload: the file.
        where: names the file in errors.

    Raises:
        BitstreamError: it is.
    """
    count = items = 0
    entries: Counter[bytes] = Counter()
    for kind, body in _leaves(payload):
        count += 1
        items += len(body) // _ITEM_BYTES[kind] if kind in _ITEM_BYTES else 0
        entries[kind] += len(body) // _ENTRY_BYTES[kind] if kind in _ENTRY_BYTES else 0
    looks = entries[b"stsc"] * (entries[b"stco"] + entries[b"co64"])
    for expected, most, got in (
        ("boxes", _MOST_BOXES, count),
        ("entries of items", _MOST_ITEMS, items),
        ("looks at the tables of its samples", _MOST_LOOKS, looks),
    ):
        if got > most:
            raise BitstreamError(
                where=where,
                expected=f"at most {most} {expected}",
                got=f"{got}",
                remedy="The file is damaged, or made to cost time.",
            )


def check_avif(payload: bytes, size: tuple[int, int], *, where: str = "AVIF file") -> None:
    """Refuse a file whose frames have many times the pixels of its image, or many more bytes than these can take.

    An item or a sample may hold thousands of frames of which the last is shown, a few hundred bytes each, and they may
    be larger than the file says. What cannot be followed is refused.

    Args:
        payload: the file.
        size: width and height of the image, as the file says.
        where: names the file in errors.

    Raises:
        BitstreamError: it is.

    Source:
        AV1 bitstream specification, 5.3 to 5.5; AV1-ISOBMFF and AVIF 1.1; ISO/IEC 14496-12, 8.7 and 8.11.
    """

    def fault(expected: str, got: str) -> BitstreamError:
        return BitstreamError(
            where=where, expected=expected, got=got, remedy="The file is damaged, or made to cost time."
        )

    pixels = size[0] * size[1]
    most, most_bytes = _ROOM * pixels + _ROOM_PIXELS, _PIXEL_BYTES * pixels + _ROOM_BYTES
    work = length = 0
    try:
        for coded, uses in _coded(payload, most_bytes):
            length += uses * len(coded)
            work += uses * _work(coded)
    except (struct.error, KeyError, IndexError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise fault("a file whose coded images can be followed", f"one that cannot ({reason})") from error
    if length > most_bytes:
        raise fault(f"at most {most_bytes} bytes for an image of {pixels} pixels", f"{length} bytes")
    if work > most:
        raise fault(f"an image of {pixels} pixels whose frames have not many times as many", f"{work} in its frames")


def _leaves(payload: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Walk the boxes of a file that hold no others, up to one more than there may be."""
    left = _MOST_BOXES
    above = [payload]
    while above and left >= 0:
        for kind, body in boxes(above.pop()):
            left -= 1
            if kind in _BRANCHES:
                above.append(body[4:] if kind == b"meta" else body)
            yield kind, body


def _coded(payload: bytes, most_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Walk the coded images that a decoder may read, and how often: items, and the first samples of tracks."""
    found = first_boxes(payload)
    if b"meta" in found:
        meta = first_boxes(found[b"meta"][4:])
        uses = Counter(part for _, parts in item_parts(meta[b"iref"]) for part in parts) if b"iref" in meta else {}
        places = item_places(meta[b"iloc"]) if b"iloc" in meta else {}
        for item, kind in item_types(meta[b"iinf"]) if b"iinf" in meta else ():
            if kind == b"av01" and item in places:
                within, extents = places[item]
                yield joined(meta[b"idat"] if within else payload, extents, most_bytes), max(1, uses.get(item, 0))
    for kind, body in boxes(found.get(b"moov", b"")):
        if kind == b"trak":
            yield joined(payload, [_first_sample(body)], most_bytes), 1


def _first_sample(track: bytes) -> tuple[int, int]:
    """Return the offset and the length of a track's first sample."""
    table = track
    for kind in (b"mdia", b"minf", b"stbl"):
        inner = [body for name, body in boxes(table) if name == kind]
        if len(inner) != 1:
            raise ValueError(f"{len(inner)} boxes {kind.decode()} in a track")
        table = inner[0]
    kinds = Counter(kind for kind, _ in boxes(table))
    if any(kinds[kind] > 1 for kind in (b"stsc", b"stsz", b"stco", b"co64")) or kinds[b"stco"] + kinds[b"co64"] != 1:
        raise ValueError("a track with tables that occur twice")
    found = first_boxes(table)
    chunk, samples = struct.unpack_from(">II", found[b"stsc"], 8)
    if chunk != 1 or samples < 1:
        raise ValueError("a track whose first chunk is empty")
    length = struct.unpack_from(">I", found[b"stsz"], 4)[0] or struct.unpack_from(">I", found[b"stsz"], 12)[0]
    wide = b"co64" in found
    (offset,) = struct.unpack_from(">Q" if wide else ">I", found[b"co64" if wide else b"stco"], 8)
    return offset, length


def _work(coded: bytes) -> int:
    """Return how many pixels the frames of a coded image have, each as large as its sequence allows."""
    at = frames = area = 0
    for _ in range(_MOST_UNITS):
        if at >= len(coded):
            return frames * area
        head = coded[at]
        kind = head >> 3 & 15
        at += 2 if head & 4 else 1
        length = len(coded) - at
        if head & 2:
            length, at = _leb128(coded, at)
        if at + length > len(coded):
            raise ValueError("a unit that is cut")
        if kind == _SEQUENCE_HEADER:
            area = max(area, _largest(coded[at : at + length]))
        frames += kind in (_FRAME_HEADER, _FRAME)
        at += length
    raise ValueError(f"more than {_MOST_UNITS} units")


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        value |= (data[at + place] & 127) << 7 * place
        if not data[at + place] & 128:
            return value, at + place + 1
    raise ValueError("a length of more than 8 bytes")


def _timing(u: Callable[[int], int]) -> int:
    """Read what a sequence header says of time; return how many bits its delays have, 0 for none."""
    u(64)
    if not u(1):  # a number of any length: so many zeros, a one, so many bits
        zeros = 0
        while not u(1):
            zeros += 1
        u(zeros if zeros < 32 else 0)
    if not u(1):
        return 0
    delay = u(5) + 1
    u(42)
    return delay


def _largest(header: bytes) -> int:
    """Return the pixels of the largest frame that a sequence header allows."""
    bits, left = int.from_bytes(header), 8 * len(header)

    def u(count: int) -> int:
        nonlocal left
        left -= count
        if left < 0:
            raise ValueError("a sequence header that is cut")
        return bits >> left & (1 << count) - 1

    u(4)  # profile, still picture
    if u(1):  # reduced header
        u(5)
    else:
        delay = _timing(u) if u(1) else 0
        display = u(1)
        for _ in range(u(5) + 1):
            u(12)
            if u(5) > 7:
                u(1)
            if delay and u(1):
                u(2 * delay + 1)
            if display and u(1):
                u(4)
    width, height = u(4) + 1, u(4) + 1
    return (u(width) + 1) * (u(height) + 1)
