"""The data sets of a run number their classes alike, and what they left out reaches the user and the record."""

import json
from pathlib import Path
from typing import Any

import pytest

from precomp_sdk import DatasetReport, Event, Notice, Registry, SkippedSample, TargetError, TaskDataset, hookimpl
from precomp_sdk.config import load_experiment, parse_experiment, parse_transfer
from precomp_sdk.errors import CheckpointError
from precomp_sdk.run import build, run_evaluation, run_training, run_transfer
from precomp_sdk.testing import FakeDataset, FakeTask
from precomp_sdk.training import FitTaskSettings, fit_task, load_module, read_module, save_module

Tables = dict[str, Any]


class Named(FakeDataset):
    """Classes under names of the user's choice, and a report."""

    name = "named"

    def __init__(self, *, names: list[str], split: str = "train", count: int = 24, left_out: int = 0) -> None:
        super().__init__(count=count)
        self.class_names = tuple(names)
        self.origin = f"{split}.json"
        self._left_out = left_out

    def report(self) -> DatasetReport:
        lost = tuple(
            SkippedSample(f"{place}.png", "lost: expected a file; got none") for place in range(self._left_out)
        )
        return DatasetReport(images=len(self), left_out=lost, notes=("beware",) if self._left_out else ())


class Plugin:
    @hookimpl
    def precomp_register_datasets(self) -> list[type[TaskDataset]]:
        return [Named]


@pytest.fixture
def registry(doubles: Registry) -> Registry:
    doubles.register(Plugin(), "named")
    return doubles


CAR_FIRST, TREE_FIRST = ["car", "tree", "c", "d"], ["tree", "car", "c", "d"]


def named(names: list[str], split: str = "train", **options: Any) -> Tables:
    return {"name": "named", "names": names, "split": split, **options}


def with_data(tables: Tables, **sets: Tables) -> Tables:
    return {**tables, "data": {**tables["data"], **sets}, "train": {**tables["train"], "targets": "dataset"}}


@pytest.mark.parametrize("key", ["val", "held_out", "task"])
def test_every_pair_of_sets_is_checked(key: str, tables: Tables, registry: Registry) -> None:
    sets = {"train": named(CAR_FIRST), "val": named(CAR_FIRST, "val"), key: named(TREE_FIRST, key)}
    tables = with_data(tables, **sets)
    tables["task"] = {**tables["task"], "fit": {"epochs": 1}}
    with pytest.raises(TargetError) as raised:
        build(parse_experiment(tables), registry)
    told = str(raised.value)
    assert f"data.{key} ({key}.json): expected the classes of" in told
    assert ".json), in the same order: 'car', 'tree'" in told
    assert "got 'tree', 'car'" in told


def test_labels_that_nobody_uses_may_differ(tables: Tables, registry: Registry) -> None:
    tables = with_data(tables, train=named(TREE_FIRST), val=named(CAR_FIRST, "val"))
    tables["train"]["targets"] = "pseudo-labels"
    assert build(parse_experiment(tables), registry).train.class_names[0] == "tree"
    without_names = with_data(tables, train=named([]), val=named(CAR_FIRST, "val"))
    assert build(parse_experiment(without_names), registry).train.class_names == ()


def test_a_fitted_task_keeps_its_classes(tables: Tables, registry: Registry, tmp_path: Path) -> None:
    tables = with_data(tables, train=named(CAR_FIRST), val=named(CAR_FIRST, "val"))
    tables["task"] = {**tables["task"], "fit": {"epochs": 1, "learning_rate": 1e-4}}
    folder = tmp_path / "run"
    run_training(parse_experiment(tables), registry)
    assert read_module(folder / "task.safetensors").facts["class_names"] == CAR_FIRST
    other = [f"data.val.names={json.dumps(TREE_FIRST)}"]
    with pytest.raises(TargetError, match=r"data\.val: .*the classes it was fitted to, in this order: car, tree"):
        run_evaluation(load_experiment(folder, other), registry)  # an older run on another set
    run_evaluation(load_experiment(folder, ["evaluate.pseudo_labels=true", *other]), registry)
    loaded = {**tables["task"], "load": str(folder / "task.safetensors")}
    del loaded["fit"]
    tables = {**with_data(tables, train=named(TREE_FIRST), val=named(TREE_FIRST, "val")), "task": loaded}
    with pytest.raises(TargetError, match="the classes it was fitted to"):
        build(parse_experiment(tables), registry)


@pytest.mark.slow
def test_a_run_keeps_the_classes_of_a_task_that_was_not_fitted_in_it(
    tables: Tables, registry: Registry, tmp_path: Path
) -> None:
    tables = with_data(tables, train=named(CAR_FIRST), val=named(CAR_FIRST, "val"))
    folder = tmp_path / "run"
    run_training(parse_experiment(tables), registry)
    other = [f"data.val.names={json.dumps(TREE_FIRST)}"]
    run_evaluation(load_experiment(folder), registry)
    with pytest.raises(TargetError, match=r"data\.val: .*the classes of the run in .*, in this order: car, tree"):
        run_evaluation(load_experiment(folder, other), registry)
    run_evaluation(load_experiment(folder, ["evaluate.pseudo_labels=true", *other]), registry)


