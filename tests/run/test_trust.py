"""A stranger's file does nothing: a weights file, a run folder, an experiment that is only read."""

import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import pytest
import tomli_w
from PIL import Image
from typer.testing import CliRunner, Result

from precomp_qacnn import LightQACNN
from precomp_sdk import (
    CheckpointError,
    Codec,
    Compressor,
    ConfigError,
    PluginError,
    Preprocessor,
    ProxyCodec,
    Registry,
    TaskModel,
    hookimpl,
)
from precomp_sdk._trust import unsafe_options_of
from precomp_sdk.cli import app
from precomp_sdk.config import parse_experiment, parse_transfer
from precomp_sdk.run import load_compressor, run_evaluation, run_training, run_transfer
from precomp_sdk.testing import FakeCodec, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import save_module

Attack = Callable[[dict[str, str]], None]


def registered(cls: type) -> Registry:
    class Plugin:
        @hookimpl
        def precomp_register_codecs(self) -> list[type[Codec]]:
            return [cls]

    registry = Registry(entry_points=False)
    registry.register(Plugin(), "plugin")
    return registry


class Acts:
    """Remembers which programs it would have run."""

    ran: ClassVar[list[str]] = []
    unsafe_options: ClassVar[Mapping[str, str]] = MappingProxyType({"program": "program", "plugin": "module"})


class ActingCodec(Acts, FakeCodec):
    name = "acting"

    def __init__(self, *, level: int = 6, program: str = "", plugin: str | None = None) -> None:
        super().__init__(level=level)
        self.ran.extend(filter(None, (program, plugin)))
        self._more = {"program": program, "plugin": plugin}

    @property
    def options(self) -> Mapping[str, Any]:
        return {**super().options, **self._more}


class ActingProxy(FakeProxy):
    name = "acting"
    codec_name = "acting"


class ActingTask(Acts, FakeTask):
    name = "acting"

    def __init__(self, *, program: str = "", plugin: str | None = None) -> None:
        super().__init__()
        self.ran.extend(filter(None, (program, plugin)))


class HoldingTask(FakeTask):
    name = "holding"

    def __init__(self, *, inside: TaskModel) -> None:
        super().__init__()


class NeedsTask(FakePreprocessor):
    name = "needs-task"
    requires = ("task",)

    def __init__(self, task: TaskModel, *, gain: float = 1.0) -> None:
        super().__init__(gain=gain)


@pytest.fixture
def registry(doubles: Registry) -> Registry:
    class Plugin:
        @hookimpl
        def precomp_register_codecs(self) -> list[type[Codec]]:
            return [ActingCodec]

        @hookimpl
        def precomp_register_proxies(self) -> list[type[ProxyCodec]]:
            return [ActingProxy]

        @hookimpl
        def precomp_register_tasks(self) -> list[type[TaskModel]]:
            return [ActingTask, HoldingTask]

        @hookimpl
        def precomp_register_preprocessors(self) -> list[type[Preprocessor]]:
            return [NeedsTask]

    doubles.register(Plugin(), "acting")
    Acts.ran.clear()
    return doubles


def call(registry: Registry | None, *arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), obj=registry)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), (9, 99, 200)).save(tmp_path / "p.png")
    return tmp_path / "p.png"


def test_a_weights_file_that_names_a_program_does_not_run_it(tmp_path: Path, image: Path) -> None:
    helper, mark = tmp_path / "helper", tmp_path / "ran"
    helper.write_text(f"#!/bin/sh\necho $* >> {mark}\n")
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    network = LightQACNN(width=8, depth=1)
    options = {"chroma": "420", "effort": "default", "qp_scale": "slice", "encoder": "x265"}
    options |= {"backend": "bpgenc", "bpgenc": str(helper), "bpgdec": str(helper)}
    facts = {"codec": "bpg", "codec_options": options, "codec_version": "x", "ladder": [25, 44]}
    save_module(tmp_path / "evil.safetensors", network, name=network.name, options=network.options, facts=facts)
    arguments = ("compress", str(tmp_path / "evil.safetensors"), str(image), "--quality", "30", "--output", "o.bpg")

    refused = call(None, *arguments)

    assert refused.exit_code == 1
    assert "codec_options.backend: expected plain options" in refused.stderr
    assert not mark.exists()
    assert "--trust" in refused.stderr
    call(None, *arguments, "--trust")
    assert mark.exists()  # the test would see a program that runs


