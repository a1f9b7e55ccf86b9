"""The options of components, checked against their own signatures."""

import inspect
import json
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from precomp_sdk.config._messages import problem_of
from precomp_sdk.errors import ConfigError, nearest

__all__ = ["check_options"]


def check_options(cls: type, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check options from a file against the keyword-only arguments of a class.

    Args:
        cls: of the component.
        options: as the file has them.
        where: file and table, for messages.

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
        if parameter.default is parameter.empty and name not in options:
            raise ConfigError(
                where=f"{where}.{name}", expected="a value", got="none", remedy="Add it: it has no default."
            )
    return checked


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
