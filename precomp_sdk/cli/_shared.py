"""The application, the options that commands share, and how errors and results are told."""

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console
from typer.core import TyperGroup

from precomp_sdk import __version__
from precomp_sdk._deprecated import OldNameWarning
from precomp_sdk.errors import PrecompError, file_trouble, printable
from precomp_sdk.interrupts import Interrupted, signals_raise

if TYPE_CHECKING:
    from collections.abc import Callable

    from precomp_sdk.events import Event
    from precomp_sdk.registry import Registry

__all__ = [
    "STREAM",
    "Address",
    "AsJSON",
    "EngineName",
    "Output",
    "Overwrite",
    "Resume",
    "Settings",
    "Trust",
    "Workers",
    "app",
    "complain",
    "overrides_of",
    "progress",
    "quiet",
    "read_input",
    "registry_of",
    "tell_json",
    "tell_notice",
    "tell_result",
    "write_output",
]

STREAM = Path("-")  #: standard input or output in the place of a file

_INTERRUPTED = 130  # what shells give a program that ctrl-C ended
_RESUMABLE = {  # by command: what is told where it is interrupted
    "train": "; --resume goes on from the last checkpoint",
    "quickstart": "; --resume goes on from the last checkpoint",
    "compress": "; the same command goes on",
}
_REGISTRY = "precomp_sdk.registry"  # in the context of one call

_result_stream: TextIO | None = None  # where results go while everything else that is printed goes elsewhere


class _Group(TyperGroup):
    """Tells errors in one line, without a traceback unless asked for."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with _notices_told(), signals_raise():
                return super().invoke(ctx)
        except (PrecompError, OSError) as error:
            if ctx.params.get("traceback") or ctx.params.get("verbose"):
                raise
            complain(str(error) if isinstance(error, PrecompError) else file_trouble(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            told = f" at {error.told}" if isinstance(error, Interrupted) and error.told else ""
            complain(f"interrupted{told}{_RESUMABLE.get(ctx.invoked_subcommand or '', '')}")
            raise typer.Exit(error.status if isinstance(error, Interrupted) else _INTERRUPTED) from error


@contextmanager
def _notices_told() -> Iterator[None]:
    """Tell warnings of old names and of plugins once each, as a notice of one line; others are shown as ever."""
    from precomp_sdk._hosting import PluginWarning

    told: set[str] = set()
    ours = (OldNameWarning, PluginWarning)
    with warnings.catch_warnings():
        for category in ours:
            warnings.simplefilter("always", category)
        shown = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, ours):
                shown(message, category, filename, lineno, file, line)
            elif str(message) not in told:
                told.add(str(message))
                complain(str(message))

        warnings.showwarning = show
        yield


@contextmanager
def _result_alone() -> Iterator[None]:
    """Keep standard output for `tell_result`: what plugins and libraries print goes to standard error."""
    global _result_stream
    before, saved = sys.stdout, -1
    before.flush()
    with suppress(OSError, ValueError):  # no file behind it, as in tests and notebooks
        if before.fileno() == 1:
            saved = os.dup(1)
            os.dup2(2, 1)
    _result_stream = before if saved < 0 else os.fdopen(os.dup(saved), "w", encoding="utf-8")
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if saved >= 0:
            _result_stream.close()
            os.dup2(saved, 1)
            os.close(saved)
        _result_stream = None


def _json_asked(ctx: typer.Context, wanted: bool) -> bool:
    if wanted:
        ctx.with_resource(_result_alone())
    return wanted


app: typer.Typer = typer.Typer(
    name="precomp",
    cls=_Group,
    help="Train a neural preprocessor in front of a standard image codec, for machine vision at fewer bits.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the file, such as train.steps=100. Repeatable."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in the output folder.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an older run in the output folder.")]
Output = Annotated[Path | None, typer.Option("--output", help="Folder for the results, instead of output.folder.")]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Let the files name programs and modules: only where you know who made them."),
]
Workers = Annotated[
    int | None,
    typer.Option(help="How many at a time, a core each; 0: as many as cores. Default: this process; with ray, all."),
]
EngineName = Annotated[str, typer.Option("--engine", help="Who works: local, or ray (extra ray).")]
Address = Annotated[str | None, typer.Option(help="Of a running Ray cluster; default: one on this machine.")]
AsJSON = Annotated[
    bool, typer.Option("--json", callback=_json_asked, help="Print JSON on standard output, and nothing else there.")
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"precomp {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress: only results, notices and errors.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Every event as a line, and where an error comes from.")
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")] = False,
    plugin: Annotated[
        list[Path] | None, typer.Option("--plugin", help="A Python file whose components take part. Repeatable.")
    ] = None,
) -> None:
    """Train a neural preprocessor in front of a standard image codec, for machine vision at fewer bits."""


def registry_of(ctx: typer.Context) -> "Registry":
    """Return the registry that an embedder passed as the context's object, or one of the installed plugins.

    Files given by ``--plugin`` are registered in it, once.
    """
    from precomp_sdk.registry import Registry

    if _REGISTRY not in ctx.meta:
        registry = ctx.obj if isinstance(ctx.obj, Registry) else Registry()
        for path in ctx.find_root().params.get("plugin") or ():
            registry.add_file(path)
        ctx.meta[_REGISTRY] = registry
    found: Registry = ctx.meta[_REGISTRY]
    return found


def overrides_of(settings: list[str] | None, folder: Path | None) -> list[str]:
    return [*(settings or ()), *([] if folder is None else [f"output.folder={json.dumps(str(folder))}"])]


def quiet(ctx: typer.Context) -> bool:
    """Say whether ``--quiet`` was given."""
    return bool(ctx.find_root().params.get("quiet"))


@contextmanager
def progress(ctx: typer.Context) -> "Iterator[Callable[[Event], None]]":
    """Offer an observer that shows a run as ``--quiet`` and ``--verbose`` ask for it, on standard error."""
    from precomp_sdk.observers import ProgressObserver

    if quiet(ctx):
        yield tell_notice
    elif ctx.find_root().params.get("verbose"):
        yield lambda event: complain(str(event))
    else:
        with ProgressObserver() as observer:
            yield observer


def tell_notice(event: "Event") -> None:
    """Tell a notice as a line on standard error; other events are nothing to tell."""
    from precomp_sdk.events import Notice

    if isinstance(event, Notice):
        complain(f"{event.stage}: {event.message}")


def tell_json(value: object) -> None:
    """Print a result as JSON; numbers that JSON lacks become ``"nan"`` or ``"inf"``."""
    from precomp_sdk.observers import plain

    tell_result(json.dumps(plain(value), indent=1, allow_nan=False, ensure_ascii=False))


def tell_result(text: str) -> None:
    """Print the one JSON text of a command with ``--json``."""
    typer.echo(text, file=_result_stream)


def read_input(path: Path) -> bytes:
    """Return what a file holds, or standard input where the path is ``-``."""
    return sys.stdin.buffer.read() if path == STREAM else path.read_bytes()


def write_output(path: Path, content: bytes) -> None:
    """Write a file atomically, or standard output where the path is ``-``."""
    from precomp_sdk.atomic_io import write_whole

    if path == STREAM:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        write_whole(path, content)


def say(text: str) -> None:
    """Print lines for a reader; control characters in names are shown escaped."""
    typer.echo(printable(text, lines=True))


def complain(message: str) -> None:
    Console(stderr=True).print(
        f"precomp: {printable(message, lines=True)}", markup=False, highlight=False, soft_wrap=True
    )
