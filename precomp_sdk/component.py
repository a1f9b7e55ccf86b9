"""A registered class: what it must be, what plugin it came from, and how it is constructed."""

import inspect
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from precomp_sdk._plugins import describe, told
from precomp_sdk._trust import check_declared
from precomp_sdk.errors import (
    DuplicateNameError,
    MissingDependencyError,
    OptionError,
    PluginError,
    PrecompError,
    nearest,
)

__all__ = ["Component", "PluginStatus", "checked_component", "construct", "refuse_duplicate"]

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """One plugin and how loading it went.

    Args:
        name: the entry point's name, or the name it was registered under.
        package: the distribution it comes from, or ``"(registered in code)"``.
        version: the distribution's version.
        state: ``"ok"``, ``"unavailable"`` (a package it needs is missing, or it needs another version of this one) or
            ``"broken"``.
        error: what went wrong, empty if nothing did.
    """

    name: str
    package: str
    version: str
    state: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Component:
    """One registered class and the plugin it came from."""

    kind: str
    name: str
    cls: type
    plugin: PluginStatus

    def missing(self) -> str:
        """Return what a codec lacks to be constructed with its default options, and the remedy; empty where nothing.

        Only codecs are asked: they alone are constructed without looking for data or weights.
        """
        if self.kind != "codec":
            return ""
        try:
            construct(self.cls)
        except MissingDependencyError as error:
            return str(error)
        except PrecompError:  # it has options without defaults: nothing is known to be missing
            return ""
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a stranger's __init__ may raise anything; the other codecs are still listed
            return f"{self.cls.__module__}.{self.cls.__qualname__} failed to start: {told(error)}"
        return ""


def checked_component(kind: str, cls: object, contract: type, plugin: PluginStatus, where: str) -> Component:
    """Return the component that a plugin's offer is.

    Raises:
        PluginError: it is no concrete class of its contract, or does not say its name and source.
    """
    if not (isinstance(cls, type) and issubclass(cls, contract)) or inspect.isabstract(cls):
        raise PluginError(
            where=where,
            expected=f"concrete subclasses of {contract.__name__}",
            got=describe(cls),
            remedy="Return classes, not instances, with every abstract method written.",
        )
    described = {attribute: getattr(cls, attribute, None) for attribute in ("name", "source")}
    for attribute, value in described.items():
        if not isinstance(value, str):
            raise PluginError(
                where=f"{where}, {cls.__module__}.{cls.__qualname__}",
                expected=f"a class attribute {attribute!r} of type str",
                got=repr(value),
                remedy=f"Set {attribute} on the class.",
            )
    check_declared(cls, where)
    name = str(described["name"])
    if not _NAME.fullmatch(name):
        raise PluginError(
            where=f"{where}, {cls.__module__}.{cls.__qualname__}.name",
            expected="a name to type on the command line: up to 64 letters, digits, hyphens, dots and underscores",
            got=repr(name[:100]),
            remedy="Rename it, in kebab-case.",
        )
    return Component(kind=kind, name=name, cls=cls, plugin=plugin)


def refuse_duplicate(component: Component, holder: Component, where: str) -> None:
    """Raise `DuplicateNameError` if another component holds the name."""
    if holder is component:
        return
    first, second = (
        f"{item.cls.__module__}.{item.cls.__qualname__} of {item.plugin.package}" for item in (holder, component)
    )
    raise DuplicateNameError(
        where=where,
        expected=f"a {component.kind} name that is still free",
        got=f"{component.name!r}, offered by {first} and by {second}",
        remedy="Rename one of them, or uninstall one package.",
    )


def construct(cls: type[T], *args: Any, **options: Any) -> T:
    """Construct a component; an unknown option is answered with the nearest valid one.

    Raises:
        OptionError: an option is unknown, or a needed one is missing.
    """
    signature = inspect.signature(cls)
    valid = [name for name, parameter in signature.parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    title = getattr(cls, "name", cls.__name__)
    for option in options:
        if option not in valid:
            raise OptionError(
                where=repr(title), expected="a known option", got=repr(option), remedy=nearest(option, valid)
            )
    try:
        signature.bind(*args, **options)
    except TypeError as error:
        raise OptionError(
            where=repr(title), expected=f"options {valid}", got=str(error), remedy="Give every option it needs."
        ) from error
    return cls(*args, **options)
