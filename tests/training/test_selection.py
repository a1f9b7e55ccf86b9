"""The checkpoint chosen by a network outside the loop, and the units of a panel's members."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from precomp_sdk import CheckpointSaved, EnsembleTask, Event, OptionError, StepDone
from precomp_sdk.errors import CalibrationError
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import WEIGHTS_FILE, Trainer, TrainSettings, anchor_units, calibrate, read_module
from precomp_sdk.training.nan_guard import NaNGuard
from precomp_sdk.training.selection import Selection
from precomp_sdk.transcode import Transcoder

SETTINGS = TrainSettings(
    steps=12, batch_size=4, held_out_images=4, calibration_images=8, held_out_every=3, checkpoint_every=3,
    warmup_steps=1, learning_rate=0.2, ladder=(5, 30), ema_decay=0.0, lambdas={5: 1e-3, 30: 1e-3},
)  # fmt: skip


def trainer(observer: Any = None, **parts: Any) -> Trainer:
    codec = FakeCodec()
    given: dict[str, Any] = {"preprocessor": FakePreprocessor(), "task": FakeTask(), "settings": SETTINGS, **parts}
    return Trainer(codec=codec, proxy=FakeProxy(codec), observer=observer, **given)


def test_the_weights_kept_are_those_that_served_the_outsider_best(tmp_path: Path) -> None:
    events: list[Event] = []
    run = trainer(events.append, select=FakeTask(sharpness=40.0))  # it suffers from what saves bits
    result = run.run(FakeDataset(count=32), folder=tmp_path)
    measured = {
        event.step: event.scalars["select/mean"]
        for event in events
        if isinstance(event, StepDone) and "select/mean" in event.scalars
    }
    assert sorted(measured) == [0, 3, 6, 9, 12]
    best = min(measured, key=measured.__getitem__)
    assert best != 12, "the run must go on after its best, or this shows nothing"
    kept = read_module(tmp_path / WEIGHTS_FILE)
    assert kept.facts["steps"] == best
    assert torch.equal(kept.weights["gain"], run.preprocessor.gain.detach())
    told = next(event for event in events if isinstance(event, StepDone) and event.step == best)
    assert result.mean_relative == pytest.approx(told.scalars["relative/mean"])


def test_a_selection_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    class PulledPlugError(BaseException):
        pass

    def pull_the_plug(event: Event) -> None:
        if isinstance(event, CheckpointSaved) and event.step == 9:
            raise PulledPlugError

    outsider = {"select": FakeTask(sharpness=40.0)}
    dataset, whole = FakeDataset(count=32), trainer(**outsider)
    whole.run(dataset, folder=tmp_path / "whole")
    with pytest.raises(PulledPlugError):
        trainer(pull_the_plug, **outsider).run(dataset, folder=tmp_path / "parts")
    resumed = trainer(**outsider)
    resumed.run(dataset, folder=tmp_path / "parts", resume=True)
    assert torch.equal(resumed.preprocessor.gain, whole.preprocessor.gain)
    first, second = (read_module(tmp_path / part / WEIGHTS_FILE) for part in ("whole", "parts"))
    assert first.facts["steps"] == second.facts["steps"]


def test_the_first_of_equals_is_kept() -> None:
    class Batch:
        anchor = MappingProxyType({5.0: 1.0})

        def relative(self, preprocessor: FakePreprocessor, guard: NaNGuard) -> dict[float, float]:
            return {5.0: 0.5, 30.0: 0.7}

    selection, guard = Selection(Batch()), NaNGuard("here", None)  # type: ignore[arg-type]
    for step in (3, 6):
        assert selection.consider(step, FakePreprocessor(), guard) == pytest.approx(0.6)
    assert selection.step == 3
    again = Selection(Batch(), selection.state())  # type: ignore[arg-type]
    assert (again.step, again.best) == (3, selection.best)
    assert again.weights.keys() == selection.weights.keys()


def test_select_must_be_a_task() -> None:
    with pytest.raises(OptionError, match="select"):
        trainer(select="lite")


def ensemble(**options: Any) -> EnsembleTask:
    return EnsembleTask(members={"sure": FakeTask(), "unsure": FakeTask(sharpness=4.0)}, **options)


def test_units_are_what_the_codec_costs_each_member() -> None:
    task = ensemble(normalize=True).eval()
    dataset, ladder = FakeDataset(count=8), (5.0, 30.0)
    with Transcoder(FakeCodec(), workers=1) as transcoder:
        units = anchor_units(transcoder, task, dataset, ladder).losses
        assert units["sure"] != pytest.approx(units["unsure"], rel=0.01)
        task.set_units(units)
        images = torch.stack([dataset[place].image for place in range(8)])
        own = task.pseudo_labels(images.float() / 255)
        losses = []
        for quality in ladder:
            decoded = torch.stack([FakeCodec().decode(FakeCodec().encode(image, quality)) for image in images])
            losses.append(task.losses(decoded.float() / 255, own).mean().detach())
    assert float(torch.stack(losses).mean()) == pytest.approx(1.0, rel=1e-4)  # the anchor's loss counts 1 for both


def test_a_training_sets_the_units_and_a_resumed_one_has_the_same(tmp_path: Path) -> None:
    plain, first, again = ensemble(), ensemble(normalize=True), ensemble(normalize=True)
    for task in (plain, first):
        trainer(task=task).run(FakeDataset(count=32), folder=tmp_path, overwrite=True)
    assert plain.units == {"sure": 1.0, "unsure": 1.0}
    assert all(unit != 1.0 for unit in first.units.values())
    trainer(task=again).run(FakeDataset(count=32), folder=tmp_path, resume=True)
    assert again.units == first.units


def test_layers_are_counted_in_units_of_their_own() -> None:
    """Each member's layers together weigh as the member does, and behind the anchor every layer is 1 on average."""
    task = ensemble(normalize=True, weights={"sure": 3.0}).eval()
    assert task.feature_weights() is None  # all alike, until something was measured
    dataset, ladder = FakeDataset(count=8), (5.0, 30.0)
    with Transcoder(FakeCodec(), workers=1) as transcoder:
        units = anchor_units(transcoder, task, dataset, ladder, features=True)
        task.set_units(units.losses, units.layers)
        points = calibrate(transcoder, task, dataset, ladder, features=True)
    weights = task.feature_weights()
    assert weights is not None
    assert sum(point.feature_loss for point in points) / 2 == pytest.approx(1.0, rel=1e-4)
    (sure,), (unsure,) = units.layers["sure"], units.layers["unsure"]
    assert weights == pytest.approx((0.75 / sure, 0.25 / unsure))


