"""`precomp compress` sends what a viewer shows, or says in one line why not."""

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from typer.testing import CliRunner, Result

from precomp_sdk import Registry, cli
from precomp_sdk.deploy import Compressor
from precomp_sdk.testing import FakeCodec, FakePreprocessor


@pytest.fixture
def sender(tmp_path: Path) -> Path:
    path = tmp_path / "sender.safetensors"
    Compressor(FakeCodec(), FakePreprocessor(gain=0.0), ladder=(5, 30)).save(path)
    return path


def compress(doubles: Registry, sender: Path, image: Path, *options: str) -> Result:
    output = str(sender.with_name("out.fake"))
    arguments = ["compress", str(sender), str(image), "--quality", "30", "--output", output, *options]
    return CliRunner().invoke(cli.app, arguments, obj=doubles)


def sent(sender: Path) -> np.ndarray:
    return FakeCodec().decode(sender.with_name("out.fake").read_bytes()).numpy()


def wide_gamut() -> bytes:
    """An sRGB profile with red and green exchanged."""
    raw = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(raw[at : at + 4]): at for at in range(132, 132 + 12 * int.from_bytes(raw[128:132], "big"), 12)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    raw[red + 4 : red + 12], raw[green + 4 : green + 12] = raw[green + 4 : green + 12], raw[red + 4 : red + 12]
    return bytes(raw)


def test_colours_are_those_a_viewer_shows(doubles: Registry, sender: Path, tmp_path: Path) -> None:
    profile = wide_gamut()
    image = Image.new("RGB", (32, 24), (250, 20, 20))
    image.save(tmp_path / "photo.png", icc_profile=profile)
    assert compress(doubles, sender, tmp_path / "photo.png").exit_code == 0
    shown = ImageCms.profileToProfile(
        image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    )
    assert shown is not None
    difference = np.abs(sent(sender).transpose(1, 2, 0).astype(int) - np.asarray(shown).astype(int))
    assert difference.max() <= 16  # the codec's
    assert sent(sender)[1].min() > 200  # green


def test_fewer_bits_ask_for_their_white_level(doubles: Registry, sender: Path, tmp_path: Path) -> None:
    values = np.full((24, 32), 4095, np.uint16)
    values[0, 0] = 0
    Image.fromarray(values).save(tmp_path / "thermal.png")
    refused = compress(doubles, sender, tmp_path / "thermal.png")
    assert refused.exit_code == 1
    assert len(refused.stderr.splitlines()) == 1
    assert "12 bits" in refused.stderr
    assert compress(doubles, sender, tmp_path / "thermal.png", "--white-level", "4095").exit_code == 0
    assert sent(sender)[:, 5:, 5:].min() > 240


def test_a_huge_image_is_one_line_and_the_limit_can_be_raised(doubles: Registry, sender: Path, tmp_path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = (16384).to_bytes(4, "big") + (12000).to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    (tmp_path / "scan.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    refused = compress(doubles, sender, tmp_path / "scan.png")
    assert refused.exit_code == 1
    (line,) = refused.stderr.splitlines()
    assert "scan.png: expected an image of at most 178956970 pixels; got 16384 x 12000" in line
    Image.new("RGB", (32, 24)).save(tmp_path / "small.png")
    assert compress(doubles, sender, tmp_path / "small.png", "--max-pixels", "767").exit_code == 1
    assert compress(doubles, sender, tmp_path / "small.png", "--max-pixels", "768").exit_code == 0


@pytest.mark.parametrize("name", ["gone.png", "nowhere/gone.png", "cut.avif", "script.png"])
def test_what_is_no_image_is_one_line(name: str, doubles: Registry, sender: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 10, 10)).save(buffer, "AVIF")
    (tmp_path / "cut.avif").write_bytes(buffer.getvalue()[:-40])
    (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    refused = compress(doubles, sender, tmp_path / name)
    assert refused.exit_code == 1
    assert len(refused.stderr.splitlines()) == 1
    assert "expected" in refused.stderr
