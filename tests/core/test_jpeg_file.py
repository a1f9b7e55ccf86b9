"""What `check_jpeg` notices: torn, holed and incomplete files, claims, and what a stranger makes to cost time."""

import io
import re
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from precomp_sdk import BitstreamError, check_jpeg, decode_jpeg
from precomp_sdk.jpeg_file import MAX_PIXELS, MAX_SCANS

SOS = b"\xff\xda"
EOI = b"\xff\xd9"
KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"optimize": True},
    {"progressive": True},
    {"subsampling": 0, "quality": 95},
    {"quality": 20, "optimize": True},
    {"restart_marker_blocks": 5},
)


def textured(height: int = 160, width: int = 192, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def saved(image: NDArray[np.uint8], mode: str | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode or "RGB").save(buffer, "JPEG", **options)
    return buffer.getvalue()


def pillows(payload: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(payload)).convert("RGB"))


def cuts(payload: bytes) -> list[tuple[int, int]]:
    """Begin and end of each scan's coded data."""
    found = []
    at = payload.find(SOS)
    while at >= 0:
        begin = at + 2 + int.from_bytes(payload[at + 2 : at + 4])
        end = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL).search(payload, begin)
        assert end
        found.append((begin, end.start()))
        at = payload.find(SOS, end.start())
    return found


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_whole_files_pass_and_decode_to_pillows_pixels(options: dict[str, Any], mode: str) -> None:
    for height, width in ((1, 1), (7, 30), (160, 192)):
        image = textured()[:height, :width]
        payload = saved(image, mode, **options)
        header = check_jpeg(payload)
        assert (header.height, header.width) == (height, width)
        assert header.components == {"L": 1, "RGB": 3, "CMYK": 4}[mode]
        assert header.progressive == (header.scans > 1) == ("progressive" in options)
        assert np.array_equal(decode_jpeg(payload), pillows(payload))
        assert np.array_equal(decode_jpeg(payload + b"a film behind it"), pillows(payload))


def test_flat_and_synthetic_images_pass_although_their_data_is_full_of_zeros() -> None:
    flat = np.full((400, 400, 3), 255, np.uint8)
    half = flat.copy()
    half[:, 200:] = textured(400, 200)
    board = np.kron(np.indices((25, 25)).sum(0) % 2 * 255, np.ones((16, 16))).astype(np.uint8)[..., None].repeat(3, 2)
    long_runs = 0
    for image in (flat, half, board, np.zeros_like(flat)):
        for options in (*KINDS, {"quality": 100, "subsampling": 0, "optimize": True}):
            payload = saved(image, **options)
            long_runs += bytes(16) in payload
            check_jpeg(payload)
            check_jpeg(saved(image, "L", **options))
    assert long_runs


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_scan_cut_anywhere_with_its_end_kept_is_refused(options: dict[str, Any]) -> None:
    payload = saved(textured(), **options)
    tried = 0
    for begin, end in cuts(payload):
        for at in np.linspace(begin, end - 3, 9).astype(int):
            torn = payload[:at] + EOI
            tried += 1
            with pytest.raises(BitstreamError):
                check_jpeg(torn)
            with pytest.raises(BitstreamError):
                decode_jpeg(torn)
    assert tried >= 9


@pytest.mark.parametrize("options", [kind for kind in KINDS if "progressive" not in kind], ids=str)
@pytest.mark.parametrize("length", [40, 400, 4000])
def test_a_hole_anywhere_in_a_sequential_scan_is_refused(options: dict[str, Any], length: int) -> None:
    payload = saved(textured(480, 640), **options)
    ((begin, end),) = cuts(payload)
    for at in np.linspace(begin, end - length - 1, 23).astype(int):
        holed = payload[:at] + bytes(length) + payload[at + length :]
        with pytest.raises(BitstreamError):
            check_jpeg(holed)
        with pytest.raises(BitstreamError):
            decode_jpeg(holed)


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_a_hole_in_a_progressive_file_is_refused_but_for_the_lowest_bits_of_dc(quality: int) -> None:
    payload = saved(textured(480, 640), progressive=True, quality=quality)
    whole = decode_jpeg(payload).astype(int)
    begin, end = cuts(payload)[0][0], cuts(payload)[-1][1]
    passed = 0
    for at in np.linspace(begin, end - 401, 84).astype(int):
        try:
            pixels = decode_jpeg(payload[:at] + bytes(400) + payload[at + 400 :])
        except BitstreamError:
            continue
        passed += 1
        assert np.abs(pixels - whole).max() <= 16  # in DC's refinement every bit pattern is valid, and tells one step
    assert passed <= 2


