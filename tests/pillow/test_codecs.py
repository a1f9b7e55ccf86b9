"""WebP, AVIF, JPEG 2000, JPEG XL and HEIC keep the codec's contract."""

import importlib.util
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import precomp_pillow
from precomp_pillow import AVIFCodec, HEICCodec, JPEG2000Codec, JPEGXLCodec, WebPCodec
from precomp_sdk import BitstreamError, Codec, OptionError, QualityError, Registry

ImageFactory = Callable[[int, int], Tensor]


def _needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed")


CODECS = [
    pytest.param(WebPCodec, {}, id="webp"),
    pytest.param(AVIFCodec, {}, id="avif"),
    pytest.param(JPEG2000Codec, {}, id="jpeg2000"),
    pytest.param(JPEGXLCodec, {"backend": "pillow-jxl-plugin"}, id="jxl-pillow", marks=_needs("pillow_jxl")),
    pytest.param(JPEGXLCodec, {"backend": "imagecodecs"}, id="jxl-imagecodecs", marks=_needs("imagecodecs")),
    pytest.param(HEICCodec, {}, id="heic", marks=_needs("pillow_heif")),
]
STRONGEST = [
    pytest.param(WebPCodec, {"method": 6}, id="webp"),
    pytest.param(AVIFCodec, {"speed": 0}, id="avif"),
    pytest.param(JPEGXLCodec, {"effort": 9}, id="jxl", marks=_needs("pillow_jxl")),
    pytest.param(HEICCodec, {"effort": "best"}, id="heic", marks=_needs("pillow_heif")),
    pytest.param(HEICCodec, {"effort": "best", "chroma": "444"}, id="heic-444", marks=_needs("pillow_heif")),
]
EFFORTS = [
    pytest.param(WebPCodec, {"method": 0}, {"method": 6}, id="webp"),
    pytest.param(AVIFCodec, {"speed": 10}, {"speed": 4}, id="avif"),
    pytest.param(JPEG2000Codec, {"levels": 0}, {"levels": 5}, id="jpeg2000"),
    pytest.param(JPEGXLCodec, {"effort": 3}, {"effort": 8}, id="jxl", marks=_needs("pillow_jxl")),
    pytest.param(HEICCodec, {"effort": "fast"}, {"effort": "best"}, id="heic", marks=_needs("pillow_heif")),
]


def psnr(one: Tensor, other: Tensor) -> float:
    error = (one.double() - other.double()).pow(2).mean()
    return float(10 * torch.log10(255**2 / error))


@pytest.mark.parametrize(("kind", "options"), [*CODECS, *STRONGEST])
def test_every_size_from_one_pixel_up(kind: type[Codec], options: dict[str, object], make_image: ImageFactory) -> None:
    codec = kind(**options)
    for height, width in [(1, 1), (1, 2), (2, 1), (1, 40), (40, 1), (3, 3), (5, 4), (16, 16), (33, 31)]:
        source = make_image(height, width)
        before = source.clone()
        for quality in (codec.quality_scale.minimum, codec.quality_scale.maximum):
            done = codec.transcode(source, quality)
            assert done.bits > 0
        assert torch.equal(source, before)
        assert psnr(done.image, source) > 20


@pytest.mark.parametrize(("kind", "options"), CODECS)
def test_ladder_trades_bits_for_quality(kind: type[Codec], options: dict[str, str], make_image: ImageFactory) -> None:
    codec, source = kind(**options), make_image(96, 128)
    done = [codec.transcode(source, quality) for quality in codec.quality_scale.from_mild_to_strong()]
    bits = [item.bits for item in done]
    quality = [psnr(item.image, source) for item in done]
    assert len(done) == 7
    assert bits == sorted(bits, reverse=True)
    assert bits[0] > 1.5 * bits[-1]
    # libjxl steers by Butteraugli, so PSNR may rise a little from one quality to the next.
    assert all(stronger < milder + 0.3 for milder, stronger in pairwise(quality))
    assert quality[0] > quality[-1] + 2


