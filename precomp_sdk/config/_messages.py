"""pydantic's findings, in this package's words."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from precomp_sdk.config._toml import fields_of, is_record
from precomp_sdk.errors import ConfigError, PrecompError, nearest

__all__ = ["UNKNOWN_KEY", "explain", "problem_of", "relocate"]

_NUMBER = re.compile(r"\s*([-+]?[\d._]+(e[-+]?\d+)?|true|false)\s*", re.IGNORECASE)  # or a truth value
_NUMBERS = {"int_type", "float_type", "bool_type"}
UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
_WORDS = {
    "model_type": "a table",
    "dataclass_type": "a table",
    "dict_type": "a table",
    "mapping_type": "a table",
    "tuple_type": "a list",
    "list_type": "a list",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
}


def explain(error: ValidationError, model: type[BaseModel], data: Mapping[str, Any], origin: str) -> ConfigError:
    """Return the error that tells what is wrong with the first wrong key of a file.

    Args:
        error: of pydantic.
        model: what the data was validated against.
        data: the file's tables.
        origin: the file.
    """
    # a misspelled key is told before the missing one that it stands for
    findings = sorted(error.errors(include_url=False), key=lambda finding: finding["type"] not in UNKNOWN_KEY)
    paths = [_path(finding["loc"], data, missing=finding["type"] == "missing") for finding in findings]
    # the alternative that got furthest says most
    within = [own for own in paths if own[: len(paths[0])] == paths[0]]
    path = max(within, key=len)
    first = findings[paths.index(path)]
    where = f"{origin}, {'.'.join(path)}"
    others = len(set(paths)) - 1
    more = f" ({others} more wrong {'key' if others == 1 else 'keys'} in the file.)" if others else ""
    if first["type"] in UNKNOWN_KEY:
        remedy = nearest(path[-1], _keys(model, path[:-1]))
        return ConfigError(where=where, expected="a known key", got=repr(path[-1]), remedy=remedy + more)
    if first["type"] == "missing":
        remedy = f"Add it: {'.'.join(path)} has no default."
        return ConfigError(where=where, expected="a value", got="none", remedy=remedy + more)
    expected, got, remedy = problem_of([finding for finding, own in zip(findings, paths, strict=True) if own == path])
    return ConfigError(where=where, expected=expected, got=got, remedy=remedy + more)


def relocate(error: PrecompError, model: type[BaseModel], tables: Mapping[str, Any], origin: str) -> ConfigError:
    """Return the error of a settings record, such as "TrainSettings, option 'steps'", with file and key.

    Args:
        error: of the record.
        model: what the data was validated against.
        tables: the file's.
        origin: the file.
    """
    record, _, option = error.where.partition(", option ")
    key = option.strip("'")
    places = [path for path, cls in _records(model, ()) if record in (item.__name__ for item in cls.__mro__)]
    named = [path for path in places if key in _table_at(tables, path)]
    path = (*(named or places or [()])[0], key)
    where = f"{origin}, {'.'.join(path)}"
    return ConfigError(where=where, expected=error.expected, got=error.got, remedy=error.remedy)


def _records(model: type, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], type]]:
    """Yield where settings records stand in a file, the nearest first."""
    inner = []
    for name, hint in fields_of(model).items():
        for item in (hint, *get_args(hint)):
            if is_record(item):
                inner.append(((*path, name), item))
                if dataclasses.is_dataclass(item):
                    yield inner[-1]
    for place, table in inner:
        yield from _records(table, place)


def _table_at(tables: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    level: Any = tables
    for part in path:
        level = level.get(part) if isinstance(level, Mapping) else None
    return level if isinstance(level, Mapping) else {}


def problem_of(findings: Sequence[Mapping[str, Any]]) -> tuple[str, str, str]:
    """Return what was expected, what came instead and what to do; several findings on one key are its alternatives."""
    words = [_WORDS.get(item["type"], str(item["msg"]).removeprefix("Input should be ")) for item in findings]
    expected = " or ".join(dict.fromkeys(words))
    value = findings[0]["input"]
    return expected, shorten(repr(value), 100, placeholder=" ..."), _remedy(findings, expected, value)


def _remedy(findings: Sequence[Mapping[str, Any]], expected: str, value: object) -> str:
    choices = [word for item in findings for word in re.findall("'([^']*)'", str(item.get("ctx", {}).get("expected")))]
    if isinstance(value, str):
        if _NUMBER.fullmatch(value) and {item["type"] for item in findings} & _NUMBERS:
            return "Write it without quotes."
        if choices:
            return nearest(value, choices)
    return f"Give {expected}, or leave it out for its default."


def _path(location: Sequence[str | int], data: Mapping[str, Any], *, missing: bool) -> tuple[str, ...]:
    """Return the keys of a finding's location, without pydantic's names for the alternatives of a type."""
    path: list[str] = []
    level: Any = data
    for place, part in enumerate(location):
        in_table = isinstance(level, Mapping) and part in level
        in_list = isinstance(level, Sequence) and isinstance(part, int)
        if in_table or in_list:
            level = level[part]
        if in_table or in_list or (missing and place == len(location) - 1):
            path.append(str(part))
    return tuple(path)


def _keys(model: type, path: Sequence[str]) -> list[str]:
    """Return the keys that a table knows: of all its types, where a key may have one of several."""
    hints: list[Any] = [model]
    for part in path:
        hints = [inner for hint in hints for inner in _inside(hint, part)]
    return list(dict.fromkeys(key for hint in hints if is_record(hint) for key in fields_of(hint)))


def _inside(hint: Any, part: str) -> list[Any]:
    """Return the types, one by one, of what stands in a table or a list of a type under a key or a place."""
    if is_record(hint):
        inner = fields_of(hint).get(part)
    else:  # dict[str, inner], tuple[inner, ...] or list[inner]
        inner = get_args(hint)[1 if get_origin(hint) is dict else 0] if get_args(hint) else None
    return list(get_args(inner)) if get_origin(inner) in (Union, UnionType) else [inner]
