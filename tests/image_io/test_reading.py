"""Every image file becomes (3, H, W) uint8, or an error that names it."""

import struct
import time
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from precomp_sdk import ImageError, OptionError
from precomp_sdk.image_io import ReadSettings, _files, as_image, is_image_name, read_image, reason_not_read

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(width: int = 8, height: int = 6) -> Image.Image:
    values = np.linspace(0, 255, width * height * 3).reshape(height, width, 3)
    return Image.fromarray(values.astype(np.uint8))


def pixel(image: torch.Tensor, row: int = 0, column: int = 0) -> tuple[int, ...]:
    return tuple(image[:, row, column].tolist())


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds no pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
def test_lossless_formats_keep_every_sample(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"ramp.{kind.lower()}"
    path.write_bytes(encoded(ramp(), kind))
    for image in (read_image(path), read_image(str(path)), read_image(path.read_bytes())):
        assert image.dtype == torch.uint8
        assert image.is_contiguous()
        assert torch.equal(image, torch.from_numpy(np.array(ramp())).permute(2, 0, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation: int) -> None:
    upright = np.array(ramp())
    stored: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # what a camera stores, by EXIF's definition
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[::-1],  # row 0 is the image's right side
        7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: a.transpose(1, 0, 2)[:, ::-1],  # row 0 is the image's left side, from below
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored[orientation](upright)))
    assert torch.equal(read_image(encoded(image, exif=exif)), torch.from_numpy(upright).permute(2, 0, 1))


@pytest.mark.parametrize("exif", [b"Exif\x00\x00rubbish", b"Exif\x00\x00II*\x00\xff\xff\xff\x7f", b""])
def test_broken_exif_leaves_the_image_readable(exif: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of corrupt EXIF data
        assert read_image(encoded(ramp(), "JPEG", exif=exif)).shape == (3, 6, 8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_gray_is_scaled_not_clipped(kind: str) -> None:
    values = np.array([[0, 128, 257, 32768, 65535 - 129, 65535]], np.uint16)
    image = read_image(encoded(Image.fromarray(values), kind))
    assert image[0, 0].tolist() == [0, 0, 1, 128, 254, 255]
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])


def test_32_bit_integers_within_16_bits_are_scaled() -> None:
    values = np.array([[0, 32768, 65535]], np.int32)
    assert read_image(encoded(Image.fromarray(values), "TIFF"))[0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    "values", [np.array([[0, 65536]], np.int32), np.array([[-1, 5]], np.int32), np.array([[0.0, 1.0]], np.float32)]
)
def test_samples_without_a_defined_range_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ImageError, match="scan\\.tif: expected 8 or 16 bits"):
        read_image(encoded(Image.fromarray(values), "TIFF"), where="scan.tif")


