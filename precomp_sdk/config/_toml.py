"""TOML: overrides from the command line, and writing."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from precomp_sdk.errors import ConfigError

__all__ = ["merged", "parse_options", "parse_override", "to_toml"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


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


def to_toml(tables: Mapping[str, Any]) -> str:
    """Write tables as TOML; keys whose value is None are left out, since TOML has no null."""
    return "\n".join(_lines(tables, ())).lstrip("\n") + "\n"


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    simple = {key: value for key, value in table.items() if value is not None and not isinstance(value, Mapping)}
    nested = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in simple.items()]
    if path and (lines or not nested):
        lines.insert(0, f"\n[{'.'.join(map(_key, path))}]")
    for key, value in nested.items():
        lines.extend(_lines(value, (*path, str(key))))
    return lines


def _key(key: object) -> str:
    text = str(key)
    return text if _BARE_KEY.fullmatch(text) else _string(text)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str() | PurePath():
            return _string(str(value))
        case list() | tuple():
            return f"[{', '.join(_value(item) for item in value)}]"
        case Mapping():
            return f"{{{', '.join(f'{_key(key)} = {_value(item)}' for key, item in value.items())}}}"
    raise TypeError(f"{type(value).__name__} is not a value of a TOML file")  # options come from one


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON's escapes are TOML's but for this


def _holds_a_time(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_a_time(item) for item in value.values())
    if isinstance(value, list):
        return any(_holds_a_time(item) for item in value)
    return not isinstance(value, str | int | float)
