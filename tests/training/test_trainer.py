"""The trainer: what it learns, what it tells, and what it leaves as it was."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from precomp_sdk import (
    DatasetError,
    Event,
    Identity,
    Notice,
    RunFinished,
    RunStarted,
    StepDone,
)
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import Trainer, TrainSettings

from .small import SMALL, trainer


def test_cheap_bits_are_saved_and_a_dear_task_is_spared() -> None:
    gains = {}
    for price in (1e-3, 1e3):  # bpp per unit of task loss
        run = trainer(steps=60, ladder=(30, 50), lambdas={30: price, 50: price}, targets="dataset", ema_decay=0.5)
        result = run.run(FakeDataset(count=32, contrast=0.2))
        assert sum(result.relative.values()) / len(result.relative) < 0.99
        gains[price] = run.preprocessor.gain.item()
    assert gains[1e-3] > 0.2  # smoothing saves bits
    assert gains[1e3] < 0  # sharpening makes the gratings clearer


def test_the_clean_weight_spares_the_image_that_no_codec_touches() -> None:
    gains = {}
    for weight in (0.0, 1e6):
        run = trainer(
            steps=60, ladder=(30, 50), lambdas={30: 1e-3, 50: 1e-3}, clean_weight=weight, targets="dataset",
            ema_decay=0.5,
        )  # fmt: skip
        result = run.run(FakeDataset(count=32, contrast=0.2))
        assert sum(result.relative.values()) / len(result.relative) < 1.0
        gains[weight] = run.preprocessor.gain.item()
        assert all((point.clean_loss > 0) == (weight > 0) for point in result.calibration.points)
    assert gains[1e6] < 0.5 * gains[0.0]


def test_events_tell_the_story() -> None:
    events: list[Event] = []
    trainer(events.append, clean_weight=0.5, feature_weight=0.5, beta=1.0).run(FakeDataset())
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [event.step for event in steps] == [0, 1, 2, 3, 4, 5, 6]
    measured = [event.step for event in steps if "relative/quality_5" in event.scalars]
    assert measured == [0, 3, 6]
    # the double starts as the identity; only rounding separates it from the anchor
    assert steps[0].scalars["relative/mean"] == pytest.approx(1.0, abs=1e-6)
    assert {"objective", "bpp", "task_loss", "clean_loss", "gradient_norm", "learning_rate"} <= steps[1].scalars.keys()
    assert 0 < steps[1].scalars["clean_loss"] < steps[1].scalars["task_loss"]


@pytest.mark.parametrize(("steps", "warmup", "peak_at"), [(30, 100, 10), (30, 5, 5), (2, 100, 1), (30, 0, 1)])
def test_the_warm_up_leaves_room_for_the_rest(steps: int, warmup: int, peak_at: int) -> None:
    events: list[Event] = []
    trainer(events.append, steps=steps, warmup_steps=warmup, held_out_every=100).run(FakeDataset())
    done = [event.scalars for event in events if isinstance(event, StepDone)]
    rates = [scalars["learning_rate"] for scalars in done if "learning_rate" in scalars]
    assert len(rates) == steps
    assert rates.index(max(rates)) == peak_at - 1


@pytest.mark.parametrize(("sharpness", "flat"), [(0.001, True), (40.0, False)])
def test_a_task_that_does_not_mind_the_codec_is_told(sharpness: float, flat: bool) -> None:
    events: list[Event] = []
    trainer(events.append, task=FakeTask(sharpness=sharpness), steps=1, ladder=(5, 30, 90)).run(FakeDataset(count=32))
    assert any("hardly depends on the codec" in str(event) for event in events) == flat


def test_unequal_sizes_in_one_batch() -> None:
    result = trainer().run(FakeDataset(count=24, sizes=((24, 24), (17, 31), (8, 40))))
    assert result.steps == 6


def test_proxy_only_never_calls_the_codec_in_training() -> None:
    class Counting(FakeCodec):
        encoded = 0

        def _encode(self, image: Tensor, quality: float) -> bytes:
            type(self).encoded += 1
            return super()._encode(image, quality)

    def encoded(forward: str) -> int:
        Counting.encoded = 0
        codec = Counting()
        settings = TrainSettings(**{**SMALL, "forward": forward, "held_out_every": 100})  # type: ignore[arg-type]
        Trainer(
            codec=codec, proxy=FakeProxy(codec), preprocessor=FakePreprocessor(), task=FakeTask(), settings=settings
        ).run(FakeDataset())
        return Counting.encoded

    assert encoded("codec") - encoded("proxy") == SMALL["steps"] * SMALL["batch_size"]


@pytest.mark.parametrize("part", ["task", "proxy"])
def test_task_or_proxy_learn_jointly(part: str) -> None:
    run = trainer(train=("preprocessor", part))
    before = {name: value.clone() for name, value in getattr(run, part).named_parameters()}
    run.run(FakeDataset())
    assert any(not torch.equal(value, before[name]) for name, value in getattr(run, part).named_parameters())


def test_a_task_learns_behind_the_codec_alone() -> None:
    run = trainer(preprocessor=Identity(), train=("task",))
    before = [value.clone() for value in run.task.parameters()]
    run.run(FakeDataset())
    assert any(not torch.equal(value, old) for value, old in zip(run.task.parameters(), before, strict=True))


def test_a_learning_task_is_scored_in_evaluation_mode() -> None:
    modes: dict[bool, set[bool]] = {False: set(), True: set()}  # by whether the images carry a gradient

    class Watched(FakeTask):
        def _losses(self, images: Tensor, targets: Any) -> Tensor:
            modes[images.requires_grad].add(self.training)
            return super()._losses(images, targets)

    run = trainer(task=Watched(), train=("preprocessor", "task"))
    run.run(FakeDataset())
    assert modes == {False: {False}, True: {True}}
    assert run.task.training


def test_what_does_not_train_stays_as_it_was() -> None:
    run = trainer()
    before = run.task.filters.clone()
    run.run(FakeDataset())
    assert torch.equal(run.task.filters, before)
    assert run.proxy.log_scale.item() == 0.0


def test_features_alone_can_drive_it() -> None:
    run = trainer(task_weight=0.0, feature_weight=1.0)
    run.run(FakeDataset())
    assert run.preprocessor.gain.item() != 0.0


def test_same_seed_same_weights_other_seed_others() -> None:
    gains = []
    for seed in (1, 1, 2):
        run = trainer(seed=seed)
        run.run(FakeDataset())
        gains.append(run.preprocessor.gain.item())
    assert gains[0] == gains[1] != gains[2]


def test_bfloat16_works() -> None:
    trainer(precision="bf16-mixed").run(FakeDataset())


class _Scarred(FakeTask):
    """Came with a frozen filter, a batch normalization in evaluation mode, and itself in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
        self.train()
        self.extra[1].eval()
        self.extra[0].weight.requires_grad_(False)


