"""The real codec: options, every JPEG a user has, and what is not one."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, ImageOps
from torch import Tensor

from precomp_jpeg import (
    JPEGCodec,
    JpegliCodec,
    JPEGProxy,
    MozJPEGCodec,
    precomp_register_codecs,
    precomp_register_proxies,
)
from precomp_sdk import (
    BitstreamError,
    Codec,
    CodecError,
    OptionError,
    PluginError,
    QualityError,
    QualityScale,
    Registry,
)


def as_image(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def saved(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4", "gray"])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (33, 20)])
def test_round_trip_keeps_size_and_nearly_the_image(
    make_image: Callable[..., Tensor], size: tuple[int, int], subsampling: str
) -> None:
    image = make_image(*size, 0)
    codec = JPEGCodec(subsampling=subsampling)
    done = codec.transcode(image, 100)
    assert done.image.shape == image.shape
    if subsampling == "gray":
        assert torch.equal(done.image[0], done.image[2])
        image = torch.from_numpy(np.array(as_image(image).convert("L"))).expand(3, -1, -1)
    if subsampling in ("4:4:4", "gray"):
        assert (done.image.float() - image.float()).abs().max() <= 4


def test_default_payload_is_the_file_pillow_writes(make_image: Callable[..., Tensor]) -> None:
    image = make_image(20, 30, 1)
    assert JPEGCodec().encode(image, 37) == saved(as_image(image), quality=37, optimize=True)
    assert JPEGCodec(optimize=False).encode(image, 37) == saved(as_image(image), quality=37)
    assert JPEGCodec(subsampling="4:4:4").encode(image, 90) == saved(
        as_image(image), quality=90, subsampling=0, optimize=True
    )
    progressive = JPEGCodec(progressive=True).encode(image, 50)
    assert progressive == saved(as_image(image), quality=50, progressive=True)
    assert Image.open(io.BytesIO(progressive)).info["progressive"]


def test_standard_tables_given_as_an_option_change_nothing(make_image: Callable[..., Tensor]) -> None:
    image = make_image(16, 16, 2)
    standard = JPEGProxy(JPEGCodec()).trained_codec()
    assert standard.tables is not None
    for quality in (1, 10, 49, 50, 75, 100):
        assert standard.encode(image, quality) == JPEGCodec().encode(image, quality)
    gray = JPEGCodec(subsampling="gray", tables=standard.tables)
    assert gray.encode(image, 30) == JPEGCodec(subsampling="gray").encode(image, 30)


def test_options_and_version_are_recorded() -> None:
    codec = JPEGCodec(subsampling="4:2:2", optimize=True)
    assert dict(codec.options) == {
        "subsampling": "4:2:2",
        "optimize": True,
        "progressive": False,
        "tables": None,
        "max_pixels": 89_478_485,
        "max_scans": 100,
    }
    assert codec.version.startswith("Pillow ")


def test_a_codec_says_what_it_is() -> None:
    assert repr(JPEGCodec()) == "JPEGCodec(subsampling='4:2:0', optimize=True)"
    assert repr(JPEGCodec(optimize=False, max_pixels=9)) == (
        "JPEGCodec(subsampling='4:2:0', optimize=False, max_pixels=9)"
    )


def test_wrong_options_are_refused() -> None:
    with pytest.raises(OptionError, match=r"Did you mean .*'4:2:0'"):
        JPEGCodec(subsampling="4:2:1")  # type: ignore[arg-type]
    good = [[[16] * 8] * 8] * 2
    for tables in (good[:1], [[[16] * 8] * 8, [[0] * 8] * 8], [[[16.5] * 8] * 8] * 2, "no", [[[300] * 8] * 8] * 2):
        with pytest.raises(OptionError, match="tables"):
            JPEGCodec(tables=tables)  # type: ignore[arg-type]


def test_fractions_and_other_scales_are_refused(make_image: Callable[..., Tensor]) -> None:
    for quality in (0, 101, 33.5, float("nan")):
        with pytest.raises(QualityError):
            JPEGCodec().encode(make_image(8, 8, 0), quality)
    assert JPEGCodec().encode(make_image(8, 8, 0), 33.0) == JPEGCodec().encode(make_image(8, 8, 0), 33)


def test_images_too_large_for_the_format_are_refused() -> None:
    with pytest.raises(CodecError, match="65500"):
        JPEGCodec().encode(torch.zeros(3, 1, 65501, dtype=torch.uint8), 50)
    with pytest.raises(CodecError, match="65500"):
        JPEGCodec(optimize=True).encode(torch.zeros(3, 65501, 1, dtype=torch.uint8), 50)
    with pytest.raises(CodecError, match="max_pixels"):
        JPEGCodec().encode(torch.zeros(1, dtype=torch.uint8).expand(3, 10_000, 9_000), 50)


def test_limits_are_options(make_image: Callable[..., Tensor]) -> None:
    image = make_image(10, 20, 0)
    payload = JPEGCodec(progressive=True).encode(image, 50)
    assert JPEGCodec(max_pixels=200, max_scans=10).decode(payload).shape == image.shape
    with pytest.raises(BitstreamError, match="at most 199 pixels"):
        JPEGCodec(max_pixels=199).decode(payload)
    with pytest.raises(CodecError, match="at most 199 pixels"):
        JPEGCodec(max_pixels=199).encode(image, 50)
    with pytest.raises(BitstreamError, match="at most 9 scans"):
        JPEGCodec(max_scans=9).decode(payload)
    for wrong in (0, 1.5, "3", True):
        with pytest.raises(OptionError, match="max_pixels"):
            JPEGCodec(max_pixels=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"optimize": True}, {"progressive": True}])
def test_noise_that_outgrows_pillows_buffer_is_encoded(options: dict[str, bool]) -> None:
    image = torch.randint(0, 256, (3, 400, 400), dtype=torch.uint8)
    before = ImageFile.MAXBLOCK
    done = JPEGCodec(subsampling="4:4:4", **options).transcode(image, 100)
    assert done.bits > 8 * 2 * 400 * 400  # more than the two bytes a pixel that Pillow reserves
    assert (done.image.float() - image.float()).abs().max() <= 8
    assert before == ImageFile.MAXBLOCK


def test_gray_cmyk_and_ycck_files_are_decoded(make_image: Callable[..., Tensor]) -> None:
    image = make_image(24, 24, 3)
    codec = JPEGCodec()
    gray = codec.decode(saved(as_image(image).convert("L"), quality=100))
    assert torch.equal(gray[0], gray[1])
    assert torch.equal(gray[0], gray[2])
    cmyk = as_image(image).convert("CMYK")
    payload = saved(cmyk, quality=100)  # Pillow writes Adobe's marker and inverted values
    assert b"Adobe" in payload
    assert (codec.decode(payload).float() - image.float()).abs().mean() < 3
    # The same marker with transform 2 says YCCK: the first three components are read as YCbCr.
    adobe = payload.index(b"Adobe")
    ycck = payload[: adobe + 11] + b"\x02" + payload[adobe + 12 :]
    neutral = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    assert codec.decode(ycck).shape == image.shape
    assert codec.decode(saved(neutral, quality=100)).min() >= 254


def test_exif_orientation_is_left_to_whoever_reads_the_image(make_image: Callable[..., Tensor]) -> None:
    image = make_image(16, 24, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    payload = saved(as_image(image), quality=95, exif=exif)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(payload)))
    assert turned.size == (16, 24)
    assert JPEGCodec().decode(payload).shape == (3, 16, 24)


def test_trailing_bytes_after_the_end_do_no_harm(make_image: Callable[..., Tensor]) -> None:
    codec = JPEGCodec()
    payload = codec.encode(make_image(16, 16, 5), 50)
    assert torch.equal(codec.decode(payload + b"motion photo"), codec.decode(payload))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "gray"}])
def test_every_truncation_is_noticed(make_image: Callable[..., Tensor], options: dict[str, object]) -> None:
    codec = JPEGCodec(**options)
    payload = codec.encode(make_image(24, 24, 6), 60)
    for length in range(1, len(payload), 7 if len(payload) > 900 else 3):
        with pytest.raises(BitstreamError):
            codec.decode(payload[:length])
    with pytest.raises(BitstreamError, match="end-of-image"):
        codec.decode(payload[:-1])
    with pytest.raises(BitstreamError, match="end-of-image"):
        codec.decode(payload[:-2])


def test_rubbish_is_refused() -> None:
    codec = JPEGCodec()
    png = io.BytesIO()
    Image.new("RGB", (4, 4)).save(png, "PNG")
    noise = torch.randint(0, 256, (500,), dtype=torch.uint8).numpy().tobytes()
    for payload in (
        b"",
        b"\xff",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"hello",
        noise,
        png.getvalue(),
        b"\xff\xd8" + noise,
    ):
        with pytest.raises(BitstreamError):
            codec.decode(payload)


def test_damaged_headers_raise_nothing_else(make_image: Callable[..., Tensor]) -> None:
    codec = JPEGCodec()
    payload = codec.encode(make_image(8, 8, 7), 20)
    for position in range(2, payload.rindex(b"\xff\xda") + 14):
        damaged = bytearray(payload)
        damaged[position] ^= 0x5A
        try:
            codec.decode(bytes(damaged))
        except BitstreamError:
            continue


class OtherJPEG(Codec):
    name = "jpeg"
    source = "a test"
    quality_scale = QualityScale("quality", 1, 100, higher_is_better=True, ladder=(50,))

    def _encode(self, image: Tensor, quality: float) -> bytes:
        return b"x"

    def _decode(self, payload: bytes) -> Tensor:
        return torch.zeros(3, 1, 1, dtype=torch.uint8)


def test_proxy_refuses_wrong_options_and_a_stranger_of_the_same_name() -> None:
    with pytest.raises(OptionError, match="Did you mean 'nearness'"):
        JPEGProxy(JPEGCodec(), rounding="nearest")
    for rounding in (-0.1, 1.1, float("nan")):
        with pytest.raises(OptionError, match="rounding"):
            JPEGProxy(JPEGCodec(), rounding=rounding)
    with pytest.raises(OptionError, match="rate_rule"):
        JPEGProxy(JPEGCodec(), rate_rule="exact")
    with pytest.raises(PluginError, match="OtherJPEG"):
        JPEGProxy(OtherJPEG())


def test_registers_through_its_hooks() -> None:
    import precomp_jpeg

    registry = Registry(entry_points=False)
    registry.register(precomp_jpeg)
    assert dict(registry.codecs) == {"jpeg": JPEGCodec, "mozjpeg": MozJPEGCodec, "jpegli": JpegliCodec}
    assert list(precomp_register_codecs()) == [JPEGCodec, MozJPEGCodec, JpegliCodec]
    assert list(precomp_register_proxies()) == [JPEGProxy]
    assert isinstance(registry.proxy_for(registry.create("codec", "jpeg", subsampling="gray")), JPEGProxy)