@pytest.mark.parametrize(("color", "channels"), [(2, 3), (4, 2), (6, 4)], ids=["RGB", "LA", "RGBA"])
def test_16_bit_color_and_alpha_are_scaled_and_lie_on_white(color: int, channels: int) -> None:
    samples = struct.pack(f">{channels}H", *[32768] * channels)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 1, 1, 16, color, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" + samples)), chunk(b"IEND", b"")
    expected = 128 if color == 2 else 191  # half of it lies on white
    found = read_image(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert pixel(found) == pytest.approx((expected,) * 3, abs=1)


def test_gray_1_bit_and_palette_images_become_rgb() -> None:
    gray = Image.new("L", (3, 2), 77)
    assert pixel(read_image(encoded(gray))) == (77, 77, 77)
    bits = Image.new("1", (3, 2), 1)
    assert pixel(read_image(encoded(bits))) == WHITE
    palette = Image.new("P", (3, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert pixel(read_image(encoded(palette, "GIF"))) == (10, 20, 30)
    assert pixel(read_image(encoded(palette, "PNG"))) == (10, 20, 30)


def test_cmyk_becomes_rgb() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert pixel(read_image(encoded(red, "TIFF"))) == RED
    found = read_image(encoded(red, "JPEG", quality=100))
    assert (found[:, 8, 8] - torch.tensor(RED)).abs().max() <= 3


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_lies_on_white(mode: str) -> None:
    image = Image.new(mode, (2, 1), (0, 0, 0, 0) if mode == "RGBA" else (0, 0))  # transparent black
    image.putpixel((1, 0), (0, 0, 0, 128) if mode == "RGBA" else (0, 128))
    found = read_image(encoded(image))
    assert pixel(found) == WHITE
    assert pixel(found, column=1) == pytest.approx((127, 127, 127), abs=1)


def test_transparent_palette_entries_lie_on_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    for data in (
        encoded(image, transparency=0),
        encoded(image, transparency=b"\x00\xff"),
        encoded(image, "GIF", transparency=0),
    ):
        found = read_image(data)
        assert pixel(found) == WHITE
        assert pixel(found, column=1) == BLUE


def test_premultiplied_alpha_is_understood() -> None:
    for mode, colour in (("RGBa", (64, 0, 0, 64)), ("La", (0, 64))):
        found = as_image(Image.new(mode, (1, 1), colour))
        assert pixel(found)[1] == pytest.approx(191, abs=1)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    for kind in ("GIF", "PNG", "TIFF"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert pixel(read_image(data)) == RED


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"an empty file \(0 bytes\)"),
        (b"hello, this is text", r"expected an image that is read here \(JPEG, .*; got something else"),
        (encoded(ramp(64, 64), "JPEG")[:-200], "an end-of-image marker"),
        (encoded(ramp(64, 64), "PNG")[:-40], "corrupt, truncated or unsupported"),
        (encoded(ramp(64, 64), "JPEG")[:30], "expected whole segments; got one of 67 bytes at offset 20 of 30"),
        (png_header(5, 5), "corrupt, truncated or unsupported"),
        (png_header(0, 5), "expected an"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n", "format EPS"),
    ],
    ids=["zero bytes", "text", "cut jpeg", "cut png", "cut header", "no pixels", "width 0", "eps"],
)
def test_what_cannot_be_read_is_named_with_the_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=reason) as raised:
        read_image(path)
    assert raised.value.where == str(path)
    with pytest.raises(ImageError, match=f"sample 3: .*{reason}"):
        read_image(data, where="sample 3")


@pytest.mark.parametrize("count", range(1, 40))
def test_a_few_bytes_are_no_image(count: int) -> None:
    for data in (b"x" * count, bytes(count), b"\xff\xd8" * count, b"\x89PNG\r\n\x1a\n"[:count]):
        with pytest.raises(ImageError, match=r"image of .* bytes: expected (an image|a whole|a frame header)"):
            read_image(data)


def test_a_corrupt_chunk_is_an_error() -> None:
    data = bytearray(encoded(ramp(64, 64)))
    place = data.index(b"IDAT") + 20
    data[place : place + 8] = b"\xff" * 8
    with pytest.raises(ImageError, match="corrupt, truncated or unsupported"):
        read_image(bytes(data))


def test_lab_becomes_rgb() -> None:
    white = read_image(encoded(Image.new("LAB", (2, 2), (255, 128, 128)), "TIFF"))
    assert white.min() > 250


def test_bytes_without_a_name_say_how_many_they_are() -> None:
    with pytest.raises(ImageError, match="image of 3 bytes"):
        read_image(b"abc")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone.png: .*No such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)


def test_max_pixels_is_a_limit_on_the_declared_size() -> None:
    data = encoded(ramp(8, 6))
    assert read_image(data, settings=ReadSettings(max_pixels=48)).shape == (3, 6, 8)
    with pytest.raises(ImageError, match="at most 47 pixels; got 8 x 6"):
        read_image(data, settings=ReadSettings(max_pixels=47))


