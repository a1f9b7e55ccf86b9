"""`precomp estimate`: what it counts is what a run does, and what it says is near what a run takes."""

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from typer.testing import CliRunner

from precomp_sdk import OptionError, Registry
from precomp_sdk.cli import app
from precomp_sdk.config import Experiment, parse_experiment
from precomp_sdk.events import CheckpointSaved, Event, RunStarted, StepDone
from precomp_sdk.run import Estimate, EstimateSettings, PartEstimate, estimate_run, run_evaluation, run_training
from precomp_sdk.testing import FakePreprocessor
from precomp_sdk.training import Trainer

FEW = EstimateSettings(steps=2, images=2)


def part(estimate: Estimate, stage: str, name: str) -> PartEstimate:
    return next(item for item in estimate.parts if (item.stage, item.name) == (stage, name))


def run(experiment: Experiment, registry: Registry) -> list[Event]:
    told: list[Event] = []
    run_training(experiment, registry, observer=told.append)
    run_evaluation(experiment, registry, observer=told.append)
    return told


@pytest.mark.slow
def test_it_counts_what_a_run_does(doubles: Registry, tables: dict[str, Any]) -> None:
    tables["task"]["fit"] = {"epochs": 3, "batch_size": 5}
    tables["proxy"] = {"fit": {"steps": 7, "batch_size": 2}}
    tables["evaluate"] |= {"baselines": ["blur", "equal-bits"], "tuning_images": 5}
    experiment = parse_experiment(tables)
    told = estimate_run(experiment, doubles, settings=FEW)
    events = run(experiment, doubles)

    def steps(stage: str) -> int:
        return sum(isinstance(event, StepDone) and event.stage == stage and event.step > 0 for event in events)

    for stage in ("fit-task", "fit-proxy", "train"):
        assert part(told, stage, "steps").count == steps(stage) > 0
    assert part(told, "train", "steps").measured == FEW.steps  # beside those that warm up or measure the objective
    measured = [event for event in events if isinstance(event, StepDone) and "relative/mean" in event.scalars]
    assert part(told, "train", "held-out objective").count == len(measured) * 4
    assert part(told, "train", "calibrate").count == 4 + 4
    saved = sum(isinstance(event, CheckpointSaved) for event in events)
    assert part(told, "train", "checkpoints").count == saved
    total = next(event.total_steps for event in events if isinstance(event, RunStarted) and event.stage == "evaluate")
    points = len(experiment.evaluate.ladder or ())
    known = 5 * points  # what blur was tuned on is not measured again
    counted = {item.name: item.count for item in told.parts if item.stage == "evaluate" and item.unit == "image"}
    assert counted.pop("no codec") == 12
    assert sum(counted.values()) * points + 2 * 12 == total - known


def test_a_chooser_and_a_network_that_selects_take_their_time(
    doubles: Registry, tables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables["select"] = {"name": "fake"}
    tables["chooser"] = {"panel": {"one": {"name": "fake"}}, "fit_images": 4}
    given: list[Any] = []

    class Seen(Trainer):
        def __init__(self, **parts: Any) -> None:
            given.append((parts["select"], parts["chooser"]))
            super().__init__(**parts)

    monkeypatch.setattr("precomp_sdk.run._estimating.Trainer", Seen)
    told = estimate_run(parse_experiment(tables), doubles, settings=FEW)

    assert part(told, "train", "fit the chooser").seconds > 0
    assert given
    assert all(item is not None for pair in given for item in pair)


def test_nothing_of_it_stays(doubles: Registry, tables: dict[str, Any], tmp_path: Path) -> None:
    told = estimate_run(parse_experiment(tables), doubles, settings=FEW)

    assert list(tmp_path.iterdir()) == []
    assert told.seconds == pytest.approx(sum(map(told.seconds_of, ("train", "evaluate"))))
    assert told.seconds_of("fit-task") == told.device_bytes == 0
    assert told.memory_bytes > 1e7
    assert 0 < told.disk_bytes < told.free_bytes


@pytest.mark.slow
def test_the_disk_is_what_a_run_writes(doubles: Registry, tables: dict[str, Any], tmp_path: Path) -> None:
    tables["train"]["steps"] = 30
    experiment = parse_experiment(tables)
    told = estimate_run(experiment, doubles, settings=FEW)
    run(experiment, doubles)

    written = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert 0.5 < told.disk_bytes / written < 2


class Measures(FakePreprocessor):
    name = "measures"
    trainable = False


def test_a_preprocessor_without_training_is_prepared(doubles: Registry, tables: dict[str, Any]) -> None:
    doubles.add(Measures)
    experiment = parse_experiment({**tables, "preprocessor": {"name": "measures"}})
    told = estimate_run(experiment, doubles, settings=FEW)
    assert [item.name for item in told.parts if item.stage == "train"] == ["read the data", "prepare"]


@pytest.mark.parametrize(("name", "value"), [("steps", 1), ("images", 0)])
def test_too_little_cannot_be_measured(name: str, value: int) -> None:
    with pytest.raises(OptionError, match=f"option '{name}'"):
        EstimateSettings(**{name: value})


@pytest.mark.slow
def test_the_command_prints_a_table_or_json(doubles: Registry, tables: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(tomli_w.dumps(tables))
    arguments = ["estimate", str(tmp_path / "mine.toml"), "--steps", "2", "--images", "2"]

    shown = CliRunner().invoke(app, arguments, obj=doubles)
    told = CliRunner().invoke(app, [*arguments, "--json"], obj=doubles)

    assert shown.exit_code == 0, shown.output
    assert all(word in shown.stdout for word in ("train", "calibrate", "evaluate", "everything", "disk:"))
    found = json.loads(told.stdout)
    assert found["seconds"] == pytest.approx(sum(item["seconds"] for item in found["parts"]))
