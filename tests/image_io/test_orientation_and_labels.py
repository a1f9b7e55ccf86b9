"""Orientation of images and masks, and masks' samples."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from precomp_sdk import ImageError
from precomp_sdk.image_io import decode_image, decode_labels, read_image, turn_upright, write_image

STORED = torch.arange(6, dtype=torch.uint8).reshape(2, 3)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_decoding_says_how_the_file_was_turned(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    steps = torch.arange(12).reshape(3, 4).repeat_interleave(16, 0).repeat_interleave(16, 1) * 20
    stored = steps.to(torch.uint8).expand(3, -1, -1)
    found = decode_image(encoded(Image.fromarray(stored.permute(1, 2, 0).numpy()), kind, exif=exif))
    assert found.orientation == orientation
    assert found.stored_size == (48, 64)
    assert (found.samples.float() - turn_upright(stored, orientation).float()).abs().mean() < 4


@pytest.mark.parametrize("text", ["6", "6\0", " 6 "])
def test_an_orientation_stored_as_text_counts(text: str) -> None:
    data = encoded(Image.fromarray(STORED.numpy()), exif=_ascii_orientation(text))
    assert decode_image(data).orientation == 6
    assert torch.equal(read_image(data)[0], turn_upright(STORED, 6))


def _ascii_orientation(text: str) -> bytes:
    """EXIF data whose orientation is of type ASCII."""
    value = text.encode() + b"\0"
    return (
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0"
        + len(value).to_bytes(4, "little")
        + value.ljust(4, b"\0")[:4]
        + bytes(4)
    )


def test_an_orientation_in_xmp_counts() -> None:
    xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", xmp)
    assert torch.equal(read_image(encoded(Image.fromarray(STORED.numpy()), pnginfo=chunks))[0], STORED.flip(0, 1))


@pytest.mark.parametrize("wrong", [0, 9, 255])
def test_an_orientation_that_is_none_turns_nothing(wrong: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = wrong
    assert torch.equal(read_image(encoded(Image.fromarray(STORED.numpy()), exif=exif))[0], STORED)


def test_labels_are_samples_as_they_are() -> None:
    for values in (np.array([[0, 3, 255]], np.uint8), np.array([[0, 3, 1000]], np.uint16)):
        assert decode_labels(encoded(Image.fromarray(values))).samples.tolist() == values.tolist()
    palette = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    palette.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    assert decode_labels(encoded(palette)).samples.tolist() == [[0, 1, 2]]
    assert decode_labels(encoded(Image.fromarray(np.array([[True, False]])))).samples.tolist() == [[1, 0]]


def test_a_mask_is_turned_as_its_own_data_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = decode_labels(encoded(Image.fromarray(STORED.numpy()), exif=exif))
    assert found.orientation == 6
    assert torch.equal(found.samples, turn_upright(STORED, 6).long())


@pytest.mark.parametrize(
    ("image", "kind", "told"),
    [
        (Image.new("RGB", (2, 2)), "PNG", "mode 'RGB'"),
        (Image.new("LA", (2, 2)), "PNG", "mode 'LA'"),
        (Image.new("L", (8, 8)), "JPEG", "the lossy format JPEG"),
        (Image.new("RGB", (8, 8)), "WEBP", "mode 'RGB'"),
    ],
)
def test_what_is_no_mask_is_refused(image: Image.Image, kind: str, told: str) -> None:
    with pytest.raises(ImageError, match=told):
        decode_labels(encoded(image, kind), where="mask")


def test_writing_loses_nothing_and_keeps_no_metadata(tmp_path: Path) -> None:
    image = torch.arange(60, dtype=torch.uint8).reshape(3, 4, 5)
    write_image(image, tmp_path / "a.png")
    assert torch.equal(read_image(tmp_path / "a.png"), image)
    with Image.open(tmp_path / "a.png") as found:
        assert not found.info
        assert not found.getexif()


def test_only_png_is_written_and_nothing_half(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"got '\.jpg'"):
        write_image(torch.zeros(3, 2, 2, dtype=torch.uint8), tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="uint8"):
        write_image(torch.zeros(3, 2, 2), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
