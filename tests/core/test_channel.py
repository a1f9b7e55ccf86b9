import copy
import pickle
import threading

import pytest
import torch
from torch import nn

from precomp_sdk import (
    Channel,
    Codec,
    CodecLayer,
    Coding,
    ContractError,
    ImageError,
    OptionError,
    QualityError,
    Transcoder,
    downscale,
    round_to_8_bit,
    stack_images,
    to_float,
    to_uint8,
    upscale,
)
from precomp_sdk.images import stack_padded
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy

SIZES = [(24, 24), (17, 31), (1, 1), (24, 24), (40, 9)]
QUALITIES = [10.0, 80.0, 40.0, 10.0, 100.0]


class Shrinking(FakePreprocessor):
    """Codes at a lower resolution the stronger the compression."""

    def resolution(self, strength):
        return 1.0 if strength < 0.3 else round(1.0 - 0.6 * strength, 4)


def _images(sizes=SIZES, seed=0):
    dataset = FakeDataset(count=len(sizes), sizes=sizes, seed=seed)
    return [dataset[index].image for index in range(len(sizes))]


def _alone(codec, preprocessor, image, quality):
    """One image down the road, step by step, as the documentation says it."""
    strength = codec.quality_scale.strength(quality)
    size = (image.shape[1], image.shape[2])
    processed = preprocessor(to_float(image)[None], strength)
    sent = to_uint8(downscale(processed, preprocessor.resolution(strength)))[0]
    done = codec.transcode(sent, quality)
    received = done.image
    if received.shape != image.shape:
        received = to_uint8(upscale(to_float(received)[None], size))[0]
    return sent, received, done.bits


def test_sizes_qualities_and_resolutions_mix_in_one_call_and_each_image_goes_as_it_would_alone():
    codec, preprocessor, images = FakeCodec(), Shrinking(gain=0.7), _images()
    with Channel(codec, preprocessor) as channel:
        sent = channel.send(images, QUALITIES)
        received = channel.transmit(images, QUALITIES)
    expected = [_alone(codec, preprocessor, *pair) for pair in zip(images, QUALITIES, strict=True)]
    assert {item[0].shape[-1] / item[1].shape[-1] for item in expected} > {1.0}  # some coded smaller, some not
    for ours, theirs in zip(sent, expected, strict=True):
        assert torch.equal(ours, theirs[0])
    for ours, theirs in zip(received.images, expected, strict=True):
        assert torch.equal(ours, theirs[1])
    assert received.bits.tolist() == [item[2] for item in expected]
    assert received.bits.dtype == torch.int64


def test_images_of_one_size_may_be_coded_at_several_resolutions():
    codec, preprocessor = FakeCodec(), Shrinking(gain=0.7)
    images, qualities = _images([(24, 30)] * 4), [10.0, 100.0, 40.0, 10.0]
    with Channel(codec, preprocessor) as channel:
        images_there, bits = channel.start(stack_images(images), qualities).tensors()
        listed = channel.transmit(images, qualities)
    expected = [_alone(codec, preprocessor, *pair) for pair in zip(images, qualities, strict=True)]
    assert torch.equal(images_there, stack_images([item[1] for item in expected]))
    assert torch.equal(images_there, stack_images(listed.images))
    assert bits.tolist() == listed.bits.tolist() == [item[2] for item in expected]


def test_without_a_preprocessor_it_is_the_codec():
    codec, images = FakeCodec(), _images()
    with Channel(codec) as channel:
        assert channel.label == "anchor"
        assert channel.modules == ()
        assert all(torch.equal(*pair) for pair in zip(channel.send(images, QUALITIES), images, strict=True))
        received = channel.transmit(images, QUALITIES)
    for ours, image, quality in zip(received.images, images, QUALITIES, strict=True):
        assert torch.equal(ours, codec.transcode(image, quality).image)


