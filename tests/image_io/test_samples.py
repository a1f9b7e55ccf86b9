"""Depth, colour profile, transparency: what the file means, in 8-bit sRGB."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import Tensor

from precomp_sdk import ImageError
from precomp_sdk.image_io import ReadSettings, as_image, read_image

TWELVE = ReadSettings(white_level=4095)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png16(samples: np.ndarray, *chunks: bytes) -> bytes:
    height, width, channels = samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    body = (_chunk(b"IHDR", header), *chunks, _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def tiff16(samples: np.ndarray, order: str = "<", compression: int = 1, strips: int = 1) -> bytes:
    """A TIFF of 16 bits a sample, RGB or RGBA, which Pillow cannot write; compression 1 is none, 8 deflate."""
    height, width, channels = samples.shape
    rows = -(-height // strips)
    parts = [samples[top : top + rows].astype(f"{order}u2").tobytes() for top in range(0, height, rows)]
    parts = [zlib.compress(part) if compression == 8 else part for part in parts]
    tags = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [16] * channels), (259, 3, [compression]), (262, 3, [2]),
        (273, 4, [0] * len(parts)), (277, 3, [channels]), (278, 4, [rows]), (279, 4, [len(part) for part in parts]),
    ]  # fmt: skip
    if channels == 4:
        tags.append((338, 3, [2]))
    start = 8 + 2 + 12 * len(tags) + 4
    lengths = [len(values) * (2 if kind == 3 else 4) for _, kind, values in tags]
    data_at = start + sum(length for length in lengths if length > 4)
    offsets = [data_at + sum(map(len, parts[:place])) for place in range(len(parts))]
    entries, extra = b"", b""
    for tag, kind, values in tags:
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *(offsets if tag == 273 else values))
        entries += struct.pack(f"{order}HHI", tag, kind, len(values))
        if len(packed) > 4:
            entries += struct.pack(f"{order}I", start + len(extra))
            extra += packed
        else:
            entries += packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + bytes(4) + extra + b"".join(parts)


FILES = {
    "png gray": (1, png16),
    "png rgb": (3, png16),
    "tiff little-endian": (3, tiff16),
    "tiff big-endian": (3, lambda samples: tiff16(samples, ">")),
    "tiff deflate": (3, lambda samples: tiff16(samples, compression=8)),
    "tiff strips": (3, lambda samples: tiff16(samples, strips=3)),
}


@pytest.mark.parametrize("name", FILES)
def test_16_bits_are_rounded_and_fewer_are_scaled_by_their_white_level(name: str) -> None:
    channels, encode = FILES[name]
    samples = np.random.default_rng(0).integers(0, 65536, (7, 9, channels)).astype(np.uint16)
    samples[0, 0] = 65535
    right = np.rint(samples / 257)
    assert np.array_equal(read_image(encode(samples)).permute(1, 2, 0).numpy(), np.broadcast_to(right, (7, 9, 3)))
    for bits in (8, 10, 12, 14):
        fewer = samples >> (16 - bits)
        with pytest.raises(ImageError, match=rf"most likely {bits} bits .* white_level = {2**bits - 1} "):
            read_image(encode(fewer))
        found = read_image(encode(fewer), settings=ReadSettings(white_level=2**bits - 1))
        right = np.broadcast_to(np.rint(fewer * (255 / (2**bits - 1))), (7, 9, 3))
        assert np.array_equal(found.permute(1, 2, 0).numpy(), right)


@pytest.mark.parametrize("encode", [png16, tiff16])
def test_a_dark_image_of_16_bits_is_read_where_the_user_says_so(encode: object) -> None:
    dark = np.full((3, 4, 3), 5140, np.uint16)
    settings = ReadSettings(white_level=65535)
    assert read_image(encode(dark), settings=settings).unique().tolist() == [20]  # type: ignore[operator]
    assert read_image(encode(dark * 0)).max() == 0  # type: ignore[operator]  # black is black at any level


def test_samples_above_the_white_level_are_refused() -> None:
    with pytest.raises(ImageError, match="samples from 0 to the white level, 4095; got samples from 5000 to 5000"):
        read_image(png16(np.full((2, 2, 1), 5000, np.uint16)), settings=TWELVE)


def test_floats_need_a_white_level() -> None:
    buffer = BytesIO()
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(buffer, "TIFF")
    with pytest.raises(ImageError, match="white_level"):
        read_image(buffer.getvalue())
    found = read_image(buffer.getvalue(), settings=ReadSettings(white_level=1.0))
    assert found[0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("channels", [2, 4])
def test_16_bit_alpha_is_no_colour(channels: int) -> None:
    samples = np.full((2, 2, channels), 1000, np.uint16)  # 12 bits of colour
    samples[..., -1] = 65535
    with pytest.raises(ImageError, match="10 bits"):
        read_image(png16(samples))
    assert read_image(png16(samples), settings=TWELVE).unique().tolist() == [62]
    samples[..., -1] = 0
    assert read_image(png16(samples), settings=TWELVE).unique().tolist() == [255]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_16_bits_lies_on_white(channels: int) -> None:
    samples = np.full((1, 2, channels), 0x8000, np.uint16)
    samples[0, 1] = 0x8001  # the same 8 bits, and not transparent
    found = read_image(png16(samples, _chunk(b"tRNS", struct.pack(">H", 0x8000) * channels)))
    assert found[0, 0].tolist() == [255, 128]


def test_a_transparent_colour_of_8_bits_lies_on_white() -> None:
    image = Image.new("RGB", (2, 1), (9, 9, 9))
    image.putpixel((1, 0), (1, 2, 3))
    buffer = BytesIO()
    image.save(buffer, "PNG", transparency=(1, 2, 3))
    assert read_image(buffer.getvalue())[:, 0].T.tolist() == [[9, 9, 9], [255, 255, 255]]


def swapped_profile() -> bytes:
    """An sRGB profile with red and green exchanged: plainly not sRGB."""
    raw = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(raw[128:132], "big")
    tags = {bytes(raw[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    raw[red + 4 : red + 12], raw[green + 4 : green + 12] = raw[green + 4 : green + 12], raw[red + 4 : red + 12]
    return bytes(raw)


def with_profile(image: Image.Image, profile: bytes, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, icc_profile=profile, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "RGB"), ("WEBP", "RGB"), ("AVIF", "RGB"), ("TIFF", "RGB")],
)
def test_a_profile_is_converted_to_srgb(kind: str, mode: str) -> None:
    red = Image.new("RGB", (16, 16), (250, 20, 20)).convert(mode)
    found = read_image(with_profile(red, swapped_profile(), kind, quality=95))[:, 8, 8].tolist()
    assert found[1] > 240
    assert found[0] < 80  # what a viewer shows is green


@pytest.mark.parametrize("method", [2, 3])
def test_a_profile_in_jpeg_2000_is_converted_too(method: int) -> None:
    buffer = BytesIO()
    Image.new("RGB", (64, 48), (250, 20, 20)).save(buffer, "JPEG2000")
    content = buffer.getvalue()
    profile = struct.pack(">I", 11 + len(swapped_profile())) + b"colr" + bytes([method, 0, 0])
    profile += swapped_profile()
    header, colours = content.index(b"jp2h") - 4, content.index(b"colr") - 4
    (length,) = struct.unpack_from(">I", content, header)
    (old,) = struct.unpack_from(">I", content, colours)
    longer = struct.pack(">I", length - old + len(profile))
    content = content[:header] + longer + content[header + 4 : colours] + profile + content[colours + old :]
    assert read_image(content)[:, 8, 8].tolist() == [20, 250, 20]


def test_16_bits_keep_their_profile() -> None:
    samples = np.full((2, 2, 3), 5000, np.uint16)
    samples[..., 0] = 64000
    profile = _chunk(b"iCCP", b"x\0\0" + zlib.compress(swapped_profile()))
    red, green, _ = read_image(png16(samples, profile))[:, 0, 0].tolist()
    assert green > 240 > red


def test_srgb_profiles_leave_every_sample() -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype(np.uint8))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert torch.equal(read_image(with_profile(image, profile)), as_image(image))


@pytest.mark.parametrize("profile", [b"rubbish", swapped_profile()[:300], b""])
def test_a_damaged_profile_is_ignored(profile: bytes) -> None:
    image = Image.new("RGB", (4, 4), (250, 20, 20))
    assert read_image(with_profile(image, profile))[:, 0, 0].tolist() == [250, 20, 20]


def test_gray_with_a_profile_of_colours_and_the_other_way_round() -> None:
    gray = Image.new("L", (4, 4), 100)
    assert read_image(with_profile(gray, swapped_profile()))[:, 0, 0].float().mean() > 0
    cmyk = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    assert read_image(with_profile(cmyk, swapped_profile(), "TIFF"))[:, 0, 0].tolist() == [255, 0, 0]


SHAPES: list[tuple[object, list[int]]] = [
    (np.full((2, 3), 7, np.uint8), [7, 7, 7]),
    (np.full((2, 3, 1), 7, np.uint8), [7, 7, 7]),
    (np.full((2, 3, 3), 7, np.uint8), [7, 7, 7]),
    (np.full((2, 3, 4), (9, 9, 9, 0), np.uint8), [255, 255, 255]),
    (np.full((2, 3, 3), 0.5), [128, 128, 128]),
    (np.full((2, 3), True), [255, 255, 255]),
    (np.full((2, 3), 65535, np.uint16), [255, 255, 255]),
    (torch.full((2, 3), 7, dtype=torch.uint8), [7, 7, 7]),
    (torch.full((1, 2, 3), 7, dtype=torch.uint8), [7, 7, 7]),
    (torch.full((3, 2, 3), 0.5, requires_grad=True), [128, 128, 128]),
    (torch.full((3, 2, 3), 0.5, dtype=torch.bfloat16), [128, 128, 128]),
    (torch.full((4, 2, 3), 0, dtype=torch.uint8), [255, 255, 255]),
    (Image.new("RGBA", (3, 2), (9, 9, 9, 0)), [255, 255, 255]),
    (Image.new("RGB", (3, 2), (7, 7, 7)), [7, 7, 7]),
]


@pytest.mark.parametrize(("source", "colour"), SHAPES)
def test_every_common_type_is_an_image(source: object, colour: list[int]) -> None:
    found = as_image(source)  # type: ignore[arg-type]
    assert found.dtype == torch.uint8
    assert found.shape == (3, 2, 3)
    assert found[:, 1, 2].tolist() == colour


def test_a_tensor_of_the_right_kind_is_itself() -> None:
    image = torch.zeros(3, 4, 5, dtype=torch.uint8)
    assert as_image(image) is image


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (np.zeros((3, 20, 30), np.uint8), "channels last"),
        (np.zeros((1, 20, 30, 3), np.uint8), "one image at a time"),
        (torch.zeros(20, 30, 3), "channels first"),
        (torch.zeros(2, 3, 20, 30), "one image at a time"),
        (np.full((2, 3), 200.0), r"floats in \[0, 1\]; got 200 to 200"),
        (np.full((2, 3), np.nan), r"floats in \[0, 1\]; got nan"),
        (np.zeros((2, 3), complex), "numbers"),
        (np.zeros((0, 3, 3), np.uint8), "at least one pixel"),
        (np.full((2, 3), 4095, np.uint16), "12 bits"),
        (None, "a path, the bytes of a file"),
    ],
)
def test_what_is_no_image_is_told(source: object, told: str) -> None:
    with pytest.raises(ImageError, match=told):
        as_image(source)  # type: ignore[arg-type]


def test_the_limit_holds_for_every_type() -> None:
    settings = ReadSettings(max_pixels=5)
    sources: list[object] = [np.zeros((2, 3), np.uint8), Image.new("L", (3, 2)), torch.zeros(3, 2, 3)]
    for source in sources:
        with pytest.raises(ImageError, match="at most 5 pixels; got 3 x 2"):
            as_image(source, settings=settings)  # type: ignore[arg-type]


def test_a_pillow_image_stays_as_it_is() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (3, 2))
    image.getexif().update(exif)
    found: Tensor = as_image(image)
    assert found.shape == (3, 3, 2)
    assert image.size == (3, 2)
    assert image.getexif()[0x0112] == 6
