import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from precomp_sdk import (
    Channel,
    Event,
    ImageError,
    Notice,
    OptionError,
    QualityScale,
    ResolutionCurve,
    Sample,
    Transcoder,
    downscale,
    round_to_8_bit,
    stack_images,
    to_float,
    upscale,
)
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import ResolutionChoice, Trainer, TrainSettings, choose_resolutions, resolution_points
from precomp_sdk.training.held_out import HeldOutBatch
from precomp_sdk.training.nan_guard import NaNGuard
from precomp_sdk.training.step import training_step

LADDER = (5, 30, 70)
JPEG = QualityScale("quality", 1, 100, higher_is_better=True, ladder=(5, 50))


class Halving(FakePreprocessor):
    """Codes at half resolution below quality 50 of `FakeCodec`, and at the full one above."""

    def resolution(self, strength: float) -> float:
        return 0.5 if strength > FakeCodec.quality_scale.strength(50) else 1.0


def trained(preprocessor: FakePreprocessor, **settings: Any) -> tuple[Trainer, list[Mapping[str, float]]]:
    seen: list[Mapping[str, float]] = []
    trainer = Trainer(
        codec=FakeCodec(),
        proxy=FakeProxy(FakeCodec()),
        preprocessor=preprocessor,
        task=FakeTask(),
        settings=TrainSettings(
            steps=3, batch_size=6, ladder=LADDER, warmup_steps=0, held_out_images=4, calibration_images=8, **settings
        ),
        observer=lambda event: seen.append(getattr(event, "scalars", {})),
    )
    trainer.run(FakeDataset(count=24, sizes=[(20, 28), (33, 17)]))
    return trainer, [scalars for scalars in seen if "bpp" in scalars]


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (64, 48)])
@pytest.mark.parametrize("factor", [1.0, 0.5, 0.01])
def test_images_downscale_and_come_back_in_their_size(size: tuple[int, int], factor: float) -> None:
    images = torch.rand(2, 3, *size, requires_grad=True)
    small = downscale(images, factor)
    assert small.shape[-2:] == tuple(max(1, round(side * factor)) for side in size)
    back = upscale(small, size)
    assert back.shape == images.shape
    assert float(back.detach().min()) >= 0
    assert float(back.detach().max()) <= 1
    (gradient,) = torch.autograd.grad(back.sum(), images)
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().sum()) > 0


@pytest.mark.parametrize("factor", [0.0, -1.0, 1.5, float("nan")])
def test_a_resolution_out_of_range_is_refused_where_it_is_used(factor: float) -> None:
    with pytest.raises(OptionError, match=r"Preprocessor\.resolution"):
        downscale(torch.rand(1, 3, 8, 8), factor)


@pytest.mark.parametrize("size", [(4, 8), (8, 4), (0, 8), (8,), (8.5, 9), (8, 8, 8)])
def test_a_size_below_the_coded_one_is_refused(size: Any) -> None:
    with pytest.raises(ImageError, match="height first"):
        upscale(torch.rand(1, 3, 8, 8), size)


