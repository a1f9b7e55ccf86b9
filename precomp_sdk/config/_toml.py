"""TOML: overrides from the command line, and None, which TOML lacks."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from types import NoneType
from typing import Any, cast, get_args, get_type_hints

from pydantic import BaseModel

from precomp_sdk.errors import ConfigError

__all__ = [
    "NONE",
    "allows_none",
    "fields_of",
    "is_record",
    "merged",
    "parse_options",
    "parse_override",
    "tables_of",
    "whole_numbers",
    "with_none",
]

NONE = "none"  #: stands in a file for None, where an option may be None and has another default


def parse_override(text: str) -> dict[str, Any]:
    """Return the tables that ``key.path=value`` stands for; a value that is no TOML is taken as a string.

    Raises:
        ConfigError: there is no key or no ``=``.

    Example:
        >>> parse_override("train.steps=100"), parse_override("codec.subsampling=4:2:0")
        ({'train': {'steps': 100}}, {'codec': {'subsampling': '4:2:0'}})
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if equals:
        for candidate in (value, json.dumps(value, ensure_ascii=False)):
            try:
                tables = tomllib.loads(f"{key} = {candidate}")
            except tomllib.TOMLDecodeError:
                continue
            if "\n" not in text and not _holds_a_time(tables):
                return tables
    raise ConfigError(
        where=f"override {text!r}",
        expected="key.path=value",
        got=repr(text),
        remedy="Write for instance train.steps=100.",
    )


def merged(tables: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a file with those of an override laid over them."""
    result = dict(tables)
    for key, value in more.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """Return the options that texts like ``level=9`` or ``codec.level=9`` stand for.

    Raises:
        ConfigError: one has no name or no ``=``.

    Example:
        >>> parse_options(["level=9", "codec.subsampling=4:4:4"])
        {'level': 9, 'codec': {'subsampling': '4:4:4'}}
    """
    options: dict[str, Any] = {}
    for text in texts:
        options = merged(options, parse_override(text))
    return options


def _holds_a_time(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_a_time(item) for item in value.values())
    if isinstance(value, list):
        return any(_holds_a_time(item) for item in value)
    return not isinstance(value, str | int | float)


def tables_of(record: object) -> dict[str, Any]:
    """Return a frozen record as the tables of a file that `tomli_w` writes and `load_experiment` reads back the same.

    What is None by default and is None is left out; what is None and is not so by default is `NONE`.

    Args:
        record: a pydantic model or a dataclass, with records, plain values and paths in it.

    Raises:
        ConfigError: a value has no place in a TOML file.
    """
    if isinstance(record, BaseModel):
        defaults = {name: field.default for name, field in type(record).model_fields.items()}
        values = dict(record)
    else:
        assert dataclasses.is_dataclass(record)
        defaults = {field.name: field.default for field in dataclasses.fields(record)}
        values = {name: getattr(record, name) for name in defaults}
    return {
        name: NONE if value is None else _plain(value, name)
        for name, value in values.items()
        if value is not None or defaults.get(name, NONE) is not None
    }


def _plain(value: object, key: str) -> object:
    match value:
        case BaseModel():
            return tables_of(value)
        case Mapping():
            return {str(name): NONE if item is None else _plain(item, f"{key}.{name}") for name, item in value.items()}
        case list() | tuple():
            return [_plain(item, f"{key}[{place}]") for place, item in enumerate(value)]
        case PurePath():
            return str(value)
        case bool() | int() | float() | str():
            return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return tables_of(value)
    raise ConfigError(
        where=f"the experiment, {key}",
        expected="what a TOML file can hold: text, numbers, true or false, lists and tables of them",
        got="None in a list" if value is None else f"an object of {type(value).__name__}",
        remedy="Leave it out, or run the experiment from Python without a folder to write it to.",
    )


def allows_none(hint: Any) -> bool:
    """Tell whether a type is None or a union with None."""
    return hint is None or hint is NoneType or any(map(allows_none, get_args(hint)))


def with_none(values: Any, hint: Any) -> Any:
    """Return the values of a file with the word for None read as None wherever a model's key may be None.

    Args:
        values: of a table.
        hint: the pydantic model or dataclass that they are for, alone or in a union.
    """
    model = next((item for item in (hint, *get_args(hint)) if is_record(item)), None)
    if model is None or not isinstance(values, Mapping):
        return None if values == NONE and allows_none(hint) else values
    hints = fields_of(model)
    return {key: with_none(value, hints.get(key)) if key in hints else value for key, value in values.items()}


def is_record(hint: Any) -> bool:
    """Tell whether a type is a table: a pydantic model or a dataclass."""
    return isinstance(hint, type) and (issubclass(hint, BaseModel) or dataclasses.is_dataclass(hint))


def fields_of(model: type) -> dict[str, Any]:
    """Return the fields of a pydantic model or a dataclass with their types."""
    if issubclass(model, BaseModel):
        return {name: field.annotation for name, field in model.model_fields.items()}
    hints = get_type_hints(model)
    return {field.name: hints[field.name] for field in dataclasses.fields(cast("Any", model))}


def whole_numbers(value: Any) -> Any:
    """Return a value of a file with every number that is whole as an integer: 1.0 is a whole number."""
    if isinstance(value, Mapping):
        return {key: whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
