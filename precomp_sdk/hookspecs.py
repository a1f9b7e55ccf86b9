"""Every door into the package, as a typed function. Plugins implement them with ``precomp_sdk.hookimpl``."""

from collections.abc import Iterable

import pluggy

from precomp_sdk.codec import Codec
from precomp_sdk.data import TaskDataset
from precomp_sdk.events import Event
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.task import TaskModel

__all__ = [
    "ENTRY_POINT_GROUP",
    "PROJECT_NAME",
    "hookimpl",
    "precomp_on_event",
    "precomp_register_codecs",
    "precomp_register_datasets",
    "precomp_register_preprocessors",
    "precomp_register_proxies",
    "precomp_register_tasks",
]

PROJECT_NAME = "precomp_sdk"  #: pluggy's project name
ENTRY_POINT_GROUP = "precomp_sdk"  #: entry points of this group are plugins: modules or objects with hooks

hookspec: pluggy.HookspecMarker = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl: pluggy.HookimplMarker = pluggy.HookimplMarker(PROJECT_NAME)


@hookspec
def precomp_register_codecs() -> Iterable[type[Codec]]:
    """Offer codecs to the registry.

    Called once, at the first look-up in a registry, never at import. Return classes; nothing is constructed until a
    user asks for it by name. The same holds for the other ``precomp_register_`` hooks.

    What is marked ``tryfirst`` comes before the others, ``trylast`` after them; apart from that plugins come in the
    order of their registration, this package's own first. A wrapper sees the lists of all plugins and may return
    others; it runs again when one more plugin is registered.

    Raises:
        DuplicateNameError: (by the host) two classes share a ``name``.
        PluginError: (by the host) an item is not a concrete ``Codec``.
    """
    raise NotImplementedError  # a specification is never called


@hookspec
def precomp_register_proxies() -> Iterable[type[ProxyCodec]]:
    """Offer proxies. The first one whose ``codec_name`` is a codec's name becomes that codec's default proxy.

    One that is marked ``tryfirst`` comes before those of this package.
    """
    raise NotImplementedError


@hookspec
def precomp_register_preprocessors() -> Iterable[type[Preprocessor]]:
    """Offer preprocessors."""
    raise NotImplementedError


@hookspec
def precomp_register_tasks() -> Iterable[type[TaskModel]]:
    """Offer task models."""
    raise NotImplementedError


@hookspec
def precomp_register_datasets() -> Iterable[type[TaskDataset]]:
    """Offer data sets."""
    raise NotImplementedError


@hookspec
def precomp_on_event(event: Event) -> None:
    """Observe a run.

    Called for every event, in order, in the thread and process that does the work; with several processes, only in the
    first one. Return nothing. An error raised here is told and stops nothing: the plugin gets no more events.
    """
