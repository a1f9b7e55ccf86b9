"""What a HEIF file costs to decode: libheif draws every tile of a grid, and libde265 decodes what is never shown."""

import struct
from collections.abc import Iterator
from typing import Final

from precomp_sdk.errors import BitstreamError

__all__ = ["boxes", "check_heif", "first_boxes", "item_parts", "item_places", "item_types", "joined"]

_DERIVED: Final = (b"grid", b"iovl", b"iden")  # items that are made of others
_MOST_BOXES: Final = 10_000
_MOST_EXTENTS: Final = 10_000
_MOST_UNITS: Final = 100_000  # slices, as small as one may make them
_ROOM: Final = 4  # a grid's tiles may have this many times the pixels of the image, and
_UNKNOWN: Final = 1 << 62
_ROOM_PIXELS: Final = 1 << 22  # this many more


def check_heif(payload: bytes, *, where: str = "HEIF file") -> None:
    """Refuse a file whose image is made of tiles that have many times its pixels, or of itself.

    A grid of 256 tiles of 16 megapixels around an image of 64 x 64 takes 6 kB, since tiles may share their bytes.
    libheif itself refuses a tile that is larger than the file says, but decodes every picture of an item until one is
    shown.

    Args:
        payload: the file.
        where: names the file in errors.

    Raises:
        BitstreamError: it is.

    Source:
        ISO/IEC 14496-12, 8.11 (items); ISO/IEC 23008-12, 6.5.3 (ispe), 6.6.2 (derived images).
    """
    try:
        items = _Items(payload)
        pixels = items.pixels(items.primary)
        work = items.work(items.primary, ())
    except (struct.error, LookupError, ValueError, RecursionError):
        pixels, work = 0, _UNKNOWN
    if work > _ROOM * pixels + _ROOM_PIXELS:
        raise BitstreamError(
            where=where,
            expected=f"an image of {pixels} pixels whose parts have not many times as many",
            got="parts that are made of each other or damaged" if work >= _UNKNOWN else f"{work} in its parts",
            remedy="The file is damaged, or made to cost time.",
        )


class _Items:
    """The items of a file: their types, sizes and parts."""

    def __init__(self, payload: bytes) -> None:
        meta = first_boxes(payload)[b"meta"][4:]
        found = first_boxes(meta)
        wide = found[b"pitm"][0]
        (self.primary,) = struct.unpack_from(">I" if wide else ">H", found[b"pitm"], 4)
        self._types = dict(item_types(found[b"iinf"]))
        self._parts = dict(item_parts(found[b"iref"])) if b"iref" in found else {}
        properties = first_boxes(found[b"iprp"])
        sizes = [
            struct.unpack_from(">II", body, 4) if kind == b"ispe" else None for kind, body in boxes(properties[b"ipco"])
        ]
        self._sizes = {
            item: size
            for item, places in _associations(properties[b"ipma"])
            for place in places
            if 0 < place <= len(sizes) and (size := sizes[place - 1]) is not None
        }
        self._payload, self._data = payload, found.get(b"idat", b"")
        self._places = item_places(found[b"iloc"]) if b"iloc" in found else {}
        self._units = {(body[21] & 3) + 1 for kind, body in boxes(properties[b"ipco"]) if kind == b"hvcC"}
        self._work: dict[int, int] = {}

    def pixels(self, item: int) -> int:
        """Return how many pixels an item says it has."""
        width, height = self._sizes[item]
        return int(width) * int(height)

    def work(self, item: int, above: tuple[int, ...]) -> int:
        """Return how many pixels are decoded for an item."""
        if item in above:
            raise RecursionError
        if item not in self._work and self._types[item] not in _DERIVED:
            self._work[item] = self.pixels(item) * max(1, self._pictures(item))
        if item not in self._work:
            self._work[item] = sum(self.work(part, (*above, item)) for part in self._parts.get(item, ()))
        return self._work[item]

    def _pictures(self, item: int) -> int:
        """Return how many pictures an item of HEVC has; 0 for other codings."""
        if self._types[item] != b"hvc1" or item not in self._places:
            return 0
        (size,) = self._units
        within, extents = self._places[item]
        coded = joined(self._data if within else self._payload, extents, len(self._payload))
        at = pictures = 0
        for _ in range(_MOST_UNITS):
            if at + size + 2 >= len(coded):
                return pictures
            length = int.from_bytes(coded[at : at + size])
            at += size
            pictures += coded[at] >> 1 < 32 and coded[at + 2] >> 7  # the first slice of a picture
            at += length
        raise ValueError(f"more than {_MOST_UNITS} units")


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Walk the boxes of a file or of a box: their kinds and what they hold."""
    at = 0
    for _ in range(_MOST_BOXES):
        if at + 8 > len(data):
            return
        length, kind, header = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8], 8
        if length == 1:
            length, header = int.from_bytes(data[at + 8 : at + 16]), 16
        end = at + length if length else len(data)
        if end < at + header:
            return
        yield kind, data[at + header : end]
        at = end


def first_boxes(data: bytes) -> dict[bytes, bytes]:
    """Return the boxes by kind, the first of each, which is the one that counts."""
    found: dict[bytes, bytes] = {}
    for kind, body in boxes(data):
        found.setdefault(kind, body)
    return found


def item_types(iinf: bytes) -> Iterator[tuple[int, bytes]]:
    """Walk a file's items: their numbers and types."""
    for kind, body in boxes(iinf[8:] if iinf[0] else iinf[6:]):
        if kind == b"infe" and body[0] >= 2:
            wide = body[0] >= 3
            (item,) = struct.unpack_from(">I" if wide else ">H", body, 4)
            yield item, body[10:14] if wide else body[8:12]


