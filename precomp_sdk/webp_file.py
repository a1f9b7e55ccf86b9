"""How large a WebP file is, before libwebp takes memory for what its header claims."""

from typing import Final

from precomp_sdk.errors import BitstreamError
from precomp_sdk.jpeg_file import MAX_PIXELS

__all__ = ["check_webp"]

_MAX_CHUNKS: Final = 1000  # before the image: profile, alpha, metadata


def check_webp(payload: bytes, *, where: str = "WebP file", max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Refuse a WebP file that is truncated, too large, or whose canvas its first image does not fill.

    libwebp takes memory for the whole canvas as it opens a file, and a file of 2 kB can claim 42 megapixels around an
    animation of 56 x 40.

    Args:
        payload: the file.
        where: names the file in errors.
        max_pixels: largest image.

    Returns:
        Width and height.

    Raises:
        BitstreamError: it is.

    Source:
        RFC 9649, 2.3 to 2.7; RFC 6386, 9.1 (frame header).
    """

    def fault(expected: str, got: str) -> BitstreamError:
        return BitstreamError(
            where=where, expected=expected, got=got, remedy="The file is truncated, damaged or not of this format."
        )

    if payload[:4] != b"RIFF" or payload[8:12] != b"WEBP":
        raise fault("a RIFF file of type WEBP", payload[:16].hex(" ") or "no bytes")
    end = 8 + int.from_bytes(payload[4:8], "little")
    if end > len(payload):
        raise fault(f"the {end} bytes that the header names", f"{len(payload)} bytes")
    canvas: tuple[int, int] | None = None
    at = 12
    for _ in range(_MAX_CHUNKS):
        kind, length = payload[at : at + 4], int.from_bytes(payload[at + 4 : at + 8], "little")
        body = payload[at + 8 : at + 8 + min(length, 32)]
        if at + 8 + length > end:
            raise fault("a chunk of an image", f"none in {len(payload)} bytes")
        if kind == b"VP8X" and len(body) >= 10:
            canvas = size = _three(body[4:]) + 1, _three(body[7:]) + 1
            if size[0] * size[1] > max_pixels:
                raise fault(f"at most {max_pixels} pixels", f"{size[0]} x {size[1]}")
        elif kind in (b"VP8 ", b"VP8L", b"ANMF"):
            frame = _frame_size(kind, body)
            if frame is None:
                raise fault("an image of one or more pixels", f"a {kind.decode()} chunk of {length} bytes")
            if frame[0] * frame[1] > max_pixels:
                raise fault(f"at most {max_pixels} pixels", f"{frame[0]} x {frame[1]}")
            if canvas not in (None, frame):
                raise fault("an image that fills its canvas", f"one of {frame} on a canvas of {canvas}")
            return frame
        at += 8 + length + length % 2
    raise fault("a chunk of an image", f"none in the first {_MAX_CHUNKS} chunks")


def _three(data: bytes) -> int:
    return int.from_bytes(data[:3], "little")


def _frame_size(kind: bytes, body: bytes) -> tuple[int, int] | None:
    if kind == b"ANMF" and len(body) >= 16 and not any(body[:6]):  # at the canvas's corner
        return _three(body[6:]) + 1, _three(body[9:]) + 1
    if kind == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        packed = int.from_bytes(body[1:5], "little")
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(body) >= 10 and body[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
        return (width, height) if width and height else None
    return None
