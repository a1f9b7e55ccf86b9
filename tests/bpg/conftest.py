"""UnlabelledImages, BPG files put together by hand, and the vectors beside the checkout."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from precomp_bpg._numbers import write_ue7
from precomp_bpg.container import CodedImage, PixelFormat
from precomp_bpg.encoder import encode_image
from precomp_bpg.hevc.bits import BitWriter
from precomp_bpg.hevc.nal import set_layer
from precomp_bpg.hevc.tools import write_tools

Array = NDArray[np.uint8]


def draw_image(height: int, width: int, seed: int = 5) -> Array:
    """A smooth image with some texture and an edge, (3, height, width)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    noise = np.random.default_rng(seed).normal(0, 6, (3, height, width))
    base = np.stack((128 + 90 * np.sin(x / 9), 128 + 80 * np.cos(y / 7 + x / 23), 60 + 120 * (x + y > 40)))
    return (base + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def make_image() -> Callable[..., Array]:
    return draw_image


@pytest.fixture(scope="session")
def image() -> Callable[..., Tensor]:
    return lambda height, width, seed=5: torch.from_numpy(draw_image(height, width, seed))


def build_file(
    width: int,
    height: int,
    colour: CodedImage,
    *,
    pixel_format: int = 1,
    alpha: CodedImage | None = None,
    alpha_bits: tuple[int, int] = (0, 0),
    depth_minus8: int = 0,
    colour_space: int = 0,
    limited: int = 0,
    animation: int = 0,
    extension: bytes | None = None,
    later: bytes = b"",
    length: int | None = None,
) -> bytes:
    """A BPG file with any field as told; ``length`` None is the true one, ``later`` follows the last slice."""
    headers, nals = b"", []
    for coded, layer in ((alpha, 1), (colour, 0)):
        if coded:
            writer = BitWriter()
            write_tools(writer, coded.sps.tools)
            compact = writer.zero_padded()
            headers += write_ue7(len(compact)) + compact
            nals += [set_layer(nal, layer) for nal in coded.nals]
    nals.sort(key=lambda nal: nal[0] >> 1 != 34)  # PPSs first, as bpgenc does
    data = headers + b"\x00\x00\x01".join(nals) + later
    fields = BitWriter()
    for bits, value in (
        (3, pixel_format),
        (1, alpha_bits[0]),
        (4, depth_minus8),
        (4, colour_space),
        (1, int(extension is not None)),
        (1, alpha_bits[1]),
        (1, limited),
        (1, animation),
    ):
        fields.u(bits, value)
    head = b"BPG\xfb" + fields.zero_padded() + write_ue7(width) + write_ue7(height)
    head += write_ue7(len(data) if length is None else length)
    if extension is not None:
        head += write_ue7(len(extension)) + extension
    return head + data


@pytest.fixture(scope="session")
def file_builder() -> Callable[..., bytes]:
    return build_file


@pytest.fixture(scope="session")
def small_files() -> dict[str, bytes]:
    """Tiny files of every kind, the length of their data given or not."""
    files = {}
    for name, pixel_format in (("gray", 0), ("420", 1), ("422", 2), ("444", 3)):
        rgb = draw_image(17, 26)
        coded = encode_image(rgb, 30, PixelFormat(pixel_format), "default").image
        for suffix, length in (("", None), ("-open", 0)):
            files[name + suffix] = build_file(26, 17, coded, pixel_format=pixel_format, length=length)
        if pixel_format:
            plane = encode_image(draw_image(17, 26, 8), 25, PixelFormat.GRAY, "fast").image
            options = {"pixel_format": pixel_format, "alpha": plane, "alpha_bits": (1, pixel_format & 1)}
            files[name + "-alpha"] = build_file(26, 17, coded, **options)
    return files


@pytest.fixture(scope="session")
def vectors() -> Path:
    """What bpgenc wrote and bpgdec made of it; lies beside the checkout where it is present."""
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "bpg-vectors"
    if not folder.is_dir():
        pytest.skip("no ../shared/bpg-vectors beside this checkout")
    return folder
