"""What a component is, as its class says it: for `precomp info`, and for the tables in the docs."""

import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from precomp_sdk.codec import Codec
from precomp_sdk.component import Component
from precomp_sdk.data import TaskDataset
from precomp_sdk.errors import PrecompError
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.proxy import ANY_CODEC, ProxyCodec
from precomp_sdk.registry import Registry
from precomp_sdk.run.conformance import kind_of
from precomp_sdk.task import TaskModel

__all__ = ["ComponentDescription", "OptionDescription", "arguments_of_docstring", "describe", "options_of"]


@dataclass(frozen=True, slots=True)
class OptionDescription:
    """One option of a component.

    Args:
        name: as an experiment file spells it.
        default: as Python writes it; empty where the option is required.
        meaning: from the docstring of the class.
    """

    name: str
    default: str
    meaning: str

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return not self.default


@dataclass(frozen=True, slots=True)
class ComponentDescription:
    """What `precomp info` tells of a component.

    Args:
        kind: codec, proxy, preprocessor, task or dataset.
        name: as typed.
        summary: the first paragraph of its docstring.
        source: the standard, paper or data it follows.
        package: the distribution it comes from, with its version.
        licence: of that distribution, as its metadata says it; empty where it says nothing.
        state: ``"ok"``, or why it cannot be used.
        facts: what only components of its kind have, such as the quality scale or the target kind, in words.
        options: in the order of the constructor.
    """

    kind: str
    name: str
    summary: str
    source: str
    package: str
    licence: str
    state: str
    facts: Mapping[str, str]
    options: tuple[OptionDescription, ...]


def describe(name: str, registry: Registry, *, kind: str | None = None) -> ComponentDescription:
    """Return what is known of a component by its name.

    Args:
        name: of the component.
        registry: that knows it.
        kind: of the component, where its name is of several kinds.

    Raises:
        UnknownNameError: no plugin offers the name.
        ConfigError: the name is of several kinds.
    """
    kind = kind_of(name, registry, kind, command="info")
    component = next(item for item in registry.components() if (item.kind, item.name) == (kind, name))
    missing = component.missing()
    return ComponentDescription(
        kind=kind,
        name=name,
        summary=summary_of(component.cls),
        source=str(getattr(component.cls, "source", "")),
        package=f"{component.plugin.package} {component.plugin.version}".strip(),
        licence=_licence(component.plugin.package),
        state=f"unavailable: {missing}" if missing else component.plugin.state,
        facts=_facts(component, registry),
        options=options_of(component.cls),
    )


def summary_of(cls: type) -> str:
    """Return the first paragraph of a class's docstring on one line."""
    return _one_line((inspect.getdoc(cls) or "").split("\n\n")[0])


def options_of(cls: type) -> tuple[OptionDescription, ...]:
    """Return the keyword-only arguments of a constructor, with what the docstrings of the class and its bases say."""
    told: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        told |= arguments_of_docstring(base)
    return tuple(
        OptionDescription(
            name=name,
            default="" if parameter.default is parameter.empty else repr(parameter.default),
            meaning=told.get(name, ""),
        )
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    )


def arguments_of_docstring(documented: Any) -> dict[str, str]:
    """Return what the ``Args`` section of a docstring says, by argument."""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", inspect.getdoc(documented) or "", re.MULTILINE)
    if section is None:
        return {}
    entries = re.split(r"\n(?=\w)", textwrap.dedent(section[1]).strip())
    return {name: _one_line(text) for name, _, text in (entry.partition(":") for entry in entries)}


def _facts(component: Component, registry: Registry) -> dict[str, str]:
    """Say in words what only components of this kind have."""
    cls = component.cls
    facts: dict[str, str] = {}
    if issubclass(cls, Codec) and hasattr(cls, "quality_scale"):
        scale = cls.quality_scale
        ladder = ", ".join(f"{quality:g}" for quality in scale.ladder)
        better = "higher is better" if scale.higher_is_better else "lower is better"
        facts["quality"] = f"{scale.name} {scale.minimum:g} to {scale.maximum:g}, {better}; ladder {ladder}"
        offered = [name for name, proxy in registry.proxies.items() if proxy.codec_name == component.name]
        facts["proxies"] = ", ".join(offered) or "none of its own; the generic proxy fits any codec"
    if issubclass(cls, ProxyCodec):
        facts["codec"] = "any" if cls.codec_name == ANY_CODEC else cls.codec_name
        facts["fitted"] = _fitted(component, registry)
    if issubclass(cls, Preprocessor):
        facts["works with"] = ", ".join(cls.requires) or "the image alone"
        facts["trained"] = "yes" if cls.trainable else "no: it measures what it needs"
    if issubclass(cls, TaskModel | TaskDataset):
        kind = getattr(cls, "target_kind", None)
        facts["targets"] = kind if isinstance(kind, str) else "depends on its options"
    return facts


def _fitted(component: Component, registry: Registry) -> str:
    """Say whether a proxy with its default options is of use as it comes."""
    name = component.cls.codec_name  # type: ignore[attr-defined]  # a proxy's
    if name == ANY_CODEC:
        return "no: `precomp fit-proxy` fits it, and training does so first"
    try:
        proxy = registry.proxy_for(registry.create("codec", name), component.name)
    except PrecompError as error:
        return f"unknown: {error}"
    if not bool(proxy.fitted):
        return "no: `precomp fit-proxy` fits it, and training does so first"
    return f"yes, to {proxy.fitted_to}" if proxy.fitted_to else "yes"


def _licence(package: str) -> str:
    try:
        found = metadata(package).json
    except PackageNotFoundError:
        return ""
    return str(found.get("license_expression") or found.get("license") or "")


def _one_line(text: str) -> str:
    return " ".join(text.split())
