"""Files made to cost time, byte by byte: what `hostile_files.py` measures, and what tests change further."""

import io
import itertools
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

__all__ = [
    "TINY_TILES",
    "av1",
    "avif",
    "avif_grid",
    "avif_hidden",
    "avif_items",
    "bmp",
    "box",
    "chunk",
    "flat",
    "frames",
    "full",
    "gif",
    "heic_grid",
    "heic_pictures",
    "j2k",
    "jpeg_scans",
    "jpeg_with",
    "jxl_layers",
    "noise",
    "png",
    "saved",
    "tiff",
    "webp_canvas",
    "zeros",
]


def saved(kind: str, image: Image.Image, **options: Any) -> bytes:
    """Return an image as a file of one of Pillow's formats, or of its plugins'."""
    if kind == "HEIF":
        import pillow_heif  # only where it is asked for: it may not be there

        pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flat(width: int, height: int, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (width, height))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, data: bytes, before: bytes = b"", depth: int = 8, interlaced: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """Return ``count`` zero bytes, deflated."""
    coder = zlib.compressobj(9)
    parts = [coder.compress(bytes(min(1 << 20, count - at))) for at in range(0, count, 1 << 20)]
    return b"".join([*parts, coder.flush()])


def gif(extensions: bytes) -> bytes:
    whole = saved("GIF", flat(100, 100, "L"))
    at = 13 + (3 << (whole[10] & 7) + 1 if whole[10] & 0x80 else 0)
    return whole[:at] + extensions + whole[at:]


def tiff(strips: int) -> bytes:
    """Return a TIFF file of one column, each sample a strip of its own."""
    after = 8 + 2 + 12 * 9 + 4
    tags = [(256, 1, 1), (257, 1, strips), (258, 1, 8), (259, 1, 1), (262, 1, 1), (277, 1, 1), (278, 1, 1)]
    tags += [(273, strips, after), (279, strips, after + 4 * strips)]
    entries = b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in sorted(tags))
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head + struct.pack("<I", after + 8 * strips) * strips + struct.pack("<I", 1) * strips + bytes(1)


