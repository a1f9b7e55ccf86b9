"""A transcoder that remembers: nothing is encoded twice, and nothing else changes."""

import torch

from precomp_sdk import Channel, Transcoder
from precomp_sdk.evaluation import EvaluateSettings, Measurer
from precomp_sdk.evaluation.equal_bits import EqualBits
from precomp_sdk.testing import FakeCodec, FakeDataset, FakeTask, natural_image


class Counting(FakeCodec):
    """Counts its encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.encodes = 0

    def _encode(self, image, quality):
        self.encodes += 1
        return super()._encode(image, quality)


def test_an_image_is_encoded_once_at_a_quality():
    images = [natural_image(12, 20), natural_image(12, 20, seed=1), natural_image(12, 20)]
    with Transcoder(Counting(), workers=1, remember=True) as remembering, Transcoder(FakeCodec(), workers=1) as plain:
        for qualities in ((5, 5, 5), (5, 30, 5)):
            found, expected = remembering.transcode(images, qualities), plain.transcode(images, qualities)
            assert [item.bits for item in found] == [item.bits for item in expected]
            assert all(torch.equal(one.image, other.image) for one, other in zip(found, expected, strict=True))
        assert remembering.codec.encodes == 3
        assert remembering.sizes(images, (5, 5, 30)) == plain.sizes(images, (5, 5, 30))
        assert remembering.codec.encodes == 4
        turned = images[0].reshape(3, 20, 12)  # the same samples are another image
        assert remembering.sizes([turned], [5]) == plain.sizes([turned], [5])
        assert remembering.codec.encodes == 5


def test_old_payloads_are_dropped_and_sizes_stay(monkeypatch):
    monkeypatch.setattr("precomp_sdk.transcode._REMEMBERED_BYTES", 1)
    images = [natural_image(12, 20, seed=seed) for seed in range(3)]
    with Transcoder(Counting(), workers=1, remember=True) as transcoder:
        transcoder.transcode(images, [5, 5, 5])
        transcoder.transcode(images, [5, 5, 5])
        assert transcoder.codec.encodes == 6  # each pushes out the one before
        transcoder.sizes(images, [5, 5, 5])
        assert transcoder.codec.encodes == 6


def test_equal_bits_encodes_only_what_the_anchor_has_not():
    codec, data = Counting(), FakeDataset(count=6)
    with Measurer(codec, FakeTask(), EvaluateSettings(ladder=(5, 30), workers=1)) as measurer:
        anchor = measurer.curve(data)
        assert codec.encodes == 12
        channel = EqualBits(measurer.transcoder, anchor.curve())
        images = [data[index].image for index in range(6)]
        chosen = {coding.quality for coding in channel.choose(images, [5.0] * 6)}
        probed = {quality for image in images for quality in channel._probed.of(image)}
        before = codec.encodes
        assert before < 12 + 6 * len(probed)
        assert chosen <= probed
        list(channel.transmit(images, [5.0] * 6).images)
        assert codec.encodes == before
        assert len(measurer.curve(data, Channel(measurer.transcoder)).points) == 2
        assert codec.encodes == before
