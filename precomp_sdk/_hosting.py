"""The side of a registry that speaks pluggy: plugins come and go, their hooks are called, who offered what is known.

Every call is pluggy's own, so ``specname``, ``tryfirst``, ``trylast`` and wrappers mean what pluggy says they mean.
Added here is only what pluggy does not know: each function is called once and its answer kept, an answer is known by
the plugin it came from, and an observer that raises is not called again.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from traceback import walk_tb
from typing import Any

import pluggy

from precomp_sdk import hookspecs
from precomp_sdk._plugins import describe, told
from precomp_sdk.errors import PluginError, nearest
from precomp_sdk.events import Event

__all__ = ["Host", "Offer", "PluginWarning"]

_KNOWN = tuple(name for name in hookspecs.__all__ if name.startswith("precomp_"))
_OBSERVERS = "precomp_on_event"
_FIRST, _AMONG, _TRYLAST, _LAST = range(4)  # where a function stands: as pluggy marks it, and what wrappers add


class PluginWarning(UserWarning):
    """A plugin misbehaves and is left out; what it is no part of goes on."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One item that a hook returned.

    Args:
        item: whatever it is.
        title: of the plugin it came from; of a wrapper, where no function of a plugin returned it.
    """

    item: object
    title: str


@dataclass(slots=True)
class _Function:
    """A plugin's function behind a hook, and what it answered."""

    title: str
    place: tuple[int, int]  # its rank, then the order of registration
    items: list[object] | None = None


