import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import precomp_qacnn
from precomp_sdk import (
    Event,
    Identity,
    Notice,
    ProxyOutput,
    QualityChooser,
    Registry,
    StepDone,
    TaskDataset,
    hookimpl,
)
from precomp_sdk.config import load_experiment, parse_experiment
from precomp_sdk.errors import CheckpointError, ConfigError, NonFiniteError, OptionError, UnknownNameError
from precomp_sdk.evaluation import read_results
from precomp_sdk.run import read_record, run_choice, run_evaluation
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import Trainer, read_module, shuffled

from .small import More, Tables, equal, interrupt, trained, weights_of


class Still(Identity):
    """Has nothing to train."""

    name = "still"


@pytest.fixture
def registry(doubles: Registry) -> Registry:
    doubles.register(More(), "more")
    return doubles


def test_an_experiment_trains_what_the_objects_would(tables: Tables, registry: Registry, tmp_path: Path) -> None:
    outcome = trained(tables, registry)

    parts = outcome.components
    preprocessor = FakePreprocessor()
    codec = FakeCodec()
    result = Trainer(
        codec=codec,
        proxy=FakeProxy(codec),
        preprocessor=preprocessor,
        task=FakeTask(),
        settings=parse_experiment(tables).train,
    ).run(parts.train)
    assert result.relative == outcome.result.relative
    assert torch.equal(preprocessor.gain, parts.preprocessor.gain)
    assert preprocessor.gain.item() != 0.0
    assert outcome.task_fit is None
    assert outcome.proxy_fit is None
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.name != ".lock") == [
        "experiment.toml",
        "preprocessor.safetensors",
        "run.json",
        "state.pt",
    ]


def test_a_network_outside_the_loop_chooses_the_weights(tables: Tables, registry: Registry, tmp_path: Path) -> None:
    tables["select"] = {"name": "fake", "sharpness": 40.0}
    seen: list[Event] = []
    trained(tables, registry, observer=seen.append)
    chosen = [
        event.scalars["select/step"] for event in seen if isinstance(event, StepDone) and "select/step" in event.scalars
    ]
    assert read_module(tmp_path / "run" / "preprocessor.safetensors").facts["steps"] == chosen[-1]
    del tables["select"]
    with pytest.raises(CheckpointError, match="select"):
        trained(tables, registry, resume=True)