def test_images_that_no_preprocessor_touches_are_submitted():
    codec, preprocessor, images = FakeCodec(), Shrinking(gain=0.7), _images()
    with Channel(codec, preprocessor) as channel:
        received = channel.submit(images, QUALITIES, [0.5] * 5).result()
        asked = channel.submit(images, QUALITIES).result()
    for ours, image, quality in zip(received.images, images, QUALITIES, strict=True):
        sent = to_uint8(downscale(to_float(image)[None], 0.5))[0]
        there = to_float(codec.transcode(sent, quality).image)[None]
        assert torch.equal(ours, to_uint8(upscale(there, tuple(image.shape[1:])))[0])
    identity = Shrinking(gain=0.0)
    for ours, pair in zip(asked.images, zip(images, QUALITIES, strict=True), strict=True):
        assert torch.equal(ours, _alone(codec, identity, *pair)[1])


def test_with_a_proxy_values_are_the_codecs_and_the_gradient_goes_straight_through_both_roundings():
    codec, preprocessor = FakeCodec(), Shrinking(gain=0.7)
    proxy, images = FakeProxy(codec), _images()
    with Channel(codec, preprocessor) as plain, Channel(codec, preprocessor, proxy=proxy) as channel:
        real = plain.transmit(images, QUALITIES)
        ours = channel.transmit(images, QUALITIES)
    for mine, theirs in zip(ours.images, real.images, strict=True):
        assert torch.equal(mine, to_float(theirs))
    assert ours.bits.tolist() == real.bits.tolist()
    total = sum(image.square().sum() for image in ours.images) + (ours.bits / 1000).sum()
    (gradient,) = torch.autograd.grad(total, preprocessor.gain)

    expected = torch.zeros(())
    for image, quality, there, bits in zip(images, QUALITIES, real.images, real.bits, strict=True):
        strength = codec.quality_scale.strength(quality)
        processed = preprocessor(to_float(image)[None], strength)
        sent = round_to_8_bit(downscale(processed, preprocessor.resolution(strength)))
        predicted = proxy(sent, [quality])
        seen = upscale(predicted.images, tuple(image.shape[1:]))  # FakeProxy's images are the codec's
        loss = (2 * to_float(there)[None] * seen).sum()
        loss = loss + int(bits) / 1000 * torch.log(predicted.bits).sum()
        expected = expected + torch.autograd.grad(loss, preprocessor.gain)[0]
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)


class _OffProxy(FakeProxy):
    """Its images are darker than the codec's, off the 8-bit grid."""

    def _predict(self, images, qualities):
        output = super()._predict(images, qualities)
        return type(output)(images=output.images * 0.9, bits=output.bits * 3.0)


def test_values_come_from_the_proxy_where_it_is_asked_for_and_the_codec_is_left_alone():
    class Silent(FakeCodec):
        def _encode(self, image, quality):
            raise AssertionError("the codec was asked")

    codec, image = Silent(), stack_images(_images([(20, 30)])).requires_grad_()
    proxy = _OffProxy(codec)
    with Channel(codec, proxy=proxy) as channel:
        whole, bits = channel.submit(image, [50.0], forward="proxy").tensors()
        halved, _ = channel.submit(image, [50.0], [0.5], forward="proxy").tensors()
    assert torch.equal(whole, proxy(image, [50.0]).images)
    assert torch.equal(bits, proxy(image, [50.0]).bits)
    assert torch.equal(to_float(to_uint8(halved)), halved)  # the receiver's rounding holds for what is upscaled
    assert whole.requires_grad
    with pytest.raises(ContractError, match="a proxy to take values from"):
        Channel(codec).submit(image, [50.0], forward="proxy")


class _CountingProxy(_OffProxy):
    calls = 0

    def _predict(self, images, qualities):
        type(self).calls += 1
        return super()._predict(images, qualities)


def test_the_proxy_is_run_for_gradients_alone():
    codec = FakeCodec()
    proxy, image = _CountingProxy(codec).requires_grad_(False), stack_images(_images([(20, 30)]))
    with Channel(codec, proxy=proxy) as channel:
        before = channel.transmit(image, [50.0])
        with torch.no_grad():
            channel.transmit(image.clone().requires_grad_(), [50.0])
        assert _CountingProxy.calls == 0
        after = channel.transmit(image.clone().requires_grad_(), [50.0])
        assert _CountingProxy.calls == 1
    assert torch.equal(before.images[0], after.images[0].detach())
    assert before.bits.tolist() == after.bits.tolist()