class Host:
    """Plugins, and their hooks.

    Args:
        failed: called with the title of a plugin whose observer raised, and what it raised.
    """

    def __init__(self, failed: Callable[[str, str], None]) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT_NAME)
        self._manager.add_hookspecs(hookspecs)
        self._failed = failed
        self._silenced: list[object] = []
        self._functions: dict[str, list[_Function]] = {name: [] for name in _KNOWN}
        self._order = count()

    def add(self, plugin: object, title: str, where: str) -> None:
        """Take a plugin in.

        Raises:
            PluginError: it is there already, has no hook, misspells one or one of its arguments, or lacks the mark.
        """
        if self._manager.has_plugin(title) or self._manager.is_registered(plugin):
            raise PluginError(
                where=where,
                expected="a plugin that is not registered yet",
                got=f"{plugin!r} of the same name" if self._manager.has_plugin(title) else f"{plugin!r} a second time",
                remedy="Register it once; give two plugins different names.",
            )
        self._check(plugin, where)
        try:
            self._manager.register(plugin, name=title)
        except pluggy.PluginValidationError as error:
            raise PluginError(
                where=where,
                expected="hooks as their specifications say",
                got=" ".join(str(error).split()),
                remedy="See the page on hooks for each one's arguments.",
            ) from error
        for implementation in self._of(plugin):
            self._follow(*implementation, title, where)

    def remove(self, plugin: object, title: str) -> None:
        """Let a plugin go."""
        self._manager.unregister(plugin)
        for functions in self._functions.values():
            functions[:] = [function for function in functions if function.title != title]

    def offers(self, hook: str) -> list[Offer]:
        """Return what all plugins offer through a hook, as the wrappers among them leave it.

        Functions marked ``tryfirst`` come first and those marked ``trylast`` last; apart from that the order is that of
        registration.

        Raises:
            PluginError: a wrapper returned something else than lists.
            Exception: as a plugin's function raises it.
        """
        answers = getattr(self._manager.hook, hook)()
        if not isinstance(answers, Iterable):
            raise _no_list(f"the wrappers of {hook}", answers)
        items = [item for answer in answers for item in _items(answer, f"the wrappers of {hook}")]
        owners: dict[int, tuple[tuple[int, int], str]] = {}  # of each item: the function's place, and its plugin
        for function in self._functions[hook]:
            for item in function.items or ():
                owners.setdefault(id(item), (function.place, function.title))
        wrapper = ((_LAST, 0), next(self._wrappers(hook), ""))
        found = [(*owners.get(id(item), wrapper), item) for item in items]
        found.sort(key=lambda offer: offer[0])  # stable: a function's items keep their order
        return [Offer(item, title) for _, title, item in found]

    def notify(self, event: Event) -> None:
        """Pass an event to every observer; one that raises is told once and not called again."""
        try:
            self._observers()(event=event)
        except Exception as error:  # of a stranger's wrapper: what functions raise is caught one by one
            self._silence(error)

    def _check(self, plugin: object, where: str) -> None:
        """Refuse hooks that nobody calls, with the mark or without it."""
        marked: list[str] = []
        unmarked: list[str] = []
        for name in dir(plugin):
            options: Mapping[str, Any] | None = self._manager.parse_hookimpl_opts(plugin, name)
            if options is None and not (name.startswith("precomp_") and callable(getattr(plugin, name, None))):
                continue
            hook = (options or {}).get("specname") or name
            if hook not in _KNOWN and not (options or {}).get("optionalhook"):
                raise PluginError(where=where, expected="a known hook", got=hook, remedy=nearest(hook, _KNOWN))
            (unmarked if options is None else marked).append(name)
        if unmarked or not marked:
            raise PluginError(
                where=where,
                expected="at least one function marked with precomp_sdk.hookimpl, and no hook without the mark",
                got=f"hooks without the mark: {unmarked}" if unmarked else "none",
                remedy="Decorate the hook functions with @hookimpl.",
            )

    def _of(self, plugin: object) -> Iterator[tuple[str, pluggy.HookImpl]]:
        for caller in self._manager.get_hookcallers(plugin) or ():
            for implementation in caller.get_hookimpls():
                if implementation.plugin is plugin and caller.name in _KNOWN:
                    yield caller.name, implementation

    def _wrappers(self, hook: str) -> Iterator[str]:
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            if implementation.wrapper or implementation.hookwrapper:
                yield implementation.plugin_name

    def _follow(self, hook: str, implementation: pluggy.HookImpl, title: str, where: str) -> None:
        """Put a function of ours in the place of a plugin's: it keeps the answer, or stands between it and the run."""
        if implementation.wrapper or implementation.hookwrapper:
            return
        function: Callable[..., Any] = implementation.function
        if hook == _OBSERVERS:
            self._replace(implementation, _Guarded(function, lambda error: self._observer_failed(title, error)))
            return
        rank = _FIRST if implementation.tryfirst else _TRYLAST if implementation.trylast else _AMONG
        followed = _Function(title, (rank, next(self._order)))
        self._functions[hook].append(followed)

        def once(*args: Any) -> list[object]:
            if followed.items is None:
                followed.items = _items(function(*args), f"{where}, {hook}")
            return list(followed.items)

        self._replace(implementation, once)

    @staticmethod
    def _replace(implementation: pluggy.HookImpl, function: Callable[..., Any]) -> None:
        object.__setattr__(implementation, "function", function)  # final for type checkers; its arguments stay known

    def _observer_failed(self, title: str, error: Exception) -> None:
        text = told(error)
        self._failed(title, text)
        warnings.warn(
            f"plugin {title}: its observer failed and gets no more events: {text}", PluginWarning, stacklevel=6
        )

    def _silence(self, error: Exception) -> None:
        """Leave out from now on whose wrapper of the observers raised, told by the code that was running."""
        running = {frame.f_code for frame, _ in walk_tb(error.__traceback__)}
        wrappers = [item for item in self._observers().get_hookimpls() if item.wrapper or item.hookwrapper]
        guilty = [item for item in wrappers if getattr(item.function, "__code__", None) in running]
        for item in guilty or wrappers:
            self._silenced.append(item.plugin)
            self._observer_failed(item.plugin_name, error)

    def _observers(self) -> pluggy.HookCaller:
        return self._manager.subset_hook_caller(_OBSERVERS, self._silenced)


class _Guarded:
    """Calls an observer until it raises."""

    def __init__(self, function: Callable[..., Any], failed: Callable[[Exception], None]) -> None:
        self._function = function
        self._failed = failed
        self._working = True

    def __call__(self, *args: Any) -> None:
        if self._working:
            try:
                self._function(*args)
            except Exception as error:  # whatever it is, the run is not the observer's to end
                self._working = False
                self._failed(error)


def _items(answer: Any, where: str) -> list[object]:
    if isinstance(answer, type | str | Mapping) or not isinstance(answer, Iterable):
        raise _no_list(where, answer)
    return list(answer)


def _no_list(where: str, answer: object) -> PluginError:
    return PluginError(
        where=where,
        expected="a list of classes",
        got="nothing" if answer is None else describe(answer),
        remedy="Return a list, of one class too.",
    )
