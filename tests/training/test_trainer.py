import math
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn

from precomp_sdk import (
    CheckpointSaved,
    ContractError,
    DatasetError,
    Event,
    NonFiniteError,
    Notice,
    OptionError,
    ProxyOutput,
    RunFinished,
    RunStarted,
    StepDone,
    TargetError,
)
from precomp_sdk.errors import CheckpointError, QualityError
from precomp_sdk.evaluation import GaussianBlur
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import STATE_FILE, WEIGHTS_FILE, Trainer, TrainSettings, load_module, read_module

SMALL: dict[str, Any] = {
    "steps": 6, "batch_size": 4, "held_out_images": 4, "calibration_images": 8, "held_out_every": 3,
    "checkpoint_every": 2, "warmup_steps": 1, "learning_rate": 0.05, "ladder": (5, 30),
}  # fmt: skip


def trainer(observer: Any = None, *, preprocessor: Any = None, task: Any = None, **settings: Any) -> Trainer:
    codec = FakeCodec()
    return Trainer(
        codec=codec,
        proxy=FakeProxy(codec),
        preprocessor=preprocessor or FakePreprocessor(),
        task=task or FakeTask(),
        settings=TrainSettings(**{**SMALL, **settings}),
        observer=observer,
    )


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


@pytest.mark.parametrize("train", [("preprocessor",), ("preprocessor", "task")])
def test_resuming_gives_the_numbers_of_an_uninterrupted_run(train: tuple[str, ...], tmp_path: Path) -> None:
    whole, dataset = trainer(train=train), FakeDataset(count=16)
    expected = whole.run(dataset, folder=tmp_path / "whole")

    class InterruptedRunError(BaseException):
        pass

    def pull_the_plug(event: Event) -> None:
        if isinstance(event, CheckpointSaved) and event.step == 4:
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        trainer(pull_the_plug, train=train).run(dataset, folder=tmp_path / "parts")
    resumed = trainer(train=train)
    result = resumed.run(dataset, folder=tmp_path / "parts", resume=True)
    assert result.relative == expected.relative
    assert torch.equal(resumed.preprocessor.gain, whole.preprocessor.gain)
    assert torch.equal(resumed.task.filters, whole.task.filters)
    first, second = (read_module(tmp_path / part / WEIGHTS_FILE) for part in ("whole", "parts"))
    assert torch.equal(first.weights["gain"], second.weights["gain"])
    assert first.facts["ladder"] == [5, 30]


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    first, dataset = trainer(), FakeDataset(count=16)
    expected = first.run(dataset, folder=tmp_path)
    again = trainer()
    assert again.run(dataset, folder=tmp_path, resume=True).relative == expected.relative
    assert torch.equal(again.preprocessor.gain, first.preprocessor.gain)


class Drawn(FakeDataset):
    """Draws other images in each epoch, as a set of random crops does."""

    def set_epoch(self, epoch: int) -> None:
        self._seed = 1000 + epoch


def test_what_was_drawn_before_a_run_does_not_matter_to_it() -> None:
    fresh, used = Drawn(count=16), Drawn(count=16)
    used.set_epoch(4)  # as fitting the task on the same images leaves it
    first, second = trainer().run(fresh, held_out=Drawn(count=8)), trainer().run(used, held_out=Drawn(count=8))
    assert first.calibration == second.calibration
    assert first.relative == second.relative


def test_an_older_run_is_not_replaced_by_accident(tmp_path: Path) -> None:
    trainer().run(FakeDataset(), folder=str(tmp_path / "run"))
    with pytest.raises(CheckpointError, match=r"got one with state\.pt.*overwrite"):
        trainer(seed=1).run(FakeDataset(), folder=tmp_path / "run")
    old = read_module(tmp_path / "run" / WEIGHTS_FILE).weights["gain"]
    with pytest.raises(NonFiniteError):
        trainer(seed=1, learning_rate=1e20, weight_decay=1e20).run(
            FakeDataset(), folder=tmp_path / "run", overwrite=True
        )
    assert not (tmp_path / "run" / STATE_FILE).exists()  # a later resume must not find the older run
    trainer(seed=1).run(FakeDataset(), folder=tmp_path / "run")
    assert not torch.equal(read_module(str(tmp_path / "run" / WEIGHTS_FILE)).weights["gain"], old)


def test_a_folder_that_cannot_be_made_is_known_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    events: list[Event] = []
    with pytest.raises(OSError, match="taken"):
        trainer(events.append).run(FakeDataset(), folder=tmp_path / "taken" / "run")
    assert not events