def item_parts(iref: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Walk the items that are made of others: their numbers, and those of their parts."""
    sign = "I" if iref[0] else "H"
    for kind, body in boxes(iref[4:]):
        if kind == b"dimg":
            item, count = struct.unpack_from(f">{sign}H", body)
            yield item, struct.unpack_from(f">{count}{sign}", body, struct.calcsize(f">{sign}H"))


def joined(data: bytes, extents: list[tuple[int, int]], most_bytes: int) -> bytes:
    """Return the bytes at offsets with lengths, of which 0 is up to the end.

    Raises:
        ValueError: they are more than the most, or lie behind the end.
    """
    lengths = sum(length if length else len(data) - offset for offset, length in extents)
    if lengths > most_bytes or any(offset + length > len(data) for offset, length in extents):
        raise ValueError(f"an item of {lengths} bytes")
    return b"".join(data[offset : offset + length if length else None] for offset, length in extents)


def item_places(iloc: bytes) -> dict[int, tuple[bool, list[tuple[int, int]]]]:
    """Return where each item's bytes lie: whether in the box idat, and offsets with lengths.

    Raises:
        ValueError: the table is cut, or of a kind that is not followed.
    """
    version = iloc[0]
    sizes = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15 if version else 0
    number = 4 if version == 2 else 2
    at = 6

    def take(count: int) -> int:
        nonlocal at
        at += count
        if at > len(iloc):
            raise ValueError("a table of items that is cut")
        return int.from_bytes(iloc[at - count : at])

    found: dict[int, tuple[bool, list[tuple[int, int]]]] = {}
    room = _MOST_EXTENTS
    for _ in range(take(number)):
        item = take(number)
        method = take(2) & 15 if version else 0
        take(2)
        base = take(sizes[2])
        count = take(2)
        room -= 1 + count
        if method > 1 or item in found or room < 0 or version > 2:
            raise ValueError("a table of items of another kind")
        extents = []
        for _ in range(count):
            take(sizes[3])
            offset = base + take(sizes[0])
            extents.append((offset, take(sizes[1])))
        found[item] = method == 1, extents
    return found


def _associations(ipma: bytes) -> Iterator[tuple[int, list[int]]]:
    sign, wide = "I" if ipma[0] else "H", ipma[3] & 1
    (count,) = struct.unpack_from(">I", ipma, 4)
    at = 8
    for _ in range(count):
        item, places = struct.unpack_from(f">{sign}B", ipma, at)
        at += struct.calcsize(f">{sign}B")
        found = struct.unpack_from(f">{places}{'H' if wide else 'B'}", ipma, at)
        at += places * (2 if wide else 1)
        yield item, [place & (0x7FFF if wide else 0x7F) for place in found]
