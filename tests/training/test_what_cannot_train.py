"""What a trainer refuses, and how it says so."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from precomp_sdk import (
    ContractError,
    DatasetError,
    Event,
    NonFiniteError,
    Notice,
    OptionError,
    ProxyOutput,
    StepDone,
    TargetError,
)
from precomp_sdk.errors import QualityError
from precomp_sdk.evaluation import GaussianBlur
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import STATE_FILE, WEIGHTS_FILE, Trainer, TrainSettings, read_module

from .small import SMALL, trainer


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


def test_too_few_images() -> None:
    with pytest.raises(DatasetError, match="at least 5 images"):
        trainer().run(FakeDataset(count=4))


def test_a_precision_that_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=r"option 'precision'.*'17'"):
        trainer(precision="17")

    def lacking(**options: Any) -> None:
        raise ModuleNotFoundError("No module named 'transformer_engine'")

    monkeypatch.setattr("lightning_fabric.Fabric", lacking)
    with pytest.raises(OptionError, match="'transformer-engine': No module named"):
        trainer(precision="transformer-engine")


def test_ladder_must_lie_on_the_codecs_scale() -> None:
    with pytest.raises(QualityError, match="from 1 to 100"):
        trainer(ladder=(5, 101))


def test_a_ladder_without_a_quality_is_refused() -> None:
    with pytest.raises(OptionError, match="one or more qualities"):
        trainer(ladder=())


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
