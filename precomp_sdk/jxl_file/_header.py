"""The first bits of a JPEG XL file."""

from typing import Final

from precomp_sdk.errors import BitstreamError

__all__ = ["fault", "is_jxl", "jxl_orientation", "jxl_size"]

_CODESTREAM: Final = b"\xff\x0a"
_CONTAINER: Final = b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS: Final = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width to height
_SIZE_BITS: Final = (9, 13, 18, 30)
_HEADER_BYTES: Final = 16
_MOST_BOXES: Final = 10_000


def is_jxl(data: bytes) -> bool:
    """Say whether a file is JPEG XL by its first bytes, as a codestream or in a container."""
    return data.startswith((_CODESTREAM, _CONTAINER))


def jxl_size(data: bytes, *, where: str = "JPEG XL file") -> tuple[int, int]:
    """Return the width and height that a file says it has, as its samples are stored.

    Raises:
        BitstreamError: it has no codestream.

    Source:
        ISO/IEC 18181-1, SizeHeader (least significant bit first); 18181-2, boxes jxlc and jxlp.
    """
    return _size(_Bits(_codestream(data, where)))


def jxl_orientation(data: bytes) -> int:
    """Return the orientation of the codestream, 1 to 8, which libjxl applies; that of EXIF does not count.

    Source:
        ISO/IEC 18181-1, ImageMetadata.
    """
    bits = _Bits(_codestream(data, "JPEG XL file"))
    _size(bits)
    default = bits.read(1)
    return 1 + bits.read(3) if not default and bits.read(1) else 1


def fault(where: str, expected: str, got: str) -> BitstreamError:
    """Return the error of a file that does not decode."""
    return BitstreamError(
        where=where, expected=expected, got=got, remedy="The file is truncated, damaged or made to cost time."
    )


class _Bits:
    def __init__(self, codestream: bytes) -> None:
        self._bits, self._at = int.from_bytes(codestream[2:], "little"), 0

    def read(self, count: int) -> int:
        self._at += count
        return self._bits >> self._at - count & (1 << count) - 1


def _size(bits: _Bits) -> tuple[int, int]:
    small = bool(bits.read(1))

    def side() -> int:
        return 8 * (bits.read(5) + 1) if small else bits.read(_SIZE_BITS[bits.read(2)]) + 1

    height = side()
    ratio = bits.read(3)
    if ratio == 0:
        return side(), height
    across, down = _RATIOS[ratio - 1]
    return height * across // down, height


def _codestream(data: bytes, where: str) -> bytes:
    """Return the first bytes of the codestream."""
    start = data[:_HEADER_BYTES] if data.startswith(_CODESTREAM) else b""
    at = 0
    for _ in range(_MOST_BOXES if data.startswith(_CONTAINER) else 0):
        length, kind, header = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8], 8
        if length == 1:
            length, header = int.from_bytes(data[at + 8 : at + 16]), 16
        body = at + header + (4 if kind == b"jxlp" else 0)  # the part's number comes first
        if kind in (b"jxlc", b"jxlp"):
            start += data[body : min(at + length, body + _HEADER_BYTES) if length else body + _HEADER_BYTES]
        if len(start) >= _HEADER_BYTES or not length or length < header or at >= len(data):
            break
        at += length
    if not start.startswith(_CODESTREAM) or len(data) < 12:
        raise fault(where, "a codestream of 12 or more bytes that starts with ff 0a", (start or data)[:2].hex(" "))
    return start[:_HEADER_BYTES]
