"""The options of components, checked against their own signatures."""

import dataclasses
import inspect
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, TypeAlias, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from precomp_sdk.codec import Codec
from precomp_sdk.config._messages import UNKNOWN_KEY, problem_of
from precomp_sdk.config._toml import NONE, allows_none, whole_numbers
from precomp_sdk.config.experiment import Loadable
from precomp_sdk.data import TaskDataset
from precomp_sdk.errors import ConfigError, OptionError, nearest
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.task import TaskModel

__all__ = ["Inner", "check_options", "inner_components"]

Inner: TypeAlias = Loadable | tuple[Loadable, ...] | dict[str, Loadable]  #: one component, several, or several by name

_CONTRACTS = {"codec": Codec, "preprocessor": Preprocessor, "task": TaskModel, "dataset": TaskDataset}


def check_options(cls: type, options: Mapping[str, Any], where: str, given: Collection[str] = ()) -> dict[str, Any]:
    """Check options from a file against the keyword-only arguments of a class.

    Args:
        cls: of the component.
        options: as the file has them.
        where: file and table, for messages.
        given: options that the caller sees to, see `inner_components`.

    Returns:
        The options in the types of the signature: a list where it says list, a tuple where it says tuple. An option
        whose type cannot be checked is passed on as it is.

    Raises:
        ConfigError: an option is unknown, missing or of another type.
    """
    known = {
        name: parameter
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    hints = _hints(cls)
    checked: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            raise ConfigError(
                where=f"{where}.{name}", expected="a known option", got=repr(name), remedy=nearest(name, known)
            )
        checked[name] = _checked(hints.get(name, Any), value, f"{where}.{name}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in (*options, *given):
            raise ConfigError(
                where=f"{where}.{name}", expected="a value", got="none", remedy="Add it: it has no default."
            )
    return checked


def inner_components(cls: type, options: Mapping[str, Any], where: str) -> dict[str, tuple[str, Inner]]:
    """Return the options that are components themselves: a table with a ``name``, or several such tables.

    Args:
        cls: of the component; the type of such an option is a contract, a sequence of one (a list of tables in the
            file), or a mapping from names to one (a table of tables).
        options: as the file has them.
        where: file and table, for messages.

    Returns:
        By option: the kind of component, and its description.

    Raises:
        ConfigError: a table is not that of a component.
    """
    found: dict[str, tuple[str, Inner]] = {}
    for name, hint in _hints(cls).items():
        kind = _kind_within(hint)
        if kind is None or name not in options:
            continue
        value = options[name]
        if _is_mapping(hint):
            if not isinstance(value, Mapping) or not all(isinstance(table, Mapping) for table in value.values()):
                raise ConfigError(
                    where=f"{where}.{name}",
                    expected="a table for each of its components",
                    got=repr(value)[:100],
                    remedy=f"Write [... .{name}.NAME], with the component's name and options below it.",
                )
            found[name] = (kind, {key: _component(table, f"{where}.{name}.{key}") for key, table in value.items()})
        elif isinstance(value, list | tuple):
            tables = tuple(_component(item, f"{where}.{name}[{place}]") for place, item in enumerate(value))
            found[name] = (kind, tables)
        else:
            found[name] = (kind, _component(value, f"{where}.{name}"))
    return found


def _kind_within(hint: Any) -> str | None:
    """Return the kind of component a type stands for, looking into unions and sequences."""
    if isinstance(hint, type):
        return next((kind for kind, contract in _CONTRACTS.items() if issubclass(hint, contract)), None)
    return next((kind for kind in map(_kind_within, get_args(hint)) if kind), None)


def _is_mapping(hint: Any) -> bool:
    """Tell whether a type, or one of a union, is a mapping."""
    origin = get_origin(hint)
    if isinstance(origin, type):
        return issubclass(origin, Mapping)
    return any(map(_is_mapping, get_args(hint)))


def _component(value: Any, where: str) -> Loadable:
    try:
        return Loadable.model_validate_json(json.dumps(value, default=str))
    except ValidationError as error:
        expected, got, _ = problem_of(error.errors(include_url=False)[:1])
        raise ConfigError(
            where=where,
            expected=f"a table with the name of a component ({expected})",
            got=got,
            remedy='Write it as a table: {name = "...", and its options}.',
        ) from error


def _hints(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls.__init__)  # type: ignore[misc]  # of the class itself, nobody else's
    except (NameError, AttributeError, TypeError):  # a type that is known to type checkers only
        return {}


def _checked(hint: Any, value: Any, where: str) -> Any:
    if value == NONE and allows_none(hint):
        return None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    except PydanticUserError:
        try:
            adapter = TypeAdapter(hint)  # a dataclass brings its own configuration
        except PydanticUserError:
            return value
    try:
        return adapter.validate_json(json.dumps(value, default=str))
    except ValidationError as error:
        with suppress(ValidationError):
            return adapter.validate_json(json.dumps(whole_numbers(value), default=str))
        raise _refused(error, hint, where) from error
    except OptionError as error:  # of a settings record's own checks: it says "..., option 'crop'"
        key = error.where.rpartition("option ")[2].strip("'")
        raise ConfigError(
            where=f"{where}.{key}", expected=error.expected, got=error.got, remedy=error.remedy
        ) from error


def _refused(error: ValidationError, hint: Any, where: str) -> ConfigError:
    """Return the error of an option, which names the key within it where the option is a table."""
    findings = error.errors(include_url=False)
    first = findings[0]
    key = str(first["loc"][0]) if dataclasses.is_dataclass(hint) and first["loc"] else ""
    if key and first["type"] in UNKNOWN_KEY:
        known = [field.name for field in dataclasses.fields(hint)]
        return ConfigError(where=f"{where}.{key}", expected="a known option", got=repr(key), remedy=nearest(key, known))
    of_key = [item for item in findings if item["loc"][:1] == first["loc"][:1]] if key else findings
    expected, got, remedy = problem_of(of_key)
    at = f"{where}.{key}" if key else where
    return ConfigError(where=at, expected=expected, got=got, remedy=remedy)
