"""Images of unequal sizes in one padded batch: nothing of the padding enters a bit, a loss or a gradient."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from precomp_sdk import Channel, ImageError, OptionError, Preprocessor, Sample, Target
from precomp_sdk.images import stack_images, stack_padded
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import AnchorPoint, Calibration, Trainer, TrainSettings
from precomp_sdk.training.grouping import group_by_padding, samples_by_size
from precomp_sdk.training.nan_guard import NaNGuard
from precomp_sdk.training.step import training_step

SIZES = ((24, 24), (17, 31), (8, 40), (24, 24))
QUALITIES = [5.0, 30.0, 30.0, 5.0]
POINTS = (AnchorPoint(5.0, 0.9, 1.2, 0.5, 0.4), AnchorPoint(30.0, 2.0, 0.7, 0.3, 0.8))


class SpyCodec(FakeCodec):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def _encode(self, image: Tensor, quality: float) -> bytes:
        self.sizes.append(tuple(image.shape[1:]))
        return super()._encode(image, quality)


class SpyTask(FakeTask):
    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Tensor], Tensor]:
        self.shapes.append(tuple(images.shape))
        return super()._predict_with_losses(images, targets)


class SpyPreprocessor(FakePreprocessor):
    def __init__(self) -> None:
        super().__init__(gain=0.3)
        self.shapes: list[tuple[int, ...]] = []

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        self.shapes.append(tuple(images.shape))
        return super()._process(images, strengths)


def samples() -> list[Sample]:
    dataset = FakeDataset(count=4, sizes=SIZES, contrast=0.2)
    return [dataset[index] for index in range(4)]


def step(
    images: Sequence[Sample],
    qualities: Sequence[float],
    network: Preprocessor,
    *,
    codec: FakeCodec | None = None,
    task: FakeTask | None = None,
    **options: Any,
) -> tuple[float, dict[str, float], Tensor]:
    """Return loss, terms and the gradient of the preprocessor's parameters in one row."""
    codec = codec or FakeCodec()
    settings = TrainSettings(**{"feature_weight": 0.5, "beta": 2.0, "targets": "dataset", **options})
    network.zero_grad()
    with Channel(codec, network, proxy=FakeProxy(codec)) as channel:
        result = training_step(
            images,
            qualities,
            channel=channel,
            task=task or FakeTask(),
            calibration=Calibration(POINTS, 1.0, settings.feature_weight, settings.beta, settings.clean_weight),
            settings=settings,
            fabric=Fabric(accelerator="cpu", devices=1),
            guard=NaNGuard("test"),
        )
    result.loss.backward()
    gradients = [parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None]
    return float(result.loss.detach()), result.scalars, torch.cat(gradients)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"forward": "proxy"},
        {"train": ("preprocessor", "proxy")},
        {"targets": "pseudo-labels"},
        {"clean_weight": 0.5},
    ],
)
def test_a_padded_batch_equals_one_image_at_a_time(options: dict[str, Any]) -> None:
    network = FakePreprocessor(gain=0.3)
    loss, terms, gradient = step(samples(), QUALITIES, network, **options)
    alone = [step([image], [quality], network, **options) for image, quality in zip(samples(), QUALITIES, strict=True)]
    assert loss == pytest.approx(sum(item[0] for item in alone) / 4, rel=1e-5)
    for name in terms:
        assert terms[name] == pytest.approx(sum(item[1][name] for item in alone) / 4, rel=1e-5), name
    expected = torch.stack([item[2] for item in alone]).mean(dim=0)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_the_terms_of_a_step_are_the_payloads_bits_over_each_images_own_pixels() -> None:
    codec = FakeCodec()
    bpps = [
        8 * len(codec.encode(item.image, quality)) / (item.image.shape[1] * item.image.shape[2])
        for item, quality in zip(samples(), QUALITIES, strict=True)
    ]
    terms = step(samples(), QUALITIES, FakePreprocessor(gain=0.0))[1]
    assert terms["bpp"] == pytest.approx(sum(bpps) / 4, rel=1e-6)
    assert terms["change_mse"] == 0.0


