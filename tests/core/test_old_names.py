"""Files that were written before names changed are still read, with one warning each."""

import json
import shutil
import tomllib
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

from precomp_sdk import _deprecated
from precomp_sdk._deprecated import OldNameWarning
from precomp_sdk.cli import app
from precomp_sdk.config import (
    dump_experiment,
    load_experiment,
    load_transfer,
    parse_experiment,
    parse_proxy_evaluation,
    parse_proxy_fitting,
)
from precomp_sdk.errors import ConfigError
from precomp_sdk.evaluation import read_results
from precomp_sdk.registry import Registry
from precomp_sdk.run import read_record, run_training
from precomp_sdk.testing import FakeTask
from precomp_sdk.training import load_module, load_proxy, read_module, save_module

OLD = Path(__file__).parent / "old_names"


def only(found: pytest.WarningsRecorder) -> str:
    """Return the one warning there was."""
    (warning,) = found
    return str(warning.message)


def test_an_experiment_is_read_with_one_warning_that_names_every_old_name() -> None:
    with pytest.warns(OldNameWarning) as found:
        experiment = load_experiment(OLD / "typed.toml")
    assert experiment.proxy.name == "jpeg-proxy"
    assert experiment.train.targets == "pseudo-labels"
    assert experiment.evaluate.tuning_images == 2
    assert experiment.evaluate.pseudo_labels is True
    told = only(found)
    assert "before version 0.2" in told
    assert str(OLD / "typed.toml") in told
    for name in ("jpeg-proxy", "pseudo-labels", "tuning_images", "pseudo_labels"):
        assert name in told


def test_options_of_data_sets_move_to_their_tables() -> None:
    data = {"name": "pictures", "root": "x", "crop": 64, "augment": True, "max_pixels": 9, "split": "train"}
    with pytest.warns(OldNameWarning) as found:
        parsed = parse_proxy_fitting({"codec": {"name": "jpeg"}, "data": data}, overrides=["data.resize=70"])
    assert parsed.data.options == {
        "root": "x",
        "split": "train",
        "geometry": {"crop": 64, "augment": True, "resize": 70},
        "reading": {"max_pixels": 9},
    }
    assert "data.crop is data.geometry.crop" in str(found[0].message)
    stranger = {"name": "theirs", "crop": 64, "seed": 1}
    assert parse_proxy_fitting({"codec": {"name": "jpeg"}, "data": stranger}).data.options == {"crop": 64, "seed": 1}
    both = {"name": "image-folder", "root": "x", "crop": 64, "geometry": {"crop": 32}}
    with pytest.raises(ConfigError, match=r"data\.crop: expected geometry\.crop"):
        parse_proxy_fitting({"codec": {"name": "jpeg"}, "data": both})


def test_what_is_written_has_todays_names_only() -> None:
    with pytest.warns(OldNameWarning):
        experiment = load_experiment(OLD / "experiment.toml")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = parse_experiment(tomllib.loads(dump_experiment(experiment)))
    assert again.model_dump() == experiment.model_dump()


def test_a_transfer_file_is_read() -> None:
    with pytest.warns(OldNameWarning) as found:
        transfer = load_transfer(OLD / "transfer.toml")
    only(found)
    assert transfer.anchor_ladders == {"jpeg": (5, 26, 40)}
    assert transfer.proxies["jpeg"].name == "jpeg-proxy"
    assert transfer.data.val.name == "unlabelled-images"
    assert transfer.preprocessors["refined"].options == {"when_nothing": "untouched", "calibration_images": 4}


def test_overrides_may_use_old_names_over_a_file_of_today() -> None:
    tables = {
        "codec": {"name": "jpeg"},
        "preprocessor": {"name": "refine", "calibration_images": 7},
        "task": {"name": "small-classifier"},
        "data": {"train": {"name": "scenes"}, "val": {"name": "scenes"}},
        "evaluate": {"tuning_images": 50},
        "output": {"folder": "run"},
    }
    overrides = (
        "evaluate.tuning_pictures=3",
        "preprocessor.calibration_pictures=5",
        "preprocessor.when_nothing=plain",
        "train.targets=own",
        "data.val.name=pictures",
    )
    with pytest.warns(OldNameWarning) as found:
        experiment = parse_experiment(tables, overrides=overrides)
    assert len(found) == len(overrides)
    assert experiment.evaluate.tuning_images == 3
    assert experiment.preprocessor.options == {"calibration_images": 5, "when_nothing": "untouched"}
    assert experiment.train.targets == "pseudo-labels"
    assert experiment.data.val.name == "unlabelled-images"