@pytest.mark.parametrize("action", ["error", "ignore"])
@pytest.mark.parametrize("side", [13_500, 60_000])
def test_a_huge_image_is_refused_before_it_is_decoded(action: str, side: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(action)  # type: ignore[arg-type]
        with pytest.raises(ImageError, match="expected an image of at most"):
            read_image(png_header(side, side))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF", "WEBP", "JPEG"])
def test_the_limit_is_ours_alone_and_pillows_comes_back(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    data = encoded(ramp(8, 6), kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow refuses beyond twice as many
    assert read_image(data).shape == (3, 6, 8)
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(ImageError, match="at most 47"):
        read_image(data, settings=ReadSettings(max_pixels=47))
    assert Image.MAX_IMAGE_PIXELS == 10


def test_image_names() -> None:
    assert all(is_image_name(name) for name in ("a.jpg", "b.JPEG", "c.png", "d.webp", "e.tif", "f.bmp", "g.gif"))
    assert not any(
        is_image_name(name) for name in ("a.txt", "b", ".hidden.jpg", "c.pdf", "d.eps", "e.jpg.json", "f.mpg")
    )


def test_why_an_image_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reason_not_read("a.jpg") == reason_not_read("notes.txt") == reason_not_read("film.mpg") == ""
    assert reason_not_read("._a.jpg") == "a hidden file"
    assert all("no format" in reason_not_read(name) for name in ("a.psd", "b.DNG", "c.eps", "d.svg", "e.ico"))
    monkeypatch.setattr(_files, "_available", lambda: ("JPEG", "PNG"))
    _files._endings.cache_clear()
    try:
        assert reason_not_read("IMG_0001.HEIC") == "pillow-heif is not installed"
        assert reason_not_read("a.jxl") == "pillow-jxl-plugin is not installed"
        with pytest.raises(ImageError, match=r"got HEIC, and no pillow_heif\. Install pillow-heif"):
            read_image(b"\0\0\0\x18ftypheic" + bytes(12))
    finally:
        _files._endings.cache_clear()


def test_heic_and_jpeg_xl_are_read_where_their_packages_are() -> None:
    for package, kind in (("pillow_heif", "HEIF"), ("pillow_jxl", "JXL")):
        module = pytest.importorskip(package)
        if kind == "HEIF":
            module.register_heif_opener()
        found = read_image(encoded(ramp(64, 48), kind, quality=95))
        assert (found.float() - as_image(ramp(64, 48)).float()).abs().mean() < 3
        assert is_image_name(f"a.{'heic' if kind == 'HEIF' else 'jxl'}")


@pytest.mark.parametrize(
    ("data", "got", "remedy"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git-lfs pointer", "git lfs pull"),
        (b"<!doctype html><html>", "a web page", "Download"),
        (b"%PDF-1.7", "a PDF file", "PNG"),
    ],
)
def test_what_lies_in_the_place_of_an_image_is_named(data: bytes, got: str, remedy: str) -> None:
    with pytest.raises(ImageError, match=f"got .*{got}.*{remedy}"):
        read_image(data)


def test_postscript_never_starts_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*args: object, **options: object) -> None:
        raise AssertionError(f"a program was started: {args}")

    monkeypatch.setattr("subprocess.Popen", start)
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "a.png").write_bytes(data)
    with Image.open(BytesIO(data)) as held:
        assert held.format == "EPS"  # it would be drawn by Ghostscript as soon as it is loaded
        for source in (tmp_path / "a.png", data, held):
            with pytest.raises(ImageError, match="EPS"):
                as_image(source)
    # a DOS header before the PostScript
    with pytest.raises(ImageError, match="EPS"):
        read_image(b"\xc5\xd0\xd3\xc6" + bytes(40) + data)


@pytest.mark.parametrize("kind", ["AVIF", "WEBP", "JPEG", "PNG", "GIF", "TIFF", "JPEG2000", "QOI", "BMP"])
def test_damage_is_one_error_in_every_format(kind: str) -> None:
    data = encoded(ramp(64, 48).convert("P") if kind == "GIF" else ramp(64, 48), kind)
    for cut in (data[: len(data) // 2], data[:40], bytes(len(data)), data[:20] + bytes(200)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of a cut TIFF
            with pytest.raises(ImageError) as raised:
                read_image(cut)
        assert len(str(raised.value).splitlines()) == 1


def test_settings_are_checked() -> None:
    for wrong in ({"max_pixels": 0}, {"max_pixels": True}, {"white_level": 0.0}, {"white_level": float("nan")}):
        with pytest.raises(OptionError):
            ReadSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_whose_scan_is_damaged_is_refused(progressive: bool) -> None:
    noise = np.kron(np.random.default_rng(0).integers(0, 255, (16, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    whole = encoded(Image.fromarray(noise), "JPEG", quality=90, progressive=progressive)
    assert read_image(whole).shape == (3, 128, 128)
    half = len(whole) // 2
    for damaged in (whole[:half] + whole[-2:], whole[:half] + bytes(400) + whole[half + 400 :]):
        with pytest.raises(ImageError, match=r"image of \d+ bytes: expected"):
            read_image(damaged)


def test_a_webp_of_a_small_animation_on_a_large_canvas_is_refused_before_its_canvas_takes_memory() -> None:
    images = [Image.new("RGB", (56, 40), (shade, 0, 0)) for shade in (0, 99)]
    buffer = BytesIO()
    images[0].save(buffer, "WEBP", save_all=True, append_images=images[1:])
    whole = buffer.getvalue()
    assert read_image(whole).shape == (3, 40, 56)
    claimed = whole[:24] + (1_048_631).to_bytes(3, "little") + whole[27:]
    start = time.thread_time()
    with pytest.raises(ImageError, match="fills its canvas"):
        read_image(claimed)
    assert time.thread_time() - start < 0.1