def bmp(width: int, height: int, runs: bytes) -> bytes:
    head = struct.pack("<IIiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(runs), 0, 0, 1078) + head + bytes(range(256)) * 4 + runs


def jpeg_scans(width: int, height: int, refinements: int) -> bytes:
    """Return a progressive JPEG file: a scan for each coefficient, and so many for their lowest bits."""
    whole = saved("JPEG", flat(width, height, "L"), progressive=True)
    first = whole.index(b"\xff\xda")
    blocks = -(-width // 8) * -(-height // 8)
    tables = b"\xff\xc4" + struct.pack(">H", 2 + 18 + 18)  # each of one code of one bit: DC of no bits, EOB of all
    tables += b"\x00" + bytes([1]) + bytes(15) + b"\x00" + b"\x10" + bytes([1]) + bytes(15) + b"\xe0"

    def scan(begin: int, end: int, high: int, low: int, bits: int) -> bytes:
        head = b"\xff\xda" + struct.pack(">H", 8) + bytes([1, 1, 0, begin, end, high << 4 | low])
        coded = int("0" * bits + "1" * (-bits % 8), 2).to_bytes(-(-bits // 8)) if bits else b""
        return head + coded.replace(b"\xff", b"\xff\x00")

    runs = -(-blocks // (1 << 14)) * 15  # EOB14 with 14 zero bits ends 2**14 blocks
    parts = [scan(0, 0, 0, 0, blocks)]
    parts += [scan(place, place, 0, 1, runs) for place in range(1, 64)]
    ends = [63 * number // refinements for number in range(refinements + 1)]
    parts += [scan(begin + 1, end, 1, 0, runs) for begin, end in itertools.pairwise(ends)]
    return whole[:first] + tables + b"".join(parts) + b"\xff\xd9"


def jpeg_with(something: bytes) -> bytes:
    """Return a JPEG file with something before its first segment."""
    whole = saved("JPEG", flat(64, 64))
    return whole[:2] + something + whole[2:]


def webp_canvas(width: int, height: int) -> bytes:
    """Return an animation of 56 x 40 on a canvas of any size."""

    def part(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)

    def three(*numbers: int) -> bytes:
        return b"".join(number.to_bytes(3, "little") for number in numbers)

    frame = part(b"ANMF", three(0, 0, 55, 39, 100) + b"\0" + saved("WEBP", flat(56, 40))[12:])
    canvas = part(b"VP8X", bytes((2, 0, 0, 0)) + three(width - 1, height - 1))
    body = b"WEBP" + canvas + part(b"ANIM", bytes(6)) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def j2k(width: int, height: int, precinct: int) -> bytes:
    """Return a codestream that claims a size and precincts with sides of a power of two."""
    whole = bytearray(saved("JPEG2000", flat(256, 256), no_jp2=True, precinct_size=(32, 32), codeblock_size=(4, 4)))
    style = whole.index(b"\xff\x52")
    levels = whole[style + 9]
    whole[style + 14 : style + 15 + levels] = bytes([precinct << 4 | precinct]) * (levels + 1)
    size = whole.index(b"\xff\x51")
    whole[size + 6 : size + 14] = whole[size + 22 : size + 30] = struct.pack(">II", width, height)
    return bytes(whole)


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def full(kind: bytes, version: int, *parts: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24), *parts)


def heic_grid(rows: int, columns: int, tile: int, canvas: tuple[int, int], parts: Sequence[int] | None = None) -> bytes:
    """Return a HEIC file: a grid whose tiles are one coded image, again and again; ``parts`` are the items it names."""
    whole = saved("HEIF", flat(tile, tile), quality=20)

    def within(data: bytes, *path: bytes) -> bytes:
        for kind in path:
            at = data.index(kind)
            data = data[at + 4 : at - 4 + int.from_bytes(data[at - 4 : at])]
        return data

    coded, config = within(whole, b"mdat"), box(b"hvcC", within(whole, b"hvcC"))
    ids = parts or [2] * (rows * columns)

    def size(width: int, height: int) -> bytes:
        return full(b"ispe", 0, struct.pack(">II", width, height))

    layout = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *canvas)
    items = [full(b"infe", 2, struct.pack(">HH", item, 0), kind, b"\0") for item, kind in ((1, b"grid"), (2, b"hvc1"))]
    properties = box(b"ipco", config, size(tile, tile), size(*canvas))
    uses = full(b"ipma", 0, struct.pack(">I", 2), struct.pack(">HBB", 1, 1, 3), struct.pack(">HBBB", 2, 2, 0x81, 2))

    def meta(offset: int) -> bytes:
        places = (
            struct.pack(">HHHHII", 1, 1, 0, 1, 0, len(layout)),
            struct.pack(">HHHHII", 2, 0, 0, 1, offset, len(coded)),
        )
        return full(
            b"meta",
            0,
            full(b"hdlr", 0, b"\0\0\0\0pict" + bytes(13)),
            full(b"pitm", 0, struct.pack(">H", 1)),
            full(b"iloc", 1, b"\x44\0", struct.pack(">H", 2), *places),
            full(b"iinf", 0, struct.pack(">H", 2), *items),
            full(b"iref", 0, box(b"dimg", struct.pack(f">HH{len(ids)}H", 1, len(ids), *ids))),
            box(b"iprp", properties, uses),
            box(b"idat", layout),
        )

    kind = box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")
    return kind + meta(len(kind) + len(meta(0)) + 8) + box(b"mdat", coded)


def av1(side: int) -> tuple[bytes, bytes, bytes]:
    """Return a flat image's configuration, sequence header and frame."""
    whole = saved("AVIF", flat(side, side), speed=10, max_threads=1)
    config = whole[whole.index(b"av1C") + 4 :][:4]
    found, at = [], whole.index(b"mdat") + 4
    while at < len(whole):
        shift, length = 0, 0
        end = at + 1
        while True:
            length |= (whole[end] & 127) << shift
            shift, end = shift + 7, end + 1
            if whole[end - 1] < 128:
                break
        found.append(whole[at : end + length])
        at = end + length
    return config, found[1], found[2]


def avif(items: Sequence[bytes], properties: bytes, uses: Sequence[bytes], coded: bytes, layout: bytes = b"") -> bytes:
    """Return a file of items of the given types, all with the same coded bytes, each with its properties."""
    numbers = range(1, len(items) + 1)
    infos = [
        full(b"infe", 2, struct.pack(">HH", number, 0), kind, b"\0")
        for number, kind in zip(numbers, items, strict=True)
    ]
    tiles = [number for number in numbers if items[number - 1] == b"av01"]
    parts = full(b"iref", 0, box(b"dimg", struct.pack(f">HH{len(tiles)}H", 1, len(tiles), *tiles))) if layout else b""

    def meta(offset: int) -> bytes:
        places = [
            struct.pack(">HHHHII", number, 1, 0, 1, 0, len(layout))
            if kind == b"grid"
            else struct.pack(">HHHHII", number, 0, 0, 1, offset, len(coded))
            for number, kind in zip(numbers, items, strict=True)
        ]
        return full(
            b"meta",
            0,
            full(b"hdlr", 0, b"\0\0\0\0pict" + bytes(13)),
            full(b"pitm", 0, struct.pack(">H", 1)),
            full(b"iloc", 1, b"\x44\0", struct.pack(">H", len(items)), *places),
            full(b"iinf", 0, struct.pack(">H", len(items)), *infos),
            parts,
            box(
                b"iprp",
                box(b"ipco", properties),
                full(
                    b"ipma",
                    0,
                    struct.pack(">I", len(items)),
                    *[struct.pack(">HB", number, len(use)) + use for number, use in zip(numbers, uses, strict=True)],
                ),
            ),
            box(b"idat", layout) if layout else b"",
        )

    kind = box(b"ftyp", b"avif" + bytes(4) + b"avifmif1miaf")
    return kind + meta(len(kind) + len(meta(0)) + 8) + box(b"mdat", coded)


def avif_hidden(side: int, count: int) -> bytes:
    """Return one image whose item holds so many frames; the layer that is asked for is in the last."""
    config, sequence, frame = av1(side)
    last = bytes([frame[0] | 4, 1 << 3]) + frame[1:]  # the second layer
    properties = full(b"ispe", 0, struct.pack(">II", side, side)) + full(b"pixi", 0, b"\3\x08\x08\x08")
    properties += box(b"av1C", config) + box(b"lsel", struct.pack(">H", 1))
    coded = b"\x12\0" + sequence + frame * (count - 1) + last
    return avif([b"av01"], properties, [b"\1\2\x83\x84"], coded)


def avif_grid(count: int, side: int, tile: int = 64) -> bytes:
    """Return an image of tiles, each a frame that is larger than the file says; all are the same bytes."""
    config, sequence, frame = av1(side)
    sizes = [full(b"ispe", 0, struct.pack(">II", width, tile)) for width in (tile * count, tile)]
    properties = b"".join(sizes) + full(b"pixi", 0, b"\3\x08\x08\x08") + box(b"av1C", config)
    layout = struct.pack(">BBBBHH", 0, 0, 0, count - 1, tile * count, tile)
    items = [b"grid", *[b"av01"] * count]
    return avif(items, properties, [b"\1\3", *[b"\2\3\x84"] * count], b"\x12\0" + sequence + frame, layout)


def avif_items(count: int) -> bytes:
    """Return an image beside so many items of no kind."""
    config, sequence, frame = av1(64)
    properties = full(b"ispe", 0, struct.pack(">II", 64, 64)) + full(b"pixi", 0, b"\3\x08\x08\x08")
    coded = b"\x12\0" + sequence + frame
    uses = [b"\1\2\x83", *[b""] * count]
    return avif([b"av01", *[b"mime"] * count], properties + box(b"av1C", config), uses, coded)


def jxl_layers(count: int) -> bytes:
    """Return a JPEG XL image of 300 x 300 of so many frames, one above the other.

    libjxl's encoder wrote the frame, at quality 20; four bits say that it is not the last.
    """
    body = bytes.fromhex(
        "e4c0050c00000000000000a9630b00800a9551c60d5ecef57cf9a1c362dac67586b6dab6b0249112d1339b298002f73d83a27c2faf0281"
        "4020a4400ee2c6b81b3706eb050ca8e439c098bb8020e8c598b3473b91ab0f009237ccd9519200"
    )
    hidden, last = b"\x00\x05\x40\x00\x03\x00" + body, b"\x00\x15\x08\x03\x00" + body
    return bytes.fromhex("ff0a589901") + hidden * (count - 1) + last


def heic_pictures(count: int) -> bytes:
    """Return one image whose item holds so many pictures."""
    whole = saved("HEIF", flat(1000, 1000), quality=20)
    at = whole.index(b"mdat")
    coded, place = whole[at + 4 :], whole.index(struct.pack(">I", len(whole) - at - 4))
    whole = whole[:place] + struct.pack(">I", count * len(coded)) + whole[place + 4 : at]
    return whole[:-4] + box(b"mdat", coded * count)


#: name: (codec, or "" for the reader of image files; the file; whether it has to be refused, or None where it may be)


TINY_TILES = {"no_jp2": True, "tile_size": (1, 1), "num_resolutions": 1}


def frames(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (64, 64), (number % 256, 0, 0)) for number in range(1, count)]
