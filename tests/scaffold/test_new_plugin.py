import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from precomp_sdk import OptionError, PluginError, UnknownNameError, cli
from precomp_sdk.scaffold import KINDS, new_plugin

RULES = "E,F,I,N,RET,SIM,UP,W"


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_writes_is_whole_and_tidy(kind: str, tmp_path: Path) -> None:
    folder = new_plugin(f"acme-{kind}", kind, tmp_path)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "README.md",
        "pyproject.toml",
        f"src/acme_{kind}/__init__.py",
        f"src/acme_{kind}/{kind}.py",
        f"src/acme_{kind}/py.typed",
        f"tests/test_acme_{kind}.py",
    }
    assert "@" not in (folder / "pyproject.toml").read_text(encoding="utf-8")
    for arguments in (["check", "--select", RULES], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "--no-cache", "--line-length", "120", "."]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("name", "class_name"), [("jxl", "JxlCodec"), ("my-codec", "MyCodec"), ("a1-b2", "A1B2Codec")])
def test_class_names(name: str, class_name: str, tmp_path: Path) -> None:
    folder = new_plugin(name, "codec", tmp_path)
    package = name.replace("-", "_")
    assert f"class {class_name}(Codec):" in (folder / "src" / package / "codec.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["", "My-Codec", "my_codec", "1st", "a--b", "-a", "a-", "../up", "a b", "käse"])
def test_a_name_that_is_not_kebab_case_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="joined by hyphens"):
        new_plugin(name, "codec", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["torch", "json", "precomp-sdk", "class", "codec"])
def test_a_name_that_is_taken_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="that is not taken"):
        new_plugin(name, "codec", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("text", encoding="utf-8")
    with pytest.raises(PluginError, match="one that exists"):
        new_plugin("mine", "codec", tmp_path)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["precious"]


def test_an_unknown_kind_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'codec'"):
        new_plugin("mine", "codecs", tmp_path)


def test_what_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> int:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="no space"):
        new_plugin("mine", "codec", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = CliRunner().invoke(cli.app, ["new-plugin", "my-codec", "--kind", "codec"])
    assert first.exit_code == 0, first.output
    assert "next: pip install -e 'my-codec[test]' && pytest my-codec" in first.stdout
    again = CliRunner().invoke(cli.app, ["new-plugin", "my-codec", "--kind", "codec"])
    assert again.exit_code == 1
    assert again.stderr.startswith("precomp: my-codec: expected a folder that is yet to be made")
    taken = CliRunner().invoke(cli.app, ["new-plugin", "jpeg", "--kind", "codec"])
    assert taken.exit_code == 1
    assert "expected a name that no codec has; got 'jpeg', of precomp-sdk" in taken.stderr
    assert not (tmp_path / "jpeg").exists()
