"""A class or a file as a plugin."""

import importlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from precomp_sdk import Codec, DuplicateNameError, PluginError, Registry, cli
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask

CODEC = """
import torch
from precomp_sdk import Codec, QualityScale
from precomp_sdk.testing import FakeCodec

class MyCodec(FakeCodec):
    name = "mine"
    source = "a test"
"""
HOOKS = (
    CODEC
    + """
from precomp_sdk import hookimpl

@hookimpl
def precomp_register_codecs():
    return [MyCodec]
"""
)


def test_classes_of_every_contract_are_added_at_once() -> None:
    registry = Registry(entry_points=False)
    registry.add(FakeCodec, FakeProxy, FakePreprocessor, FakeTask, FakeDataset, name="doubles")
    assert {item.kind for item in registry.components()} == {"codec", "proxy", "preprocessor", "task", "dataset"}
    assert [plugin.name for plugin in registry.plugins()] == ["doubles"]
    assert registry.create("codec", "fake", level=2).options == {"level": 2}


def test_two_additions_stand_side_by_side_and_a_taken_name_is_refused() -> None:
    registry = Registry(entry_points=False)
    registry.add(FakeCodec)
    registry.add(FakeTask)
    with pytest.raises(DuplicateNameError, match="fake"):
        registry.add(type("Other", (FakeCodec,), {}))
    assert registry.codecs["fake"] is FakeCodec


@pytest.mark.parametrize("wrong", [int, Codec, FakeCodec(), type("Nameless", (FakeCodec,), {"name": None})])
def test_what_is_no_component_is_refused_and_nothing_is_added(wrong: object) -> None:
    registry = Registry(entry_points=False)
    with pytest.raises(PluginError):
        registry.add(FakeTask, wrong)  # type: ignore[arg-type]  # that is the test
    assert registry.components() == ()


@pytest.mark.parametrize("text", [CODEC, HOOKS], ids=["classes", "hooks"])
def test_a_file_is_a_plugin(text: str, tmp_path: Path) -> None:
    (tmp_path / "my_codec_file.py").write_text(text)
    registry = Registry(entry_points=False)
    registry.add_file(tmp_path / "my_codec_file.py")
    assert list(registry.codecs) == ["mine"]  # what it imports is not its own
    assert registry.files == (tmp_path / "my_codec_file.py",)


def test_a_file_takes_no_other_modules_place(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text(CODEC)
    Registry(entry_points=False).add_file(tmp_path / "json.py")
    assert importlib.import_module("json").dumps([1]) == "[1]"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1", "neither"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import nowhere_at_all", "ModuleNotFoundError"),
        (None, "none of that name"),
    ],
)
def test_a_file_that_is_none_says_why(text: str | None, told: str, tmp_path: Path) -> None:
    path = tmp_path / "broken_plugin_file.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PluginError, match=told):
        Registry(entry_points=False).add_file(path)


def test_the_command_line_takes_a_file(tmp_path: Path) -> None:
    (tmp_path / "my_cli_codec.py").write_text(CODEC)
    call = ["--plugin", str(tmp_path / "my_cli_codec.py"), "info", "mine"]
    done = CliRunner().invoke(cli.app, call, obj=Registry(entry_points=False))
    assert done.exit_code == 0, done.output
    assert "codec mine, of (registered in code)" in done.stdout
    missing = CliRunner().invoke(cli.app, ["--plugin", "nowhere.py", "plugins"])
    assert missing.exit_code == 1
    assert "nowhere.py: expected a Python file" in missing.stderr