def test_the_proxy_must_be_of_the_codec_and_its_options() -> None:
    parts: dict[str, Any] = {"preprocessor": FakePreprocessor(), "task": FakeTask()}
    with pytest.raises(OptionError, match=r"'level': 6}; got one of the codec|'level': 6}; got one of 'fake' with"):
        Trainer(codec=FakeCodec(), proxy=FakeProxy(FakeCodec(level=1)), **parts)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("codec", "fake", "Trainer, codec: expected an object of Codec; got 'fake'"),
        ("proxy", "fake", "Trainer, proxy: expected an object of ProxyCodec; got 'fake'"),
        ("preprocessor", FakePreprocessor, "expected an object of Preprocessor; got the class FakePreprocessor"),
        ("task", torch.nn.Identity(), r"expected an object of TaskModel; got Identity\(\)"),
        ("settings", {}, "expected an object of TrainSettings; got {}"),
        ("dataset", [], r"Trainer.run, dataset: expected an object of TaskDataset; got \[\]"),
    ],
)
def test_a_part_that_is_none_is_named(name: str, value: Any, told: str) -> None:
    codec = FakeCodec()
    parts: dict[str, Any] = {
        "codec": codec, "proxy": FakeProxy(codec), "preprocessor": FakePreprocessor(), "task": FakeTask(),
        "dataset": FakeDataset(), name: value,
    }  # fmt: skip
    dataset = parts.pop("dataset")
    with pytest.raises(OptionError, match=told):
        Trainer(**parts).run(dataset)


@pytest.mark.parametrize(("steps", "warmup", "peak_at"), [(30, 100, 10), (30, 5, 5), (2, 100, 1), (30, 0, 1)])
def test_the_warm_up_leaves_room_for_the_rest(steps: int, warmup: int, peak_at: int) -> None:
    events: list[Event] = []
    trainer(events.append, steps=steps, warmup_steps=warmup, held_out_every=100).run(FakeDataset())
    done = [event.scalars for event in events if isinstance(event, StepDone)]
    rates = [scalars["learning_rate"] for scalars in done if "learning_rate" in scalars]
    assert len(rates) == steps
    assert rates.index(max(rates)) == peak_at - 1


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    trainer().run(FakeDataset(), folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"learning_rate = 0\.01.*learning_rate = 0\.05"):
        trainer(learning_rate=0.01).run(FakeDataset(), folder=tmp_path, resume=True)


def test_a_checkpoint_of_another_process_count_is_refused(tmp_path: Path) -> None:
    trainer().run(FakeDataset(), folder=tmp_path)
    state = torch.load(tmp_path / STATE_FILE, weights_only=True)
    state["run"]["world_size"] = 2
    torch.save(state, tmp_path / STATE_FILE)
    with pytest.raises(CheckpointError, match=r"world_size = 1; got world_size = 2"):
        trainer().run(FakeDataset(), folder=tmp_path, resume=True)


def test_a_folder_without_checkpoint_starts_anew(tmp_path: Path) -> None:
    trainer().run(FakeDataset(), folder=tmp_path / "new", resume=True)
    assert (tmp_path / "new" / STATE_FILE).exists()


