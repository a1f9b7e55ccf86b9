"""What every command has: version, help, completion, quiet, verbose, JSON."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import typer.main
from typer.testing import Result

from precomp_sdk import cli

Call = Callable[..., Result]

SILENT = {"decompress", "init", "new-plugin", "report"}  # they write a file and measure nothing


def test_the_version_is_the_distributions(call: Call) -> None:
    told = call("--version")
    assert (told.exit_code, told.stdout) == (0, f"precomp {version('precomp-sdk')}\n")


@pytest.mark.parametrize("arguments", [("-h",), ("train", "-h"), ("--help",), ("plugins", "--help")])
def test_help_has_a_short_name(call: Call, arguments: tuple[str, ...]) -> None:
    told = call(*arguments)
    assert told.exit_code == 0
    assert "Usage" in told.stdout


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "precomp_sdk", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("precomp ")


def test_shells_can_complete(call: Call) -> None:
    assert "--show-completion" in call("--help").stdout


def test_every_command_that_measures_prints_json() -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]  # a group
    assert set(commands) > SILENT
    for name in set(commands) - SILENT:
        assert "--json" in [option for item in commands[name].params for option in item.opts], name


def test_json_is_all_there_is_on_standard_output(call: Call, mine: Path) -> None:
    trained = call("--quiet", "train", "mine.toml", "--json")
    evaluated = call("--quiet", "evaluate", "run", "--json")

    assert (trained.exit_code, trained.stderr) == (0, "")
    assert json.loads(trained.stdout)["training"]["steps"] == 8
    assert json.loads(evaluated.stdout)["curves"][0]["label"] == "anchor"


def test_quiet_leaves_notices_and_verbose_tells_every_event(call: Call, mine: Path) -> None:
    mine.write_text(mine.read_text() + "\n")
    usual = call("train", "mine.toml")
    quiet = call("--quiet", "train", "mine.toml", "--overwrite")
    verbose = call("--verbose", "train", "mine.toml", "--overwrite")

    assert "done in" in usual.stderr
    assert "done in" not in quiet.stderr
    assert verbose.stderr.count("StepDone(") >= 8


def test_verbose_shows_where_an_error_comes_from(call: Call) -> None:
    assert type(call("--verbose", "train", "none.toml").exception).__name__ == "ConfigError"