def test_what_a_lossless_codec_would_deliver_is_what_was_sent_at_the_sources_size():
    images = _images([(20, 30)] * 2)
    with Channel(FakeCodec(), Shrinking(gain=0.7)) as channel:
        sent = channel.send(images, [10.0, 90.0])
        flying = channel.start(stack_images(images), [10.0, 90.0])
        assert torch.equal(flying.uncoded(), stack_images(channel.receive(sent, [(20, 30)] * 2)))
        flying.result()


def test_the_codec_works_while_the_caller_does():
    begun, may_end = threading.Event(), threading.Event()

    class Slow(FakeCodec):
        def _encode(self, image, quality):
            begun.set()
            assert may_end.wait(20)
            return super()._encode(image, quality)

    with Channel(Slow()) as channel:
        flying = channel.start(_images(), QUALITIES)
        assert begun.wait(20)
        may_end.set()
        assert len(flying.result().images) == 5


class _Frugal(Channel):
    """Codes busy images at a stronger quality and half the resolution."""

    def choose(self, images, qualities):
        busy = [float(image.float().std()) > 20 for image in images]
        return [Coding(q / 2 if b else q, 0.5 if b else 1.0) for q, b in zip(qualities, busy, strict=True)]


def test_quality_and_resolution_can_be_chosen_by_what_is_in_an_image():
    codec = FakeCodec()
    flat = torch.full((3, 20, 20), 90, dtype=torch.uint8)
    busy = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with _Frugal(codec) as channel:
        assert [tuple(item.shape) for item in channel.send([flat, busy], [60.0, 60.0])] == [(3, 20, 20), (3, 10, 10)]
        received = channel.transmit([flat, busy], [60.0, 60.0])
    assert received.bits[0] == codec.transcode(flat, 60.0).bits
    small = to_uint8(downscale(to_float(busy)[None], 0.5))[0]
    assert received.bits[1] == codec.transcode(small, 30.0).bits