def test_pieces_glued_together_are_refused() -> None:
    first, second = saved(textured(seed=1)), saved(textured(seed=2))
    half = len(first) // 2
    for glued in (first[:half] + second[half:], first[:half] + second, first[: half - 500] + first[half:]):
        with pytest.raises(BitstreamError):
            check_jpeg(glued)


def test_every_missing_progressive_scan_is_noticed() -> None:
    payload = saved(textured(), progressive=True)
    scans = [match.start() for match in re.finditer(re.escape(SOS), payload)]
    ends = [end for _, end in cuts(payload)]
    assert len(scans) == 10
    for scan, end in zip(scans, ends, strict=True):
        with pytest.raises(BitstreamError, match="scan"):
            check_jpeg(payload[:scan] + payload[end:])
    for end in ends[:-1]:
        with pytest.raises(BitstreamError, match="scans that lack a coefficient"):
            check_jpeg(payload[:end] + EOI)
    twice = payload[: ends[-1]] + payload[scans[-1] : ends[-1]] + payload[ends[-1] :]
    with pytest.raises(BitstreamError, match="each scan once"):
        check_jpeg(twice)


def test_a_missing_component_is_noticed() -> None:
    payload = saved(textured(), subsampling=0)
    at = payload.index(SOS)
    alone = payload[: at + 2] + struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 63, 0) + payload[cuts(payload)[0][0] :]
    with pytest.raises(BitstreamError, match="lack a component"):
        check_jpeg(alone)


def with_frame(payload: bytes, height: int, width: int) -> bytes:
    at = re.search(rb"\xff[\xc0-\xc2]", payload)
    assert at
    return payload[: at.start() + 5] + struct.pack(">HH", height, width) + payload[at.start() + 9 :]


def test_claims_are_refused_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = saved(textured(16, 16))
    monkeypatch.setattr("simplejpeg.decode_jpeg", lambda *_args, **_options: pytest.fail("it was decoded"))
    assert MAX_PIXELS < 60_000 * 60_000
    with pytest.raises(BitstreamError, match="60000 x 60000"):
        check_jpeg(with_frame(payload, 60_000, 60_000))
    with pytest.raises(BitstreamError, match="bytes or more for 9000 x 9000 pixels"):
        check_jpeg(with_frame(payload, 9_000, 9_000))
    with pytest.raises(BitstreamError, match="at most 255 pixels"):
        check_jpeg(payload, max_pixels=255)
    with pytest.raises(BitstreamError, match="bytes or more for 9000 x 9000 pixels"):
        check_jpeg(with_frame(saved(textured(16, 16), progressive=True), 9_000, 9_000))
    with pytest.raises(BitstreamError, match="one or more pixels"):
        check_jpeg(with_frame(payload, 0, 16))


def many_scans(image: NDArray[np.uint8], count: int) -> bytes:
    """A valid beginning, then the last scan again and again."""
    payload = saved(image, "L", progressive=True)
    begin, end = payload.rindex(SOS), len(payload) - 2
    return payload[:end] + count * payload[begin:end] + EOI


def test_thousands_of_scans_cost_no_time() -> None:
    payload = many_scans(np.full((2000, 2000, 3), 128, np.uint8), 2000)
    assert len(payload) < 100_000
    for read in (check_jpeg, decode_jpeg):
        start = time.thread_time()
        with pytest.raises(BitstreamError):
            read(payload)
        assert time.thread_time() - start < 1.0
    assert len(cuts(payload)) > MAX_SCANS