class NaNFrom(FakeTask):
    """Fails at one call of its loss during training."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.left = call

    def _losses(self, images: Tensor, targets: Any) -> Tensor:
        losses = super()._losses(images, targets)
        if images.requires_grad:
            self.left -= 1
        return losses * math.nan if self.left == 0 else losses


def test_nan_names_step_and_term_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"training step 4, term 'task_loss'.*last checkpoint in .* is whole"):
        trainer(task=NaNFrom(4)).run(FakeDataset(), folder=tmp_path)
    state = torch.load(tmp_path / STATE_FILE, weights_only=True)
    assert state["step"] == 2
    assert math.isfinite(float(read_module(tmp_path / WEIGHTS_FILE).weights["gain"]))


def test_targets_must_fit_the_task() -> None:
    with pytest.raises(TargetError, match="targets of kind 'label'; got no targets"):
        trainer(targets="dataset").run(FakeDataset(labelled=False))
    trainer(targets="pseudo-labels").run(FakeDataset(labelled=False))  # needs no labels


def test_unreadable_images_stop_or_are_named_and_counted() -> None:
    dataset = FakeDataset(count=24, unreadable=(3, 7))
    with pytest.raises(DatasetError, match="fake image"):
        trainer().run(dataset)
    notices: list[Event] = []
    result = trainer(notices.append, skip_unreadable=True, steps=12).run(dataset)
    assert {item.key for item in result.skipped} <= {dataset.key(3), dataset.key(7)}
    assert result.skipped
    assert any(isinstance(event, Notice) and "left out, unreadable" in event.message for event in notices)


@pytest.mark.parametrize("count", [3, 4])
def test_the_notice_names_three_and_says_whether_more_follow(count: int) -> None:
    notices: list[Event] = []
    held_out = FakeDataset(count=8, unreadable=tuple(range(count)))
    result = trainer(notices.append, skip_unreadable=True, held_out_images=8).run(FakeDataset(), held_out=held_out)
    assert len(result.skipped) == count
    (notice,) = (event for event in notices if isinstance(event, Notice) and "unreadable" in event.message)
    names = ", ".join(item.key for item in result.skipped[:3])
    assert notice.message.startswith(
        f"{count} images were left out, unreadable: {names}" + ", ..." * (count - 3) + " ("
    )


def test_not_one_readable_image_held_out() -> None:
    with pytest.raises(DatasetError, match=r"held-out images: expected at least one readable.*4 unreadable ones"):
        trainer(skip_unreadable=True).run(FakeDataset(), held_out=FakeDataset(count=4, unreadable=(0, 1, 2, 3)))


@pytest.mark.parametrize(("sharpness", "flat"), [(0.001, True), (40.0, False)])
def test_a_task_that_does_not_mind_the_codec_is_told(sharpness: float, flat: bool) -> None:
    events: list[Event] = []
    trainer(events.append, task=FakeTask(sharpness=sharpness), steps=1, ladder=(5, 30, 90)).run(FakeDataset(count=32))
    assert any("hardly depends on the codec" in str(event) for event in events) == flat


def test_too_few_images() -> None:
    with pytest.raises(DatasetError, match="at least 5 images"):
        trainer().run(FakeDataset(count=4))


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


def test_a_precision_that_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=r"option 'precision'.*'17'"):
        trainer(precision="17")

    def lacking(**options: Any) -> None:
        raise ModuleNotFoundError("No module named 'transformer_engine'")

    monkeypatch.setattr("precomp_sdk.training.fabric.Fabric", lacking)
    with pytest.raises(OptionError, match="'transformer-engine': No module named"):
        trainer(precision="transformer-engine")


def test_ladder_must_lie_on_the_codecs_scale() -> None:
    with pytest.raises(QualityError, match="from 1 to 100"):
        trainer(ladder=(5, 101))


def test_a_ladder_without_a_quality_is_refused() -> None:
    with pytest.raises(OptionError, match="one or more qualities"):
        trainer(ladder=())


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


class _NoGradient(FakeTask):
    def _predict_with_losses(self, images: Tensor, targets: Any) -> Any:
        with torch.no_grad():
            return super()._predict_with_losses(images, targets)


class _Detached(FakeTask):
    """Its own weights have a gradient, the image has none."""

    def _predict_with_losses(self, images: Tensor, targets: Any) -> Any:
        return super()._predict_with_losses(images.detach(), targets)


class _NumPy(FakeTask):
    def _losses(self, images: Tensor, targets: Any) -> Tensor:
        return torch.from_numpy(super()._losses(images, targets).detach().numpy())


class _BlindFeatures(FakeTask):
    def _features(self, images: Tensor) -> Any:
        return [layer.detach() for layer in super()._features(images)]

    def _logits(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3)).repeat(1, 2)[:, :4]


@pytest.mark.parametrize("forward", ["codec", "proxy"])
@pytest.mark.parametrize(
    ("task", "settings", "told"),
    [
        (_NoGradient, {}, "a task loss with a gradient to the image"),
        (_Detached, {}, "a task loss with a gradient to the image"),
        (_NumPy, {}, "a task loss with a gradient to the image"),
        (_Detached, {"train": ("preprocessor", "task")}, "a task loss with a gradient to the image"),
        (_NoGradient, {"train": ("task",)}, "a task loss with a gradient to the weights"),
        (_BlindFeatures, {"feature_weight": 1.0, "lambdas": {5: 1.0, 30: 1.0}}, "a task features with a gradient"),
    ],
)
def test_a_task_without_a_gradient_is_refused_at_the_first_step(
    task: type[FakeTask], settings: dict[str, Any], told: str, forward: str
) -> None:
    events: list[Event] = []
    with pytest.raises(ContractError, match=f"'fake': expected {told}.*can judge but cannot train"):
        trainer(events.append, task=task(), forward=forward, **settings).run(FakeDataset())
    assert not [event for event in events if isinstance(event, StepDone) and event.step]


def test_a_detached_task_may_learn_alone() -> None:
    trainer(task=_Detached(), train=("task",)).run(FakeDataset())


@pytest.mark.parametrize("what", ["images", "bits"])
def test_a_proxy_without_a_gradient_is_refused_at_the_first_step(what: str) -> None:
    class Flat(FakeProxy):
        def _predict(self, images: Tensor, qualities: Tensor) -> ProxyOutput:
            output = super()._predict(images, qualities)
            return replace(output, **{what: getattr(output, what).detach()})

    codec = FakeCodec()
    run = Trainer(
        codec=codec,
        proxy=Flat(codec),
        preprocessor=FakePreprocessor(),
        task=FakeTask(),
        settings=TrainSettings(**SMALL),
    )
    with pytest.raises(ContractError, match=f"proxy 'fake': expected (decoded )?{what} with a gradient to the image"):
        run.run(FakeDataset())


def test_a_preprocessor_without_a_gradient_is_refused_at_the_first_step() -> None:
    class Frozen(FakePreprocessor):
        def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
            return super()._process(images, strengths).detach()

    with pytest.raises(ContractError, match="preprocessor 'fake': expected images with a gradient to the weights"):
        trainer(preprocessor=Frozen()).run(FakeDataset())


@pytest.mark.parametrize("name", ["preprocessor", "task", "proxy"])
def test_what_has_no_parameters_cannot_learn(name: str) -> None:
    class EmptyTask(FakeTask):
        def __init__(self) -> None:
            super().__init__()
            filters = self.filters.detach()
            del self.filters
            self.register_buffer("filters", filters)

    class EmptyProxy(FakeProxy):
        def __init__(self, codec: FakeCodec) -> None:
            super().__init__(codec)
            del self.log_scale

    codec = FakeCodec()
    modules: dict[str, Any] = {"preprocessor": FakePreprocessor(), "task": FakeTask(), "proxy": FakeProxy(codec)}
    modules[name] = {"preprocessor": GaussianBlur(sigma=1.0), "task": EmptyTask(), "proxy": EmptyProxy(codec)}[name]
    with pytest.raises(OptionError, match=f"a {name} with parameters to learn; got '{modules[name].name}'"):
        Trainer(codec=codec, **modules, settings=TrainSettings(**{**SMALL, "train": (name,)}))


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


def test_a_run_in_16_bits_resumes_with_the_scale_it_had_found(tmp_path: Path) -> None:
    def begin(steps: int, **options: Any) -> Trainer:
        codec = FakeCodec()
        plugin = MixedPrecision("16-mixed", "cpu")  # Fabric gives CPUs bfloat16 otherwise
        run = Trainer(
            codec=codec, proxy=FakeProxy(codec), preprocessor=FakePreprocessor(gain=0.2), task=FakeTask(),
            settings=TrainSettings(**{**SMALL, "precision": "16-mixed", "steps": 6}),
            fabric=Fabric(accelerator="cpu", devices=1, plugins=plugin),
            observer=stop_at(steps),
        )  # fmt: skip
        with pytest.raises(KeyboardInterrupt) if steps < 6 else nullcontext():
            run.run(FakeDataset(count=24), **options)
        return run

    def stop_at(step: int) -> Any:
        def observer(event: Event) -> None:
            if isinstance(event, CheckpointSaved) and event.step == step < 6:
                raise KeyboardInterrupt

        return observer

    whole = begin(6, folder=tmp_path / "whole")
    begin(4, folder=tmp_path / "cut")
    state = torch.load(tmp_path / "cut" / STATE_FILE, weights_only=True)
    assert state["precision"]["scale"] < 65536  # it had overflowed and halved
    resumed = begin(6, folder=tmp_path / "cut", resume=True)
    scales = [run.fabric.strategy.precision.state_dict() for run in (whole, resumed)]
    assert scales[0] == scales[1]
    assert torch.equal(whole.preprocessor.gain, resumed.preprocessor.gain)


class _Tied(FakePreprocessor):
    """Two convolutions with one weight, and a view into it."""

    def __init__(self) -> None:
        super().__init__(gain=0.1)
        self.first = nn.Conv2d(3, 3, 1, bias=False)
        self.second = nn.Conv2d(3, 3, 1, bias=False)
        self.second.weight = self.first.weight
        nn.init.eye_(self.first.weight[:, :, 0, 0].detach())
        self.register_buffer("corner", self.first.weight.detach()[:1])

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return super()._process(self.second(self.first(images)), strengths)


def test_tied_weights_are_saved_and_stay_tied(tmp_path: Path) -> None:
    run = trainer(preprocessor=_Tied())
    run.run(FakeDataset(), folder=tmp_path)
    again = _Tied()
    load_module(tmp_path / WEIGHTS_FILE, again, name="fake")
    assert torch.equal(again.first.weight, run.preprocessor.first.weight)
    assert again.second.weight is again.first.weight
    trainer(preprocessor=_Tied()).run(FakeDataset(), folder=tmp_path, resume=True)


def test_what_two_networks_share_learns_once(tmp_path: Path) -> None:
    task, sender = FakeTask(), FakePreprocessor(gain=0.1)
    task.register_parameter("shared", sender.gain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch's, of a parameter that comes twice
        trainer(preprocessor=sender, task=task, train=("preprocessor", "task")).run(FakeDataset(), folder=tmp_path)