def test_a_padded_batch_is_a_batch_and_codec_and_judge_see_each_image_at_its_own_size():
    codec, preprocessor = FakeCodec(), Shrinking(gain=0.7)
    images, qualities = _images([(24, 24), (17, 31)]), [80.0, 20.0]
    with Channel(codec, preprocessor) as channel:
        processed = channel.preprocess(stack_padded(images), qualities)
        cut = [row[:, : image.shape[1], : image.shape[2]] for row, image in zip(processed, images, strict=True)]
        received = channel.submit(cut, qualities).result()
        alone = channel.transmit(images, qualities)
    # a 3 x 3 mean with the border repeated sees in a padded batch what it sees alone
    for ours, theirs in zip(received.images, alone.images, strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(received.bits, alone.bits)


@pytest.mark.parametrize("images", [[], [torch.zeros(3, 4)], torch.zeros(1, 3, 4, 4, dtype=torch.uint8), ["a.png"]])
def test_what_is_no_image_is_refused(images):
    with Channel(FakeCodec(), FakePreprocessor()) as channel, pytest.raises(ImageError):
        channel.transmit(images, [50.0] * len(images))


def test_errors_say_what_is_wrong():
    images = _images([(4, 4)] * 2)
    with Channel(FakeCodec(), FakePreprocessor()) as channel:
        with pytest.raises(ContractError, match="one quality and one resolution for each of 2 images"):
            channel.transmit(images, [50.0])
        with pytest.raises(QualityError):
            channel.send(images, [50.0, 0.0])
        with pytest.raises(ImageError, match="NaN"):
            channel.submit(torch.full((1, 3, 4, 4), torch.nan), [50.0])
        with pytest.raises(ContractError, match="images of one size"):
            channel.start(_images(), QUALITIES).tensors()
        with pytest.raises(ImageError, match="whole numbers from"):
            channel.receive(images, [(3, 3), (4, 4)])
    with pytest.raises(OptionError, match="Channel, proxy"):
        Channel(FakeCodec(level=1), proxy=FakeProxy(FakeCodec(level=2)))


def test_a_channel_travels_to_other_processes():
    with Channel(FakeCodec(level=3), Shrinking(gain=0.7), label="mine", settings={"a": 1.0}) as channel:
        other = pickle.loads(pickle.dumps(channel))
        images = _images()
        ours, theirs = channel.transmit(images, QUALITIES), other.transmit(images, QUALITIES)
    assert (other.label, other.settings, other.codec.options) == ("mine", {"a": 1.0}, {"level": 3})
    assert all(torch.equal(*pair) for pair in zip(ours.images, theirs.images, strict=True))


def test_one_codec_with_its_threads_serves_several_channels():
    with Transcoder(FakeCodec(), workers=1) as transcoder:
        first, second = Channel(transcoder), Channel(transcoder, FakePreprocessor(), label="net")
        assert first.codec is second.codec
        assert first.transmit(_images(), QUALITIES).bits.tolist() == second.transmit(_images(), QUALITIES).bits.tolist()


class TestCodecLayer:
    def test_it_is_the_codec_forward_and_the_proxy_backward(self):
        codec = FakeCodec()
        proxy, images = _OffProxy(codec), stack_images(_images([(20, 30)] * 3)).requires_grad_()
        qualities = torch.tensor([10.0, 50.0, 90.0])
        decoded, bits = CodecLayer(codec, proxy)(images, qualities)
        for row, quality in enumerate(qualities.tolist()):
            done = codec.transcode(to_uint8(images[row]), quality)
            assert torch.equal(decoded[row], to_float(done.image))
            assert bits[row] == done.bits
        (gradient,) = torch.autograd.grad(decoded.sum() + torch.log(bits).sum(), images)
        predicted = proxy(round_to_8_bit(images), qualities)
        (expected,) = torch.autograd.grad(predicted.images.sum() + torch.log(predicted.bits).sum(), images)
        torch.testing.assert_close(gradient, expected)

    def test_it_trains_what_stands_before_and_behind_it_but_not_the_proxy(self):
        codec = FakeCodec()
        before, layer, behind = FakePreprocessor(gain=0.5), CodecLayer(codec, FakeProxy(codec)), nn.Conv2d(3, 1, 3)
        network = nn.ModuleList([before, layer, behind]).train()
        decoded, bits = layer(before(stack_images(_images([(20, 30)])), 0.5), 30)
        (behind(decoded).square().mean() + bits.mean() / 600).backward()
        assert before.gain.grad.abs() > 0
        assert behind.weight.grad.abs().sum() > 0
        assert layer.proxy.log_scale.grad is None
        assert not layer.proxy.training
        assert [name for name, _ in network.named_parameters()] == ["0.gain", "1.proxy.log_scale", "2.weight", "2.bias"]

    def test_a_network_that_holds_it_can_be_copied_and_pickled(self):
        codec, images = FakeCodec(), stack_images(_images([(20, 30)]))
        layer = CodecLayer(codec, FakeProxy(codec), workers=1)
        decoded, bits = layer(images, 30)
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert other.proxy is not layer.proxy
            there, cost = other(images.clone().requires_grad_(), 30)
            assert torch.equal(there.detach(), decoded)
            assert torch.equal(cost.detach(), bits)
            there.sum().backward()

    def test_half_precision_images_are_taken(self):
        codec = FakeCodec()
        images = stack_images(_images([(20, 30)])).to(torch.bfloat16).requires_grad_()
        decoded, _ = CodecLayer(codec, FakeProxy(codec))(images, 30)
        decoded.sum().backward()
        assert decoded.dtype == torch.float32
        assert images.grad.dtype == torch.bfloat16

    def test_what_is_no_batch_is_refused(self):
        codec: Codec = FakeCodec()
        layer = CodecLayer(codec, FakeProxy(codec))
        with pytest.raises(ImageError, match="CodecLayer"):
            layer(torch.zeros(3, 8, 8), 30)
        with pytest.raises(QualityError):
            layer(torch.zeros(1, 3, 8, 8), 101)
        with pytest.raises(OptionError, match="proxy 'fake'"):
            CodecLayer(FakeCodec(level=1), FakeProxy(codec))
