"""What a plugin needs, and what to say where it does not load."""

import hashlib
import importlib.util
import os
import sys
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, version
from pathlib import Path, PurePath
from traceback import extract_tb
from types import ModuleType

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from precomp_sdk.errors import MissingDependencyError, PluginError, nearest

__all__ = [
    "check_requirements",
    "describe",
    "failed_import",
    "imported_class",
    "imported_file",
    "imported_files",
    "loading_order",
    "told",
]

_DISTRIBUTION = "precomp-sdk"
_FILE_PREFIX = "precomp_plugin_"  # of the names of modules that are files of users


def check_requirements(dist: Distribution, plugin: str) -> None:
    """Raise `MissingDependencyError` where a distribution needs another version of this package than the installed."""
    try:
        own = version(_DISTRIBUTION)
    except PackageNotFoundError:  # run from a folder of sources: there is nothing to compare with
        return
    for line in dist.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # the installer's business
            continue
        if canonicalize_name(requirement.name) != _DISTRIBUTION or (
            requirement.marker and not requirement.marker.evaluate()
        ):
            continue
        if not requirement.specifier.contains(own, prereleases=True):
            wanted = f"{_DISTRIBUTION}{requirement.specifier}"
            raise MissingDependencyError(
                where=f"plugin {plugin!r} of {dist.name} {dist.version}",
                expected=wanted,
                got=f"{_DISTRIBUTION} {own}",
                remedy=f"pip install '{wanted}', or install a version of {dist.name} for this one.",
            )


def loading_order(entry_point: EntryPoint) -> tuple[bool, str, str]:
    """Sort the plugins of this package before all others, so that no other can take a name from them, then by name."""
    found = entry_point.dist.name if entry_point.dist else None  # a damaged installation has no name
    package = canonicalize_name(found or "")
    return package != _DISTRIBUTION, package, entry_point.name


def failed_import(entry_point: EntryPoint, package: str, error: BaseException) -> PluginError:
    """Return the error of a plugin whose import raised another one: what, where, and what to do."""
    frames = extract_tb(error.__traceback__)
    place = f" ({PurePath(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return PluginError(
        where=f"plugin {entry_point.name!r} of {package}",
        expected=f"{entry_point.value} to load",
        got=f"{told(error)}{place}",
        remedy=f"Install what provides {missing!r}, or reinstall {package} with its dependencies."
        if missing
        else f"Upgrade or uninstall {package}, or tell its authors.",
    )


def describe(item: object) -> str:
    """Say what an item is that is no concrete class of its contract."""
    if not isinstance(item, type):
        return f"an instance of {type(item).__name__}"
    missing = sorted(getattr(item, "__abstractmethods__", ()))
    return f"{item.__name__}" + (f" without {missing}" if missing else "")


def told(error: BaseException) -> str:
    """Return an error's type and text in one line; an error that cannot say itself is its type."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # a stranger's __str__ may do anything
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def imported_file(path: Path) -> ModuleType:
    """Import a file under a name of its own place and content, so that it takes no other module's place.

    A file that is imported again and was not changed is the module that is there: its classes stay the same ones.

    Raises:
        PluginError: it cannot be.
    """
    spec = None
    if path.is_file():
        digest = hashlib.sha256(bytes(path.resolve()) + path.read_bytes()).hexdigest()
        name = f"{_FILE_PREFIX}{path.stem}_{digest[:8]}"
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(
            where=str(path), expected="a Python file", got="none of that name", remedy="Look at the path."
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # what it defines can be pickled and unpickled
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # a stranger's import may raise anything
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise PluginError(
            where=str(path),
            expected="a file that can be imported",
            got=f"{type(error).__name__}: {error}",
            remedy="Run it with Python by itself to see where it fails.",
        ) from error
    return module


def imported_files() -> list[Path]:
    """Return the files of `imported_file`, which another process has to import before it unpickles what is of them."""
    found = [module for name, module in sys.modules.items() if name.startswith(_FILE_PREFIX)]
    return [Path(module.__file__).resolve() for module in found if module.__file__]


def imported_class(path: str) -> object:
    """Return what an import path ``"module:Class"`` names.

    Modules are searched in the current folder first, as Python does for a program in it, and that folder stays on the
    search path: worker processes find them there.

    Raises:
        PluginError: the module cannot be imported, or holds no such name.
    """
    name, _, attribute = path.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a stranger's import may raise anything
        absent = isinstance(error, ModuleNotFoundError) and error.name is not None and name.startswith(error.name)
        raise PluginError(
            where=repr(path),
            expected=f"a module {name!r} in the current folder or among the installed packages"
            if absent or not name
            else f"a module {name!r} that can be imported",
            got="none" if absent else told(error),
            remedy="Look at its name, and at the folder that you are in."
            if absent or not name
            else f"Run python -c 'import {name}' to see where it fails.",
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        classes = [item for item, value in vars(module).items() if isinstance(value, type)]
        raise PluginError(
            where=repr(path),
            expected=f"a class of {name!r} ({module.__file__})",
            got=repr(attribute),
            remedy=nearest(attribute, classes),
        ) from None
