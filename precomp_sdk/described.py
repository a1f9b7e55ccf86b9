"""What an object says of itself: its class, and the options or the components it was constructed with."""

from collections.abc import Mapping
from inspect import Parameter, signature
from pathlib import PurePath
from types import MappingProxyType
from typing import ClassVar

__all__ = ["Assembled", "Described", "options_of"]

_PLAIN = (bool, int, float, str, PurePath)
_LONGEST = 80


class Described:
    """Gives a component a ``repr`` of one line, made from its options.

    They are those of the property ``options`` where the contract has one, else the arguments of ``__init__`` that the
    component keeps as an attribute of the same name, with or without an underscore, if they are plain values. An option
    that is off (None or False) and a limit are left out at their defaults.

    Example:
        >>> class Blur(Described):
        ...     def __init__(self, *, sigma: float = 1.0, edges: bool = False) -> None:
        ...         self.options = {"sigma": sigma, "edges": edges}
        >>> Blur(sigma=2.0), Blur(edges=True)
        (Blur(sigma=2.0), Blur(sigma=1.0, edges=True))
    """

    unsafe_options: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Options that hold a ``"path"``, the name of a ``"program"`` that is run, or of a ``"module"`` that is imported.

    No file of a stranger sets them: none is taken from a weights file, and no program or module from an experiment that
    is only read. One whose type is a path need not be listed.
    """

    def __repr__(self) -> str:
        try:
            told = ", ".join(f"{name}={_short(value)}" for name, value in options_of(self).items())
        except Exception:  # half constructed, or of someone's own making: a repr never fails
            told = "..."
        return f"{type(self).__name__}({told})"


class Assembled:
    """Gives an object that holds components a ``repr`` of one line, made from those that ``_parts`` names.

    Example:
        >>> class Road(Assembled):
        ...     _parts = ("codec",)
        ...     def __init__(self, codec: object) -> None:
        ...         self.codec = codec
        >>> Road("jpeg")
        Road(codec='jpeg')
    """

    _parts: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        try:
            told = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._parts)
        except Exception:  # half constructed: a repr never fails
            told = "..."
        return f"{type(self).__name__}({told})"


def options_of(component: object) -> Mapping[str, object]:
    """Return the options of a component that its ``repr`` shows, see `Described`."""
    parameters = signature(type(component).__init__).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    options = getattr(component, "options", None)
    if not isinstance(options, Mapping):
        options = {
            name: value
            for name, parameter in parameters.items()
            if parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
            for value in (getattr(component, name, getattr(component, f"_{name}", ...)),)
            if value is None or isinstance(value, _PLAIN)
        }
    limits = getattr(component, "limits", ())
    return {
        name: value
        for name, value in options.items()
        if not ((value is None or value is False or name in limits) and value == defaults.get(name, ...))
    }


def _short(value: object) -> str:
    text = repr(str(value) if isinstance(value, PurePath) else value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
