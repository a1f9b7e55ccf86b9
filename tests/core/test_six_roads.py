"""One image of odd size, at a lower resolution and without a network, down all six roads of the package.

What the judge gets is the same, bit for bit, and what the receiver's rules say: two roundings, nothing else.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from precomp_jpeg import JPEGCodec, JPEGProxy
from precomp_refine import Refiner
from precomp_sdk import Channel, Codec, ProxyCodec, Sample, Transcoder, downscale, to_float, to_uint8, upscale
from precomp_sdk.deploy import Compressor
from precomp_sdk.evaluation import DOWNSCALE, Downscale, EvaluateSettings, Measurer
from precomp_sdk.testing import FakeCodec, FakeDataset, FakeProxy, FakeTask
from precomp_sdk.training import AnchorPoint, Calibration, TrainSettings
from precomp_sdk.training.calibration import measure_anchor
from precomp_sdk.training.held_out import HeldOutBatch
from precomp_sdk.training.nan_guard import NaNGuard
from precomp_sdk.training.step import training_step

FACTOR, QUALITY = 0.6, 30.0
CALIBRATION = Calibration((AnchorPoint(QUALITY, bpp=1.0, task_loss=1.0, feature_loss=1.0, trade_off=1.0),))
SETTINGS = TrainSettings(targets="dataset", ladder=(QUALITY,), channels_last=True)


class Watching(FakeTask):
    """Keeps every image that it judges."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def _predict_with_losses(self, images: Tensor, targets: Any) -> Any:
        self.seen.append(images.detach().clone())
        return super()._predict_with_losses(images, targets)


class Sender(Downscale):
    """Has something to learn and does nothing."""

    def __init__(self) -> None:
        super().__init__(factor=FACTOR)
        self.gain = nn.Parameter(torch.zeros(()))

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return images + self.gain


def step(codec: Codec, proxy: ProxyCodec, task: Watching, sample: Sample) -> None:
    with Channel(codec, Sender(), proxy=proxy) as channel:
        training_step(
            [sample], [QUALITY], channel=channel, task=task, calibration=CALIBRATION, settings=SETTINGS,
            fabric=Fabric(accelerator="cpu", devices=1), guard=NaNGuard("test"),
        )  # fmt: skip


def held_out(codec: Codec, proxy: ProxyCodec, task: Watching, sample: Sample) -> None:
    with Transcoder(codec) as transcoder:
        device, anchor = torch.device("cpu"), {QUALITY: 1.0}
        batch = HeldOutBatch([sample], transcoder, task, CALIBRATION, SETTINGS, device, anchor)
        batch.relative(Downscale(factor=FACTOR), NaNGuard("test"))


def calibration(codec: Codec, proxy: ProxyCodec, task: Watching, sample: Sample) -> None:
    with Transcoder(codec) as transcoder, torch.no_grad():
        measure_anchor(transcoder, task, [sample], [QUALITY], targets="dataset", factor=FACTOR)


def evaluation(codec: Codec, proxy: ProxyCodec, task: Watching, sample: Sample) -> None:
    dataset = FakeDataset(count=1, size=(sample.image.shape[1], sample.image.shape[2]))
    with Measurer(codec, task, EvaluateSettings(ladder=(QUALITY,))) as measurer:
        measurer.curve(dataset, DOWNSCALE.channel(measurer.transcoder, FACTOR))


def sender(codec: Codec, proxy: ProxyCodec, task: Watching, sample: Sample) -> None:
    compressor = Compressor(codec, Downscale(factor=FACTOR))
    payload = compressor.compress(sample.image, QUALITY)
    received = compressor.decompress(payload, (sample.image.shape[1], sample.image.shape[2]))
    task.seen.append(to_float(received)[None])


def refinement(codec: Codec, proxy: ProxyCodec, task: Watching, sample: Sample) -> None:
    refiner = Refiner(codec, proxy, task, steps=1, resolutions=[(0.0, FACTOR)], lambdas={QUALITY: 1.0})
    refiner.refine([sample.image], QUALITY)


@pytest.mark.parametrize("road", [step, held_out, calibration, evaluation, sender, refinement])
@pytest.mark.parametrize("codec", [FakeCodec(), JPEGCodec()])
def test_the_judge_gets_the_same_pixels_on_every_road(road: Callable[..., None], codec: Codec) -> None:
    sample = FakeDataset(count=1, size=(37, 53))[0]
    sent = to_uint8(downscale(to_float(sample.image)[None], FACTOR))[0]
    assert sent.shape == (3, 22, 32)
    expected = to_float(to_uint8(upscale(to_float(codec.transcode(sent, QUALITY).image)[None], (37, 53))))
    assert len(np.unique(expected.numpy())) > 20
    task = Watching()
    road(codec, FakeProxy(codec) if isinstance(codec, FakeCodec) else JPEGProxy(codec), task, sample)
    assert task.seen  # the first is what was not refined yet
    torch.testing.assert_close(task.seen[0], expected, rtol=0, atol=0)