@pytest.mark.parametrize(("kind", "weak", "strong"), EFFORTS)
def test_effort_changes_the_bytes(
    kind: type[Codec], weak: dict[str, object], strong: dict[str, object], make_image: ImageFactory
) -> None:
    source = make_image(96, 128)
    quality = kind.quality_scale.ladder[3]
    small, large = kind(**strong), kind(**weak)
    assert set(weak) <= set(small.options)
    assert len(small.encode(source, quality)) < len(large.encode(source, quality))


@pytest.mark.parametrize("chroma", ["420", "422", "444"])
@pytest.mark.parametrize("kind", [AVIFCodec, pytest.param(HEICCodec, marks=_needs("pillow_heif"))])
def test_chroma_resolution(kind: type[Codec], chroma: str, make_image: ImageFactory) -> None:
    codec = kind(chroma=chroma)  # type: ignore[call-arg]
    red, blue = torch.tensor([255, 0, 0]), torch.tensor([0, 0, 255])
    stripes = torch.stack([red, blue] * 16, dim=1)[:, None, :].expand(3, 32, 32).to(torch.uint8).contiguous()
    quality = psnr(codec.transcode(stripes, 95).image, stripes)
    assert quality > 22 if chroma == "444" else quality < 20
    assert codec.options["chroma"] == chroma


@pytest.mark.parametrize(("kind", "options"), CODECS)
def test_bytes_do_not_depend_on_history_threads_or_instance(
    kind: type[Codec], options: dict[str, str], make_image: ImageFactory
) -> None:
    codec = kind(**options)
    sources = [make_image(40 + 3 * index, 50) for index in range(6)]
    quality = codec.quality_scale.ladder[2]
    alone = [kind(**options).encode(source, quality) for source in sources]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda source: codec.encode(source, quality), sources * 2))
        decoded = list(pool.map(codec.decode, together))
    assert together == alone * 2
    other = pickle.loads(pickle.dumps(codec))
    for payload, image in zip(together, decoded, strict=True):
        assert torch.equal(other.decode(payload), image)


@pytest.mark.parametrize(("kind", "options"), CODECS)
def test_version_names_the_library(kind: type[Codec], options: dict[str, str]) -> None:
    version = kind(**options).version
    assert any(letter.isdigit() for letter in version)
    assert "None" not in version


@pytest.mark.parametrize(("kind", "options"), CODECS)
def test_truncation_raises(kind: type[Codec], options: dict[str, str], make_image: ImageFactory) -> None:
    codec = kind(**options)
    payload = codec.encode(make_image(24, 30), codec.quality_scale.ladder[4])
    for length in range(1, len(payload)):
        with pytest.raises(BitstreamError, match="decoder: expected"):
            codec.decode(payload[:length])


@pytest.mark.parametrize(("kind", "options"), CODECS)
def test_quality_off_the_scale(kind: type[Codec], options: dict[str, str], make_image: ImageFactory) -> None:
    codec = kind(**options)
    for quality in (codec.quality_scale.minimum - 1, codec.quality_scale.maximum + 1, float("nan")):
        with pytest.raises(QualityError):
            codec.encode(make_image(8, 8), quality)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (WebPCodec, {"method": 7}),
        (WebPCodec, {"method": True}),
        (AVIFCodec, {"speed": 11}),
        (AVIFCodec, {"chroma": "411"}),
        (JPEG2000Codec, {"levels": 1.5}),
        (JPEGXLCodec, {"effort": 0}),
        (JPEGXLCodec, {"backend": "libjxl"}),
        (HEICCodec, {"effort": "placebo"}),
        (HEICCodec, {"chroma": "400"}),
    ],
)
def test_wrong_option(kind: type[Codec], options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=f"option '{next(iter(options))}'"):
        kind(**options)


def test_hook_offers_all_five() -> None:
    registry = Registry(entry_points=False)
    registry.register(precomp_pillow)
    assert sorted(registry.codecs) == ["avif", "heic", "jpeg-xl", "jpeg2000", "webp"]
    assert isinstance(registry.create("codec", "webp", method=2), WebPCodec)
