"""What a file may make this program do that its user did not ask for: nothing.

Three kinds of files name components. An experiment that is carried out (``precomp train mine.toml``) is the user's own
word, and may name anything. One that is merely read (to compress, evaluate, export, compare or report with what it
left behind) may name paths to read, but no program and no module, unless the user says ``--trust``. A weights file may
name components and plain options: no path either, since it is made to be passed around alone.

A component says by ``unsafe_options`` which of its options are more than plain; one whose type is a path is known to
be one.
"""

import inspect
import os
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, Final, get_args, get_type_hints

from precomp_sdk.errors import CheckpointError, ConfigError, PluginError

__all__ = ["check_declared", "refuse_acting", "refuse_in_weights", "unsafe_options_of"]

_ACTING: Final = ("program", "module")
_UNSAFE: Final = ("path", *_ACTING)


def unsafe_options_of(cls: type) -> dict[str, str]:
    """Return the options of a component that are more than plain values, with what they name."""
    try:
        hints = get_type_hints(cls.__init__)  # type: ignore[misc]  # of the class itself, nobody else's
    except (NameError, AttributeError, TypeError):  # a type that is known to type checkers only
        hints = {}
    paths: dict[str, str] = {name: "path" for name, hint in hints.items() if _is_path(hint)}
    declared: Mapping[str, str] = getattr(cls, "unsafe_options", {})
    return {**paths, **declared}


def check_declared(cls: type, where: str) -> None:
    """Check what a component says of its options.

    Raises:
        PluginError: ``unsafe_options`` names no option, or says something else than a kind.
    """
    declared = getattr(cls, "unsafe_options", {})
    known = inspect.signature(cls).parameters
    wrong = not isinstance(declared, Mapping) or [
        name for name, kind in declared.items() if name not in known or kind not in _UNSAFE
    ]
    if wrong:
        raise PluginError(
            where=f"{where}, {cls.__module__}.{cls.__qualname__}.unsafe_options",
            expected=f"options of the class, each with one of {', '.join(map(repr, _UNSAFE))}",
            got=repr(declared)[:200],
            remedy="Name the options that hold a path, a program or an import path.",
        )


def refuse_in_weights(cls: type, options: Mapping[str, Any], where: str) -> None:
    """Refuse options of a weights file that are more than plain, unless they are the defaults.

    Args:
        cls: of the component.
        options: as the file has them.
        where: the file and what of it.

    Raises:
        CheckpointError: there is one.
    """
    for name, kind, value in _unsafe(cls, options):
        raise CheckpointError(
            where=f"{where}.{name}",
            expected="plain options, as a weights file may come from anybody",
            got=f"one that names a {kind}: {value!r:.100}",
            remedy="Construct the component yourself and give it to the loader; or say --trust (trust=True in Python) "
            "if you wrote the file, or know who did.",
        )


def refuse_acting(cls: type, options: Mapping[str, Any], where: str) -> None:
    """Refuse options of an experiment that is merely read, where they name a program or a module.

    Raises:
        ConfigError: there is one, and it is not the default.
    """
    for name, kind, value in _unsafe(cls, options):
        if kind in _ACTING:
            raise ConfigError(
                where=f"{where}.{name}",
                expected=f"no {kind} in an experiment that is only read: a file must not make this program run others",
                got=f"{value!r:.100}",
                remedy="Say --trust (trust=True in Python) if you wrote the file, or know who did.",
            )


def _unsafe(cls: type, options: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    parameters = inspect.signature(cls).parameters
    for name, kind in unsafe_options_of(cls).items():
        if name in options and name in parameters and options[name] != parameters[name].default:
            yield name, kind, options[name]


def _is_path(hint: Any) -> bool:
    if isinstance(hint, type):
        return issubclass(hint, PurePath | os.PathLike)
    origin = getattr(hint, "__origin__", None)
    return origin is os.PathLike or any(map(_is_path, get_args(hint)))
