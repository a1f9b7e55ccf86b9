import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, entry_points as real_entry_points, version
from pathlib import Path
from typing import Any

import pytest

from precomp_sdk import Registry, UnknownNameError, registry as registry_module

Install = Callable[..., None]

GOOD = """
from precomp_sdk import hookimpl
from precomp_sdk.testing import FakeCodec

class {name}(FakeCodec):
    name = "{name}"

@hookimpl
def precomp_register_codecs():
    return [{name}]
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install stranger's distributions: each has modules, one entry point per module."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    installed: set[str] = set()

    def put(distribution: str, modules: dict[str, str], version: str = "2.5", needs: str = "") -> None:
        info = site / f"{distribution}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
            + (f"Requires-Dist: {needs}\n" if needs else "")
        )
        lines = [f"{name} = {name}" for name in modules]
        (info / "entry_points.txt").write_text("\n".join(["[precomp_sdk]", *lines]) + "\n")
        for name, source in modules.items():
            (site / f"{name}.py").write_text(source)
        installed.add(distribution)

    def only_these(group: str) -> list[Any]:
        return [item for item in real_entry_points(group=group) if item.dist and item.dist.name in installed]

    monkeypatch.setattr("precomp_sdk.registry.entry_points", only_these)
    before = set(sys.modules)
    yield put
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(site)):
            del sys.modules[name]


def test_plugins_are_loaded_at_the_first_look_up_and_only_once(install: Install, tmp_path: Path) -> None:
    mark = tmp_path / "loaded"
    source = f"import pathlib\nmark = pathlib.Path({str(mark)!r})\nmark.write_text(f'{{mark.exists()}}')\n"
    install("stranger", {"stranger_a": source + GOOD.format(name="a")})

    registry = Registry()
    assert not mark.exists()
    assert list(registry.codecs) == ["a"]
    assert list(registry.proxies) == []
    assert registry.plugins()[0].name == "stranger_a"
    assert mark.read_text() == "False"  # True after a second time


def test_no_stranger_can_take_a_name_from_this_package(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("astranger", {"aaa": GOOD.format(name="jpeg")})
    strangers = registry_module.entry_points(group="precomp_sdk")
    own = [item for item in real_entry_points(group="precomp_sdk") if item.dist and item.dist.name == "precomp-sdk"]
    monkeypatch.setattr("precomp_sdk.registry.entry_points", lambda group: [*strangers, *own])

    registry = Registry()

    assert registry.codecs["jpeg"].__module__.startswith("precomp_jpeg")
    (stranger,) = [plugin for plugin in registry.plugins() if plugin.package == "astranger"]
    assert stranger.state == "broken"
    assert "'jpeg'" in stranger.error


def test_a_damaged_installation_does_not_hide_the_others(install: Install, tmp_path: Path) -> None:
    install("stranger", {"stranger_good": GOOD.format(name="good")})
    install("damaged", {"stranger_damaged": GOOD.format(name="other")})
    (tmp_path / "site" / "damaged-2.5.dist-info" / "METADATA").unlink()
    installed = registry_module.entry_points(group="precomp_sdk")
    nameless = [item for item in real_entry_points(group="precomp_sdk") if item.name == "stranger_damaged"]
    assert [item.dist.name if item.dist else "" for item in nameless] == [None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("precomp_sdk.registry.entry_points", lambda group: [*nameless, *installed])
        assert "good" in Registry().codecs


def test_components_come_with_package_version_and_state(install: Install) -> None:
    install("stranger", {"stranger_b": GOOD.format(name="b")}, version="3.1")

    (component,) = Registry().components()

    assert (component.kind, component.name, component.cls.__name__) == ("codec", "b", "b")
    plugin = component.plugin
    assert (plugin.name, plugin.package, plugin.version, plugin.state, plugin.error) == (
        "stranger_b", "stranger", "3.1", "ok", ""
    )  # fmt: skip


@pytest.mark.parametrize(
    ("source", "state", "error"),
    [
        (
            "import no_such_module_anywhere",
            "broken",
            "plugin 'stranger_bad' of bad: expected stranger_bad to load; got ModuleNotFoundError: No module named "
            "'no_such_module_anywhere' (stranger_bad.py:1). Install what provides 'no_such_module_anywhere', or "
            "reinstall bad with its dependencies.",
        ),
        (
            "1 / 0",
            "broken",
            "ZeroDivisionError: division by zero (stranger_bad.py:1). Upgrade or uninstall bad, or tell its authors.",
        ),
        ("raise SystemExit('usage: run me')", "broken", "got SystemExit: usage: run me (stranger_bad.py:1)"),
        (
            GOOD.format(name="x").replace("return [x]", "return x()"),
            "broken",
            "plugin 'stranger_bad' of bad, precomp_register_codecs: expected a list of classes; "
            "got an instance of x. Return a list",
        ),
        (GOOD.format(name="x").replace("return [x]", "return x"), "broken", "list of classes; got x."),
        (GOOD.format(name="x").replace("return [x]", "pass"), "broken", "a list of classes; got nothing."),
        (
            GOOD.format(name="x").replace("return [x]", "return [x()]"),
            "broken",
            "subclasses of Codec; got an instance",
        ),
        (
            GOOD.format(name="x").replace("return [x]", "1 / 0"),
            "broken",
            "ZeroDivisionError: division by zero (stranger",
        ),
        (
            GOOD.format(name="x").replace("precomp_register", "precom_register"),
            "broken",
            "of bad: expected a known hook; got precom_register_codecs. Did you mean 'precomp_register_codecs'",
        ),
        ("def (", "broken", "SyntaxError"),
        ("x = 1", "broken", "expected at least one function marked"),
        (
            "from precomp_sdk import MissingDependencyError\n"
            "raise MissingDependencyError(where='odd', expected='foo', got='none', remedy='pip install foo')",
            "unavailable",
            "pip install foo",
        ),
    ],
)
def test_a_plugin_that_fails_is_reported_and_the_others_work(
    install: Install, source: str, state: str, error: str
) -> None:
    install("bad", {"stranger_bad": source})
    install("good", {"stranger_good": GOOD.format(name="good")})

    registry = Registry()

    assert list(registry.codecs) == ["good"]
    told = {item.name: item for item in registry.plugins()}
    assert (told["stranger_bad"].state, told["stranger_bad"].package) == (state, "bad")
    assert error in told["stranger_bad"].error
    assert told["stranger_good"].state == "ok"


@pytest.mark.parametrize(
    ("needed", "state"),
    [
        ("precomp-sdk>=999", "unavailable"),
        ("Precomp_SDK[bpg] (>=999)", "unavailable"),
        ("precomp-sdk<0.0.1", "unavailable"),
        ("precomp-sdk>=0.0.1", "ok"),
        ("precomp-sdk", "ok"),
        ("precomp-sdk>=999; python_version < '3'", "ok"),
        ("another-package>=999", "ok"),
        ("no requirement at all", "ok"),
    ],
)
def test_a_plugin_for_another_version_of_the_package_is_not_imported(
    install: Install, tmp_path: Path, needed: str, state: str
) -> None:
    mark = tmp_path / "imported"
    source = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n" + GOOD.format(name="newer")
    install("newer", {"stranger_newer": source}, needs=needed)
    install("good", {"stranger_good": GOOD.format(name="good")})

    registry = Registry()

    told = {item.name: item for item in registry.plugins()}
    assert (told["stranger_newer"].state, mark.exists()) == (state, state == "ok")
    assert "good" in registry.codecs
    if state != "ok":
        wanted = "precomp-sdk<0.0.1" if "<" in needed else "precomp-sdk>=999"
        assert told["stranger_newer"].error.startswith(
            f"plugin 'stranger_newer' of newer 2.5: expected {wanted}; got precomp-sdk {version('precomp-sdk')}. "
            f"pip install '{wanted}', or install a version of newer for this one."
        )


def test_sources_without_an_installation_have_no_version_to_compare(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("precomp_sdk._plugins.version", none)
    install("newer", {"stranger_newer": GOOD.format(name="newer")}, needs="precomp-sdk>=999")

    assert list(Registry().codecs) == ["newer"]


def test_an_unknown_name_mentions_what_did_not_load(install: Install) -> None:
    install("bad", {"stranger_bad": "1 / 0"})

    with pytest.raises(UnknownNameError, match="did not load: stranger_bad"):
        Registry().create("codec", "jpeg")


def test_of_two_installed_plugins_with_one_name_the_second_is_broken(install: Install) -> None:
    install("first", {"stranger_first": GOOD.format(name="same")})
    install("second", {"stranger_second": GOOD.format(name="same")})

    registry = Registry()

    states = sorted(item.state for item in registry.plugins())
    broken = next(item for item in registry.plugins() if item.state == "broken")
    assert states == ["broken", "ok"]
    assert list(registry.codecs) == ["same"]
    assert "stranger_first.same of first" in broken.error
    assert "stranger_second.same of second" in broken.error
