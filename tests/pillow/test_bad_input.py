"""Rubbish, hostile headers, missing packages and what the libraries refuse."""

import importlib.util
import io
import random
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, features
from torch import Tensor

from precomp_pillow import AVIFCodec, HEICCodec, JPEG2000Codec, JPEGXLCodec, WebPCodec
from precomp_pillow._base import MAX_PIXELS
from precomp_sdk import BitstreamError, Codec, CodecError, MissingDependencyError, OptionError

ImageFactory = Callable[[int, int], Tensor]
KINDS: list[type[Codec]] = [WebPCodec, AVIFCodec, JPEG2000Codec]
KINDS += [JPEGXLCodec] if importlib.util.find_spec("pillow_jxl") or importlib.util.find_spec("imagecodecs") else []
KINDS += [HEICCodec] if importlib.util.find_spec("pillow_heif") else []
KINDS_BY_NAME = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
GIGAPIXEL = 40_000


@KINDS_BY_NAME
def test_rubbish(kind: type[Codec]) -> None:
    codec = kind()
    other = io.BytesIO()
    Image.new("RGB", (8, 8)).save(other, "PNG")
    for payload in (b"x", bytes(100), random.Random(1).randbytes(5000), other.getvalue()):
        with pytest.raises(BitstreamError):
            codec.decode(payload)


@KINDS_BY_NAME
def test_mutations_decode_or_raise_bitstream_error(kind: type[Codec], make_image: ImageFactory) -> None:
    codec, chance = kind(), random.Random(7)
    payload = codec.encode(make_image(20, 26), codec.quality_scale.ladder[4])
    refused, start = 0, time.monotonic()
    for _ in range(500):
        damaged = bytearray(payload)
        reach = len(damaged) if chance.random() < 0.5 else min(len(damaged), 120)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(reach)] = chance.randrange(256)
        try:
            image = codec.decode(bytes(damaged))
        except BitstreamError:
            refused += 1
        else:
            assert image.shape[1] * image.shape[2] <= MAX_PIXELS
    assert refused > 50
    assert time.monotonic() - start < 60


def _jpeg_xl_header(width: int, height: int) -> bytes:
    bits = 0 | 3 << 1 | height - 1 << 3 | 0 << 33 | 3 << 36 | width - 1 << 38
    return b"\xff\x0a" + bits.to_bytes(12, "little")


def test_gigapixel_claims(make_image: ImageFactory) -> None:
    extended = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + 2 * (GIGAPIXEL - 1).to_bytes(3, "little")
    with pytest.raises(BitstreamError, match=f"{GIGAPIXEL} x {GIGAPIXEL}"):
        WebPCodec().decode(b"RIFF" + (len(extended) + 4).to_bytes(4, "little") + b"WEBP" + extended)
    largest = bytearray(WebPCodec().encode(make_image(8, 8), 5))
    largest[26:30] = b"\xff\x3f\xff\x3f"
    with pytest.raises(BitstreamError, match="16383 x 16383"):
        WebPCodec().decode(bytes(largest))
    lossless = b"VP8L" + (20).to_bytes(4, "little") + b"\x2f" + b"\xff\xff\xff\x0f" + bytes(15)
    with pytest.raises(BitstreamError, match="16384 x 16384"):
        WebPCodec().decode(b"RIFF" + (len(lossless) + 4).to_bytes(4, "little") + b"WEBP" + lossless)

    codestream = bytearray(JPEG2000Codec().encode(make_image(8, 8), 30))
    codestream[8:16] = codestream[24:32] = 2 * GIGAPIXEL.to_bytes(4)
    with pytest.raises(BitstreamError, match=f"{GIGAPIXEL}x{GIGAPIXEL}"):
        JPEG2000Codec().decode(bytes(codestream))

    avif = AVIFCodec().encode(make_image(8, 8), 30)
    assert avif.count(b"ispe") == 1
    at = avif.index(b"ispe") + 8
    with pytest.raises(BitstreamError, match="avif decoder"):
        AVIFCodec().decode(avif[:at] + 2 * GIGAPIXEL.to_bytes(4) + avif[at + 8 :])