def _state(*modules: nn.Module) -> list[Any]:
    return [
        [(part.training,) for module in modules for part in module.modules()],
        [(item.requires_grad, item.stride(), item.device) for module in modules for item in module.parameters()],
    ]


@pytest.mark.parametrize("train", [("preprocessor",), ("task",), ("preprocessor", "task", "proxy")])
@pytest.mark.parametrize("fails", [False, True])
def test_everything_goes_back_as_it_came(train: tuple[str, ...], fails: bool) -> None:
    run = trainer(task=_Scarred(), train=train, channels_last=True)
    run.proxy.train()
    before, sender = _state(run.task, run.proxy), _state(run.preprocessor)
    if fails:
        with pytest.raises(DatasetError):
            run.run(FakeDataset(count=24, unreadable=(3,)))
    else:
        run.run(FakeDataset(count=24))
    assert _state(run.task, run.proxy) == before
    if fails or "preprocessor" not in train:
        assert _state(run.preprocessor) == sender
    else:  # it is ready to be used
        assert not run.preprocessor.training
        assert _state(run.preprocessor)[1] == sender[1]


def test_a_run_that_ends_worse_than_the_anchor_says_so() -> None:
    class Noisy(FakePreprocessor):
        """Adds noise that no training takes away."""

        def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
            noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) - 0.5
            return super()._process(images, strengths) + noise

    for preprocessor, worse in ((Noisy(), True), (FakePreprocessor(), False)):
        events: list[Event] = []
        result = trainer(events.append, preprocessor=preprocessor, learning_rate=1e-9).run(FakeDataset())
        assert result.worse == worse
        assert result.mean_relative == pytest.approx(sum(result.relative.values()) / 2)
        told = [event for event in events if isinstance(event, Notice) and "worse than the anchor" in event.message]
        assert bool(told) == worse
        assert ("worse than the anchor" in result.statement) == worse


def test_a_step_is_the_mean_over_the_images_whatever_their_sizes() -> None:
    """Three images of one size and one of another: the gradient is that of one padded batch."""
    norms = []
    for padding in (0.0, 0.9):
        events: list[Event] = []
        run = trainer(
            events.append, preprocessor=FakePreprocessor(gain=0.3), ladder=(30,), steps=1, max_padding=padding,
            lambdas={30: 1.0}, targets="dataset",
        )  # fmt: skip
        run.run(FakeDataset(count=5, sizes=[(24, 24), (24, 24), (24, 24), (24, 20)]), held_out=FakeDataset(count=2))
        norms += [event.scalars["gradient_norm"] for event in events if isinstance(event, StepDone) and event.step]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert norms[0] > 0
