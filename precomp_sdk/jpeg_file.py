"""Is a JPEG file whole and valid: the one check behind the JPEG codec and every reader of JPEG images.

libjpeg goes on where data is damaged or missing, fills in gray and counts a warning, which Pillow does not pass on. So
four things are looked at here, none of which needs the pixels:

1. The segments, from marker to marker: one frame, tables and scans with whole headers, an end-of-image marker.
2. The progression: every coefficient of every component is sent, down to its last bit (T.81, G.1.1.1). libjpeg does
   not count missing scans.
3. Holes: zero bytes in a row, as a lost packet or disk block leaves them, where the scan's Huffman codes do not make
   zeros of a flat area. Annex K's codes make texture of them, and not seldom as many blocks as were lost. In a scan
   of refinements, which libjpeg decodes without a warning whatever it is given, only a longer hole is told.
4. The entropy-coded data, by libjpeg-turbo in strict mode, at an eighth of the size: the Huffman decoder does all of
   its work, the transform hardly any. Its first warning is an error.

What cannot be known is whether bits were changed so that the file is still a valid one: JPEG has no check sum.
"""

import io
import re
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from precomp_sdk.errors import BitstreamError

__all__ = ["MAX_PIXELS", "MAX_SCANS", "JPEGHeader", "check_jpeg", "check_jpeg_start", "decode_jpeg"]

MAX_PIXELS: Final = 89_478_485  #: largest image that is decoded unless asked for more; Pillow's limit is the same
MAX_SCANS: Final = 100  #: most scans of a file; encoders write 1 (baseline), 3 to 12 (progressive)

_MAX_SEGMENTS: Final = 20_000  # an ICC profile takes up to 255, XMP some thousands
_DHT, _SOI, _EOI, _SOS, _DNL = 0xC4, 0xD8, 0xD9, 0xDA, 0xDC
_SEQUENTIAL: Final = (0xC0, 0xC1)
_PROGRESSIVE: Final = 0xC2
_OTHER_FRAMES: Final = {
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "hierarchical lossless",
    0xC9: "arithmetic-coded",  # legal where its data ends early (T.81, D.2.6), so that no one sees it was cut
    0xCA: "arithmetic-coded",
    0xCB: "arithmetic-coded lossless",
    0xCD: "hierarchical",
    0xCE: "hierarchical",
    0xCF: "hierarchical lossless",
    0xDE: "hierarchical",
}
# In entropy-coded data FF 00 is a byte of ones, FF D0..D7 a restart marker, and FF FF a marker's fill byte.
_AFTER_SCAN: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_HOLE: Final = 16  # zero bytes that no scan has in a row
_REFINEMENT_HOLE: Final = 160  # libjpeg's encoder sends up to 1000 bits of refinement after a code (jcphuff.c)
_NEVER: Final = -1
_MAX_FILL: Final = 64  # bytes of ones before a marker; readers take each by itself


@dataclass(frozen=True, slots=True)
class JPEGHeader:
    """What a JPEG file says of itself.

    Attributes:
        width: of the image, in pixels.
        height: of the image, in pixels.
        components: 1 (gray), 3 (colour) or 4 (CMYK or YCCK).
        progressive: whether it is coded progressively.
        scans: number of scans.
    """

    width: int
    height: int
    components: int
    progressive: bool
    scans: int


@dataclass(slots=True)
class _Component:
    """One component of the frame: its sampling, and the lowest bit sent so far of each coefficient."""

    across: int
    down: int
    lowest: list[int] = field(default_factory=lambda: [_NEVER] * 64)