def test_a_chooser_takes_the_qualities_of_the_training_images(
    tables: Tables, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables["train"] |= {"ladder": [5, 30, 60], "lambdas": "auto"}
    outcome = trained(tables, registry)
    tables["chooser"] = {"fit_images": 4, "panel": {"one": {"name": "fake"}}, "trust": 1.0}
    asked: list[tuple[float, float]] = []
    choose = QualityChooser.choose

    def noted(self: QualityChooser, image: Any, quality: float | None = None, **given: Any) -> Any:
        found = choose(self, image, quality, **given)
        asked.append((float(quality or 0.0), found.quality))
        return found

    monkeypatch.setattr(QualityChooser, "choose", noted)
    chosen = trained(tables, registry, overwrite=True)

    assert len(asked) == 8 * 4  # steps and images of a batch
    assert any(point != quality for point, quality in asked)
    assert outcome.result is not None
    assert chosen.result is not None
    assert chosen.result.relative != outcome.result.relative
    tables["chooser"]["trust"] = 0.5
    with pytest.raises(CheckpointError, match=r"chooser\.trust"):
        trained(tables, registry, resume=True)
    tables["chooser"] = {"fit_images": 4}
    with pytest.raises(ConfigError, match=r", chooser: expected a panel.*chooser\.panel\.LABEL"):
        trained(tables, registry, overwrite=True)


def test_what_a_run_without_training_has_no_use_for_is_told(tables: Tables, registry: Registry) -> None:
    registry.add(Still)
    tables["preprocessor"] = {"name": "still"}
    tables["select"] = {"name": "fake"}
    tables["chooser"] = {"panel": {"one": {"name": "fake"}}}
    seen: list[Event] = []
    trained(tables, registry, observer=seen.append)
    told = [event.message for event in seen if isinstance(event, Notice)]
    assert told == ["[select] and [chooser] left aside: the preprocessor 'still' has nothing to train"]
    del tables["select"], tables["chooser"]
    seen.clear()
    trained(tables, registry, observer=seen.append, overwrite=True)
    assert not any(isinstance(event, Notice) for event in seen)


def test_an_evaluation_takes_up_what_training_left(tables: Tables, registry: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    tables["task"]["fit"] = {"epochs": 1, "learning_rate": 1e-4}
    tables["evaluate"]["baselines"] = ["blur"]
    outcome = trained(tables, registry)

    evaluation = run_evaluation(load_experiment(folder), registry)

    assert outcome.task_fit is not None
    assert [curve.label for curve in evaluation.curves] == ["anchor", "fake", "blur"]
    assert read_results(folder / "results.json") == evaluation
    assert (folder / "rate_accuracy.svg").exists()
    assert not equal(weights_of(folder, "task"), FakeTask().state_dict())  # it is the fitted task that was measured
    assert evaluation.clean.scores["top1"] == dict(outcome.task_fit.scores)["top1"]


def test_quality_is_chosen_per_image_where_the_experiment_asks_for_it(tables: Tables, registry: Registry) -> None:
    trained(tables, registry)
    tables["evaluate"]["baselines"] = ["equal-bits"]
    chooser = {"fit_images": 4, "search": "searched", "encodes": 2, "panel": {"one": {"name": "fake"}}}
    tables["evaluate"]["chooser"] = chooser

    evaluation = run_evaluation(parse_experiment(tables), registry)

    labels = [curve.label for curve in evaluation.curves]
    assert labels == ["anchor", "fake", "chosen", "fake, chosen", "equal-bits"]
    assert {item.anchor for item in evaluation.against_controls} == {"equal-bits"}
    tables["evaluate"]["chooser"] = {"fit_images": 4}
    with pytest.raises(ConfigError, match=r"evaluate\.chooser: expected a panel"):
        run_evaluation(parse_experiment(tables), registry)
    tables["evaluate"]["chooser"] = {"shipped": ["nanodeti"]}
    with pytest.raises(UnknownNameError, match=r"evaluate\.chooser\.shipped.*nanodet"):
        run_evaluation(parse_experiment(tables), registry)


def test_results_of_an_evaluation_may_go_elsewhere(tables: Tables, registry: Registry, tmp_path: Path) -> None:
    trained(tables, registry)
    before = sorted(path.name for path in (tmp_path / "run").iterdir())

    run_evaluation(parse_experiment(tables), registry, output=tmp_path / "elsewhere")

    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before
    assert (tmp_path / "elsewhere" / "results.json").exists()
    assert load_experiment(tmp_path / "elsewhere").codec.name == "fake"


def test_a_run_writes_down_how_it_came_about(tables: Tables, registry: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trained(tables, registry, "task.fit.epochs=1", "task.fit.seed=7", command="precomp train mine.toml")
    run_evaluation(load_experiment(folder), registry, command="precomp evaluate run")

    record = read_record(folder)

    training, evaluation = record["training"], record["evaluation"]
    assert (training["command"], evaluation["command"]) == ("precomp train mine.toml", "precomp evaluate run")
    assert training["seeds"] == {"train": 0, "task.fit": 7, "evaluate": 0}
    assert training["versions"]["torch"] == torch.__version__.split("+")[0]
    assert training["versions"]["codec"].startswith("fake: zlib ")
    assert {"python", "precomp-sdk", "platform"} <= training["versions"].keys()
    assert training["components"]["proxy fake"] == "(registered in code)"
    assert training["experiment"]["train"]["steps"] == 8
    assert training["results"]["training"]["steps"] == 8
    assert training["results"]["task_fit"]["scores"].keys() == {"top1", "top5"}
    assert evaluation["results"]["weights"] == str(folder / "preprocessor.safetensors")
    assert load_experiment(folder).proxy.name == "fake"  # the file left it open


@pytest.mark.parametrize(
    ("stage", "step"), [("fit-task", 1), ("fit-proxy", 2), ("train", 0), ("train", 5), ("train", 8)]
)
def test_a_resumed_run_gives_the_numbers_of_an_uninterrupted_one(
    tables: Tables, registry: Registry, tmp_path: Path, stage: str, step: int
) -> None:
    tables["task"]["fit"] = {"epochs": 1, "batch_size": 10, "learning_rate": 1e-4}
    tables["proxy"]["fit"] = {"steps": 3}
    whole = trained(tables, registry, f"output.folder='{tmp_path / 'whole'}'")

    with pytest.raises(KeyboardInterrupt):
        trained(tables, registry, observer=interrupt(stage, step))
    resumed = trained(tables, registry, resume=True)

    assert resumed.result.relative == whole.result.relative
    assert resumed.result.calibration == whole.result.calibration
    for name in ("preprocessor", "task", "proxy"):
        assert equal(weights_of(tmp_path / "run", name), weights_of(tmp_path / "whole", name))


def test_resuming_where_nothing_is_starts_anew(tables: Tables, registry: Registry) -> None:
    assert trained(tables, registry, resume=True).result.steps == 8


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("codec.level=1", "codec.level: expected what .* says: 6; got 1"),
        ("data.train.seed=3", "data.train.seed: expected none, as in .*; got 3"),
        ("proxy.name=learned", "proxy.name: expected .* says: 'fake'; got 'learned'"),
        ("train.beta=0.1", "train.beta: expected .* says: 0.0; got 0.1"),
        ("train.steps=16", "train.steps: expected .* says: 8; got 16"),
    ],
)
def test_another_experiment_does_not_go_on_with_a_run(
    tables: Tables, registry: Registry, tmp_path: Path, override: str, told: str
) -> None:
    trained(tables, registry)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}

    with pytest.raises(CheckpointError, match=f"experiment, {told}"):
        trained(tables, registry, override, resume=True)

    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    trained(tables, registry, "train.checkpoint_every=3", resume=True)  # what changes no number may change
    (tmp_path / "run" / "state.pt").unlink()
    if told.startswith("train.beta"):  # nothing was trained yet: training may start with other settings
        assert trained(tables, registry, override, resume=True).result.steps == 8


