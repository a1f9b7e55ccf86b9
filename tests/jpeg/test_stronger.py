"""MozJPEG and jpegli: other encoders' files, which the JPEG codec decodes."""

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from precomp_jpeg import JPEGCodec, JpegliCodec, MozJPEGCodec
from precomp_sdk import BitstreamError, CodecError, MissingDependencyError, OptionError

pytest.importorskip("mozjpeg_lossless_optimization")
pytest.importorskip("pyjpegli")
PACKAGES = {MozJPEGCodec: "mozjpeg_lossless_optimization", JpegliCodec: "pyjpegli"}
KINDS = pytest.mark.parametrize("kind", PACKAGES, ids=lambda kind: kind.name)


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4", "gray"])
def test_mozjpeg_keeps_every_pixel_in_fewer_bytes(make_image: Callable[..., Tensor], subsampling: str) -> None:
    for size in ((1, 1), (9, 31), (160, 200)):
        for quality in (5, 50, 95):
            image = make_image(*size, 3)
            plain, packed = JPEGCodec(subsampling=subsampling), MozJPEGCodec(subsampling=subsampling)
            payload = packed.encode(image, quality)
            assert len(payload) <= len(plain.encode(image, quality))
            assert torch.equal(plain.decode(payload), plain.transcode(image, quality).image)
    progressive = JPEGCodec(subsampling=subsampling, progressive=True)
    large = make_image(160, 200, 3)
    assert len(packed.encode(large, 50)) <= len(progressive.encode(large, 50))


def test_jpegli_writes_jpeg_files_whose_bits_buy_fidelity(make_image: Callable[..., Tensor]) -> None:
    image = make_image(160, 200, 4)
    bits, errors = [], []
    for quality in JpegliCodec.quality_scale.ladder:
        done = JpegliCodec().transcode(image, quality)
        assert torch.equal(JPEGCodec().decode(JpegliCodec().encode(image, quality)), done.image)
        bits.append(done.bits)
        errors.append(float((done.image.float() - image.float()).square().mean()))
    assert bits == sorted(set(bits))
    assert errors == sorted(errors, reverse=True)


@KINDS
def test_limits_and_refusals(kind: type[MozJPEGCodec | JpegliCodec], make_image: Callable[..., Tensor]) -> None:
    image = make_image(10, 20, 0)
    payload = kind().encode(image, 50)
    assert kind(max_pixels=200).decode(payload).shape == image.shape
    assert set(kind().coding_options) == set(kind().options) - {"max_pixels", "max_scans"}
    with pytest.raises(CodecError, match="at most 199 pixels"):
        kind(max_pixels=199).encode(image, 50)
    with pytest.raises(BitstreamError, match="at most 199 pixels"):
        kind(max_pixels=199).decode(payload)
    with pytest.raises(BitstreamError):
        kind().decode(payload[: len(payload) // 2] + payload[-2:])
    with pytest.raises(OptionError, match="max_scans"):
        kind(max_scans=0)
    with pytest.raises(CodecError):
        kind().encode(torch.zeros(3, 1, 65_536, dtype=torch.uint8), 50)


@KINDS
def test_without_its_package_it_says_what_to_install(
    kind: type[MozJPEGCodec | JpegliCodec], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kind().version
    monkeypatch.setitem(sys.modules, PACKAGES[kind], None)
    with pytest.raises(MissingDependencyError, match=r"precomp-sdk\[jpeg\]"):
        kind()
