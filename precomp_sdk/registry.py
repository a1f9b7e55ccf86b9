"""Names to classes: what is installed, where it comes from, and whether it works."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, overload

from precomp_sdk import hookspecs
from precomp_sdk._hosting import Host
from precomp_sdk._plugins import (
    check_requirements,
    describe,
    failed_import,
    imported_class,
    imported_file,
    loading_order,
)
from precomp_sdk.codec import Codec
from precomp_sdk.component import Component, PluginStatus, checked_component, construct, refuse_duplicate
from precomp_sdk.data import TaskDataset
from precomp_sdk.errors import (
    MissingDependencyError,
    PluginError,
    PrecompError,
    UnknownNameError,
    nearest,
)
from precomp_sdk.events import Event
from precomp_sdk.hookspecs import hookimpl
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.proxy import ANY_CODEC, ProxyCodec
from precomp_sdk.task import TaskModel

__all__ = ["KINDS", "Registry"]

_KINDS: Mapping[str, tuple[str, type]] = {
    "codec": ("precomp_register_codecs", Codec),
    "proxy": ("precomp_register_proxies", ProxyCodec),
    "preprocessor": ("precomp_register_preprocessors", Preprocessor),
    "task": ("precomp_register_tasks", TaskModel),
    "dataset": ("precomp_register_datasets", TaskDataset),
}

KINDS = tuple(_KINDS)  #: of components, in the order in which they are listed


class Registry:
    """The components that are installed or registered in code.

    Entry points are loaded at the first look-up. A plugin that cannot be imported is reported by `plugins` and leaves
    the others alone. A plugin says which version of this package it needs where every distribution does: in its
    dependencies, such as ``precomp-sdk>=0.2``; they are compared before it is imported. Two registries are independent.

    Args:
        entry_points: load the installed plugins; False gives an empty registry for `register`.

    Example:
        >>> registry = Registry(entry_points=False)
        >>> dict(registry.codecs)
        {}
    """

    def __init__(self, *, entry_points: bool = True) -> None:
        self._host = Host(self._observer_failed)
        self._load_entry_points = self._has_entry_points = entry_points
        self._statuses: dict[str, PluginStatus] = {}  # by what pluggy knows a plugin as
        self._components: dict[str, dict[str, Component]] = {kind: {} for kind in _KINDS}
        self._files: list[Path] = []
        self._imported: dict[str, str] = {}  # kinds by import path

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle where components come from: another process looks at its own entry points and imports files anew.

        What was registered in code is left out; `register` it there, too.
        """
        return _registry_of, (self._has_entry_points, self.files, self._imported)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of `add_file`, in order: what a worker in another process has to add to a registry of its own."""
        return tuple(self._files)

    @property
    def imported(self) -> Mapping[str, str]:
        """The import paths of `add_import`, with the kind of each: what a worker in another process has to add, too."""
        return MappingProxyType(self._imported)

    @property
    def codecs(self) -> Mapping[str, type[Codec]]:
        """Codec classes by name."""
        return self._classes("codec")

    @property
    def proxies(self) -> Mapping[str, type[ProxyCodec]]:
        """Proxy classes by name."""
        return self._classes("proxy")

    @property
    def preprocessors(self) -> Mapping[str, type[Preprocessor]]:
        """Preprocessor classes by name."""
        return self._classes("preprocessor")

    @property
    def tasks(self) -> Mapping[str, type[TaskModel]]:
        """Task model classes by name."""
        return self._classes("task")

    @property
    def datasets(self) -> Mapping[str, type[TaskDataset]]:
        """Data set classes by name."""
        return self._classes("dataset")

    def plugins(self) -> tuple[PluginStatus, ...]:
        """Every plugin, working or not."""
        self._load()
        return tuple(self._statuses.values())

    def components(self) -> tuple[Component, ...]:
        """Every registered class with its plugin, sorted by kind and name."""
        self._load()
        return tuple(component for kind in _KINDS for _, component in sorted(self._components[kind].items()))

    def register(self, plugin: object, name: str | None = None) -> None:
        """Register a module or object with hook implementations.

        Raises:
            PluginError: it is registered already, has no hook, misspells one, or offers something that is not of its
                contract.
            DuplicateNameError: a name is taken.
        """
        self._load()
        title = name or str(getattr(plugin, "__name__", type(plugin).__name__))
        self._add(plugin, PluginStatus(name=title, package="(registered in code)", version="", state="ok"))

    def add(self, *classes: type, name: str | None = None) -> None:
        """Register classes of the contracts as they are: a plugin without a plugin.

        Args:
            classes: codecs, proxies, preprocessors, tasks and data sets.
            name: of the plugin that they count as; None takes the first class's.

        Raises:
            PluginError: a class is of no contract, is abstract, or lacks name or source; nothing is registered then.
            DuplicateNameError: a name is taken.

        Example:
            >>> from precomp_sdk.testing import FakeCodec
            >>> registry = Registry(entry_points=False)
            >>> registry.add(FakeCodec)
            >>> registry.create("codec", "fake")
            FakeCodec(level=5)
        """
        offered: dict[str, list[type]] = {}
        for cls in classes:
            hooks = [hook for hook, contract in _KINDS.values() if isinstance(cls, type) and issubclass(cls, contract)]
            if not hooks:
                raise PluginError(
                    where="Registry.add",
                    expected=f"classes of {', '.join(contract.__name__ for _, contract in _KINDS.values())}",
                    got=describe(cls),
                    remedy="Derive it from one of them; register an observer's hook with Registry.register.",
                )
            offered.setdefault(hooks[0], []).append(cls)
        title = name or (classes[0].__name__ if classes else "nothing")
        members = {hook: hookimpl(lambda _, found=found: found) for hook, found in offered.items()}
        self.register(type(title, (), members)(), name=title)

    def add_file(self, path: Path | str) -> None:
        """Import a Python file and register what it holds: its hooks, or else every class of a contract it defines.

        The file is a program of its author's: give only what you would run.

        Raises:
            PluginError: it cannot be imported, or holds neither.
            DuplicateNameError: a name is taken.
        """
        path = Path(path)
        module = imported_file(path)
        named = [item for item in dir(module) if item.startswith("precomp_")]
        if named:
            self.register(module, name=path.stem)
            self._files.append(path.resolve())
            return
        contracts = tuple(contract for _, contract in _KINDS.values())
        found = [
            item
            for item in vars(module).values()
            if isinstance(item, type)
            and issubclass(item, contracts)
            and item.__module__ == module.__name__
            and not inspect.isabstract(item)
        ]
        if not found:
            raise PluginError(
                where=str(path),
                expected="hooks of a plugin, or codecs, proxies, preprocessors, tasks or data sets",
                got="neither",
                remedy="Look at docs/guides/codec.md.",
            )
        self.add(*found, name=path.stem)
        self._files.append(path.resolve())

    def add_import(self, kind: str, path: str) -> str:
        """Import the class that a path such as ``"my_codec:PackedCodec"`` names, and register it.

        The module is a program of its author's, searched in the current folder and among the installed packages: give
        only what you would run. A class that is registered already stays as it is.

        Args:
            kind: of component that it is to be.
            path: of the class, as ``"module:Class"``.

        Returns:
            The class's own name.

        Raises:
            PluginError: the module cannot be imported, or holds no such class, or one of another contract.
            DuplicateNameError: another class has its name.
        """
        cls, contract = imported_class(path), _KINDS[kind][1]
        if not (isinstance(cls, type) and issubclass(cls, contract)):
            raise PluginError(
                where=repr(path),
                expected=f"a {kind}: a subclass of {contract.__name__}",
                got=describe(cls),
                remedy=f"Name the {kind}'s class, or derive it from {contract.__name__}.",
            )
        self._load()
        for component in self._components[kind].values():
            if component.cls is cls:
                break
        else:
            self.add(cls, name=path)
        self._imported[path] = kind
        return str(getattr(cls, "name", ""))

    @overload
    def create(self, kind: Literal["codec"], name: str, **options: Any) -> Codec: ...

    @overload
    def create(self, kind: Literal["preprocessor"], name: str, **options: Any) -> Preprocessor: ...

    @overload
    def create(self, kind: Literal["task"], name: str, **options: Any) -> TaskModel: ...

    @overload
    def create(self, kind: Literal["dataset"], name: str, **options: Any) -> TaskDataset: ...

    @overload
    def create(self, kind: str, name: str, **options: Any) -> Any: ...

    def create(self, kind: str, name: str, **options: Any) -> Any:
        """Construct a component by name.

        Args:
            kind: ``"codec"``, ``"preprocessor"``, ``"task"`` or ``"dataset"``; for a proxy see `proxy_for`.
            name: as registered.
            options: the keyword-only arguments of its class.

        Raises:
            UnknownNameError: nothing of this kind has this name.
            OptionError: an option is unknown.
        """
        return construct(self._get(kind, name), **options)

    def proxy_class(self, codec: Codec, name: str | None = None) -> type[ProxyCodec]:
        """Return the class of a codec's proxy: the named one, else the codec's own, else one that learns any codec.

        Raises:
            UnknownNameError: there is none.
        """
        if name is not None:
            named: type[ProxyCodec] = self._get("proxy", name)
            return named
        own = [proxy for proxy in self.proxies.values() if proxy.codec_name == codec.name]
        learned = [proxy for proxy in self.proxies.values() if proxy.codec_name == ANY_CODEC]
        if not own and not learned:
            raise UnknownNameError(
                where="Registry.proxy_for",
                expected=f"a proxy for codec {codec.name!r}",
                got=f"proxies for {sorted(proxy.codec_name for proxy in self.proxies.values())}",
                remedy="Install a plugin that brings one, or register your own ProxyCodec.",
            )
        return (own or learned)[0]

    def proxy_for(self, codec: Codec, name: str | None = None, **options: Any) -> ProxyCodec:
        """Construct the proxy of a codec: that of `proxy_class`.

        Raises:
            UnknownNameError: there is none.
            OptionError: an option is unknown.
        """
        return construct(self.proxy_class(codec, name), codec, **options)

    def notify(self, event: Event) -> None:
        """Pass an event to every observer among the plugins; one that raises is told and gets no more of them."""
        self._load()
        self._host.notify(event)

    def _classes(self, kind: str) -> Mapping[str, Any]:
        self._load()
        return MappingProxyType({name: component.cls for name, component in self._components[kind].items()})

    def _get(self, kind: str, name: str) -> Any:
        if kind not in _KINDS:
            raise UnknownNameError(
                where="Registry",
                expected="a kind of component",
                got=repr(kind),
                remedy=nearest(kind, _KINDS),
            )
        classes = self._classes(kind)
        if name not in classes:
            broken = [f"{status.name} ({status.error})" for status in self._statuses.values() if status.state != "ok"]
            raise UnknownNameError(
                where="Registry",
                expected=f"the name of a {kind}",
                got=repr(name),
                remedy=nearest(name, classes) + (f" Plugins that did not load: {'; '.join(broken)}" if broken else ""),
            )
        return classes[name]

    def _load(self) -> None:
        if not self._load_entry_points:
            return
        self._load_entry_points = False  # first: a plugin may look something up while it is imported
        for entry_point in sorted(entry_points(group=hookspecs.ENTRY_POINT_GROUP), key=loading_order):
            self._load_one(entry_point)

    def _load_one(self, entry_point: EntryPoint) -> None:
        package = entry_point.dist.name if entry_point.dist else "(unknown package)"
        version = entry_point.dist.version if entry_point.dist else ""

        def failed(state: str, error: PrecompError) -> None:
            status = PluginStatus(entry_point.name, package, version, state, str(error))
            self._statuses[f"{package}:{entry_point.name}, {state}"] = status

        try:
            if entry_point.dist:
                check_requirements(entry_point.dist, entry_point.name)
            self._add(entry_point.load(), PluginStatus(entry_point.name, package, version, "ok"))
        except MissingDependencyError as error:
            failed("unavailable", error)
        except PrecompError as error:
            failed("broken", error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a stranger's import may raise anything; the others must still load
            failed("broken", failed_import(entry_point, package, error))

    def _add(self, plugin: object, status: PluginStatus) -> None:
        """Check a plugin whole before anything of it becomes visible."""
        where = f"plugin {status.name!r} of {status.package}"
        title = f"{status.package}:{status.name}"
        self._host.add(plugin, title, where)
        try:
            components = self._collect({**self._statuses, title: status}, where)
        except BaseException:
            self._host.remove(plugin, title)
            raise
        self._statuses[title] = status
        self._components = components

    def _collect(self, statuses: Mapping[str, PluginStatus], where: str) -> dict[str, dict[str, Component]]:
        """Return what all plugins offer, by kind and name; errors are those of the plugin that came last."""
        found: dict[str, dict[str, Component]] = {kind: {} for kind in _KINDS}
        for kind, (hook, contract) in _KINDS.items():
            for offer in self._host.offers(hook):
                component = checked_component(kind, offer.item, contract, statuses[offer.title], f"{where}, {hook}")
                refuse_duplicate(component, found[kind].setdefault(component.name, component), where)
        return found

    def _observer_failed(self, title: str, error: str) -> None:
        self._statuses[title] = replace(self._statuses[title], error=f"its observer failed: {error}")


def _registry_of(entry_points: bool, files: Sequence[Path], imported: Mapping[str, str]) -> Registry:
    registry = Registry(entry_points=entry_points)
    for file in files:
        registry.add_file(file)
    for path, kind in imported.items():
        registry.add_import(kind, path)
    return registry