def test_samples_of_8_bits_are_refused() -> None:
    for call in (lambda images: downscale(images, 0.5), lambda images: upscale(images, (16, 16))):
        with pytest.raises(ImageError, match="float"):
            call(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_flat_images_survive_and_fine_stripes_do_not_alias() -> None:
    flat = torch.full((1, 3, 32, 32), 0.3)
    torch.testing.assert_close(upscale(downscale(flat, 0.5), (32, 32)), flat)
    stripes = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    assert float(downscale(stripes, 0.5).std()) < 0.05


def test_a_curve_goes_through_its_points_and_stays_constant_beyond() -> None:
    curve = ResolutionCurve([(0.8, 0.4), (0.2, 1.0)])
    assert [curve.at(0.0), curve.at(0.2), curve.at(0.8), curve.at(1.0)] == [1.0, 1.0, 0.4, 0.4]
    assert curve.at(0.5) == pytest.approx(0.7)
    assert ResolutionCurve(json.loads(json.dumps(curve.plain()))).points == curve.points
    assert ResolutionCurve().at(0.7) == 1.0


@pytest.mark.parametrize(
    "points",
    [
        [(0.5, 0.0)], [(0.5, 1.2)], [(1.5, 0.5)], [(0.5, 0.5), (0.5, 0.6)], [(0.5,)], [(0.5, float("nan"))], [0.5, 1.0],
        "half", [("a", "b")],
    ],
)  # fmt: skip
def test_points_out_of_range_are_refused(points: Any) -> None:
    with pytest.raises(OptionError, match="choose-resolutions"):
        ResolutionCurve(points)


def test_a_step_counts_the_small_images_bits_and_judges_the_upscaled_ones() -> None:
    """A batch of two sizes and both resolutions has the terms of its images sent one by one."""
    codec, task, net = FakeCodec(), FakeTask(), Halving(gain=0.8)
    trainer, _ = trained(net, targets="dataset")
    dataset = FakeDataset(count=4, sizes=[(20, 28), (33, 17)])
    samples: list[Sample] = [dataset[index] for index in range(4)]
    qualities = [5.0, 70.0, 70.0, 5.0]
    with Transcoder(codec) as transcoder:
        points = trainer._calibrate(transcoder, dataset, None)
        terms = training_step(
            samples,
            qualities,
            channel=Channel(transcoder, net, proxy=trainer.proxy),
            task=task,
            calibration=points,
            settings=trainer.settings,
            fabric=trainer.fabric,
            guard=NaNGuard("step 1"),
        )
    bpps, losses = [], []
    for sample, quality in zip(samples, qualities, strict=True):
        strength = codec.quality_scale.strength(quality)
        sent = downscale(net(stack_images([sample.image]), strength), net.resolution(strength))
        height, width = sample.image.shape[1:]
        assert tuple(sent.shape[-2:]) == ((height, width) if quality == 70 else (round(height / 2), round(width / 2)))
        received = codec.transcode((sent[0] * 255).round().to(torch.uint8), quality)
        decoded = round_to_8_bit(upscale(to_float(received.image)[None], (height, width)))
        bpps.append(received.bits / (height * width))
        losses.append(float(task.losses(decoded, [sample.target]).detach()))  # type: ignore[list-item]
    assert terms.scalars["bpp"] == pytest.approx(sum(bpps) / 4)
    assert terms.scalars["task_loss"] == pytest.approx(sum(losses) / 4, abs=1e-5)


def test_the_task_sees_all_images_of_a_size_at_once() -> None:
    """However many resolutions a batch has: statistics over a batch would suffer otherwise."""
    seen: list[int] = []

    class Watching(FakeTask):
        def _losses(self, images: torch.Tensor, targets: Any) -> torch.Tensor:
            seen.append(len(images))
            return super()._losses(images, targets)

    class Gliding(FakePreprocessor):
        def resolution(self, strength: float) -> float:
            return 1.0 - 0.5 * strength

    trainer = Trainer(
        codec=FakeCodec(),
        proxy=FakeProxy(FakeCodec()),
        preprocessor=Gliding(gain=0.5),
        task=Watching(),
        settings=TrainSettings(
            steps=2, batch_size=6, ladder=LADDER, held_out_images=2, calibration_images=2, held_out_every=9
        ),
    )
    trainer.run(FakeDataset(count=20))
    assert seen.count(6) >= 2  # the steps
    assert set(seen) <= {6, 2}  # and calibration and held-out images


def test_a_run_at_half_resolution_needs_fewer_bits_and_learns() -> None:
    _, full = trained(FakePreprocessor(gain=1.0))
    net = Halving(gain=1.0)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    _, half = trained(net)
    assert half[0]["bpp"] < 0.9 * full[0]["bpp"]
    assert all(not torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


def test_the_held_out_objective_is_of_what_is_sent() -> None:
    dataset = FakeDataset(count=6)
    samples = [dataset[index] for index in range(6)]
    with Transcoder(FakeCodec()) as transcoder:
        trainer, _ = trained(FakePreprocessor(gain=1.0))
        calibration = trainer._calibrate(transcoder, dataset, None)
        batch = HeldOutBatch(samples, transcoder, FakeTask(), calibration, trainer.settings, torch.device("cpu"))
        anchor = batch.relative(FakePreprocessor(gain=1.0), NaNGuard("x"))
        halved = batch.relative(Halving(gain=1.0), NaNGuard("x"))
    assert halved[70] == anchor[70]
    assert halved[5] != pytest.approx(anchor[5], abs=1e-3)


def test_every_resolution_is_measured_with_the_real_codec() -> None:
    codec, task, dataset = FakeCodec(), FakeTask(), FakeDataset(count=6, sizes=[(20, 28), (33, 17)])
    with Transcoder(codec) as transcoder:
        choices = choose_resolutions(
            transcoder,
            task,
            dataset,
            LADDER,
            factors=(0.5, 1.0, 0.75),
            targets="dataset",
            lambdas=dict.fromkeys(LADDER, 2.0),
        )
    assert [choice.quality for choice in choices] == list(LADDER)
    for choice in choices:
        assert [tried.factor for tried in choice.tried] == [1.0, 0.75, 0.5]
        objectives = []
        for tried in choice.tried:
            bits, losses = 0, []
            for index in range(6):
                sample = dataset[index]
                sent = downscale(stack_images([sample.image]), tried.factor)
                received = codec.transcode((sent[0] * 255).round().to(torch.uint8), choice.quality)
                size = (sample.image.shape[1], sample.image.shape[2])
                decoded = round_to_8_bit(upscale(to_float(received.image)[None], size))
                bits += received.bits
                losses.append(float(task.losses(decoded, [sample.target]).detach()))  # type: ignore[list-item]
            bpp = bits / sum(dataset[index].image[0].numel() for index in range(6))
            assert tried.bpp == pytest.approx(bpp)
            assert tried.task_loss == pytest.approx(sum(losses) / 6, abs=1e-5)
            objectives.append(bpp + 2.0 * sum(losses) / 6)
        assert [tried.objective for tried in choice.tried] == pytest.approx(
            [objective / objectives[0] for objective in objectives], abs=1e-4
        )


def test_cheap_bits_choose_full_resolution_and_dear_ones_the_lowest() -> None:
    def chosen(price: float) -> list[float]:
        with Transcoder(FakeCodec()) as transcoder:
            table = dict.fromkeys(LADDER, price)
            choices = choose_resolutions(
                transcoder, FakeTask(), FakeDataset(count=12), LADDER, factors=(0.5, 0.35), lambdas=table
            )
        return [choice.factor for choice in choices]

    assert chosen(1e-9) == [0.35] * 3
    assert chosen(1e6)[-1] == 1.0  # at quality 70 the double loses nothing that downscaling could win back


def choice(quality: float, factor: float) -> ResolutionChoice:
    return ResolutionChoice(quality, JPEG.strength(quality), factor, ())


def test_the_points_give_the_chosen_factors_back_and_never_rise() -> None:
    """At the very strengths of the qualities; 18 and 60 of JPEG have no short decimal fraction."""
    factors = {60: 0.8, 38: 0.65, 26: 0.7, 18: 0.5, 12: 0.35, 5: 0.4}
    points = resolution_points([choice(quality, factor) for quality, factor in factors.items()])
    curve = ResolutionCurve(json.loads(json.dumps(points)))
    assert [curve.at(JPEG.strength(quality)) for quality in factors] == [0.8, 0.65, 0.65, 0.5, 0.35, 0.35]


def test_a_factor_out_of_range_is_refused() -> None:
    with Transcoder(FakeCodec()) as transcoder, pytest.raises(OptionError, match="factors"):
        choose_resolutions(transcoder, FakeTask(), FakeDataset(count=4), LADDER, factors=(1.5,))
    with Transcoder(FakeCodec()) as transcoder, pytest.raises(OptionError, match="above 0"):
        choose_resolutions(transcoder, FakeTask(), FakeDataset(count=4), LADDER, factors=(0.5, 0.0))


def test_images_that_were_left_out_are_named() -> None:
    events: list[Event] = []
    with Transcoder(FakeCodec()) as transcoder:
        dataset = FakeDataset(count=6, unreadable=(4,))
        settings: dict[str, Any] = {"factors": (0.5,), "skip_unreadable": True, "observer": events.append}
        choose_resolutions(transcoder, FakeTask(), dataset, LADDER, lambdas=dict.fromkeys(LADDER, 1.0), **settings)
    assert [event.message.split(" (")[0] for event in events if isinstance(event, Notice)] == [
        "for calibration, 1 image was left out, unreadable: 4"
    ]
