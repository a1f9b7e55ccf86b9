"""The fitted proxies that come with the package: ready at once for the options they were fitted to, and no others."""

import pytest
import torch
from torch.nn import functional

from precomp_bpg import BPGCodec, BPGProxy
from precomp_pillow import (
    AVIFCodec,
    AVIFProxy,
    JPEG2000Codec,
    JPEG2000Proxy,
    JPEGXLCodec,
    JPEGXLProxy,
    WebPCodec,
    WebPProxy,
)
from precomp_proxy import GenericProxy
from precomp_sdk import Codec, MissingDependencyError, NotFittedError, Registry, stack_images, to_float, to_uint8
from precomp_sdk.testing import natural_image
from precomp_sdk.training import read_module

SHIPPED: dict[type[Codec], type[GenericProxy]] = {
    BPGCodec: BPGProxy,
    WebPCodec: WebPProxy,
    AVIFCodec: AVIFProxy,
    JPEG2000Codec: JPEG2000Proxy,
    JPEGXLCodec: JPEGXLProxy,
}


@pytest.fixture(params=SHIPPED, ids=lambda codec: codec.name)
def codec(request: pytest.FixtureRequest) -> Codec:
    try:
        made: Codec = request.param()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    return made


def test_it_is_the_codecs_own_and_needs_no_fitting(codec: Codec) -> None:
    proxy = Registry().proxy_for(codec)
    assert type(proxy) is SHIPPED[type(codec)]
    assert bool(proxy.fitted)


def test_it_predicts_images_and_bits(codec: Codec) -> None:
    """On a drawn image without noise, at the strongest and the mildest compression; it was fitted to photographs."""
    image = to_uint8(functional.avg_pool2d(to_float(natural_image(512, 512, seed=3)), 4))
    ladder = codec.quality_scale.from_mild_to_strong()
    source = stack_images([image])
    with torch.no_grad():
        for quality in (ladder[0], ladder[-1]):
            real, predicted = codec.transcode(image, quality), SHIPPED[type(codec)](codec)(source, quality)
            assert 0.5 < float(predicted.bits) / real.bits < 2.0
        real_image = stack_images([real.image])
        assert (predicted.images - real_image).square().mean() < (source - real_image).square().mean()


def test_its_file_says_what_it_was_fitted_to(codec: Codec) -> None:
    (path,) = SHIPPED[type(codec)].weights_files
    saved = read_module(path)
    assert path.stat().st_size < 300_000
    assert (saved.name, saved.facts["codec"]) == (SHIPPED[type(codec)].name, codec.name)
    assert saved.facts["codec_options"] == dict(codec.coding_options)
    assert saved.facts["codec_version"]
    assert saved.facts["fit"]["steps"] >= 1000
    assert saved.facts["fit"]["seed"] == 0


def test_for_other_options_it_has_to_be_fitted_first() -> None:
    proxy = WebPProxy(WebPCodec(method=0))
    assert not bool(proxy.fitted)
    with pytest.raises(NotFittedError, match="Fit it first"):
        proxy(torch.rand(1, 3, 8, 8), 20)