@pytest.mark.parametrize("option", ["program", "plugin"])
def test_a_weights_file_may_name_no_program_and_no_module(registry: Registry, tmp_path: Path, option: str) -> None:
    path = tmp_path / "w.safetensors"
    facts = {"codec": "acting", "codec_options": {"level": 6, option: "evil"}, "ladder": [5, 30]}
    save_module(path, FakePreprocessor(), name="fake", options={"gain": 1.0}, facts=facts)

    with pytest.raises(CheckpointError, match=f"codec_options.{option}: expected plain options"):
        Compressor.load(path, registry)
    with pytest.raises(CheckpointError, match=option):
        load_compressor(path, registry)
    assert Acts.ran == []
    facts["codec_options"] = {"level": 6, "program": "", "plugin": None}  # the defaults, as files of today have them
    save_module(path, FakePreprocessor(), name="fake", options={"gain": 1.0}, facts=facts)
    assert Compressor.load(path, registry).codec.name == "acting"
    assert Acts.ran == []


class Reads(FakePreprocessor):
    name = "reads"

    def __init__(self, *, table: Path | str | None = None) -> None:
        super().__init__()
        assert table is None, "the path was used"


def test_a_weights_file_may_name_no_path_even_where_the_component_declares_nothing(tmp_path: Path) -> None:
    class Plugin:
        @hookimpl
        def precomp_register_preprocessors(self) -> list[type[Preprocessor]]:
            return [Reads]

    registry = registered(FakeCodec)
    registry.register(Plugin(), "reads")
    facts = {"codec": "fake", "codec_options": {}, "ladder": [5, 30]}
    save_module(tmp_path / "w.safetensors", Reads(), name="reads", options={"table": "/etc/passwd"}, facts=facts)

    with pytest.raises(CheckpointError, match=r"options.table: expected plain options.*names a path: '/etc/passwd'"):
        Compressor.load(tmp_path / "w.safetensors", registry)


EVIL = {
    "codec": {"codec": {"name": "acting", "program": "evil"}},
    "task": {"task": {"name": "acting", "plugin": "evil"}},
    "inner": {"task": {"name": "holding", "inside": {"name": "acting", "program": "evil"}}},
}


@pytest.mark.parametrize("place", list(EVIL))
def test_an_experiment_that_is_only_read_runs_nothing(
    registry: Registry, tables: dict[str, Any], tmp_path: Path, image: Path, place: str
) -> None:
    tables["preprocessor"] = {"name": "needs-task"}
    experiment = parse_experiment({**tables, **EVIL[place]})
    run_training(experiment, registry)  # what the user typed may name anything
    assert "evil" in Acts.ran
    Acts.ran.clear()
    folder = tmp_path / "run"

    with pytest.raises(ConfigError, match=r"a file must not make this program run others; got 'evil'\. Say --trust"):
        run_evaluation(experiment, registry)
    told = [
        call(registry, "evaluate", str(folder)),
        call(registry, "evaluate", str(folder), "--json"),
        call(registry, "compress", str(folder), str(image), "--quality", "30", "--output", str(tmp_path / "o")),
        call(registry, "decompress", str(folder), str(image), "--output", str(tmp_path / "o.png")),
        call(registry, "export", str(folder), "--output", str(tmp_path / "e.onnx")),
    ]

    assert [item.exit_code for item in told] == [1] * len(told)
    assert all("--trust" in item.stderr for item in told), told[-1].stderr
    assert Acts.ran == []
    assert call(registry, "evaluate", str(folder), "--trust").exit_code == 0
    assert Acts.ran == ["evil"]


