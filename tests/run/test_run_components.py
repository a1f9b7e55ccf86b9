"""What a run takes: proxies fitted or read, tasks that train along or were fitted, weights of another codec."""

from pathlib import Path

import pytest

from precomp_sdk import (
    Event,
    Notice,
    Registry,
    RunStarted,
)
from precomp_sdk.config import load_experiment, parse_experiment, parse_proxy_fitting
from precomp_sdk.errors import CheckpointError, OptionError
from precomp_sdk.evaluation import read_results
from precomp_sdk.run import run_choice, run_evaluation, run_proxy_fitting
from precomp_sdk.testing import FakeCodec, FakeProxy, FakeTask
from precomp_sdk.training import read_module, save_proxy

from .small import Learned, More, Tables, equal, trained, weights_of


@pytest.fixture
def registry(doubles: Registry) -> Registry:
    doubles.register(More(), "more")
    return doubles


def test_a_proxy_that_needs_fitting_is_fitted(tables: Tables, registry: Registry, tmp_path: Path) -> None:
    events: list[Event] = []
    outcome = trained(
        tables, registry, "proxy.name=learned", "proxy.fit.steps=2", "train.ladder=[30]", observer=events.append
    )

    started = next(event for event in events if isinstance(event, RunStarted) and event.stage == "fit-proxy")
    assert outcome.proxy_fit is not None
    assert started.settings["ladder"] == (30.0,)  # the run's, since the table names none
    assert bool(outcome.components.proxy.fitted)
    assert not any(parameter.requires_grad for parameter in outcome.components.proxy.parameters())
    assert read_module(tmp_path / "run" / "proxy.safetensors").facts["codec_version"].startswith("zlib")


def test_a_fitted_proxy_is_taken_from_its_file(tables: Tables, registry: Registry, tmp_path: Path) -> None:
    fitting = parse_proxy_fitting(
        {
            "codec": {"name": "other"},
            "data": {"name": "fake", "labelled": False},
            "fit": {"steps": 2, "ladder": [5, 30]},
        }
    )
    result = run_proxy_fitting(fitting, registry, tmp_path / "learned.safetensors")

    outcome = trained(tables, registry, "codec.name=other", f"proxy.load='{result.path}'")

    assert result.proxy == "learned"
    assert result.fit.bits_error > 0.0
    assert outcome.proxy_fit is None
    assert outcome.components.proxy.name == "learned"
    assert equal(dict(outcome.components.proxy.state_dict()), weights_of(tmp_path, "learned"))


def test_a_proxy_of_another_version_of_the_codec_is_told(tables: Tables, registry: Registry, tmp_path: Path) -> None:
    path, events = tmp_path / "older.safetensors", list[Event]()
    proxy = Learned(FakeCodec())
    proxy.mark_fitted("zlib of yesterday")
    save_proxy(path, proxy)
    settings = ("proxy.name=learned", f"proxy.load='{path}'")
    trained(tables, registry, *settings, "proxy.any_version=true", "train.steps=1", observer=events.append)
    told = "'learned' was fitted to zlib of yesterday, and zlib "
    assert any(isinstance(event, Notice) and told in event.message for event in events)
    with pytest.raises(CheckpointError, match="codec version"):
        trained(tables, registry, *settings, overwrite=True)


def test_a_proxy_without_parameters_cannot_be_fitted(
    doubles: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeProxy, "parameters", lambda self: iter(()))
    fitting = parse_proxy_fitting({"codec": {"name": "fake"}, "data": {"name": "fake"}})

    with pytest.raises(OptionError, match="ready as it is"):
        run_proxy_fitting(fitting, doubles, tmp_path / "proxy.safetensors")


def test_a_task_that_trains_along_is_kept_and_measured(tables: Tables, registry: Registry, tmp_path: Path) -> None:
    tables["train"]["train"] = ["preprocessor", "task", "proxy"]
    tables["train"]["targets"] = "dataset"
    outcome = trained(tables, registry)
    folder = tmp_path / "run"

    evaluation = run_evaluation(load_experiment(folder), registry)

    assert equal(weights_of(folder, "task"), dict(outcome.components.task.state_dict()))
    assert equal(weights_of(folder, "proxy"), dict(outcome.components.proxy.state_dict()))
    assert not equal(weights_of(folder, "task"), dict(FakeTask().state_dict()))
    (folder / "task.safetensors").unlink()
    with pytest.raises(CheckpointError, match="Train first"):
        run_evaluation(load_experiment(folder), registry)
    assert evaluation.images == 12


def test_weights_of_another_codec_are_measured_with_a_notice(
    tables: Tables, registry: Registry, tmp_path: Path
) -> None:
    trained(tables, registry)
    notices: list[Event] = []

    run_evaluation(
        parse_experiment(tables, overrides=["codec.name=other"]),
        registry,
        weights=tmp_path / "run" / "preprocessor.safetensors",
        folder=tmp_path / "elsewhere",
        observer=notices.append,
    )

    assert Notice("evaluate", "the preprocessor was trained for codec 'fake' and is measured with 'other'") in notices
    assert read_results(tmp_path / "elsewhere" / "results.json").codec == "other"


def test_a_task_fitted_with_other_settings_is_not_taken_over(
    tables: Tables, registry: Registry, tmp_path: Path
) -> None:
    tables["task"]["fit"] = {"epochs": 1, "batch_size": 6}
    run_choice(parse_experiment(tables), registry, factors=(0.5,))
    assert (tmp_path / "run" / "task.safetensors").exists()
    with pytest.raises(CheckpointError, match=r"task\.fit: expected the settings that .* was fitted with"):
        trained(tables, registry, "task.fit.epochs=2", resume=True)
    assert trained(tables, registry, resume=True).task_fit is None  # it is taken over
