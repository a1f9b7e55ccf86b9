"""A plugin of a stranger, whatever it does, takes nothing down but itself."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from precomp_sdk import Codec, PluginError, PrecompError, Registry, hookimpl
from precomp_sdk.errors import printable
from precomp_sdk.testing import FakeCodec

GOOD = """
from precomp_sdk import hookimpl
from precomp_sdk.testing import FakeCodec

class {name}(FakeCodec):
    name = "{name}"
    source = "see Smith [preprint] [red]x[/red] \\x1b[32m"

@hookimpl
def precomp_register_codecs():
    return [{name}]
"""
BAD = {
    "skips": "class Skipped(BaseException): pass\nraise Skipped('module-level skip')",
    "exits": "raise SystemExit(3)",
    "cancels": "import asyncio\nraise asyncio.CancelledError",
    "generator": "raise GeneratorExit",
    "textless": "class Odd(Exception):\n    def __str__(self): return 1 / 0\nraise Odd",
    "recurses": "def f(): f()\nf()",
    "prints": "import os\nprint('{\"spoilt\": ')\nos.write(1, b'from below\\n')\n" + GOOD.format(name="prints"),
    "starts": GOOD.format(name="starts") + "\ndef bad(self, **o): raise RuntimeError('no licence server')\n"
    "starts.__init__ = bad\n",
    "stops": GOOD.format(name="stops") + "\ndef bad(self): raise SystemExit('bye')\nstops.__init__ = bad\n",
}


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process that has the bad plugins installed, beside a good one and our own."""
    site = tmp_path / "site"
    for name, source in {**BAD, "good": GOOD.format(name="good")}.items():
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[precomp_sdk]\n{name} = stranger_{name}\n")
        (site / f"stranger_{name}.py").write_text(source)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
        return subprocess.run(
            [sys.executable, "-m", "precomp_sdk.cli", *arguments],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.slow
def test_plugins_are_listed_whatever_they_raise(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    listed, as_json = command("plugins"), command("plugins", "--json")

    assert (listed.returncode, as_json.returncode) == (0, 0), listed.stderr + as_json.stderr
    told = json.loads(as_json.stdout)  # nothing else is there
    assert "from below" in as_json.stderr
    states = {item["name"]: item["state"] for item in told["plugins"] if item["name"] in BAD or item["name"] == "good"}
    assert states == {name: "ok" if name in ("good", "prints", "starts", "stops") else "broken" for name in states}
    assert len(states) == len(BAD) + 1
    codecs = {item["name"]: item for item in told["components"] if item["kind"] == "codec"}
    assert codecs["jpeg"]["state"] == codecs["good"]["state"] == "ok"
    assert "stranger_starts.starts failed to start: RuntimeError: no licence server" in codecs["starts"]["missing"]
    assert codecs["stops"]["state"] == "unavailable"
    assert "see Smith [preprint] [red]x[/red] \\x1b[32m" in listed.stdout
    assert "\x1b" not in listed.stdout
    assert "module-level skip" in listed.stdout


@pytest.mark.slow
def test_a_command_that_needs_none_of_them_works(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = command("check", "good", "--kind", "codec", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["failures"] == 0


class Offers:
    def __init__(self, cls: type[Codec]) -> None:
        self._cls = cls

    @hookimpl
    def precomp_register_codecs(self) -> list[type[Codec]]:
        return [self._cls]


@pytest.mark.parametrize(
    "name",
    [
        "\x1b[2J\x1b[31mEVIL\x1b]0;title\x07",
        "../../etc/passwd",
        "line\nbreak",
        "[red]markup[/red]",
        "x" * 5000,
        "",
        "-x",
    ],
)
def test_names_that_cannot_be_typed_are_refused_and_shown_escaped(name: str) -> None:
    named: Any = type("Named", (FakeCodec,), {"name": name})
    with pytest.raises(PluginError, match="expected a name to type on the command line") as caught:
        Registry(entry_points=False).register(Offers(named), "mine")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_control_characters_of_names_and_errors_are_shown_escaped() -> None:
    error = PrecompError(where="a\x1b[2Jb", expected="x\ny", got="\u202egnp.\u2028", remedy="\x07.")
    assert str(error) == r"a\x1b[2Jb: expected x\ny; got \u202egnp.\u2028. \x07."
    assert error.where == "a\x1b[2Jb"  # for programs
    assert printable("größe 日本 🎉 \N{NO-BREAK SPACE}") == "größe 日本 🎉 \N{NO-BREAK SPACE}"
    assert printable("a\nb\r", lines=True) == "a\nb\\r"
    assert printable("\udc80") == "\\udc80"
