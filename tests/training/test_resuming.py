"""A run that is interrupted, resumed, or begun where another one lies; what its files hold."""

import signal
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn

from precomp_sdk import (
    CheckpointSaved,
    Event,
    NonFiniteError,
    StepDone,
)
from precomp_sdk.errors import CheckpointError
from precomp_sdk.interrupts import Interrupted, signals_raise
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import (
    PROXY_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    Trainer,
    TrainSettings,
    load_module,
    read_module,
)

from .small import SMALL, trainer


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


def test_a_proxy_that_was_trained_lies_beside_the_preprocessor(tmp_path: Path) -> None:
    run = trainer(train=("preprocessor", "proxy"))
    run.run(FakeDataset(count=16), folder=tmp_path)
    saved = read_module(tmp_path / PROXY_FILE)
    assert saved.facts["steps"] == 6
    weights = run.proxy.state_dict()
    assert saved.weights.keys() == weights.keys()
    assert all(torch.equal(saved.weights[name], value) for name, value in weights.items())


@pytest.mark.parametrize(
    ("name", "told"), [("run", r"step 2 of 6, saved in .*run"), (None, "step 2 of 6, nothing is saved: .* no folder")]
)
def test_a_signal_ends_a_run_after_a_step_and_says_what_is_kept(name: str | None, told: str, tmp_path: Path) -> None:
    def ask(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 1 and "learning_rate" in event.scalars:
            signal.raise_signal(signal.SIGTERM)

    folder = tmp_path / name if name else None
    with signals_raise(), pytest.raises(Interrupted, match=told) as raised:
        trainer(ask, checkpoint_every=100).run(FakeDataset(count=16), folder=folder)
    assert raised.value.number == signal.SIGTERM
    assert folder is None or torch.load(folder / STATE_FILE, weights_only=True)["step"] == 2


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    first, dataset = trainer(), FakeDataset(count=16)
    expected = first.run(dataset, folder=tmp_path)
    again = trainer()
    assert again.run(dataset, folder=tmp_path, resume=True).relative == expected.relative
    assert torch.equal(again.preprocessor.gain, first.preprocessor.gain)


def test_weights_of_another_step_are_those_of_the_checkpoint_again(tmp_path: Path) -> None:
    dataset = FakeDataset(count=16)
    trainer().run(dataset, folder=tmp_path)
    kept = (tmp_path / WEIGHTS_FILE).read_bytes()
    (tmp_path / WEIGHTS_FILE).unlink()  # or of the step before: an interruption came between the two files
    trainer().run(dataset, folder=tmp_path, resume=True)
    assert (tmp_path / WEIGHTS_FILE).read_bytes() == kept


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