@pytest.mark.skipif(JPEGXLCodec not in KINDS, reason="no package for JPEG XL")
def test_jpeg_xl_gigapixel_claim_and_size_header(make_image: ImageFactory) -> None:
    with pytest.raises(BitstreamError, match=f"{GIGAPIXEL}x{GIGAPIXEL}"):
        JPEGXLCodec().decode(_jpeg_xl_header(GIGAPIXEL, GIGAPIXEL))
    # All shapes of the header: small and large sides, a ratio or none.
    for height, width in [(8, 8), (16, 24), (24, 16), (40, 40), (40, 48), (9, 9), (30, 36), (600, 7), (7, 600)]:
        assert JPEGXLCodec().transcode(make_image(height, width), 30).image.shape == (3, height, width)


@pytest.mark.skipif(HEICCodec not in KINDS, reason="no package for HEIC")
def test_heic_gigapixel_claim(make_image: ImageFactory) -> None:
    heic = HEICCodec().encode(make_image(64, 64), 30)
    at = heic.index(b"ispe") + 8
    with pytest.raises(BitstreamError, match="heic decoder"):
        HEICCodec().decode(heic[:at] + 2 * GIGAPIXEL.to_bytes(4) + heic[at + 8 :])


def test_other_colour_modes_become_rgb(make_image: ImageFactory) -> None:
    source = make_image(12, 10)
    target = io.BytesIO()
    array = np.ascontiguousarray(source.permute(1, 2, 0).numpy())
    Image.fromarray(array).convert("RGBA").save(target, "WEBP", lossless=True)
    assert torch.equal(WebPCodec().decode(target.getvalue()), source)
    gray = io.BytesIO()
    Image.fromarray(array).convert("L").save(gray, "JPEG2000", no_jp2=True)
    decoded = JPEG2000Codec().decode(gray.getvalue())
    assert torch.equal(decoded[0], decoded[2])


def test_jpeg_2000_of_tile_parts_without_length(make_image: ImageFactory) -> None:
    payload = JPEG2000Codec().encode(make_image(12, 10), 30)
    at = payload.index(b"\xff\x90") + 6
    to_the_end = payload[:at] + bytes(4) + payload[at + 4 :]
    assert torch.equal(JPEG2000Codec().decode(to_the_end), JPEG2000Codec().decode(payload))
    with pytest.raises(BitstreamError, match="EOC marker"):
        JPEG2000Codec().decode(to_the_end[:-1])


def test_image_too_large_for_the_format() -> None:
    wide = torch.zeros(3, 1, 16_384, dtype=torch.uint8)
    with pytest.raises(CodecError, match="webp encoder"):
        WebPCodec().encode(wide, 10)


@pytest.mark.parametrize(("kind", "feature"), [(WebPCodec, "webp"), (JPEG2000Codec, "jpg_2000")])
def test_pillow_without_the_format(kind: type[Codec], feature: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: name != feature)
    with pytest.raises(MissingDependencyError, match="pip install --upgrade pillow"):
        kind()


def test_pillow_without_avif(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import AvifImagePlugin

    with monkeypatch.context() as patch:
        patch.setattr(AvifImagePlugin, "SUPPORTED", False)
        with pytest.raises(MissingDependencyError, match="built with AVIF and aom"):
            AVIFCodec()
    with monkeypatch.context() as patch:
        patch.delattr("PIL.AvifImagePlugin")
        patch.setitem(sys.modules, "PIL.AvifImagePlugin", None)
        with pytest.raises(MissingDependencyError, match=r"11\.3"):
            AVIFCodec()


def test_jpeg_xl_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(MissingDependencyError, match="pip install pillow-jxl-plugin"):
        JPEGXLCodec(backend="pillow-jxl-plugin")
    if importlib.util.find_spec("imagecodecs"):
        assert JPEGXLCodec().options["backend"] == "imagecodecs"
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(MissingDependencyError, match="pillow-jxl-plugin or imagecodecs"):
        JPEGXLCodec()


def test_heic_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingDependencyError, match="pip install pillow-heif"):
        HEICCodec()