def test_features_are_matched_in_those_units_and_a_resumed_run_has_them(tmp_path: Path) -> None:
    settings = replace(SETTINGS, feature_weight=1.0)
    first, again = ensemble(normalize=True), ensemble(normalize=True)
    dataset = FakeDataset(count=32)
    trainer(task=first, settings=settings).run(dataset, folder=tmp_path)
    trainer(task=again, settings=settings).run(dataset, folder=tmp_path, resume=True)
    assert first.layer_units
    assert first.layer_units == again.layer_units


def test_a_member_that_does_not_notice_the_codec_is_named() -> None:
    class Indifferent(FakeTask):
        def _losses(self, images: torch.Tensor, targets: Any) -> torch.Tensor:
            return images.sum(dim=(1, 2, 3)) * 0

    task = EnsembleTask(members={"sure": FakeTask(), "blind": Indifferent()}, normalize=True)
    with Transcoder(FakeCodec(), workers=1) as transcoder, pytest.raises(CalibrationError, match="blind"):
        anchor_units(transcoder, task, FakeDataset(count=4), (5.0, 30.0))


def test_units_must_be_positive_and_of_members() -> None:
    for units in ({"sure": 0.0}, {"nobody": 1.0}, {"sure": float("nan")}):
        with pytest.raises(OptionError, match="units"):
            ensemble().set_units(units)
    task = ensemble()
    task.set_units({"unsure": 2.0})
    losses = task.losses(torch.rand(3, 3, 20, 24), own := task.pseudo_labels(images := torch.rand(3, 3, 20, 24)))
    assert losses.shape == (3,)
    parts = task.member_losses(images, own)
    assert torch.allclose(task.losses(images, own), (parts["sure"] + parts["unsure"] / 2) / 2)
