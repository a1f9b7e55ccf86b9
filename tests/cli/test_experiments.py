import json
import re
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import Result

from precomp_sdk import Event, Registry, StepDone, hookimpl
from precomp_sdk.evaluation import read_results
from precomp_sdk.observers import TensorBoardObserver
from precomp_sdk.run import read_record
from precomp_sdk.training import read_module

Call = Callable[..., Result]


class Watcher:
    """Keeps what it sees; raises at a step where it is told to."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.stop_at: int | None = None

    @hookimpl
    def precomp_on_event(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, StepDone) and event.stage == "train" and event.step == self.stop_at:
            raise KeyboardInterrupt


@pytest.fixture
def watcher(doubles: Registry) -> Watcher:
    watcher = Watcher()
    doubles.register(watcher, "watcher")
    return watcher


def gain(folder: Path) -> float:
    return read_module(folder / "preprocessor.safetensors").weights["gain"].item()


def test_train_and_evaluate_do_the_whole_job(call: Call, mine: Path, tmp_path: Path, watcher: Watcher) -> None:
    trained = call("train", "mine.toml", "--set", "train.steps=6", "--set", "evaluate.baselines=['blur']")
    told = len(watcher.events)
    evaluated = call("evaluate", "run")

    assert (trained.exit_code, evaluated.exit_code) == (0, 0), trained.output + evaluated.output
    assert "by quality:\n  5: " in trained.stdout
    assert "next: precomp evaluate run" in trained.stdout
    assert "train: step 6, relative objective" in trained.stderr
    assert "BD-rate against the anchor" in evaluated.stdout
    assert "results and plots: run" in evaluated.stdout
    assert 0 < told < len(watcher.events)  # plugins hear of both
    assert [curve.label for curve in read_results(tmp_path / "run" / "results.json").curves] == [
        "anchor",
        "fake",
        "blur",
    ]
    log = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert len(log) == len(watcher.events)
    assert read_record(tmp_path / "run")["training"]["experiment"]["train"]["steps"] == 6
    assert read_record(tmp_path / "run")["training"]["command"].split()[0] == "precomp"


def test_evaluate_takes_an_engine(call: Call, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call("train", "mine.toml", "--set", "train.steps=1")
    assert "'local' or 'ray'" in call("evaluate", "run", "--engine", "dask").stderr
    monkeypatch.setitem(sys.modules, "ray", None)
    assert 'pip install "precomp-sdk[ray]"' in call("evaluate", "run", "--engine", "ray", "--workers", "2").stderr
    assert "Take engine ray" in call("evaluate", "run", "--workers", "2", "--address", "auto").stderr


@pytest.mark.parametrize(("amount", "worse"), [("-3.0", True), ("0.0", False)])
def test_a_run_that_ends_worse_than_the_anchor_says_so_and_may_fail(
    call: Call, mine: Path, tmp_path: Path, amount: str, worse: bool
) -> None:
    settings = ("--set", f"preprocessor.gain={amount}", "--set", "train.steps=1", "--set", "train.learning_rate=1e-9")
    done = call("train", "mine.toml", *settings)
    assert done.exit_code == 0, done.output
    assert ("the run ended worse than the anchor, relative objective" in done.stdout) == worse
    assert ("worse than the anchor" in done.stderr) == worse  # the notice
    recorded = read_record(tmp_path / "run")["training"]["results"]["training"]
    assert recorded["worse"] == worse
    assert (recorded["mean_relative"] > 1.0) == worse
    for more in ((), ("--json",)):
        again = call("train", "mine.toml", *settings, "--overwrite", "--fail-if-worse", *more)
        assert again.exit_code == int(worse), again.output
    assert json.loads(again.stdout)["training"]["worse"] == worse


def test_output_and_weights_may_be_given(call: Call, mine: Path, tmp_path: Path) -> None:
    assert call("train", "mine.toml", "--output", "a b").exit_code == 0
    done = call("evaluate", "mine.toml", "--weights", "a b/preprocessor.safetensors", "--output", "there")

    assert done.exit_code == 0, done.output
    assert (tmp_path / "there" / "results.json").exists()
    assert not (tmp_path / "run").exists()
    assert "next: precomp evaluate 'a b'" in call("train", "a b", "--overwrite").stdout


def test_an_interrupted_run_goes_on_to_the_same_numbers(
    call: Call, mine: Path, tmp_path: Path, watcher: Watcher
) -> None:
    assert call("train", "mine.toml", "--output", "whole").exit_code == 0
    watcher.stop_at = 5
    interrupted = call("train", "mine.toml")
    watcher.stop_at = None
    resumed = call("train", "run", "--resume")

    assert interrupted.exit_code == 130
    assert interrupted.stderr.endswith("precomp: interrupted; --resume goes on from the last checkpoint\n")
    assert resumed.exit_code == 0, resumed.output
    assert gain(tmp_path / "run") == gain(tmp_path / "whole") != 0.0
    log = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in log if line["event"] == "StepDone"]
    assert steps == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8]  # the log goes on


def test_a_second_run_does_not_replace_the_first_in_silence(call: Call, mine: Path) -> None:
    assert call("train", "mine.toml").exit_code == 0

    refused = call("train", "mine.toml")

    assert refused.exit_code == 1
    assert "--resume" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert call("train", "mine.toml", "--overwrite").exit_code == 0


@pytest.mark.parametrize(("wanted", "written"), [("true", True), ("false", False), ('"auto"', True)])
def test_tensorboard_is_written_where_wanted(
    call: Call, mine: Path, tmp_path: Path, wanted: str, written: bool
) -> None:
    pytest.importorskip("tensorboard")

    assert call("train", "mine.toml", "--set", f"output.tensorboard={wanted}").exit_code == 0

    assert (tmp_path / "run" / "tensorboard").exists() is written


def test_a_missing_tensorboard_matters_only_where_it_is_asked_for(
    call: Call, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TensorBoardObserver, "package", "a_package_that_is_not_there")

    asked = call("train", "mine.toml", "--set", "output.tensorboard=true")

    assert asked.exit_code == 1
    assert "pip install" in asked.stderr
    assert call("train", "mine.toml", "--set", "output.tensorboard=auto").exit_code == 0


def test_the_quickstart_shows_its_experiment(call: Call, tmp_path: Path) -> None:
    shown = call("quickstart", "--show")

    assert shown.exit_code == 0
    assert shown.stdout == files("precomp_sdk").joinpath("quickstart.toml").read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == []


SMALL_QUICKSTART = (
    *("--set", "task.fit.epochs=1"),
    *("--set", "data.task.count=32"),
    *("--set", "data.train.count=20"),
    *("--set", "data.val.count=12"),
    *("--set", "train.steps=2"),
    *("--set", "train.batch_size=2"),
    *("--set", "train.ladder=[5, 30]"),
    *("--set", "train.lambdas={5 = 0.1, 30 = 1}"),
    *("--set", "train.held_out_images=4"),
    *("--set", "train.calibration_images=4"),
    *("--set", "evaluate.ladder=[5, 12, 30]"),
    *("--set", "evaluate.tuning_images=4"),
    *("--set", "evaluate.replicates=20"),
    *("--set", "output.tensorboard=false"),
)


@pytest.mark.slow
def test_the_quickstart_does_the_whole_job(call: Call, tmp_path: Path) -> None:
    result = call("quickstart", "--seed", "7", *SMALL_QUICKSTART, registry=None)

    assert result.exit_code == 0, result.output
    folder = tmp_path / "runs" / "quickstart"
    assert {"results.json", "points.csv", "rate_accuracy.png", "rate_accuracy.svg", "run.json", "experiment.toml"} <= {
        path.name for path in folder.iterdir()
    }
    evaluation = read_results(folder / "results.json")
    assert [curve.label for curve in evaluation.curves] == ["anchor", "qa-light", "blur", "downscale", "equal-bits"]
    assert (evaluation.codec, evaluation.images) == ("jpeg", 12)
    assert (
        len(re.findall(r"^BD-rate against the anchor +metric", result.stdout, re.MULTILINE)) == 1
    )  # the result is said once
    record = read_record(folder)["training"]
    assert record["seeds"] == {"train": 7, "task.fit": 7, "evaluate": 7}
    data = record["experiment"]["data"]
    assert data["val"]["seed"] == 7
    assert data["task"]["seed"] != data["train"]["seed"]  # else it trains on what the task has memorised
    assert (data["task"]["seed"], data["train"]["seed"]) == (8, 9)
    assert record["components"]["codec jpeg"].startswith("precomp-sdk ")

    again = json.loads(call("quickstart", *SMALL_QUICKSTART, "--overwrite", "--json", registry=None).stdout)
    assert again["folder"] == "runs/quickstart"
    assert again["training"]["steps"] > 0
    assert again["evaluation"]["curves"][0]["label"] == "anchor"


def test_an_unfinished_run_is_not_evaluated_in_silence(call: Call, mine: Path, watcher: Watcher) -> None:
    watcher.stop_at = 6  # after the checkpoint of step 5
    assert call("train", str(mine), "--set", "train.checkpoint_every=5").exit_code != 0

    refused = call("evaluate", str(mine))
    assert refused.exit_code == 1
    assert "those of step 5" in refused.stderr
    assert "--resume" in refused.stderr

    measured = call("evaluate", str(mine), "--unfinished")
    assert measured.exit_code == 0, measured.output
    assert read_record(Path("run"))["evaluation"]["results"]["weights_step"] == 5


def test_resolutions_are_chosen_on_training_images(call: Call, mine: Path) -> None:
    chosen = call("choose-resolutions", str(mine), "--factor", "0.5", "--set", "train.lambda_scale=1e-9")
    assert chosen.exit_code == 0, chosen.output
    line = next(line for line in chosen.stdout.splitlines() if line.startswith("preprocessor.resolutions = "))
    points = json.loads(line.split(" = ")[1])
    assert points == sorted(points)
    assert {factor for _, factor in points} == {0.5}  # bits are all that counts
    assert chosen.stdout.count("chosen") == len(points)


def test_a_factor_out_of_range_is_told(call: Call, mine: Path) -> None:
    refused = call("choose-resolutions", str(mine), "--factor", "1.5")
    assert refused.exit_code == 1
    assert "above 0 and up to 1; got [1.5]" in refused.stderr
