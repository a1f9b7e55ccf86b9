import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch

from precomp_sdk import OptionError, ResolutionCurve, Sample, Transcoder, enlarge, shrink, stack_images, to_float
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import Trainer, TrainSettings, choose_resolutions, resolution_points
from precomp_sdk.training.finite import FiniteGuard
from precomp_sdk.training.held_out import HeldOutBatch
from precomp_sdk.training.step import training_step

LADDER = (5, 30, 70)


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
def test_pictures_shrink_and_come_back_in_their_size(size: tuple[int, int], factor: float) -> None:
    images = torch.rand(2, 3, *size, requires_grad=True)
    small = shrink(images, factor)
    assert small.shape[-2:] == tuple(max(1, round(side * factor)) for side in size)
    back = enlarge(small, size)
    assert back.shape == images.shape
    assert float(back.detach().min()) >= 0
    assert float(back.detach().max()) <= 1
    (gradient,) = torch.autograd.grad(back.sum(), images)
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().sum()) > 0


def test_flat_pictures_survive_and_fine_stripes_do_not_alias() -> None:
    flat = torch.full((1, 3, 32, 32), 0.3)
    torch.testing.assert_close(enlarge(shrink(flat, 0.5), (32, 32)), flat)
    stripes = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    assert float(shrink(stripes, 0.5).std()) < 0.05


def test_a_curve_goes_through_its_points_and_stays_constant_beyond() -> None:
    curve = ResolutionCurve([(0.8, 0.4), (0.2, 1.0)])
    assert [curve.at(0.0), curve.at(0.2), curve.at(0.8), curve.at(1.0)] == [1.0, 1.0, 0.4, 0.4]
    assert curve.at(0.5) == pytest.approx(0.7)
    assert ResolutionCurve(json.loads(json.dumps(curve.plain()))).points == curve.points
    assert ResolutionCurve().at(0.7) == 1.0


@pytest.mark.parametrize(
    "points", [[(0.5, 0.0)], [(0.5, 1.2)], [(1.5, 0.5)], [(0.5, 0.5), (0.5, 0.6)], [(0.5,)], [(0.5, float("nan"))]]
)
def test_points_out_of_range_are_refused(points: Sequence[Sequence[float]]) -> None:
    with pytest.raises(OptionError, match="choose-resolutions"):
        ResolutionCurve(points)


def test_a_step_counts_the_small_pictures_bits_and_judges_the_enlarged_ones() -> None:
    """A batch of two sizes and both resolutions has the terms of its pictures sent one by one."""
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
            preprocessor=net,
            proxy=trainer.proxy,
            task=task,
            transcoder=transcoder,
            calibration=points,
            settings=trainer.settings,
            fabric=trainer.fabric,
            guard=FiniteGuard("step 1"),
        )
    bpps, losses = [], []
    for sample, quality in zip(samples, qualities, strict=True):
        strength = codec.quality_scale.strength(quality)
        sent = shrink(net(stack_images([sample.image]), strength), net.resolution(strength))
        height, width = sample.image.shape[1:]
        assert tuple(sent.shape[-2:]) == ((height, width) if quality == 70 else (round(height / 2), round(width / 2)))
        received = codec.transcode((sent[0] * 255).round().to(torch.uint8), quality)
        decoded = enlarge(to_float(received.image)[None], (height, width))
        bpps.append(received.bits / (height * width))
        losses.append(float(task.losses(decoded, [sample.target]).detach()))  # type: ignore[list-item]
    assert terms.scalars["bpp"] == pytest.approx(sum(bpps) / 4)
    assert terms.scalars["task_loss"] == pytest.approx(sum(losses) / 4, abs=1e-5)


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
        plain = batch.relative(FakePreprocessor(gain=1.0), FiniteGuard("x"))
        halved = batch.relative(Halving(gain=1.0), FiniteGuard("x"))
    assert halved[70] == plain[70]
    assert halved[5] != pytest.approx(plain[5], abs=1e-3)


def test_the_cheapest_resolution_is_chosen_by_the_real_codec() -> None:
    dataset = FakeDataset(count=12)
    with Transcoder(FakeCodec()) as transcoder:
        choices = choose_resolutions(transcoder, FakeTask(), dataset, LADDER, factors=(0.5, 1.0, 0.75))
        dear = choose_resolutions(transcoder, FakeTask(), dataset, LADDER, factors=(0.5,), lambda_scale=1e6)
        cheap = choose_resolutions(transcoder, FakeTask(), dataset, LADDER, factors=(0.5,), lambda_scale=1e-9)
    assert [choice.quality for choice in choices] == list(LADDER)
    for choice in choices:
        assert [tried.factor for tried in choice.tried] == [1.0, 0.75, 0.5]
        assert choice.tried[0].objective == 1.0
        assert choice.factor == min(choice.tried, key=lambda tried: tried.objective).factor
        assert choice.tried[2].bpp < choice.tried[0].bpp
    assert [choice.factor for choice in cheap] == [0.5] * 3
    assert [choice.factor for choice in dear] == [
        0.5 if choice.tried[1].task_loss < choice.tried[0].task_loss else 1.0 for choice in dear
    ]


def test_points_never_rise_with_the_strength() -> None:
    dataset = FakeDataset(count=8)
    with Transcoder(FakeCodec()) as transcoder:
        choices = choose_resolutions(transcoder, FakeTask(), dataset, LADDER, factors=(0.5,))
    points = resolution_points(choices)
    assert [strength for strength, _ in points] == sorted(strength for strength, _ in points)
    assert [factor for _, factor in points] == sorted((factor for _, factor in points), reverse=True)
    assert ResolutionCurve(points).plain() == points


def test_a_factor_out_of_range_is_refused() -> None:
    with Transcoder(FakeCodec()) as transcoder, pytest.raises(OptionError, match="factors"):
        choose_resolutions(transcoder, FakeTask(), FakeDataset(count=4), LADDER, factors=(1.5,))
