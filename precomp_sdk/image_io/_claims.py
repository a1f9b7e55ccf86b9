"""What a file may cost beside its pixels: structure that Pillow's readers walk in Python, byte by byte or worse.

Each check bounds that work to about a second, whatever the size of the file. The numbers are far beyond what encoders
write.
"""

import re
from collections.abc import Callable
from typing import Final, Literal

from PIL import Image, ImageFile

from precomp_sdk.avif_file import check_avif_boxes
from precomp_sdk.errors import BitstreamError
from precomp_sdk.jpeg2000_file import check_jpeg2000
from precomp_sdk.jpeg_file import check_jpeg_start

__all__ = ["SLOW_PIXELS", "check_opened", "check_structure"]

SLOW_PIXELS: Final = 1 << 20  #: of QOI and run-length coded BMP, which Pillow decodes in Python at 1 to 2 s a megapixel

_MOST_CHUNKS: Final = 100_000  # of PNG; 6 us each
_MOST_BLOCKS: Final = 4_000  # of GIF before its first image; joined to one text, each copies what was there
_MOST_PIECES: Final = 100_000  # strips or tiles of TIFF; 8 us each
_MOST_COMMENTS: Final = 1_000  # of plain PPM; each copies a megabyte
_HEADER_BYTES: Final = 1 << 16  # of PPM; half a microsecond each
_SLOW: Final = {  # Pillow's decoders in Python: most pixels, and the most bytes per pixel that an encoder writes
    "qoi": (SLOW_PIXELS, 5),
    "bmp_rle": (SLOW_PIXELS, 4),
    "ppm_plain": (SLOW_PIXELS // 2, 24),
}
_SLOWEST: Final = (SLOW_PIXELS // 2, 8)
_TIFF_BYTES: Final = (1, 2, 6, 7)  # types of a byte, which are taken as they are
_PNG: Final = b"\x89PNG\r\n\x1a\n"


def check_structure(data: bytes, where: str) -> None:
    """Refuse a file whose parts beside the image are too many, before it is opened.

    Raises:
        BitstreamError: they are.
    """
    for start, check in _CHECKS:
        if start.match(data):
            check(data, where)


def check_opened(image: ImageFile.ImageFile, data: bytes, where: str) -> None:
    """Refuse an opened image that would be decoded slowly for long.

    Raises:
        BitstreamError: it is.
    """
    pixels = image.width * image.height
    for name in {tile.codec_name for tile in image.tile} & Image.DECODERS.keys():
        most, rate = _SLOW.get(name, _SLOWEST)
        if pixels > most:
            expected = f"at most {most} pixels in this kind of {image.format}, which is decoded slowly"
            raise _fault(where, expected, f"{image.width} x {image.height}")
        if len(data) > _HEADER_BYTES + rate * pixels:
            expected = f"at most {_HEADER_BYTES + rate * pixels} bytes for {image.width} x {image.height} pixels"
            raise _fault(where, expected, f"{len(data)} bytes")


def _check_png(data: bytes, where: str) -> None:
    at = len(_PNG)
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data) or data[at + 4 : at + 8] == b"IEND":
            return
        at += 12 + int.from_bytes(data[at : at + 4])
    raise _fault(where, f"at most {_MOST_CHUNKS} chunks", "more")


def _check_gif(data: bytes, where: str) -> None:
    at, blocks = 13, 0
    if len(data) > 10 and data[10] & 0x80:
        at += 3 << (data[10] & 7) + 1
    while data[at : at + 1] == b"\x21":  # an extension: its label, then blocks up to an empty one
        at += 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
            blocks += 1
            if blocks > _MOST_BLOCKS:
                raise _fault(where, f"at most {_MOST_BLOCKS} blocks before the first image", "more")
        at, blocks = at + 1, blocks + 1


def _check_tiff(data: bytes, where: str) -> None:
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    big = data[2:4] in (b"+\0", b"\0+")
    at = int.from_bytes(data[8:16] if big else data[4:8], order)
    entries = int.from_bytes(data[at : at + (8 if big else 2)], order)
    first, step, count = (at + 8, 20, 8) if big else (at + 2, 12, 4)
    for place in range(first, min(first + step * entries, len(data)), step):
        many = int.from_bytes(data[place + 4 : place + 4 + count], order)
        if many > _MOST_PIECES and int.from_bytes(data[place + 2 : place + 4], order) not in _TIFF_BYTES:
            raise _fault(where, f"at most {_MOST_PIECES} strips, tiles or other numbers of one kind", str(many))


def _check_ppm(data: bytes, where: str) -> None:
    head = re.sub(rb"#[^\r\n]*", b"", data[:_HEADER_BYTES]).split(maxsplit=4)
    if len(head) < (3 if data[1:2] in b"14" else 4):
        raise _fault(where, f"a header within {_HEADER_BYTES} bytes", "a longer one, or none")
    if data[1:2] in b"123" and data.count(b"#") > _MOST_COMMENTS:
        raise _fault(where, f"at most {_MOST_COMMENTS} comments", "more")


def _check_jpeg(data: bytes, where: str) -> None:
    check_jpeg_start(data, where=where)


def _check_boxes(data: bytes, where: str) -> None:
    check_avif_boxes(data, where=where)


def _check_jpeg2000(data: bytes, where: str) -> None:
    check_jpeg2000(data, where=where)


_CHECKS: Final[list[tuple[re.Pattern[bytes], Callable[[bytes, str], None]]]] = [
    (re.compile(re.escape(_PNG)), _check_png),
    (re.compile(rb"GIF8[79]a"), _check_gif),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), _check_tiff),
    (re.compile(rb"P[0-7fy]"), _check_ppm),
    (re.compile(rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP"), _check_jpeg2000),
    (re.compile(rb"\xff\xd8"), _check_jpeg),
    (re.compile(rb"....ftyp", re.DOTALL), _check_boxes),
]


def _fault(where: str, expected: str, got: str) -> BitstreamError:
    return BitstreamError(where=where, expected=expected, got=got, remedy="Convert it to PNG, or leave it out.")
