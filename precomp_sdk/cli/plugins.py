"""Commands for plugins: list them, write one, check a component."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from precomp_sdk import __version__
from precomp_sdk.cli._shared import AsJSON, app, registry_of, say, tell_json, tell_result
from precomp_sdk.errors import printable

__all__: list[str] = []

_OBSERVER = "observer"  # no component of a run, but listed beside them


@app.command()
def plugins(
    ctx: typer.Context,
    kind: Annotated[
        str | None, typer.Option(help="List only codecs, proxies ...: codec, proxy and so on; observer for logs.")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """List every codec, proxy, preprocessor, task and data set, the logs, and the plugins that did not load."""
    from precomp_sdk.errors import UnknownNameError, nearest
    from precomp_sdk.registry import KINDS

    registry, kinds = registry_of(ctx), (*KINDS, _OBSERVER)
    if kind not in (None, *kinds):
        raise UnknownNameError(
            where="--kind", expected="a kind of component", got=repr(kind), remedy=nearest(str(kind), kinds)
        )
    rows = []
    for item in registry.components():
        if kind not in (None, item.kind):
            continue
        missing = item.missing()
        rows.append(
            {
                "kind": item.kind,
                "name": item.name,
                "package": item.plugin.package,
                "version": item.plugin.version,
                "state": "unavailable" if missing else item.plugin.state,
                "plugin": item.plugin.name,
                "source": str(getattr(item.cls, "source", "")),
                "missing": missing,
            }
        )
    trackers = _trackers() if kind in (None, _OBSERVER) else []
    failed = [item for item in registry.plugins() if item.state != "ok"]
    if as_json:
        told = [{name: getattr(item, name) for name in item.__slots__} for item in registry.plugins()]
        tell_json({"components": rows, "observers": trackers, "plugins": told})
        return
    rows += trackers
    table = Table("kind", "name", "package", "version", "state", "source", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*_cells(row[column] for column in ("kind", "name", "package", "version", "state", "source")))
    for plugin in failed:
        table.add_row(*_cells(("plugin", plugin.name, plugin.package, plugin.version, plugin.state, "")))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    for row in rows:
        if row["missing"]:
            typer.echo("\n" + printable(f"{row['kind']} {row['name']!r} is unavailable: {row['missing']}"))
    for plugin in failed:
        typer.echo("\n" + printable(f"plugin {plugin.name!r} is {plugin.state}: {plugin.error}"))


def _trackers() -> list[dict[str, str]]:
    """Return a row for each tracker of experiments that a run can log to."""
    from precomp_sdk.observers import MLflowObserver, TensorBoardObserver, WandbObserver

    rows = []
    for cls in (MLflowObserver, TensorBoardObserver, WandbObserver):
        error = cls.missing()
        row = {"kind": _OBSERVER, "name": cls.package, "package": "precomp-sdk", "version": __version__}
        row |= {"state": "ok" if error is None else "unavailable", "plugin": "", "source": f"output.{cls.package}"}
        rows.append({**row, "missing": "" if error is None else str(error)})
    return rows


def _cells(texts: Iterable[str]) -> Iterator[Text]:
    """Make cells that show a stranger's text as it is: neither markup nor control characters act."""
    return (Text(printable(text)) for text in texts)


@app.command()
def info(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a codec, proxy, preprocessor, task or data set.")],
    kind: Annotated[str | None, typer.Option(help="Its kind, where the name is of several: codec, proxy ...")] = None,
    as_json: AsJSON = False,
) -> None:
    """Say what a component is: its options with defaults and meanings, licence, source, and whether it is fitted."""
    from precomp_sdk.run import describe

    found = describe(name, registry_of(ctx), kind=kind)
    if as_json:
        tell_json(found)
        return
    lines = [f"{found.kind} {found.name}, of {found.package}: {found.state}", found.summary, ""]
    facts = {"source": found.source, "licence": found.licence, **found.facts}
    lines += [f"{key}: {value}" for key, value in facts.items() if value]
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print("\n".join(map(printable, lines)), markup=False, highlight=False)
    if found.options:
        table = Table("option", "default", "meaning", box=None, pad_edge=False)
        for option in found.options:
            table.add_row(*_cells((option.name, option.default or "required", option.meaning)))
        console.print()
        console.print(table)


@app.command("new-plugin")
def new_plugin(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Of the plugin and its component, in kebab-case.")],
    kind: Annotated[str, typer.Option(help="codec, proxy, preprocessor, task or dataset.")],
    parent: Annotated[Path, typer.Option(help="Folder to make it in.")] = Path(),
) -> None:
    """Write a plugin of your own that works as written, with its tests."""
    from precomp_sdk.errors import DuplicateNameError
    from precomp_sdk.scaffold import new_plugin as write_plugin

    for component in registry_of(ctx).components():
        if (component.kind, component.name) == (kind, name):
            raise DuplicateNameError(
                where="new-plugin",
                expected=f"a name that no {kind} has",
                got=f"{name!r}, of {component.plugin.package}",
                remedy="Choose another name.",
            )
    folder = write_plugin(name, kind, parent)
    say(f"{folder}\nnext: pip install -e '{folder}[test]' && pytest {folder}")


@app.command()
def check(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a codec, proxy, preprocessor, task or data set.")],
    kind: Annotated[str | None, typer.Option(help="Its kind, where the name is of several: codec, proxy ...")] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE", help="Of the component; codec.OPTION=VALUE of a proxy's codec."),
    ] = None,
    codec: Annotated[str | None, typer.Option(help="The codec of a proxy, instead of its own.")] = None,
    load: Annotated[Path | None, typer.Option(help="Weights of a proxy, a preprocessor or a task.")] = None,
    expected_failures: Annotated[
        list[str] | None,
        typer.Option("--expected-failure", metavar="NUMBER=REASON", help="Why a check fails. Repeatable."),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Run every check of the conformance kit on a component; exits with 1 where one fails."""
    import faulthandler

    from precomp_sdk.run import run_check

    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)  # a library that crashes takes this process along: say in which check
    known = dict(given.partition("=")[::2] for given in expected_failures or ())
    report = run_check(
        name, registry_of(ctx), kind=kind, codec=codec, options=options or (), load=load, expected_failures=known
    )
    if as_json:
        tell_result(json.dumps(report.as_dict(), indent=1))
    else:
        typer.echo(printable(report.summary(), lines=True))
    if report.failures:
        raise typer.Exit(1)
