"""The conformance kit on a component, by its name."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from precomp_sdk.codec import Codec
from precomp_sdk.config import ComponentTable, Loadable, Proxy, parse_options
from precomp_sdk.errors import ConfigError, UnknownNameError, nearest
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.proxy import ANY_CODEC
from precomp_sdk.registry import Registry
from precomp_sdk.run.build import Builder, located
from precomp_sdk.testing import CHECKS, FakeCodec, FakeDataset, FakeProxy, FakeTask, Report, check

__all__ = ["kind_of", "run_check"]


def run_check(
    name: str,
    registry: Registry,
    *,
    kind: str | None = None,
    codec: str | None = None,
    options: Sequence[str] = (),
    load: Path | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Report:
    """Run every check on a component; see `precomp_sdk.testing.check`.

    Args:
        name: of the component.
        registry: that knows it.
        kind: of the component, where its name is of several kinds.
        codec: the codec of a proxy; None takes the proxy's own.
        options: of the constructor, each as ``"option=value"``; a proxy's codec takes ``"codec.option=value"``.
        load: weights to load, of a proxy, a preprocessor or a task.
        expected_failures: the reason why a check fails, by its number.

    Raises:
        UnknownNameError: no plugin offers the name.
        ConfigError: the name is of several kinds, or an option is unknown or wrong.
        PrecompError: the component cannot be made.
    """
    kind = kind_of(name, registry, kind, command="check")
    origin = f"check of {kind} {name!r}"
    tables = parse_options(options)
    builder = Builder(registry, origin, seed=0)
    make: Callable[[], Any]
    if kind == "proxy":
        codec_options = tables.pop("codec", {})
        if not isinstance(codec_options, Mapping):
            raise ConfigError(
                where=origin,
                expected="options of the codec, such as codec.level=9",
                got=f"codec={codec_options!r}",
                remedy="Name the codec by --codec.",
            )
        table = ComponentTable(name=_codec_of(name, registry, codec, origin), **codec_options)
        made: Codec = builder.make("codec", table, "codec")
        make = partial(builder.make_proxy, Proxy(name=name, load=load, **tables), made)
    elif codec is not None:
        raise ConfigError(where=origin, expected="no codec", got=codec, remedy="Leave out --codec: it is for proxies.")
    elif kind == "preprocessor" and load is not None and registry.preprocessors[name].requires:
        raise ConfigError(
            where=origin,
            expected="no weights: it works with parts of an experiment, and is checked with doubles of them",
            got=str(load),
            remedy="Leave out --load.",
        )
    elif kind == "preprocessor":
        make = partial(_make_preprocessor, builder, Loadable(name=name, load=load, **tables))
    elif kind == "task":
        make = partial(builder.make, kind, Loadable(name=name, load=load, **tables), kind)
    elif load is not None:
        raise ConfigError(where=origin, expected="no weights", got=str(load), remedy=f"A {kind} has none to load.")
    else:
        make = partial(builder.make, kind, ComponentTable(name=name, **tables), kind)
    return check(make, expected_failures=expected_failures, on_fail="report")


def _make_preprocessor(builder: Builder, table: Loadable) -> Preprocessor:
    """Construct a preprocessor, with doubles of what it works with, and prepare it where it is not trained."""
    codec = FakeCodec()
    parts = {"codec": codec, "proxy": FakeProxy(codec), "task": FakeTask()}
    made: Preprocessor = builder.make("preprocessor", table, "preprocessor", parts)
    if not made.trainable:
        with located(f"check of preprocessor {table.name!r}, prepare"):
            made.prepare(FakeDataset(count=8))
    return made


def kind_of(name: str, registry: Registry, kind: str | None, *, command: str) -> str:
    """Return the one kind that has this name, or the given one if it has it; ``command`` is who asks.

    Raises:
        UnknownNameError: no plugin offers the name, or there is no such kind.
        ConfigError: the name is of several kinds.
    """
    if kind not in (None, *CHECKS):
        raise UnknownNameError(
            where=command, expected="a kind of component", got=repr(kind), remedy=nearest(str(kind), CHECKS)
        )
    known = [component for component in registry.components() if kind in (None, component.kind)]
    kinds = [component.kind for component in known if component.name == name]
    if not kinds:
        failed = [f"{item.name} of {item.package}" for item in registry.plugins() if item.state != "ok"]
        raise UnknownNameError(
            where=command,
            expected=f"the name of a {kind or 'component'}",
            got=repr(name),
            remedy=nearest(name, {component.name for component in known})
            + (f" Plugins that did not load, see `precomp plugins`: {', '.join(failed)}." if failed else ""),
        )
    if len(kinds) > 1:
        raise ConfigError(
            where=f"{command} of {name!r}",
            expected="a name of one kind",
            got=f"one of {', '.join(kinds)}",
            remedy=f"Say which: --kind {kinds[0]}.",
        )
    return kinds[0]


def _codec_of(name: str, registry: Registry, codec: str | None, origin: str) -> str:
    own = registry.proxies[name].codec_name
    if codec is None and own == ANY_CODEC:
        raise ConfigError(
            where=origin,
            expected="the codec to stand in for",
            got="none",
            remedy="Name it: --codec jpeg, for instance.",
        )
    return own if codec is None else codec