class _FaultError(Exception):
    """What was expected and what came instead."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected = expected
        self.got = got


def check_jpeg(
    payload: bytes, *, where: str = "JPEG file", max_pixels: int = MAX_PIXELS, max_scans: int = MAX_SCANS
) -> JPEGHeader:
    """Refuse a JPEG file that is not whole and valid, or too large to decode; no pixel takes memory before.

    It costs about a fifth of decoding the file. Bytes behind the end-of-image marker are left alone: cameras put
    previews and films there.

    Args:
        payload: the file.
        where: names the file in errors.
        max_pixels: largest image.
        max_scans: most scans; each of them makes the decoder visit every block, so that few bytes can take long.

    Raises:
        BitstreamError: the file is truncated or damaged, lacks scans, is above a limit, or is of a kind that is not
            decoded: lossless, hierarchical, arithmetic-coded, or of other than 8 bits.

    Source:
        ITU-T T.81, annexes B (segments), G (progression); libjpeg-turbo's warnings.
    """
    try:
        header = _read_segments(payload, max_pixels, max_scans)
        space = "CMYK" if header.components == 4 else "GRAY"
        _decode_strictly(payload, space, smallest=True)
    except _FaultError as fault:
        raise _error(where, fault) from fault.__cause__
    return header


def check_jpeg_start(payload: bytes, *, where: str = "JPEG file") -> None:
    """Refuse a JPEG file whose segments before the first scan are too many or damaged.

    Pillow opens a file by walking them, and whatever lies between them, a byte at a time.

    Args:
        payload: the file.
        where: names the file in errors.

    Raises:
        BitstreamError: they are.
    """
    try:
        at = 2
        for _ in range(_MAX_SEGMENTS):
            marker, _, at = _segment(payload, at, 0)
            if marker in (_SOS, _EOI):
                return
    except _FaultError as fault:
        raise _error(where, fault) from fault.__cause__
    raise _error(where, _FaultError(f"at most {_MAX_SEGMENTS} segments", "more"))


def decode_jpeg(
    payload: bytes, *, where: str = "JPEG file", max_pixels: int = MAX_PIXELS, max_scans: int = MAX_SCANS
) -> NDArray[np.uint8]:
    """Check a JPEG file as `check_jpeg` does, and decode it, in one go.

    Gray is repeated; CMYK and YCCK, with Adobe's inversion, are converted by Pillow. EXIF orientation and colour
    profile are the business of who reads images, not of the codec.

    Args:
        payload: the file.
        where: names the file in errors.
        max_pixels: largest image.
        max_scans: most scans.

    Returns:
        (H, W, 3) uint8, RGB: the pixels that Pillow decodes.

    Raises:
        BitstreamError: as `check_jpeg` does.
    """
    try:
        header = _read_segments(payload, max_pixels, max_scans)
        if header.components < 4:
            return _decode_strictly(payload, "RGB", smallest=False)
        _decode_strictly(payload, "CMYK", smallest=True)
        try:
            with JpegImageFile(io.BytesIO(payload)) as image:
                return np.array(image.convert("RGB"))
        except Exception as error:  # fed rubbish, Pillow raises OSError, SyntaxError, ValueError, struct.error, ...
            raise _FaultError("a file that Pillow decodes", f"{type(error).__name__}: {error}") from error
    except _FaultError as fault:
        raise _error(where, fault) from fault.__cause__


def _error(where: str, fault: _FaultError) -> BitstreamError:
    return BitstreamError(
        where=where,
        expected=fault.expected,
        got=fault.got,
        remedy="The file is truncated, damaged or of a kind that is not decoded; fetch or encode it again.",
    )


def _decode_strictly(payload: bytes, space: str, *, smallest: bool) -> NDArray[np.uint8]:
    side = 1 if smallest else 0
    try:
        decoded: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            payload, space, min_height=side, min_width=side, min_factor=8 if smallest else 1, strict=True
        )
    except Exception as error:  # ValueError by its documentation; of rubbish, whatever its wrapper meets
        raise _FaultError("coded data that libjpeg decodes without a warning", str(error)) from error
    return decoded


def _read_segments(payload: bytes, max_pixels: int, max_scans: int) -> JPEGHeader:
    if payload[:2] != bytes((0xFF, _SOI)):
        raise _FaultError("a JPEG file, which begins with ff d8", payload[:2].hex(" ") or "no bytes")
    components: dict[int, _Component] = {}
    zeros: dict[int, int] = {}  # what zero bits mean, by class and number of the Huffman table
    header: JPEGHeader | None = None
    at, scans = 2, 0
    for _ in range(_MAX_SEGMENTS):
        marker, body, at = _segment(payload, at, scans)
        if marker == _EOI:
            break
        if marker in _SEQUENTIAL or marker == _PROGRESSIVE:
            if header is not None:
                raise _FaultError("one frame", "a second one")
            header, components = _read_frame(body, marker == _PROGRESSIVE)
            _check_claim(header, components, len(payload), max_pixels)
        elif marker in _OTHER_FRAMES:
            raise _FaultError(
                "a baseline, extended or progressive JPEG with Huffman codes", f"a {_OTHER_FRAMES[marker]} one"
            )
        elif marker == _SOS:
            if header is None:
                raise _FaultError("a frame header before the first scan", "none")
            scans += 1
            if scans > max_scans:
                raise _FaultError(f"at most {max_scans} scans", "more")
            _read_scan(body, components, header.progressive)
            found = _AFTER_SCAN.search(payload, at)
            if found is None:
                raise _FaultError("an end-of-image marker after the scan", f"none in {len(payload)} bytes")
            least = _least_hole(body, zeros, header.progressive)
            hole = payload.find(bytes(least), at, found.start()) if least else -1
            if hole >= 0:
                raise _FaultError("coded data without holes", f"{least} or more zero bytes at offset {hole}")
            at = found.start()
        elif marker == _DHT:
            _read_huffman_tables(body, zeros)
        elif marker in (_SOI, _DNL):
            raise _FaultError(
                "an image whose header says its height, and no image within it", f"marker ff {marker:02x}"
            )
    else:
        raise _FaultError(f"at most {_MAX_SEGMENTS} segments", "more")
    if header is None:
        raise _FaultError("a frame header", "none before the end-of-image marker")
    _check_progression(components, header.progressive)
    return JPEGHeader(header.width, header.height, header.components, header.progressive, scans)


def _segment(payload: bytes, at: int, scans: int) -> tuple[int, bytes, int]:
    """Return the marker at an offset, the segment's body, and the offset of what follows it."""
    start = at
    while payload[at + 1 : at + 2] == b"\xff" and payload[at] == 0xFF:
        at += 1
        if at - start > _MAX_FILL:
            raise _FaultError(f"at most {_MAX_FILL} fill bytes before a marker", f"more at offset {start}")
    if at + 2 > len(payload):
        what = "an end-of-image marker after the scan" if scans else "a frame header and a scan"
        raise _FaultError(what, f"none in {len(payload)} bytes")
    if payload[at] != 0xFF:
        raise _FaultError("a marker after each segment", f"byte {payload[at]:02x} at offset {at}")
    marker = payload[at + 1]
    if marker in (_EOI, _SOI):
        return marker, b"", at + 2
    if marker < 0xC0 or 0xD0 <= marker <= 0xD7:  # a marker without a segment stands nowhere but in a scan
        raise _FaultError("a marker of a segment", f"ff {marker:02x} at offset {at}")
    length = int.from_bytes(payload[at + 2 : at + 4])
    if length < 2 or at + 2 + length > len(payload):
        raise _FaultError("whole segments", f"one of {length} bytes at offset {at} of {len(payload)}")
    return marker, payload[at + 4 : at + 2 + length], at + 2 + length