@pytest.mark.slow
def test_a_run_of_before_there_were_class_names_says_that_they_cannot_be_compared(
    tables: Tables, registry: Registry, tmp_path: Path
) -> None:
    tables = with_data(tables, train=named(CAR_FIRST), val=named(CAR_FIRST, "val"))
    folder = tmp_path / "run"
    run_training(parse_experiment(tables), registry)
    record = json.loads((folder / "run.json").read_text())
    del record["training"]["results"]["class_names"]
    del record["training"]["experiment"]["task"]["fit"]  # a key that came later: it stands at its default
    (folder / "run.json").write_text(json.dumps(record))

    def told(*overrides: str) -> list[str]:
        seen: list[Event] = []
        run_evaluation(load_experiment(folder, overrides), registry, observer=seen.append)
        return [event.message for event in seen if isinstance(event, Notice) and "cannot be told" in event.message]

    other = f"data.val.names={json.dumps(TREE_FIRST)}"
    [notice] = told(other)
    assert f"the run in {folder} was recorded without class names: whether 'named' numbers its classes" in notice
    assert told() == []  # the data of the run itself
    assert told(other, "evaluate.pseudo_labels=true") == []  # labels are not used
    task = tables["task"] | {"sharpness": 3.0}
    assert told(other, f"task.sharpness={task['sharpness']}") == []  # a task of its own, which the run says nothing of


def test_a_transfer_checks_the_classes_of_its_tasks(tables: Tables, registry: Registry, tmp_path: Path) -> None:
    task = FakeTask()
    task.fitted_classes = tuple(CAR_FIRST)
    facts = {"class_names": CAR_FIRST}
    save_module(tmp_path / "task.safetensors", task, name="fake", options={}, facts=facts)
    transfer = parse_transfer(
        {
            "codecs": {"a": {"name": "fake"}},
            "tasks": {"b": {**tables["task"], "load": str(tmp_path / "task.safetensors")}},
            "preprocessors": {"c": {"name": "fake"}},
            "data": {"val": named(TREE_FIRST)},
            "output": {"folder": str(tmp_path / "matrix")},
        }
    )
    with pytest.raises(TargetError, match="the classes it was fitted to"):
        run_transfer(transfer, registry)


def test_fitting_checks_and_learns_the_classes() -> None:
    task = FakeTask()
    fit_task(task, Named(names=CAR_FIRST), settings=FitTaskSettings(epochs=1), observer=None)
    assert task.fitted_classes == tuple(CAR_FIRST)
    with pytest.raises(TargetError, match="the classes it was fitted to"):
        fit_task(
            task,
            Named(names=CAR_FIRST),
            settings=FitTaskSettings(epochs=1),
            validation=Named(names=TREE_FIRST),
            observer=None,
        )
    fit_task(
        task, Named(names=TREE_FIRST), settings=FitTaskSettings(epochs=1), observer=None
    )  # anew, to another numbering
    assert task.fitted_classes == tuple(TREE_FIRST)


@pytest.mark.parametrize("names", ["car", [1, 2], {"car": 0}])
def test_damaged_classes_are_told(names: object, tmp_path: Path) -> None:
    save_module(tmp_path / "a.safetensors", FakeTask(), name="fake", options={}, facts={"class_names": names})
    with pytest.raises(CheckpointError, match="class_names: expected a list of names"):
        load_module(tmp_path / "a.safetensors", FakeTask(), name="fake")


def test_what_was_left_out_is_told_once_and_recorded(tables: Tables, registry: Registry, tmp_path: Path) -> None:
    tables = with_data(tables, train=named(CAR_FIRST, left_out=6), val=named(CAR_FIRST, "val"))
    told: list[str] = []

    def observe(event: Event) -> None:
        if isinstance(event, Notice) and event.stage == "data":
            told.append(event.message)

    run_training(parse_experiment(tables), registry, observer=observe)
    assert told == [
        "data.train (named): 6 of 30 images were left out (a file; got none): 0.png, 1.png, 2.png and 3 more",
        "data.train (named): beware",
    ]
    report = json.loads((tmp_path / "run/run.json").read_text())["training"]["results"]["data"]
    assert [item["key"] for item in report["data.train"]["left_out"]] == [f"{place}.png" for place in range(6)]
    assert report["data.val"] == {"images": 24, "left_out": [], "mended": [], "notes": []}
    told.clear()
    run_evaluation(load_experiment(tmp_path / "run", ["data.val.left_out=1"]), registry, observer=observe)
    assert len(told) == 2
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["evaluation"]["results"]["data"]["data.val"]["left_out"][0]["key"] == "0.png"