def test_an_option_of_another_component_keeps_its_name() -> None:
    tables = {
        "codec": {"name": "jpeg"},
        "preprocessor": {"name": "mine", "calibration_pictures": 7, "when_nothing": "plain"},
        "task": {"name": "pictures"},
        "data": {"train": {"name": "jpeg-surrogate"}, "val": {"name": "scenes"}},
        "output": {"folder": "run"},
    }
    assert _deprecated.current_tables(tables, "mine.toml") == tables


def test_the_old_and_the_new_name_together_are_refused() -> None:
    tables = {"evaluate": {"own_targets": True, "pseudo_labels": False}}
    with pytest.raises(ConfigError, match=r"mine.toml, evaluate.own_targets: expected pseudo_labels"):
        _deprecated.current_tables(tables, "mine.toml")


@pytest.mark.parametrize("parse", [parse_proxy_fitting, parse_proxy_evaluation])
def test_descriptions_of_proxies_are_read(parse: type) -> None:
    tables = {"codec": {"name": "bpg"}, "proxy": {"name": "bpg-surrogate"}, "data": {"name": "pictures", "root": "."}}
    overrides = ("evaluate.pictures=3",) if parse is parse_proxy_evaluation else ()
    with pytest.warns(OldNameWarning) as found:
        read = parse(tables, overrides=overrides)
    assert len(found) == 1 + len(overrides)
    assert (read.proxy.name, read.data.name) == ("bpg-proxy", "unlabelled-images")


def test_every_renamed_component_exists_and_its_old_name_does_not() -> None:
    registry = Registry()
    known = {(item.kind, item.name) for item in registry.components()}
    renamed = [(kind, old, new) for kind, names in _deprecated._NAMES.items() for old, new in names.items()]
    assert len(renamed) == 7
    for kind, old, new in renamed:
        assert (kind, old) not in known
        assert (kind, new) in known or "jpeg-xl" in new or "bpg" in new  # of an extra


def test_weights_of_a_renamed_proxy_are_loaded() -> None:
    registry = Registry()
    proxy = registry.proxy_for(registry.create("codec", "jpeg", optimize=False))
    with pytest.warns(OldNameWarning, match="jpeg-surrogate"):
        saved = load_proxy(OLD / "proxy.safetensors", proxy, any_version=True)
    assert saved.name == "jpeg-proxy"
    assert saved.facts["dataset"] == "unlabelled-images"


def test_weights_of_a_refiner_with_old_options_are_loaded() -> None:
    with pytest.warns(OldNameWarning, match="when_nothing"):
        saved = read_module(OLD / "refine.safetensors")
    registry = Registry()
    codec = registry.create("codec", "jpeg")
    cls = registry.preprocessors["refine"]
    options = {key: value for key, value in saved.options.items() if key not in ("shares", "lambdas")}
    refiner = cls(codec, registry.proxy_for(codec), FakeTask(), lambdas={5.0: 0.5, 26.0: 0.5}, **options)
    with pytest.warns(OldNameWarning):
        load_module(OLD / "refine.safetensors", refiner, name="refine")
    assert refiner.options["calibration_images"] == 128


def test_results_and_records_are_read() -> None:
    results = read_results(OLD / "results.json")
    assert results.images == 4
    assert results.curves[0].label == "anchor"
    assert results.comparison("qa-light").test == "qa-light"
    with pytest.warns(OldNameWarning) as found:
        record = read_record(OLD)
    assert [str(item.message).partition(" uses ")[0] for item in found] == [
        f"{OLD / 'run.json'}, {stage}" for stage in ("training", "evaluation")
    ]
    assert record["training"]["experiment"]["train"]["targets"] == "pseudo-labels"
    assert record["evaluation"]["experiment"]["proxy"]["name"] == "jpeg-proxy"


