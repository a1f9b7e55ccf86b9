"""``name = "my_codec:PackedCodec"`` in an experiment: carried out it imports, merely read it does not."""

import pickle
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from PIL import Image
from typer.testing import CliRunner, Result

from precomp_sdk import ConfigError, PluginError, Registry
from precomp_sdk.cli import app
from precomp_sdk.config import load_experiment, parse_experiment
from precomp_sdk.run import Source, build, load_compressor, load_task, read_record, run_evaluation, run_training

MODULE = """
from pathlib import Path
from precomp_sdk import testing as doubles

Path("imported").touch()
answer = 42

class PackedCodec(doubles.FakeCodec):
    name = "packed"

class PackedProxy(doubles.FakeProxy):
    name = "packed-proxy"
    codec_name = "packed"

class PackedPreprocessor(doubles.FakePreprocessor):
    name = "packed"

class PackedTask(doubles.FakeTask):
    name = "packed"

class PackedDataset(doubles.FakeDataset):
    name = "packed"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path, modules = list(sys.path), set(sys.modules)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_parts.py").write_text(MODULE)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith(("my_parts", "broken_parts")):
            del sys.modules[name]


@pytest.fixture
def packed(tables: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The experiment with every component by its import path."""
    data = {name: {**table, "name": "my_parts:PackedDataset"} for name, table in tables["data"].items()}
    parts = {kind: {"name": f"my_parts:Packed{kind.title()}"} for kind in ("codec", "proxy", "preprocessor", "task")}
    made = {**tables, **parts, "data": data}
    made["evaluate"] = {**tables["evaluate"], "judges": {"other": {"name": "my_parts:PackedTask"}}}
    (folder / "mine.toml").write_text(tomli_w.dumps(made))
    return made


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], obj=Registry(entry_points=False))


def forget(folder: Path) -> None:
    """Make this process one that has not imported the module."""
    sys.modules.pop("my_parts", None)
    (folder / "imported").unlink(missing_ok=True)


def test_every_kind_of_component_is_found(packed: dict[str, Any], folder: Path) -> None:
    experiment = parse_experiment(packed)
    registry = Registry(entry_points=False)
    run_training(experiment, registry)
    found = build(experiment, registry)
    names = [type(part).__name__ for part in (found.codec, found.proxy, found.preprocessor, found.task, found.train)]
    assert names == ["PackedCodec", "PackedProxy", "PackedPreprocessor", "PackedTask", "PackedDataset"]
    assert type(found.judges["other"]).__name__ == "PackedTask"
    components = read_record(folder / "run")["training"]["components"]
    assert components["codec packed"] == "(registered in code)"


@pytest.mark.slow
def test_the_commands_know_them(packed: dict[str, Any], folder: Path) -> None:
    Image.new("RGB", (64, 64), (9, 99, 200)).save(folder / "p.png")
    for command in (("estimate", "mine.toml", "--steps", "2", "--images", "2"), ("train", "mine.toml")):
        told = call(*command)
        assert told.exit_code == 0, told.output
    assert load_experiment(folder / "run").codec.name == "my_parts:PackedCodec"
    refused = call("train", "run", "--resume")
    assert (refused.exit_code, "--trust" in refused.stderr) == (1, True)
    resumed = call("train", "run", "--resume", "--trust")
    assert resumed.exit_code == 0, resumed.output

    forget(folder)
    reading = [
        ("evaluate", "run"),
        ("compress", "run", "p.png", "--quality", 30, "--output", "o.fake"),
        ("export", "run", "--output", "e.safetensors"),
    ]
    for command in reading:
        refused = call(*command)
        assert refused.exit_code == 1
        assert "my_parts:Packed" in refused.stderr
        assert "--trust" in refused.stderr
    assert not (folder / "imported").exists()
    for command in reading:
        told = call(*command, "--trust")
        assert told.exit_code == 0, told.output
    assert (folder / "imported").exists()


def test_a_weights_file_imports_nothing(packed: dict[str, Any], folder: Path) -> None:
    assert call("train", "mine.toml").exit_code == 0
    forget(folder)
    told = call("compress", "run/preprocessor.safetensors", "p.png", "--quality", 30, "--output", "o", "--trust")
    assert told.exit_code == 1
    assert not (folder / "imported").exists()
    assert call("--plugin", "my_parts.py", "plugins", "--kind", "codec").stdout.count("packed") == 1


def test_python_refuses_likewise(packed: dict[str, Any], folder: Path) -> None:
    experiment = parse_experiment(packed)
    with pytest.raises(ConfigError, match=r"codec\.name: expected no module .*'my_parts:PackedCodec'.*trust=True"):
        run_evaluation(experiment, Registry(entry_points=False))
    assert not (folder / "imported").exists()


def test_a_worker_knows_them(packed: dict[str, Any], folder: Path) -> None:
    registry = Registry(entry_points=False)
    run_training(parse_experiment(packed), registry)
    content = pickle.dumps(Source(partial(load_compressor, folder / "run", registry, trust=True)))
    forget(folder)
    assert pickle.loads(content)().codec.name == "packed"


def test_a_worker_knows_those_that_a_file_names_without_their_module(folder: Path) -> None:
    registry = Registry(entry_points=False)
    registry.add_import("task", "my_parts:PackedTask")
    task = registry.create("task", "packed")
    task.save(folder / "task.safetensors")
    source = Source(partial(load_task, folder / "task.safetensors", registry), task)
    assert source() is task
    content = pickle.dumps(source)
    forget(folder)
    assert pickle.loads(content)().name == "packed"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("your_parts:PackedCodec", r"expected a module 'your_parts' in the current folder or among .*; got none"),
        ("my_parts:PackedCode", r"expected a class of 'my_parts' .*; got 'PackedCode'. Did you mean 'PackedCodec'"),
        ("my_parts:PackedTask", r"expected a codec: a subclass of Codec; got PackedTask"),
        ("my_parts:answer", r"expected a codec: a subclass of Codec; got an instance of int"),
        ("broken_parts:PackedCodec", r"expected a module 'broken_parts' that can be imported; got ValueError: no"),
        (":PackedCodec", r"expected a module ''"),
        ("my_parts:", r"got ''"),
        ("precomp_sdk:Codec", r"got Codec without \['_decode', '_encode'\]"),
    ],
)
def test_what_is_wrong_is_told(packed: dict[str, Any], folder: Path, name: str, told: str) -> None:
    (folder / "broken_parts.py").write_text("raise ValueError('no')")
    with pytest.raises(PluginError, match=rf"^experiment, codec\.name: .*{told}"):
        build(parse_experiment({**packed, "codec": {"name": name}}), Registry(entry_points=False))


def test_a_class_that_is_registered_stays(packed: dict[str, Any]) -> None:
    registry = Registry(entry_points=False)
    first = registry.add_import("codec", "my_parts:PackedCodec")
    assert registry.add_import("codec", "my_parts:PackedCodec") == first == "packed"
    assert dict(registry.imported) == {"my_parts:PackedCodec": "codec"}
