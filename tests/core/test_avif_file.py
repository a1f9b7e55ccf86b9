"""AVIF files whose cost is not in their pixels."""

import io
import struct
from contextlib import suppress
from typing import Any

import pytest
from PIL import Image, features

from precomp_sdk import BitstreamError
from precomp_sdk.avif_file import _largest, check_avif, check_avif_boxes
from precomp_sdk.heif_file import boxes

from ..benchmark import benchmark

pytestmark = pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
hostile = benchmark("hostile_making")
TABLE = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


def saved(mode: str = "RGB", frames: int = 1, **options: Any) -> bytes:
    buffer = io.BytesIO()
    images = [Image.new(mode, (120, 90)) for _ in range(frames)]
    images[0].save(buffer, "AVIF", save_all=frames > 1, append_images=images[1:], speed=10, **options)
    return buffer.getvalue()


def changed(data: bytes, path: tuple[bytes, ...], body: bytes | None) -> bytes:
    """Return a file with another body in the first box at a path, or with that box once more."""
    parts, done = [], False
    for kind, found in boxes(data):
        if kind == path[0] and not done:
            done = True
            if len(path) > 1:
                found = changed(found, path[1:], body)
            elif body is None:
                parts.append(hostile.box(kind, found))
            else:
                found = body
        parts.append(hostile.box(kind, found))
    assert done
    return b"".join(parts)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("frames", [1, 4])
def test_whole_files_pass(mode: str, frames: int) -> None:
    content = saved(mode, frames)
    check_avif_boxes(content)
    check_avif(content, (120, 90))


def test_frames_are_counted_against_the_image() -> None:
    check_avif(hostile.avif_hidden(500, 20), (500, 500))
    with pytest.raises(BitstreamError, match="250000 pixels whose frames have not many times as many; got 5250000"):
        check_avif(hostile.avif_hidden(500, 21), (500, 500))
    with pytest.raises(BitstreamError, match="got 75000000 in its frames"):  # three tiles of 25 MP
        check_avif(hostile.avif_grid(3, 5000), (192, 64))


def test_the_first_sample_of_a_sequence_is_counted() -> None:
    content = saved(frames=4)
    offset = struct.unpack_from(">I", content, content.index(b"stco") + 12)[0]
    size = struct.unpack_from(">I", content, content.index(b"stsz") + 16)[0]
    sample = content[offset : offset + size]
    frame = sample[sample.index(b"\x32", 2) :]  # an OBU of a frame
    coded = sample + frame * 1000
    table = changed(content, (*TABLE, b"stsz"), struct.pack(">IIIIIII", 0, 0, 4, len(coded), 1, 1, 1))
    table = changed(table, (*TABLE, b"stco"), struct.pack(">III", 0, 1, len(table) + 8)) + hostile.box(b"mdat", coded)
    with pytest.raises(BitstreamError, match="10800 pixels whose frames have not many times as many"):
        check_avif(table, (120, 90))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ((*TABLE, b"stsz"), None),  # twice: which one counts?
        ((*TABLE[:-1], b"stbl"), None),
        ((*TABLE, b"stco"), struct.pack(">II", 0, 0)),
        ((*TABLE, b"stco"), struct.pack(">III", 0, 1, 1 << 31)),
        ((*TABLE, b"stsc"), struct.pack(">IIIII", 0, 1, 2, 1, 1)),
        ((*TABLE, b"stsc"), struct.pack(">IIIII", 0, 1, 1, 0, 1)),
        ((b"mdat",), bytes(10)),
    ],
)
def test_what_cannot_be_followed_is_refused(path: tuple[bytes, ...], body: bytes | None) -> None:
    with pytest.raises(BitstreamError, match="whose coded images can be followed"):
        check_avif(changed(saved(frames=4), path, body), (120, 90))


@pytest.mark.parametrize("at", [4, 5, 6, 7, 9, 12, 13])
def test_a_damaged_table_of_items_is_refused_or_read(at: int) -> None:
    content = bytearray(saved())
    place = content.index(b"iloc") + 4 + at
    for value in (0, 1, 2, 3, 0x84, 255):
        content[place] = value
        with suppress(BitstreamError):  # and nothing else
            check_avif(bytes(content), (120, 90))


def test_extents_that_lie_on_each_other_are_summed() -> None:
    content = saved()
    at = content.index(b"iloc") - 4
    place, length = struct.unpack_from(">II", content, at + 22)
    many = struct.pack(">II", place + 8 * 9999, length) * 10_000
    extents = b"\0\0\0\0\x44\0" + struct.pack(">HHHH", 1, 1, 0, 10_000) + many
    with pytest.raises(BitstreamError, match="followed"):
        check_avif(
            changed(
                content,
                (b"meta",),
                content[content.index(b"meta") + 4 : at]
                + hostile.box(b"iloc", extents)
                + content[at + 30 : content.index(b"mdat") - 4],
            ),
            (120, 90),
        )


def test_units_are_counted() -> None:
    with pytest.raises(BitstreamError, match="more than 10000 units"):
        check_avif(hostile.avif([b"av01"], b"", [b""], b"\x12\0" * 10_001), (120, 90))


def test_many_items_chunks_and_boxes_are_refused_before_the_file_is_opened() -> None:
    with pytest.raises(BitstreamError, match="at most 20000 entries of items"):
        check_avif_boxes(hostile.avif_items(5000))
    check_avif_boxes(hostile.avif_items(300))
    content = saved(frames=4)
    chunks = changed(content, (*TABLE, b"stco"), bytes(8 + 4 * 5000))
    check_avif_boxes(chunks)
    with pytest.raises(BitstreamError, match="looks at the tables of its samples"):
        check_avif_boxes(changed(chunks, (*TABLE, b"stsc"), bytes(8 + 12 * 5000)))
    with pytest.raises(BitstreamError, match="at most 5000 boxes"):
        check_avif_boxes(content + hostile.box(b"free", b"") * 5001)


def bits(*fields: tuple[int, int]) -> bytes:
    text = "".join(f"{value:0{count}b}" for value, count in fields)
    return int(text + "0" * (-len(text) % 8), 2).to_bytes((len(text) + 7) // 8)


SIZE = ((9, 4), (7, 4), (639, 10), (199, 8))  # 640 x 200, in 10 and 8 bits
TIMING = ((1, 1), (7, 32), (25, 32), (0, 1), (1, 3), (1, 2))  # ticks; a picture every so many of them, in five bits


@pytest.mark.parametrize(
    "header",
    [
        bits((0, 3), (1, 1), (1, 1), (8, 5), *SIZE),
        bits((0, 3), (0, 1), (0, 1), (0, 1), (0, 1), (0, 5), (0, 12), (8, 5), (1, 1), *SIZE),
        bits((0, 3), (0, 1), (0, 1), *TIMING, (0, 1), (0, 1), (0, 5), (0, 12), (7, 5), *SIZE),
        bits(
            (0, 3), (0, 1), (0, 1), *TIMING, (1, 1), (9, 5), (1, 32), (3, 5), (4, 5), (1, 1), (1, 5),
            (0, 12), (8, 5), (0, 1), (1, 1), (5, 10), (6, 10), (1, 1), (1, 1), (3, 4),
            (0, 12), (7, 5), (0, 1), (0, 1), *SIZE,
        ),
    ],
)  # fmt: skip
def test_the_size_of_every_kind_of_sequence_header(header: bytes) -> None:
    assert _largest(header) == 640 * 200
    with pytest.raises(ValueError, match="cut"):
        _largest(header[:-2])
