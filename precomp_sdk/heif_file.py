"""What a HEIF file costs to decode: libheif draws every tile of a grid, also those that lie outside the image."""

import struct
from collections.abc import Iterator
from typing import Final

from precomp_sdk.errors import BitstreamError

__all__ = ["boxes", "check_heif", "first_boxes", "item_parts", "item_types"]

_DERIVED: Final = (b"grid", b"iovl", b"iden")  # items that are made of others
_MOST_BOXES: Final = 10_000
_ROOM: Final = 4  # a grid's tiles may have this many times the pixels of the image, and
_UNKNOWN: Final = 1 << 62
_ROOM_PIXELS: Final = 1 << 22  # this many more


def check_heif(payload: bytes, *, where: str = "HEIF file") -> None:
    """Refuse a file whose image is made of tiles that have many times its pixels, or of itself.

    A grid of 256 tiles of 16 megapixels around an image of 64 x 64 takes 6 kB, since tiles may share their bytes.
    libheif itself refuses a tile that is larger than the file says. A file of one coded image is left to it.

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
    except (struct.error, KeyError, IndexError):
        if not any(kind in payload for kind in _DERIVED):
            return
        pixels, work = 0, _UNKNOWN
    except RecursionError:
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
        self._work: dict[int, int] = {}

    def pixels(self, item: int) -> int:
        """Return how many pixels an item says it has."""
        width, height = self._sizes[item]
        return int(width) * int(height)

    def work(self, item: int, above: tuple[int, ...]) -> int:
        """Return how many pixels are decoded for an item."""
        if self._types[item] not in _DERIVED:
            return self.pixels(item)
        if item in above:
            raise RecursionError
        if item not in self._work:
            self._work[item] = sum(self.work(part, (*above, item)) for part in self._parts.get(item, ()))
        return self._work[item]


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
