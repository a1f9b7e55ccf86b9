import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from precomp_refine import Refiner
from precomp_sdk import (
    Codec,
    ConfigError,
    NotFittedError,
    PluginError,
    Preprocessor,
    ProxyCodec,
    Registry,
    cli,
    hookimpl,
)
from precomp_sdk.config import dump_experiment, load_experiment, parse_experiment, parse_transfer
from precomp_sdk.deploy import Compressor
from precomp_sdk.errors import CheckpointError
from precomp_sdk.evaluation import read_results
from precomp_sdk.image_io import read_image, write_image
from precomp_sdk.run import build, build_evaluation, run_evaluation, run_training, run_transfer
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy
from precomp_sdk.training import save_module

Tables = dict[str, Any]


class Learned(FakeProxy):
    """Of no use before it was fitted."""

    name = "learned"
    codec_name = "learned"
    needs_fitting = True


class Fresh(FakeCodec):
    """A codec whose only proxy has to be fitted."""

    name = "learned"


class Curious(Preprocessor):
    """Wants what no experiment has."""

    name = "curious"
    source = "a double"
    requires = ("codec", "receiver")

    def __init__(self, codec: Codec, receiver: object) -> None:
        super().__init__()

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return images


class More:
    @hookimpl
    def precomp_register_codecs(self) -> list[type[Codec]]:
        return [Fresh]

    @hookimpl
    def precomp_register_proxies(self) -> list[type[ProxyCodec]]:
        return [Learned]

    @hookimpl
    def precomp_register_preprocessors(self) -> list[type[Preprocessor]]:
        return [Refiner, Curious]


@pytest.fixture
def registry(doubles: Registry) -> Registry:
    doubles.register(More(), "more")
    return doubles


@pytest.fixture
def refining(tables: Tables) -> Tables:
    tables["preprocessor"] = {"name": "refine", "steps": 2, "lambdas": {"5": 2.0, "30": 2.0}}
    return tables


def test_the_plugin_is_installed() -> None:
    assert Registry().preprocessors["refine"] is Refiner


def test_an_evaluation_needs_no_training(refining: Tables, registry: Registry, tmp_path: Path) -> None:
    refining["preprocessor"] |= {"lambdas": "auto", "lambda_scale": 1e-3, "calibration_images": 20}

    evaluation = run_evaluation(parse_experiment(refining), registry)

    assert [curve.label for curve in evaluation.curves] == ["anchor", "refine"]
    assert read_results(tmp_path / "run" / "results.json").curves == evaluation.curves
    assert evaluation.curves[0].points != evaluation.curves[1].points


def test_the_same_objects_give_the_same(refining: Tables, registry: Registry) -> None:
    parts = build_evaluation(parse_experiment(refining), registry)

    assert isinstance(parts.preprocessor, Refiner)
    assert parts.proxy is not None
    source = parts.val[0].image
    codec = FakeCodec()
    alone = Refiner(codec, FakeProxy(codec), parts.task.eval(), steps=2, lambdas={5: 2.0, 30: 2.0})
    first, second = (item.refine([source], 5).images[0] for item in (parts.preprocessor, alone))
    assert torch.equal(first.image, second.image)
    assert first.refined == second.refined


