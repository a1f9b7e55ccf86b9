import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from precomp_sdk import Codec, MissingDependencyError, Registry, hookimpl
from precomp_sdk.testing import FakeCodec, FakeProxy

Call = Callable[..., Result]


def test_plugins_are_listed_with_package_version_and_state(call: Call) -> None:
    result = call("plugins", registry=None)  # the installed ones

    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["codec", "jpeg", "precomp-sdk"] in [row[:3] for row in rows]
    assert {row[0] for row in rows[1:] if row} >= {"codec", "proxy", "preprocessor", "task", "dataset"}
    jpeg = next(row for row in rows if row[:2] == ["codec", "jpeg"])
    assert jpeg[3][0].isdigit()
    assert jpeg[4] == "ok"


def test_plugins_that_did_not_load_are_told_with_their_error(
    call: Call, doubles: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EntryPoint:
        dist = None

        def __init__(self, name: str, error: Exception) -> None:
            self.name = self.value = name
            self._error = error

        def load(self) -> object:
            raise self._error

    missing = MissingDependencyError(where="heic", expected="pillow-heif", got="none", remedy="pip install it.")
    found = [EntryPoint("heic", missing), EntryPoint("odd", ZeroDivisionError("by zero"))]
    monkeypatch.setattr("precomp_sdk.registry.entry_points", lambda group: found)
    registry = Registry()

    table, as_json = call("plugins", registry=registry), call("plugins", "--json", registry=registry)

    assert table.exit_code == 0
    assert "plugin 'heic' is unavailable: heic: expected pillow-heif; got none. pip install it." in table.stdout
    assert "plugin 'odd' of (unknown package): expected odd to load; got ZeroDivisionError: by zero" in table.stdout
    told = {item["name"]: item for item in json.loads(as_json.stdout)["plugins"]}
    assert (told["heic"]["state"], told["odd"]["state"]) == ("unavailable", "broken")


def test_a_component_is_checked_by_its_name(call: Call, tmp_path: Path) -> None:
    kept = call("check", "fake", "--kind", "codec", "--set", "level=1")
    as_json = call("check", "fake", "--kind", "dataset", "--set", "count=5", "--json")
    proxy = call("check", "fake", "--kind", "proxy", "--set", "codec.level=2", "--codec", "fake")

    assert (kept.exit_code, as_json.exit_code, proxy.exit_code) == (0, 0, 0), kept.output + proxy.output
    assert kept.stdout == "codec 'fake': 16 of 16 checks passed\n"
    assert proxy.stdout == "proxy 'fake': 16 of 16 checks passed\n"
    told = json.loads(as_json.stdout)
    assert (told["kind"], told["name"], told["failures"]) == ("dataset", "fake", 0)
    assert told["class"] == "precomp_sdk.testing.doubles.FakeDataset"
    assert {item["number"]: item["outcome"] for item in told["checks"]}["D5"] == "not applicable"


def test_a_failure_fails_the_command_unless_it_is_expected(call: Call) -> None:
    starts_as_blur = ("check", "fake", "--kind", "preprocessor", "--set", "gain=0.5")

    broken = call(*starts_as_blur)
    expected = call(*starts_as_blur, "--expected-failure", "N2=a blur is = wanted")
    stale = call("check", "fake", "--kind", "preprocessor", "--expected-failure", "N2=a blur", "--json")

    assert (broken.exit_code, expected.exit_code, stale.exit_code) == (1, 0, 1)
    assert broken.stdout.startswith("N2 failed: A fresh one changes no sample")
    assert "N2 expected failure" in expected.stdout
    assert "a blur is = wanted (expected" in expected.stdout
    assert json.loads(stale.stdout)["failures"] == 1


def test_weights_can_be_checked(call: Call, mine: Path) -> None:
    assert call("train", "mine.toml").exit_code == 0

    checked = call("check", "fake", "--kind", "preprocessor", "--load", "run/preprocessor.safetensors")

    assert (checked.exit_code, checked.stdout.split(":")[0]) == (1, "N2 failed")  # it was trained, so it moved


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fak"], "check: expected the name of a component; got 'fak'. Did you mean 'fake'?"),
        (["zzz", "--kind", "codec"], "expected the name of a codec; got 'zzz'. Known: 'fake'."),
        (
            ["fake"],
            "expected a name of one kind; got one of codec, proxy, preprocessor, task, dataset. Say which: --kind",
        ),
        (["fake", "--kind", "codek"], "check: expected a kind of component; got 'codek'. Did you mean 'codec'?"),
        (["fake", "--kind", "codec", "--set", "lvl=1"], "check of codec 'fake', codec.lvl: expected a known option"),
        (["fake", "--kind", "codec", "--set", "level"], "override 'level': expected key.path=value"),
        (["fake", "--kind", "proxy", "--set", "codec=jpeg"], "check of proxy 'fake': expected options of the codec"),
        (
            ["fake", "--kind", "proxy", "--codec", "jpg"],
            "check of proxy 'fake', codec.name: expected the name of a codec",
        ),
        (["fake", "--kind", "task", "--codec", "fake"], "check of task 'fake': expected no codec; got fake."),
        (["fake", "--kind", "codec", "--load", "x"], "check of codec 'fake': expected no weights; got x."),
        (["fake", "--kind", "task", "--load", "x"], "task.load: x: expected a weights file"),
        (
            ["fake", "--kind", "codec", "--expected-failure", "C1"],
            "expected_failures['C1']: expected the number of a check",
        ),
    ],
)
def test_what_cannot_be_checked_is_told_in_one_line(call: Call, arguments: list[str], message: str) -> None:
    result = call("check", *arguments)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("precomp: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_proxy_of_any_codec_is_told_which(call: Call, doubles: Registry) -> None:
    class Learned(FakeProxy):
        name = "learned"
        codec_name = "*"

    class Plugin:
        @hookimpl
        def precomp_register_proxies(self) -> list[Any]:
            return [Learned]

    doubles.register(Plugin(), "learned")

    assert "expected the codec to stand in for; got none" in call("check", "learned").stderr
    assert call("check", "learned", "--codec", "fake").exit_code == 0


def test_a_check_of_an_unknown_name_mentions_what_did_not_load(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    class EntryPoint:
        dist = None
        name = value = "odd"

        def load(self) -> object:
            raise SystemExit(3)

    monkeypatch.setattr("precomp_sdk.registry.entry_points", lambda group: [EntryPoint()])

    result = call("check", "mine", registry=Registry())

    assert result.exit_code == 1
    assert "Plugins that did not load, see `precomp plugins`: odd of (unknown package)." in result.stderr


def test_plugins_as_json_have_every_component(call: Call, doubles: Registry) -> None:
    told = json.loads(call("plugins", "--json").stdout)

    assert [(item["kind"], item["name"]) for item in told["components"]] == [
        (item.kind, item.name) for item in doubles.components()
    ]
    assert {"package", "version", "state", "source", "plugin"} <= told["components"][0].keys()


def test_a_codec_without_its_library_is_listed_as_unavailable(call: Call, doubles: Registry) -> None:
    class Lacking(FakeCodec):
        name = "lacking"

        def __init__(self, *, backend: str = "library") -> None:
            super().__init__()
            if backend == "library":
                raise MissingDependencyError(
                    where="lacking", expected="a library", got="none", remedy="pip install it."
                )

    class Plugin:
        @hookimpl
        def precomp_register_codecs(self) -> list[type[Codec]]:
            return [Lacking]

    doubles.register(Plugin(), "lacking")
    table, as_json = call("plugins"), json.loads(call("plugins", "--json").stdout)
    assert "codec 'lacking' is unavailable: lacking: expected a library; got none. pip install it." in table.stdout
    states = {item["name"]: item["state"] for item in as_json["components"] if item["kind"] == "codec"}
    assert states == {"fake": "ok", "lacking": "unavailable"}
    assert doubles.create("codec", "lacking", backend="program").name == "lacking"  # what works still does
