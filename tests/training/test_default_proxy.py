"""A trainer without a proxy takes the codec's own, and fits it where it must be."""

from functools import partial
from pathlib import Path

import pytest
import torch

from precomp_jpeg import JPEGCodec, JPEGProxy
from precomp_sdk import Registry, UnknownNameError
from precomp_sdk.events import Event, RunStarted
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import PROXY_FILE, FitProxySettings, Trainer, TrainSettings, read_module

SETTINGS = TrainSettings(steps=3, batch_size=4, ladder=(5, 30), lambdas={5: 1.0, 30: 1.0}, held_out_images=4)


class Unfitted(FakeProxy):
    """Of no use before it was fitted."""

    needs_fitting = True


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """What is installed: a codec's own proxy that needs fitting."""
    registry = Registry(entry_points=False)
    registry.add(Unfitted)
    monkeypatch.setattr("precomp_sdk.training.trainer.Registry", lambda: registry)
    monkeypatch.setattr("precomp_sdk.training.trainer.FitProxySettings", partial(FitProxySettings, steps=10))
    return registry


def test_the_codecs_own_proxy_is_taken() -> None:
    codec = JPEGCodec()
    trainer = Trainer(codec=codec, preprocessor=FakePreprocessor(), task=FakeTask())
    assert isinstance(trainer.proxy, JPEGProxy)
    assert trainer.proxy.codec is codec


def test_one_that_needs_fitting_is_fitted_first_on_what_is_trained_on(offered: Registry) -> None:
    events: list[Event] = []
    trainer = Trainer(
        codec=FakeCodec(), preprocessor=FakePreprocessor(), task=FakeTask(), settings=SETTINGS, observer=events.append
    )
    assert not bool(trainer.proxy.fitted)
    trainer.run(FakeDataset(count=20))
    assert bool(trainer.proxy.fitted)
    assert [event.stage for event in events if isinstance(event, RunStarted)] == ["train", "fit-proxy"]


def test_a_resumed_run_takes_the_proxy_it_began_with(offered: Registry, tmp_path: Path) -> None:
    def run(resume: bool) -> tuple[Trainer, list[str]]:
        events: list[Event] = []
        parts = {"codec": FakeCodec(), "preprocessor": FakePreprocessor(), "task": FakeTask()}
        trainer = Trainer(**parts, settings=SETTINGS, observer=events.append)  # type: ignore[arg-type]  # one of each
        trainer.run(FakeDataset(count=20), folder=tmp_path, resume=resume)
        return trainer, [event.stage for event in events if isinstance(event, RunStarted)]

    first, stages = run(resume=False)
    assert "fit-proxy" in stages
    assert read_module(tmp_path / PROXY_FILE).name == "fake"
    second, stages = run(resume=True)
    assert "fit-proxy" not in stages
    for one, other in zip(first.proxy.state_dict().values(), second.proxy.state_dict().values(), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))


def test_a_codec_without_any_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("precomp_sdk.training.trainer.Registry", lambda: Registry(entry_points=False))
    with pytest.raises(UnknownNameError, match="a proxy for codec 'fake'"):
        Trainer(codec=FakeCodec(), preprocessor=FakePreprocessor(), task=FakeTask())