def test_the_preprocessor_alone_sees_padding() -> None:
    codec, task, network = SpyCodec(), SpyTask(), SpyPreprocessor()
    step(samples(), QUALITIES, network, codec=codec, task=task)
    assert network.shapes == [(4, 3, 24, 40)]
    assert sorted(codec.sizes) == sorted(SIZES)
    assert task.shapes == [(2, 3, 24, 24), (1, 3, 17, 31), (1, 3, 8, 40)]


def test_every_image_keeps_its_quality_and_its_target() -> None:
    """Order must survive the cut into sizes: a single other quality or target changes the sum."""
    network = FakePreprocessor(gain=0.3)
    order = [2, 0, 3, 1]
    images = samples()
    first = step(images, QUALITIES, network)[0]
    second = step([images[place] for place in order], [QUALITIES[place] for place in order], network)[0]
    assert first == pytest.approx(second, rel=1e-5)
    assert first != pytest.approx(step(images, [30.0, 5.0, 30.0, 5.0], network)[0], rel=1e-3)


def test_padding_repeats_the_border() -> None:
    images = [
        torch.arange(6, dtype=torch.uint8).reshape(1, 2, 3).expand(3, 2, 3),
        torch.zeros(3, 3, 2, dtype=torch.uint8),
    ]
    padded = (stack_padded(images) * 255).round()
    assert padded[0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [3, 4, 5]]
    assert padded.shape == (2, 3, 3, 3)
    same = [images[0], images[0]]
    assert torch.equal(stack_padded(same), stack_images(same))
    with pytest.raises(ImageError, match="one or more images"):
        stack_padded([])
    with pytest.raises(ImageError, match="uint8 tensor"):
        stack_padded([torch.zeros(3, 2, 2)])


def blank(*sizes: tuple[int, int]) -> list[Sample]:
    return [Sample(torch.zeros(3, *size, dtype=torch.uint8), None, str(place)) for place, size in enumerate(sizes)]


def keys(groups: list[list[Sample]]) -> list[list[str]]:
    return [[sample.key for sample in group] for group in groups]


def test_no_padding_means_one_size_each() -> None:
    images = blank((8, 8), (6, 8), (8, 8), (6, 8))
    assert keys(group_by_padding(images, 0.0)) == [["0", "2"], ["1", "3"]]
    assert keys(samples_by_size(images, 4)) == [["0", "2"], ["1", "3"]]
    assert keys(samples_by_size(images, 1)) == [["0"], ["2"], ["1"], ["3"]]


def test_the_share_of_padding_is_kept() -> None:
    images = blank((48, 64), (64, 48), (47, 64), (48, 63), (4, 4), (64, 43), (200, 300))
    for share in (0.01, 0.1, 0.3, 0.6, 0.9):
        groups = group_by_padding(images, share)
        assert sorted(sample.key for group in groups for sample in group) == [str(place) for place in range(7)]
        for group in groups:
            heights, widths = zip(*(sample.image.shape[1:] for sample in group), strict=True)
            room = max(heights) * max(widths) * len(group)
            assert room - sum(h * w for h, w in zip(heights, widths, strict=True)) <= share * room
    assert keys(group_by_padding(images, 0.1)) == [["5", "1"], ["4"], ["2", "3", "0"], ["6"]]
    assert len(group_by_padding(images, 0.9)) == 1


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_wrong_share_is_refused(share: float) -> None:
    with pytest.raises(OptionError, match=r"max_padding.*a number from 0 to below 1"):
        TrainSettings(max_padding=share)


def test_a_run_with_padding_uses_fewer_passes_and_trains() -> None:
    passes: dict[float, int] = {}
    for share in (0.0, 0.8):
        network = SpyPreprocessor()
        codec = FakeCodec()
        settings = TrainSettings(
            steps=4, batch_size=4, held_out_images=4, held_out_every=100, calibration_images=8, ladder=(5, 30),
            max_padding=share,
        )  # fmt: skip
        before = network.gain.item()
        result = Trainer(
            codec=codec, proxy=FakeProxy(codec), preprocessor=network, task=FakeTask(), settings=settings
        ).run(FakeDataset(count=24, sizes=SIZES[:3]))
        assert set(result.relative) == {5.0, 30.0}
        assert network.gain.item() != before
        passes[share] = len(network.shapes)
    assert passes[0.8] < passes[0.0]
