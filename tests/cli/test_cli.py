import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Call = Callable[..., Result]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "none.toml"], "none.toml: expected a TOML file; got No such file or directory."),
        (["train", "mine.toml", "--set", "train.stepz=1"], "mine.toml, train.stepz: expected a known key"),
        (["train", "mine.toml", "--set", "train.steps=x"], "mine.toml, train.steps: expected a whole number; got 'x'."),
        (["train", "mine.toml", "--set", "codec.name=fke"], "mine.toml, codec.name: expected the name of a codec"),
        (["train", "mine.toml", "--set", "codec.lvl=1"], "mine.toml, codec.lvl: expected a known option"),
        (["train", "mine.toml", "--set", "train.ladder=[500]"], "a whole number from 1 to 100; got 500.0."),
        (
            ["train", "mine.toml", "--set", "data.val.labelled=false"],
            "data.val: data set 'fake' for task 'fake': expected targets of kind",
        ),
        (["train", "mine.toml", "--set", "steps"], "override 'steps': expected key.path=value"),
        (["evaluate", "mine.toml"], "run/preprocessor.safetensors: expected a weights file"),
        (["evaluate", "mine.toml", "--weights", "mine.toml"], "mine.toml: expected a weights file"),
        (["quickstart", "--set", "train.stepz=1"], "quickstart.toml, train.stepz: expected a known key"),
        (["fit-proxy", "--codec", "fake", "--data", ".", "--output", "p"], "fit-proxy, data.name: expected the name"),
        (["train", "mine.toml", "--output", "mine.toml"], "mine.toml"),  # a file where a folder should be
    ],
)
def test_an_error_is_one_clear_message(call: Call, mine: Path, arguments: list[str], message: str) -> None:
    result = call(*arguments)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("precomp: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_a_traceback_is_shown_on_request_only(call: Call) -> None:
    assert isinstance(call("train", "none.toml").exception, SystemExit)
    assert type(call("--traceback", "train", "none.toml").exception).__name__ == "ConfigError"


@pytest.mark.parametrize("arguments", [["train"], ["trian"], ["train", "x.toml", "--rezume"], ["fit-proxy"]])
def test_wrong_usage_is_exit_code_2(call: Call, arguments: list[str]) -> None:
    assert call(*arguments).exit_code == 2


def test_only_the_first_process_speaks(call: Call, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")

    result = call("train", "mine.toml")

    assert (result.exit_code, result.stdout) == (0, "")


def test_only_commands_that_resume_speak_of_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("precomp_sdk.cli.plugins.registry_of", stop)
    stopped = call("plugins")
    assert (stopped.exit_code, stopped.stderr) == (130, "precomp: interrupted\n")


def test_help_does_not_wait_for_what_it_does_not_need() -> None:
    heavy = ("torch", "numpy", "pydantic", "lightning_fabric", "matplotlib", "scipy", "tensorboard", "precomp_jpeg")
    code = f"import sys; import precomp_sdk.cli; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