@pytest.mark.filterwarnings("always::precomp_sdk._deprecated.OldNameWarning")
def test_an_old_run_is_resumed_from_its_state(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(OLD, folder)
    experiment = load_experiment(folder, [f"output.folder={json.dumps(str(folder))}"])
    outcome = run_training(experiment, Registry(), resume=True)
    assert outcome.result is not None
    assert outcome.task_fit is None  # taken from the old run
    assert read_module(folder / "preprocessor.safetensors").facts["steps"] == 2
    written = (folder / "experiment.toml").read_text()
    assert '"jpeg-proxy"' in written
    assert "optimize = false" in written


@pytest.mark.slow
def test_the_command_line_tells_each_file_once(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(OLD, folder)
    settings = ["--set", "evaluate.baselines=[]", "--set", "evaluate.replicates=0"]
    result = CliRunner().invoke(app, ["evaluate", str(folder), *settings])
    assert result.exit_code == 0, result.output
    told = [line for line in result.stderr.splitlines() if "before version 0.2" in line]
    assert len(told) == 3, result.stderr  # the experiment, and both stages of the record
    assert all(line.startswith("precomp: ") for line in told)


JPEG_RUN = """
[codec]
name = "jpeg"

[preprocessor]
name = "qa-light"

[task]
name = "small-classifier"

[data]
train = { name = "scenes" }
val = { name = "scenes" }

[output]
folder = "runs/of-before"
"""


class TestOptimizedJPEG:
    """Its default was false; what was made then stays what it was."""

    @pytest.mark.parametrize("beside", ["run.json", "preprocessor.safetensors", "state.pt"])
    def test_an_older_runs_record_means_the_default_of_then(self, tmp_path: Path, beside: str) -> None:
        (tmp_path / "experiment.toml").write_text(JPEG_RUN)
        (tmp_path / beside).touch()
        for path in (tmp_path, tmp_path / "experiment.toml"):
            with pytest.warns(OldNameWarning, match=r"codec\.optimize is left out and was false by default"):
                assert load_experiment(path).codec.options == {"optimize": False}
        with pytest.warns(OldNameWarning):
            assert load_experiment(tmp_path, ["codec.optimize=true"]).codec.options == {"optimize": True}

    def test_what_a_record_says_decides(self, tmp_path: Path) -> None:
        (tmp_path / "run.json").touch()
        for said in ("true", "false"):
            text = JPEG_RUN.replace('"jpeg"', f'"jpeg"\noptimize = {said}')
            (tmp_path / "experiment.toml").write_text(text)
            assert load_experiment(tmp_path).codec.options == {"optimize": said == "true"}

    def test_a_typed_file_means_todays_default_unless_it_has_old_names(self, tmp_path: Path) -> None:
        (tmp_path / "experiment.toml").write_text(JPEG_RUN)
        assert load_experiment(tmp_path).codec.options == {}
        (tmp_path / "typed.toml").write_text(JPEG_RUN)
        (tmp_path / "run.json").touch()
        assert load_experiment(tmp_path / "typed.toml").codec.options == {}
        (tmp_path / "typed.toml").write_text(JPEG_RUN + '\n[train]\ntargets = "own"\n')
        with pytest.warns(OldNameWarning, match=r"was false by default"):
            assert load_experiment(tmp_path / "typed.toml").codec.options == {"optimize": False}

    def test_other_codecs_are_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "experiment.toml").write_text(JPEG_RUN.replace('"jpeg"', '"webp"'))
        (tmp_path / "run.json").touch()
        assert load_experiment(tmp_path).codec.options == {}

    def test_weights_of_before_mean_it_too(self, tmp_path: Path) -> None:
        task, path = FakeTask(), tmp_path / "weights.safetensors"
        for options, wanted in (({}, False), ({"optimize": True}, True), ({"optimize": False}, False)):
            facts = {"codec": "jpeg", "codec_options": options}
            save_module(path, task, name="fake", options={}, facts=facts)
            assert read_module(path).facts["codec_options"] == {"optimize": wanted}