def test_the_limit_of_scans_can_be_changed() -> None:
    payload = saved(textured(), progressive=True)
    assert check_jpeg(payload, max_scans=10).scans == 10
    with pytest.raises(BitstreamError, match="at most 9 scans"):
        check_jpeg(payload, max_scans=9)


def test_a_million_segments_cost_no_time() -> None:
    payload = saved(textured(16, 16))
    start = time.thread_time()
    with pytest.raises(BitstreamError, match="segments"):
        check_jpeg(payload[:2] + 1_000_000 * b"\xff\xfe\x00\x02" + payload[2:])
    assert time.thread_time() - start < 1.0


def edited(payload: bytes, marker: bytes, change: Callable[[bytearray, int], None]) -> bytes:
    data = bytearray(payload)
    change(data, payload.index(marker) + 4)
    return bytes(data)


def setter(offset: int, value: int) -> Callable[[bytearray, int], None]:
    def change(data: bytearray, at: int) -> None:
        data[at + offset] = value

    return change


FRAME = b"\xff\xc0\x00\x11"
SCAN = b"\xff\xda\x00\x0c"
TABLE = b"\xff\xc4"


@pytest.mark.parametrize(
    ("marker", "offset", "value", "message"),
    [
        (FRAME, 0, 12, "8 bits"),
        (FRAME, 5, 2, "1, 3 or 4 components"),
        (FRAME, 9, 1, "different names"),
        (FRAME, 7, 0x52, "sampling factors"),
        (FRAME, 7, 0x20, "sampling factors"),
        (FRAME, -3, 0xC9, "arithmetic-coded"),
        (FRAME, -3, 0xC3, "lossless"),
        (FRAME, -3, 0xC5, "hierarchical"),
        (FRAME, -3, 0xDC, "height"),
        (FRAME, -3, 0xFE, "a frame header before the first scan"),
        (SCAN, 0, 5, "a scan of 1 to 4"),
        (SCAN, 1, 9, "the frame's components"),
        (SCAN, 1, 2, "the frame's components"),
        (SCAN, 7, 1, "a scan that T.81 allows"),
        (SCAN, 8, 62, "a scan that T.81 allows"),
        (SCAN, 9, 1, "a scan that T.81 allows"),
        (TABLE, 1, 200, "whole Huffman tables"),
        (TABLE, -4, 0x00, "a marker after each segment"),
        (TABLE, -3, 0xD0, "a marker of a segment"),
        (TABLE, -2, 0xFF, "whole segments"),
    ],
)
def test_each_wrong_field_is_named(marker: bytes, offset: int, value: int, message: str) -> None:
    payload = saved(textured(16, 16))
    with pytest.raises(BitstreamError, match=message):
        check_jpeg(edited(payload, marker, setter(offset, value)))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8" * 3,
        b"GIF89a",
        b"\xff\xd8\xff\xe0\x00",
    ],
)
def test_stubs_are_refused(payload: bytes) -> None:
    with pytest.raises(BitstreamError):
        check_jpeg(payload)


def test_two_frames_are_refused() -> None:
    payload = saved(textured(16, 16))
    at = payload.index(FRAME)
    with pytest.raises(BitstreamError, match="one frame"):
        check_jpeg(payload[: at + 19] + payload[at:])


def test_fill_bytes_before_markers_are_allowed() -> None:
    payload = saved(textured())
    filled = payload[:2] + b"\xff\xff" + payload[2:-2] + b"\xff\xff" + EOI
    assert np.array_equal(decode_jpeg(filled), pillows(payload))


def test_fuzzed_files_raise_nothing_else() -> None:
    rng = np.random.default_rng(5)
    wholes = [saved(textured(40, 56), **options) for options in KINDS]
    refused = 0
    for _ in range(600):
        payload = bytearray(wholes[rng.integers(len(wholes))])
        for _ in range(rng.integers(1, 4)):
            payload[rng.integers(len(payload))] = rng.integers(256)
        for read in (check_jpeg, decode_jpeg):
            try:
                read(bytes(payload))
            except BitstreamError:
                refused += 1
    assert refused > 200