def test_an_older_run_is_neither_overwritten_nor_mixed_in_by_accident(
    tables: Tables, registry: Registry, tmp_path: Path
) -> None:
    trained(tables, registry)
    old = weights_of(tmp_path / "run")

    with pytest.raises(CheckpointError, match=r"preprocessor.safetensors.*--resume.*--overwrite"):
        trained(tables, registry, "train.seed=1")
    assert equal(weights_of(tmp_path / "run"), old)

    with pytest.raises(KeyboardInterrupt):
        trained(tables, registry, "train.seed=1", overwrite=True, observer=interrupt("train", 1))
    assert not (tmp_path / "run" / "state.pt").exists()  # --resume must not find the old one

    trained(tables, registry, "train.seed=1", resume=True)
    assert not equal(weights_of(tmp_path / "run"), old)


def test_resolutions_are_chosen_on_the_calibration_images(tables: Tables, registry: Registry) -> None:
    """Never on the held-out ones: their objective is logged."""
    seen: list[int] = []

    class Watching(FakeDataset):
        def _sample(self, index: int) -> Any:
            seen.append(index)
            return super()._sample(index)

    class Offer:
        @hookimpl
        def precomp_register_datasets(self) -> list[type[TaskDataset]]:
            return [Watching]

    Watching.name = "watching"
    registry.register(Offer(), "watching")
    tables["data"]["train"]["name"] = "watching"
    run_choice(parse_experiment(tables), registry, factors=(0.5,))
    order = shuffled(FakeDataset(count=30), 0)
    assert set(seen) == set(order[4:8])  # 4 are held out, 4 calibrate


def test_weights_trained_with_other_options_are_refused(tables: Tables, registry: Registry) -> None:
    """Their shapes are those of the options in the file, too: only the recorded options can tell."""
    registry.register(precomp_qacnn, "qacnn")
    tables["preprocessor"] = {"name": "qa-light", "width": 8, "depth": 1, "resolutions": [[0.5, 0.5]]}
    trained(tables, registry)
    assert run_evaluation(parse_experiment(tables), registry).comparisons
    tables["preprocessor"]["resolutions"] = []
    with pytest.raises(
        CheckpointError, match=r"preprocessor\.resolutions: expected what the weights .*\[\[0\.5, 0\.5\]\]"
    ):
        run_evaluation(parse_experiment(tables), registry)


def test_an_evaluation_without_weights_says_what_is_missing(tables: Tables, registry: Registry) -> None:
    with pytest.raises(CheckpointError, match=r"preprocessor\.safetensors: expected a weights file"):
        run_evaluation(parse_experiment(tables), registry)


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_checkpoint(
    tables: Tables, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    predict = FakeProxy._predict

    def broken(self: FakeProxy, images: Tensor, qualities: Tensor) -> ProxyOutput:
        nonlocal calls
        calls += 1
        output = predict(self, images, qualities)
        return ProxyOutput(output.images, output.bits * float("nan")) if calls == 6 else output

    monkeypatch.setattr(FakeProxy, "_predict", broken)

    with pytest.raises(NonFiniteError, match=r"training step 6, term 'bpp'.*is whole"):
        trained(tables, registry)

    monkeypatch.setattr(FakeProxy, "_predict", predict)
    assert trained(tables, registry, resume=True).result.steps == 8  # from the checkpoint of step 3


def test_a_precision_that_fabric_does_not_know_is_told_by_its_key(tables: Tables, registry: Registry) -> None:
    with pytest.raises(OptionError, match=r"experiment, train\.precision: expected a precision.*got '17-odd'"):
        trained(tables, registry, "train.precision=17-odd")


def test_a_record_is_plain_json(tables: Tables, registry: Registry, tmp_path: Path) -> None:
    trained(tables, registry)

    text = (tmp_path / "run" / "run.json").read_text(encoding="utf-8")

    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["format"] == "precomp-run-1"


def test_a_record_names_every_option_of_the_codec_and_a_resumed_run_takes_them(
    tables: Tables, registry: Registry, tmp_path: Path
) -> None:
    trained(tables, registry)
    file = tmp_path / "run" / "experiment.toml"
    assert load_experiment(file).codec.options == {"level": 6}
    file.write_text(file.read_text().replace("level = 6", "level = 9"))  # as if another default had been written then
    (tmp_path / "run" / "state.pt").unlink()
    outcome = trained(tables, registry, resume=True)
    assert outcome.components.codec.options == {"level": 9}
    with pytest.raises(CheckpointError, match=r"codec\.level"):
        trained(tables, registry, "codec.level=6", resume=True)