def test_a_run_folder_that_is_trained_on_runs_nothing_unless_told(
    registry: Registry, tables: dict[str, Any], tmp_path: Path
) -> None:
    folder, typed = tmp_path / "run", tmp_path / "mine.toml"
    run_training(parse_experiment({**tables, **EVIL["codec"]}), registry)
    typed.write_text(tomli_w.dumps({**tables, "codec": {"name": "acting"}}))
    Acts.ran.clear()

    told = [
        call(registry, "train", str(folder), "--resume"),
        call(registry, "train", str(folder), "--overwrite"),
        call(registry, "train", str(folder), "--output", str(tmp_path / "other")),
        call(registry, "train", str(typed), "--output", str(folder), "--resume"),  # with the folder's options
    ]

    assert [item.exit_code for item in told] == [1] * len(told)
    assert all("codec.program: expected no program" in item.stderr for item in told)
    assert Acts.ran == []
    assert call(registry, "train", str(folder), "--resume", "--trust").exit_code == 0
    assert Acts.ran == ["evil"]


@pytest.mark.parametrize("place", ["codecs", "tasks"])
def test_a_transfer_file_runs_nothing(registry: Registry, tmp_path: Path, place: str) -> None:
    tables: dict[str, Any] = {
        "codecs": {"a": {"name": "fake"}},
        "tasks": {"a": {"name": "fake"}},
        "preprocessors": {"a": {"name": "fake"}},
        "ladders": {"a": [5, 30]},
        "data": {"val": {"name": "fake", "count": 6}},
        "evaluate": {"replicates": 0},
        "output": {"folder": str(tmp_path / "matrix")},
    }
    tables[place] = {"a": {"name": "acting", "program": "evil"}}
    file = tmp_path / "t.toml"
    file.write_text(tomli_w.dumps(tables))

    with pytest.raises(ConfigError, match=f"{place}.a.program"):
        run_transfer(parse_transfer(tables), registry)
    assert call(registry, "transfer", str(file)).exit_code == 1
    assert Acts.ran == []
    assert call(registry, "transfer", str(file), "--trust").exit_code == 0
    assert Acts.ran == ["evil"]


@pytest.mark.parametrize("declared", [{"nothing": "path"}, {"level": "secret"}, ["level"]])
def test_what_a_component_says_of_its_options_is_checked(declared: Any) -> None:
    odd: Any = type("Odd", (FakeCodec,), {"unsafe_options": declared})
    with pytest.raises(PluginError, match=r"Odd\.unsafe_options: expected options of the class"):
        registered(odd)


_PLAIN = {  # options of shipped components whose type is text: each was looked at, and names no path and no program
    "codec": {"chroma", "effort", "encoder", "qp_scale", "subsampling"},
    "proxy": {"rate_rule", "rounding"},
    "preprocessor": {"lambdas", "when_nothing"},
    "task": {"architecture", "backbone", "backbone_layers", "classes", "feature_layers", "loss"},
    "dataset": {"classes", "size", "split", "target", "year"},
}
_NO_TEXT = {"ensemble.members", "ensemble.weights"}
_UNSAFE = {
    "codec": {"backend": "program", "bpgenc": "program", "bpgdec": "program"},
    "proxy": {},
    "preprocessor": {},
    "task": {"weights": "path", "backbone_weights": "path", "classes": "path"},
    "dataset": {"root": "path", "images": "path", "annotations": "path", "masks": "path", "shards": "path"},
}


def test_every_option_of_every_shipped_component_was_reviewed() -> None:
    """A new option that is text fails here until somebody says what it may hold."""
    import inspect

    seen = 0
    for item in Registry().components():
        if item.plugin.package != "precomp-sdk":
            continue
        unsafe = unsafe_options_of(item.cls)
        for name, kind in unsafe.items():
            assert _UNSAFE[item.kind].get(name) == kind, f"{item.kind} {item.name}: {name}"
        for name, parameter in inspect.signature(item.cls).parameters.items():
            if parameter.kind is not parameter.KEYWORD_ONLY or "str" not in str(parameter.annotation).lower():
                continue
            seen += 1
            known = name in unsafe or name in _PLAIN[item.kind] or "Literal" in str(parameter.annotation)
            assert known or f"{item.name}.{name}" in _NO_TEXT, f"{item.kind} {item.name}: {name}"
    assert seen > 60
