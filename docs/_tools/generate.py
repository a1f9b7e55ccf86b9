"""Writes what the docs know from the code: command line, experiment files, checks, shipped components.

    python docs/_tools/generate.py           # writes
    python docs/_tools/generate.py --check   # exits with 1 where a page is out of date

A page holds ``<!-- generated: NAME -->`` and ``<!-- end -->``; what stands between them is replaced.
"""

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer.main

from precomp_data import Geometry
from precomp_sdk import ProxyCodec, ReadSettings, Registry
from precomp_sdk.cli import app
from precomp_sdk.config import (
    ChooserTable,
    ComponentTable,
    Data,
    EvaluateTable,
    Loadable,
    Output,
    TrainingChooserTable,
)
from precomp_sdk.evaluation import Baseline, Control
from precomp_sdk.run.description import arguments_of_docstring, options_of, summary_of
from precomp_sdk.testing import CHECKS
from precomp_sdk.training import FitProxySettings, FitTaskSettings, TrainSettings

DOCS = Path(__file__).resolve().parents[1]
_WORDS = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "string",
    Path: "path",
    ComponentTable: "table",
    Loadable: "table",
    ChooserTable: "table",
}
REGION = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> dict[Path, str]:
    """Return every page that has generated regions, as it should be."""
    wanted: dict[Path, str] = {}
    for path in sorted(DOCS.glob("**/*.md")):
        text = path.read_text(encoding="utf-8")
        if REGION.search(text):
            wanted[path] = REGION.sub(lambda found: f"{found[1]}\n{REGIONS[found[2]]().strip()}\n\n{found[3]}", text)
    return wanted


def stale() -> list[Path]:
    """Return the pages that are out of date."""
    return [path for path, text in pages().items() if path.read_text(encoding="utf-8") != text]


def command_line() -> str:
    """Return a section per command, from the program itself."""
    group: Any = typer.main.get_command(app)  # with the interface of click's Group
    parts = []
    for name, command in sorted(group.commands.items()):
        parameters = [item for item in command.params if item.name != "help"]
        places = " ".join(item.name.upper() for item in parameters if item.param_type_name == "argument")
        usage = f"precomp {name} {places} [OPTIONS]".replace("  ", " ")
        parts.append(f"## precomp {name}\n\n{command.help}\n\n```text\n{usage}\n```\n")
        rows = []
        for item in parameters:
            names = [item.name.upper()] if item.param_type_name == "argument" else [*item.opts, *item.secondary_opts]
            shown = ", ".join(f"`{option}`" for option in names)
            rows.append((shown, "required" if item.required else _default(item.default), item.help or ""))
        parts.append(_table(("argument or option", "default", "meaning"), rows))
    parts.append(
        "Every command takes `--traceback` before its name (`precomp --traceback train ...`): errors then say where "
        "they were raised. Exit codes: 0 done, 1 an error (told in one line), 2 wrong usage, 130 interrupted.\n"
    )
    return "\n".join(parts)


def tables() -> str:
    """Return a section per table of an experiment file."""
    sections: list[tuple[str, str, Any]] = [
        ("train", "The run; every key is a field of `TrainSettings`.", TrainSettings),
        ("task.fit", "With this table the task is fitted before the run.", FitTaskSettings),
        (
            "chooser",
            "With this table each training image goes at the quality that a chooser takes for it, see [Several networks"
            " in the loop](../guides/task.md#several-networks-in-the-loop-and-one-outside).",
            TrainingChooserTable,
        ),
        ("proxy.fit", "A proxy that needs fitting is fitted in any case.", FitProxySettings),
        ("evaluate", "What `precomp evaluate` does.", EvaluateTable),
        ("evaluate.chooser", "Quality chosen per image, see [the guide](../guides/evaluation.md).", ChooserTable),
        ("data", "The data sets: a table each.", Data),
        ("data.*.geometry", "Of every set of image files; a field of `Geometry` each.", Geometry),
        ("data.*.reading", "How the image files of a set are read; a field of `ReadSettings`.", ReadSettings),
        ("output", "Where the results go.", Output),
    ]
    parts = []
    for name, text, holder in sections:
        documents = reversed(holder.__mro__)
        told = {name: _text(text) for item in documents for name, text in arguments_of_docstring(item).items()}
        rows = [(f"`{key}`", _type(hint), _default(default), told.get(key, "")) for key, hint, default in _keys(holder)]
        parts.append(f"### `[{name}]`\n\n{text}\n\n" + _table(("key", "type", "default", "meaning"), rows))
    return "\n".join(parts)


