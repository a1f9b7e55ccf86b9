"""The application, the options that commands share, and how errors are told."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console
from typer.core import TyperGroup

from precomp_sdk._deprecated import OldNameWarning
from precomp_sdk.errors import PrecompError

if TYPE_CHECKING:
    from precomp_sdk.events import Event
    from precomp_sdk.registry import Registry

__all__ = ["Output", "Overwrite", "Resume", "Settings", "app", "complain", "overrides_of", "registry_of", "tell_notice"]

_INTERRUPTED = 130  # what shells give a program that ctrl-C ended
_RESUMABLE = ("train", "quickstart")


class _Group(TyperGroup):
    """Tells errors in one line, without a traceback unless asked for."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with _old_names_told():
                return super().invoke(ctx)
        except (PrecompError, OSError) as error:
            if ctx.params.get("traceback"):
                raise
            complain(str(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            resumable = ctx.invoked_subcommand in _RESUMABLE
            complain("interrupted; --resume goes on from the last checkpoint" if resumable else "interrupted")
            raise typer.Exit(_INTERRUPTED) from error


@contextmanager
def _old_names_told() -> Iterator[None]:
    """Tell each warning of old names in a file once, as a notice of one line; other warnings are shown as ever."""
    told: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", OldNameWarning)
        shown = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, OldNameWarning):
                shown(message, category, filename, lineno, file, line)
            elif str(message) not in told:
                told.add(str(message))
                complain(str(message))

        warnings.showwarning = show
        yield


app = typer.Typer(
    name="precomp",
    cls=_Group,
    help="Train a neural preprocessor in front of a standard image codec, for machine vision at fewer bits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the file, such as train.steps=100. Repeatable."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in the output folder.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an older run in the output folder.")]
Output = Annotated[Path | None, typer.Option("--output", help="Folder for the results, instead of output.folder.")]


@app.callback()
def _options(
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")] = False,
) -> None:
    """Options of every command; `_Group` reads them."""


def registry_of(ctx: typer.Context) -> "Registry":
    """Return the registry that an embedder passed as the context's object, or one of the installed plugins."""
    from precomp_sdk.registry import Registry

    return ctx.obj if isinstance(ctx.obj, Registry) else Registry()


def overrides_of(settings: list[str] | None, folder: Path | None) -> list[str]:
    return [*(settings or ()), *([] if folder is None else [f"output.folder={json.dumps(str(folder))}"])]


def tell_notice(event: "Event") -> None:
    complain(str(getattr(event, "message", event)))


def complain(message: str) -> None:
    Console(stderr=True).print(f"precomp: {message}", markup=False, highlight=False, soft_wrap=True)
