import math

import numpy as np
import pytest
import torch
from torch import Tensor

from precomp_sdk import Codec, QualityScale, RateAccuracyCurve, RatePoint, Transcoder
from precomp_sdk.evaluation import EQUAL_BITS, EqualBits, EvaluateSettings, Measurer, evaluate
from precomp_sdk.testing import FakeCodec, FakeDataset, FakeTask


class Counted(Codec):
    """Payloads of a length that grows evenly with quality and with what is in the image."""

    name = "counted"
    source = "this test"
    quality_scale = QualityScale("quality", 1, 100, higher_is_better=True, ladder=(10, 50))

    def __init__(self) -> None:
        self.encoded: list[float] = []

    def bits(self, image: Tensor, quality: float) -> float:
        return 8.0 * (1 + round((1 + int(image[0, 0, 0])) * 1.05**quality))

    def _encode(self, image: Tensor, quality: float) -> bytes:
        self.encoded.append(quality)
        head = int(image.shape[1]).to_bytes(2, "little") + int(image.shape[2]).to_bytes(2, "little")
        return (head + bytes(int(self.bits(image, quality) // 8)))[: max(4, int(self.bits(image, quality) // 8))]

    def _decode(self, payload: bytes) -> Tensor:
        height, width = int.from_bytes(payload[:2], "little"), int.from_bytes(payload[2:4], "little")
        return torch.zeros(3, height, width, dtype=torch.uint8)


class Inverse(Counted):
    """A smaller value is a better image, as QP is."""

    name = "inverse"
    quality_scale = QualityScale("QP", 0, 51, higher_is_better=False, ladder=(20, 40))

    def bits(self, image: Tensor, quality: float) -> float:
        return super().bits(image, 2 * (51 - quality))


class Fractions(Counted):
    name = "fractions"
    quality_scale = QualityScale("distance", 0.0, 10.0, higher_is_better=False, ladder=(1.0, 5.0), integer=False)

    def bits(self, image: Tensor, quality: float) -> float:
        return super().bits(image, 10 * (10 - quality))


def image(value: int, height: int = 8, width: int = 8) -> Tensor:
    return torch.full((3, height, width), value, dtype=torch.uint8)


def curve(*points: tuple[float, float]) -> RateAccuracyCurve:
    return RateAccuracyCurve("anchor", tuple(RatePoint(quality, bpp, {"top1": 0.5}, 1.0) for quality, bpp in points))


@pytest.mark.parametrize("make", [Counted, Inverse, Fractions])
@pytest.mark.parametrize("budget_bpp", [2.0, 20.0, 150.0])
def test_every_image_gets_the_quality_nearest_to_the_budget(make: type[Counted], budget_bpp: float) -> None:
    codec = make()
    quality = codec.quality_scale.ladder[0]
    images = [image(value, *size) for value in (0, 3, 60, 250) for size in ((8, 8), (4, 8))]
    with Transcoder(codec, workers=1) as transcoder:
        chosen = EqualBits(transcoder, curve((quality, budget_bpp))).choose(images, [quality] * len(images))
    scale = codec.quality_scale
    every = range(int(scale.minimum), int(scale.maximum) + 1) if scale.integer else np.linspace(0, 10, 2001)
    for one, coding in zip(images, chosen, strict=True):
        budget = budget_bpp * one.shape[1] * one.shape[2]
        gaps = {float(q): abs(math.log(codec.bits(one, float(q)) / budget)) for q in every}
        mine = abs(math.log(codec.bits(one, coding.quality) / budget))
        assert coding.resolution == 1.0
        assert mine <= min(gaps.values()) + (0.006 if not scale.integer else 1e-9)


def test_few_encodes_find_it_and_an_images_budgets_share_them() -> None:
    codec = Counted()
    images = [image(value) for value in (0, 3, 60, 250)]
    with Transcoder(codec, workers=1) as transcoder:
        channel = EqualBits(transcoder, curve((10, 2.0), (50, 20.0), (51, 20.0)))
        channel.choose(images, [10] * 4)
        first = len(codec.encoded)
        assert first <= 4 * 8
        channel.choose(images, [50] * 4)
        before = len(codec.encoded)
        channel.choose(images, [51] * 4)
    assert before - first <= first
    assert len(codec.encoded) - before <= 4  # the same budget from another start: at most the start itself


def test_images_that_are_gone_are_forgotten() -> None:
    with Transcoder(Counted(), workers=1) as transcoder:
        channel = EqualBits(transcoder, curve((10, 2.0)))
        channel.choose([image(1), image(2)], [10, 10])
        channel.choose([image(3)], [10])
        assert len(channel._probed.known) == 1


def test_a_control_of_an_evaluation_spends_the_anchors_bits_evenly() -> None:
    settings = EvaluateSettings(ladder=(5, 15, 40), anchor_ladder=(5, 15, 30, 40), baselines=("equal-bits",))
    dataset = FakeDataset(count=30, sizes=[(24, 24), (20, 32)])
    events = []
    evaluation = evaluate(FakeCodec(), FakeTask(), dataset, settings=settings, observer=events.append)
    assert [item.label for item in evaluation.curves] == ["anchor", "equal-bits"]
    assert (evaluation.controls, evaluation.tuned) == (("equal-bits",), ())
    for anchor, control in zip(evaluation.curve("anchor").points, evaluation.curve("equal-bits").points, strict=True):
        assert control.quality == anchor.quality
        assert control.bpp == pytest.approx(anchor.bpp, rel=0.1)
    steps = [event.step for event in events if hasattr(event, "step")]
    assert steps[-1] == events[0].total_steps

    with Measurer(FakeCodec(), FakeTask(), settings) as measurer:
        constant = measurer.curve(dataset, None, measurer.anchor_ladder)
        even = measurer.curve(dataset, EQUAL_BITS.channel(measurer.transcoder, constant.curve()), (5, 15, 30, 40))
    for point, other in zip(constant.points[:2], even.points[:2], strict=True):
        spread, evened = np.std(point.bits / constant.pixels), np.std(other.bits / even.pixels)
        assert evened < 0.7 * spread