def test_the_command_line_prepares_evaluates_and_sends(
    refining: Tables, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refining["preprocessor"] |= {"lambdas": "auto", "lambda_scale": 1e-3, "calibration_images": 20}
    write_image(FakeDataset(seed=2)[0].image, tmp_path / "image.png")
    (tmp_path / "mine.toml").write_text(dump_experiment(parse_experiment(refining)), encoding="utf-8")

    trained = CliRunner().invoke(cli.app, ["train", "mine.toml", "--output", "out"], obj=registry)
    evaluated = CliRunner().invoke(cli.app, ["evaluate", "out"], obj=registry)
    sent = CliRunner().invoke(
        cli.app, ["compress", "out", "image.png", "--quality", "5", "--output", "payload.fake"], obj=registry
    )

    done = (trained, evaluated, sent)
    assert [result.exit_code for result in done] == [0, 0, 0], "".join(result.output for result in done)
    assert "preprocessor 'refine' has nothing to train and is prepared" in trained.stdout
    assert "refine" in evaluated.stdout
    parts = build(load_experiment(tmp_path / "out"), registry)
    parts.preprocessor.prepare(parts.train, (5, 30))
    sender, source = Compressor(parts.codec, parts.preprocessor), read_image(tmp_path / "image.png")
    assert (tmp_path / "payload.fake").read_bytes() == sender.compress(source, 5) != parts.codec.encode(source, 5)


def test_training_fits_the_task_and_the_proxy_that_refinement_works_with(
    refining: Tables, registry: Registry, tmp_path: Path
) -> None:
    refining["codec"] = {"name": "learned"}
    refining["proxy"] = {"fit": {"steps": 2, "batch_size": 4}}
    refining["task"]["fit"] = {"epochs": 1}
    folder = tmp_path / "run"
    with pytest.raises(CheckpointError, match=r"precomp train"):
        run_evaluation(parse_experiment(refining), registry)

    outcome = run_training(parse_experiment(refining), registry)

    assert outcome.result is None
    assert outcome.proxy_fit is not None
    assert sorted(path.name for path in folder.glob("*.safetensors")) == [
        "preprocessor.safetensors",
        "proxy.safetensors",
        "task.safetensors",
    ]
    run_evaluation(load_experiment(folder), registry, folder=folder)
    assert (folder / "results.json").exists()
    (folder / "proxy.safetensors").unlink()
    with pytest.raises(NotFittedError, match=r"precomp fit-proxy and proxy.load"):
        run_evaluation(load_experiment(folder), registry, folder=folder)


def test_options_may_be_components(refining: Tables, registry: Registry, tmp_path: Path) -> None:
    weights = tmp_path / "smooth.safetensors"
    save_module(weights, FakePreprocessor(gain=0.7), name="fake", options={}, facts={})
    refining["preprocessor"] |= {
        "start": {"name": "fake", "load": str(weights)},
        "others": [{"name": "fake", "sharpness": 10.0}],
    }

    experiment = parse_experiment(refining)
    refiner = build_evaluation(experiment, registry).preprocessor

    assert isinstance(refiner, Refiner)
    start, others = refiner.start, refiner.tasks[1:]
    assert isinstance(start, FakePreprocessor)
    assert start.gain.item() == pytest.approx(0.7)
    assert [task.sharpness for task in others] == [10.0]  # type: ignore[attr-defined]
    (tmp_path / "again.toml").write_text(dump_experiment(experiment), encoding="utf-8")
    assert dump_experiment(load_experiment(tmp_path / "again.toml")) == dump_experiment(experiment)


def test_mistakes_in_inner_components_name_their_key(refining: Tables, registry: Registry) -> None:
    def refused(error: type[Exception], match: str, **options: Any) -> None:
        tables = {**refining, "preprocessor": {**refining["preprocessor"], **options}}
        with pytest.raises(error, match=match):
            build_evaluation(parse_experiment(tables, origin="m.toml"), registry)

    refused(KeyError, "m.toml, preprocessor.start.name", start={"name": "fakes"})
    refused(ConfigError, "m.toml, preprocessor.start.gian", start={"name": "fake", "gian": 1.0})
    refused(ConfigError, "m.toml, preprocessor.start", start="fake")
    refused(ConfigError, r"m.toml, preprocessor.others\[1\]", others=[{"name": "fake"}, {"sharpness": 1.0}])
    refused(ConfigError, r"m.toml, preprocessor.others\[0\].sharp", others=[{"name": "fake", "sharp": 1.0}])
    refused(Exception, "m.toml, preprocessor: 'refine', option 'steps'", steps=0)


def test_a_part_that_an_experiment_does_not_have_is_refused(tables: Tables, registry: Registry) -> None:
    tables["preprocessor"] = {"name": "curious"}
    with pytest.raises(
        PluginError, match=r"Curious.requires: expected names among 'codec', 'proxy', 'task'; got 'receiver'"
    ):
        build_evaluation(parse_experiment(tables), registry)


def test_a_matrix_refines_with_its_loop(registry: Registry, tmp_path: Path) -> None:
    tables: Tables = {
        "codecs": {"one": {"name": "fake"}, "two": {"name": "fake", "level": 1}},
        "tasks": {"sharp": {"name": "fake"}, "dull": {"name": "fake", "sharpness": 10.0}},
        "preprocessors": {
            "refine": {"name": "refine", "steps": 1, "lambdas": {"5": 2.0}, "codecs": ["one"], "tasks": ["dull"]}
        },
        "ladders": {"one": [5, 30], "two": [5, 30]},
        "data": {"val": {"name": "fake", "count": 6}, "train": {"name": "fake", "count": 6, "seed": 1}},
        "evaluate": {"replicates": 0},
        "output": {"folder": str(tmp_path / "out")},
    }

    matrix = run_transfer(parse_transfer(tables), registry)

    cells = [cell for cell in matrix.cells if cell.preprocessor == "refine"]  # the control has its own
    assert [cell.in_loop for cell in cells] == [False, True, False, False]
    told = json.loads((tmp_path / "out" / "transfer.json").read_text(encoding="utf-8"))
    assert len(told["transfer"]["cells"]) == len(matrix.cells) == 8
    del tables["data"]["train"]
    with pytest.raises(ConfigError, match=r"data.train: expected images to prepare 'refine' on"):
        run_transfer(parse_transfer(tables), registry)
    tables["preprocessors"]["refine"]["tasks"] = []
    with pytest.raises(
        ConfigError, match=r"preprocessors.refine.tasks: expected the label of what 'refine' works with"
    ):
        run_transfer(parse_transfer(tables), registry)