def components() -> str:
    """Return the shipped components with their options."""
    parts = []
    found = [item for item in Registry().components() if item.plugin.package == "precomp-sdk"]
    for kind in ("codec", "proxy", "preprocessor", "task", "dataset"):
        parts.append(f"### {kind.capitalize()}\n" if kind != "dataset" else "### Data set\n")
        for item in (item for item in found if item.kind == kind):
            notes = _text(summary_of(item.cls))
            if issubclass(item.cls, ProxyCodec):
                notes = f"For `{item.cls.codec_name}`. {notes}"
            scale = getattr(item.cls, "quality_scale", None) if kind == "codec" else None
            if scale is not None:
                notes += f" `{scale.name}` {scale.minimum:g} to {scale.maximum:g}; ladder {_numbers(scale.ladder)}."
            rows = [
                (f"`{option.name}`", _default(signature.parameters[option.name].default), _text(option.meaning))
                for signature in [inspect.signature(item.cls)]
                for option in options_of(item.cls)
            ]
            parts.append(f"#### `{item.name}`\n\n{notes}\n")
            if rows:
                parts.append(_table(("option", "default", "meaning"), rows))
    return "\n".join(parts)


def checks(kind: str) -> Callable[[], str]:
    """Return a function that lists the checks of one contract."""
    return lambda: "\n".join(f"- **{check.number}.** {check.statement}" for check in CHECKS[kind])


REGIONS: dict[str, Callable[[], str]] = {
    "command-line": command_line,
    "tables": tables,
    "components": components,
    **{f"checks-{kind}": checks(kind) for kind in CHECKS},
}


def _keys(holder: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield key, type and default of a dataclass or a model."""
    if dataclasses.is_dataclass(holder):
        for field in dataclasses.fields(holder):
            made = field.default_factory is not dataclasses.MISSING
            yield field.name, field.type, None if made else field.default
        return
    for name, field in holder.model_fields.items():
        yield name, field.annotation, field.default if not field.is_required() else inspect.Parameter.empty


def _type(hint: Any) -> str:
    """Say what a file may hold, in TOML's words."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _type(inside[0])
    if origin in (Union, UnionType):
        return " or ".join(
            _type(item) for item in inside if item not in (NoneType, Baseline, Control)
        )  # Python's alone
    if origin is Literal:
        return " or ".join(f'`"{item}"`' for item in inside)
    if origin is tuple:
        return f"list of {_type(inside[0])}s"
    if origin is dict:
        return f"{_type(inside[1])}s by label"
    return "table" if origin is Mapping else _WORDS[hint]


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty or value is dataclasses.MISSING:
        return "required"
    if value is None or repr(value).endswith("Unset"):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(repr(item) for item in value)}]`".replace("'", '"')
    if isinstance(value, Path):
        return f"`{value}`"
    if callable(value) or value == "":
        return "none"
    return (
        f'`"{value}"`' if isinstance(value, str) else f"`{value!r}`" if isinstance(value, int | float) else "defaults"
    )


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _text(text: str) -> str:
    return re.sub(r"``(.*?)``", r"`\1`", " ".join(text.split()))


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        old = stale()
        sys.exit("\n".join(f"out of date: {path}; run {Path(__file__).name}" for path in old) or 0)
    for page, content in pages().items():
        page.write_text(content, encoding="utf-8")
