"""The options of components, checked against their own signatures."""

import inspect
import json
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from precomp_sdk.config._messages import problem_of
from precomp_sdk.errors import ConfigError, nearest

__all__ = ["check_options", "parts_of"]


def check_options(
    cls: type, options: Mapping[str, Any], where: str, made: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Check options from a file against the keyword-only arguments of a class.

    Args:
        cls: of the component.
        options: as the file has them.
        where: file and table, for messages.
        made: options that are objects by now, see `parts_of`; they are passed on as they are.

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
    checked: dict[str, Any] = dict(made or {})
    for name, value in options.items():
        if name not in known:
            raise ConfigError(
                where=f"{where}.{name}", expected="a known option", got=repr(name), remedy=nearest(name, known)
            )
        checked[name] = _checked(hints.get(name, Any), value, f"{where}.{name}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in options and name not in checked:
            raise ConfigError(
                where=f"{where}.{name}", expected="a value", got="none", remedy="Add it: it has no default."
            )
    return checked


def parts_of(cls: type, options: Mapping[str, Any], contract: type, where: str) -> dict[str, Mapping[str, Any]]:
    """Return the options of a class that are components by name, which a file has as tables of tables.

    Args:
        cls: of the component.
        options: as the file has them.
        contract: of those components; an option of type ``Mapping[str, contract]`` is meant.
        where: file and table, for messages.

    Raises:
        ConfigError: such an option is not a table of tables.
    """
    wanted = [name for name, hint in _hints(cls).items() if hint == Mapping[str, contract]]  # type: ignore[valid-type]
    found = {name: options[name] for name in wanted if name in options}
    for name, tables in found.items():
        if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
            raise ConfigError(
                where=f"{where}.{name}",
                expected="a table for each of its components",
                got=repr(tables)[:100],
                remedy=f"Write [task.{name}.NAME], with the component's name and options below it.",
            )
    return found


def _hints(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls.__init__)  # type: ignore[misc]  # of the class itself, nobody else's
    except (NameError, AttributeError, TypeError):  # a type that is known to type checkers only
        return {}


def _checked(hint: Any, value: Any, where: str) -> Any:
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
        expected, got = problem_of(error.errors(include_url=False))
        raise ConfigError(where=where, expected=expected, got=got, remedy="Correct the option.") from error
