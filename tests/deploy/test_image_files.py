from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from precomp_sdk import ImageError
from precomp_sdk.deploy import read_image, write_image

IMAGE = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5)


def test_a_round_trip_loses_nothing(tmp_path: Path) -> None:
    write_image(IMAGE, tmp_path / "a.png")
    assert torch.equal(read_image(tmp_path / "a.png"), IMAGE)


def test_gray_and_upright(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=exif)
    read = read_image(tmp_path / "a.png")
    assert read.shape == (3, 3, 2)
    assert read[0].tolist() == [[3, 0], [4, 1], [5, 2]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "CMYK"])
def test_other_modes_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (2, 2)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="of mode"):
        read_image(tmp_path / "a.tif")


def test_rubbish_and_halves_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"rubbish")
    with pytest.raises(ImageError, match="cannot identify"):
        read_image(tmp_path / "a.png")
    write_image(torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8), tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:800])
    with pytest.raises(ImageError, match="a whole image"):
        read_image(tmp_path / "b.png")
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.png")


def test_only_png_is_written(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"got \.jpg"):
        write_image(IMAGE, tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="uint8"):
        write_image(IMAGE.float(), tmp_path / "a.png")
