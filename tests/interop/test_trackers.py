"""Weights & Biases and MLflow with their own packages, without a network: what was logged is read back."""

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from precomp_sdk import CurveDone, Event, Notice, RateAccuracyCurve, RatePoint, RunStarted, StepDone
from precomp_sdk.observers import MLflowObserver, Tracker, WandbObserver

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of their packages

POINTS = tuple(RatePoint(quality, quality / 50, {"top1": 0.5}, task_loss=1.0) for quality in (5.0, 30.0))
TRAINING: tuple[Event, ...] = (
    RunStarted("train", 2, {"ladder": (5.0, 30.0), "lambdas": {5.0: 0.5}, "folder": Path("a/b"), "none": None}),
    StepDone("train", 1, 2, {"objective": 0.25, "relative/quality_5": 0.5}),
    StepDone("train", 2, 2, {"objective": 0.125}),
)
EVALUATION: tuple[Event, ...] = (
    RunStarted("train", 2, {"ladder": (5.0,)}),  # a resumed run may have other settings
    CurveDone(RateAccuracyCurve("qa-light (mine)", POINTS)),
    Notice("evaluate", "one"),
    Notice("evaluate", "two"),
)


def log_twice(make: Callable[..., Tracker], folder: Path) -> str:
    """Log a training, and its evaluation by another observer; return the run's number."""
    for append, events in ((False, TRAINING), (True, EVALUATION)):
        with make("mine", folder, append=append) as observer:
            for event in events:
                observer(event)
    return next(folder.glob("*-run-id")).read_text().strip()


def test_mlflow_has_it_all_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'store'}")
    number = log_twice(MLflowObserver, tmp_path / "first")

    client = mlflow.MlflowClient()
    run = client.get_run(number)
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert run.data.params["train.ladder"] == "(5.0, 30.0)"
    history = client.get_metric_history(number, "train/objective")
    assert [(item.step, item.value) for item in history] == [(1, 0.25), (2, 0.125)]
    assert run.data.metrics["train/relative/quality_5"] == 0.5
    curve = client.get_metric_history(number, "qa-light -mine-/bpp")
    assert [(item.step, item.value) for item in curve] == [(5, 0.1), (30, 0.6)]
    notices = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notices.txt")
    assert notices == "evaluate: one\nevaluate: two\n"
    assert len(client.search_runs([client.get_experiment_by_name("mine").experiment_id])) == 1


def records_of(log: bytes) -> Iterator[bytes]:
    """Yield the records of an offline run: LevelDB's log format, in blocks of 32 KiB, behind a header of 7 bytes."""
    place, parts = 7, b""
    while place + 7 <= len(log):
        left = 32768 - place % 32768
        if left < 7:  # no room for a record's own header
            place += left
            continue
        length, kind = struct.unpack("<HB", log[place + 4 : place + 7])  # behind a checksum
        parts += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def test_weights_and_biases_has_it_all_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2 as protocol

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    number = log_twice(WandbObserver, tmp_path / "first")

    logs = sorted((tmp_path / "first" / "wandb").glob(f"offline-run-*/run-{number}.wandb"))
    assert len(logs) == 2
    history: list[dict[str, object]] = []
    config: dict[str, object] = {}
    for log in logs:
        for content in records_of(log.read_bytes()):
            record = protocol.Record.FromString(content)
            items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            history += [items] if items else []
            config |= {item.key: json.loads(item.value_json) for item in record.config.update}
    steps = [(item["train/step"], item["train/objective"]) for item in history if "train/step" in item]
    assert steps == [(1, 0.25), (2, 0.125)]
    assert "ladder" in str(config["train"])
    assert config["notices"] == ["evaluate: one", "evaluate: two"]
    (table,) = (tmp_path / "first" / "wandb").glob("offline-run-*/files/media/table/**/*.table.json")
    told = json.loads(table.read_text())
    assert told["columns"] == ["quality", "bpp", "task_loss", "top1"]
    assert told["data"] == [[5, 0.1, 1, 0.5], [30, 0.6, 1, 0.5]]