@pytest.mark.skipif(HEICCodec not in KINDS, reason="no package for HEIC")
def test_heic_without_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    import pillow_heif

    monkeypatch.setattr(pillow_heif, "libheif_info", lambda: {"HEIF": ""})
    with pytest.raises(MissingDependencyError, match="HEVC encoder"):
        HEICCodec()


@KINDS_BY_NAME
def test_library_failure_is_wrapped(
    kind: type[Codec], make_image: ImageFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = kind()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the library's own words")

    if kind is JPEGXLCodec:
        monkeypatch.setattr(kind, "_library", lambda self: type("L", (), {"Encoder": fail, "jpegxl_encode": fail}))
    elif kind is HEICCodec:
        monkeypatch.setattr("pillow_heif.from_bytes", fail)
    else:
        monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(CodecError, match="the library's own words"):
        codec.encode(make_image(8, 8), codec.quality_scale.ladder[0])


@KINDS_BY_NAME
def test_the_limit_of_pixels_is_an_option(kind: type[Codec], make_image: ImageFactory) -> None:
    image = make_image(20, 26)
    quality = kind.quality_scale.ladder[4]
    assert "max_pixels" in kind.limits
    codec, payload = kind(max_pixels=520), kind().encode(image, quality)
    assert codec.encode(image, quality) == payload
    assert codec.decode(payload).shape == image.shape
    assert codec.options["max_pixels"] == 520
    assert "max_pixels" not in codec.coding_options
    small = kind(max_pixels=519)
    with pytest.raises(CodecError, match="at most 519 pixels"):
        small.encode(image, quality)
    with pytest.raises(BitstreamError, match="519 pixels"):
        small.decode(payload)
    with pytest.raises(OptionError, match="max_pixels"):
        kind(max_pixels=0)


def test_a_webp_of_a_small_image_on_a_large_canvas_is_refused_at_once() -> None:
    payload = webp_animation(canvas=(1_048_632, 40), frame=(56, 40))
    start = time.thread_time()
    with pytest.raises(BitstreamError, match="fills its canvas"):
        WebPCodec().decode(payload)
    assert time.thread_time() - start < 0.1


def webp_animation(canvas: tuple[int, int], frame: tuple[int, int]) -> bytes:
    """An animation by Pillow, whose canvas is then made larger."""
    images = [Image.new("RGB", frame, (shade, 0, 0)) for shade in (0, 99)]
    buffer = io.BytesIO()
    images[0].save(buffer, "WEBP", save_all=True, append_images=images[1:])
    data = bytearray(buffer.getvalue())
    data[24:30] = (canvas[0] - 1).to_bytes(3, "little") + (canvas[1] - 1).to_bytes(3, "little")
    return bytes(data)


def test_jpeg_2000_without_all_tiles_or_with_more_packets_than_bytes_is_refused(make_image: ImageFactory) -> None:
    codec = JPEG2000Codec()
    payload = codec.encode(make_image(64, 64), 30)
    size, style = payload.index(b"\xff\x51"), payload.index(b"\xff\x52")

    def edited(at: int, value: bytes) -> bytes:
        return payload[:at] + value + payload[at + len(value) :]

    for found, told in (
        (edited(size + 22, (32).to_bytes(4)), "parts of all 2 tiles; got parts of 1"),
        (edited(size + 22, (1).to_bytes(4) * 2), "4096 in .* bytes|parts of all 4096 tiles"),
        (edited(size + 22, bytes(4)), "one or more tiles"),
        (edited(size + 38, (9).to_bytes(2)), "1 to 4 components"),
        (edited(style + 6, (65535).to_bytes(2)), "packets in .* bytes"),
        (edited(size + 6, (1 << 20).to_bytes(4)), "got 16384 in .* bytes"),
    ):
        with pytest.raises(BitstreamError, match=told):
            codec.decode(found)
    assert codec.decode(payload).shape == (3, 64, 64)