def _read_frame(body: bytes, progressive: bool) -> tuple[JPEGHeader, dict[int, _Component]]:
    """Read SOF (T.81, B.2.2)."""
    count = body[5] if len(body) > 5 else 0
    if count not in (1, 3, 4) or len(body) != 6 + 3 * count:
        raise _FaultError("a frame of 1, 3 or 4 components", f"{count} in {len(body)} bytes")
    if body[0] != 8:
        raise _FaultError("samples of 8 bits", f"{body[0]} bits")
    height, width = int.from_bytes(body[1:3]), int.from_bytes(body[3:5])
    if not (width and height):
        raise _FaultError("an image of one or more pixels", f"{width} x {height}")
    components = {body[i]: _Component(body[i + 1] >> 4, body[i + 1] & 15) for i in range(6, len(body), 3)}
    if len(components) != count or any(not (1 <= c.across <= 4 and 1 <= c.down <= 4) for c in components.values()):
        raise _FaultError("components of different names with sampling factors 1 to 4", body[6:].hex(" "))
    return JPEGHeader(width, height, count, progressive, 0), components


def _check_claim(header: JPEGHeader, components: dict[int, _Component], size: int, max_pixels: int) -> None:
    """Refuse what is above the limit, and a header that claims more blocks than the file has bits for."""
    if header.width * header.height > max_pixels:
        raise _FaultError(f"at most {max_pixels} pixels", f"{header.width} x {header.height}")
    across, down = max(c.across for c in components.values()), max(c.down for c in components.values())
    blocks = sum(
        -(-header.width * c.across // (8 * across)) * -(-header.height * c.down // (8 * down))
        for c in components.values()
    )
    # A DC code takes a bit at least, and in a sequential file the end of the block another; a progressive one may
    # skip 2**15 blocks with one code in its other scans.
    least = blocks * (1 if header.progressive else 2) // 8
    if size < least:
        raise _FaultError(f"{least} bytes or more for {header.width} x {header.height} pixels", f"{size} bytes")


def _read_scan(body: bytes, components: dict[int, _Component], progressive: bool) -> None:
    """Read SOS (T.81, B.2.3), and note which bits of which coefficients it sends."""
    count = body[0] if body else 0
    if not 1 <= count <= 4 or len(body) != 4 + 2 * count:
        raise _FaultError("a scan of 1 to 4 components", f"{count} in {len(body)} bytes")
    names = body[1 : 1 + 2 * count : 2]
    first, last, bits = body[-3:]
    high, low = bits >> 4, bits & 15
    if len(set(names)) != count or not components.keys() >= set(names):
        raise _FaultError("a scan of the frame's components", names.hex(" "))
    if progressive:
        whole_dc, one_band = first == last == 0, count == 1 and 1 <= first <= last <= 63
        valid = (whole_dc or one_band) and low <= 13 and high in (0, low + 1)
    else:
        valid = (first, last, high, low) == (0, 63, 0, 0)
    if not valid:
        raise _FaultError(
            "a scan that T.81 allows", f"coefficients {first} to {last}, bits {high} to {low}, of {count} components"
        )
    for name in names:
        lowest = components[name].lowest
        if any(was != (high or _NEVER) for was in lowest[first : last + 1]) or (first and lowest[0] == _NEVER):
            raise _FaultError("each scan once, and in order", f"coefficients {first} to {last}, bits {high} to {low}")
        lowest[first : last + 1] = [low] * (last + 1 - first)


def _check_progression(components: dict[int, _Component], progressive: bool) -> None:
    missing = sum(lowest != 0 for component in components.values() for lowest in component.lowest)
    if missing:
        what = "a coefficient, or its last bits" if progressive else "a component"
        raise _FaultError(
            "scans of every coefficient of every component, to its last bit",
            f"scans that lack {what} ({missing} of {64 * len(components)})",
        )


def _read_huffman_tables(body: bytes, zeros: dict[int, int]) -> None:
    """Read DHT (T.81, B.2.4.2): the first symbol's code is all zeros, since codes are canonical (C.2)."""
    while body:
        count = sum(body[1:17])
        if len(body) < 17 + count or not count:
            raise _FaultError("whole Huffman tables", f"one of {count} symbols in {len(body)} bytes")
        zeros[body[0]] = body[17]
        body = body[17 + count :]


def _least_hole(body: bytes, zeros: dict[int, int], progressive: bool) -> int:
    """Return how many zero bytes in a row a scan cannot have; 0 where they code a flat area, or tables are not here."""
    first, _, bits = body[-3:]
    refines = progressive and bits >> 4
    if refines and first == 0:
        return 0  # raw bits
    wants_dc, wants_ac = first == 0, first > 0 or not progressive
    for tables in body[2 : 1 + 2 * body[0] : 2]:
        if wants_dc and zeros.get(tables >> 4, 0) != 0:
            return _HOLE  # each block would be darker than the one before
        symbol = zeros.get(0x10 | tables & 15, 0)
        if refines and (symbol & 15 or symbol == 0xF0):
            return _REFINEMENT_HOLE  # each coefficient that was zero would be -1 now
        if wants_ac and not refines and symbol != 0:
            return _HOLE  # no end of a block; or one of several, which encoders join
    return 0
