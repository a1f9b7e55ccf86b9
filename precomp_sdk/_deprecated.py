"""Every old name that is still read, in one place, with the version that renamed it.

Only what stands in files is kept: experiment and transfer files, ``--set``, the metadata of weights, run states,
records and results. Whoever reads a file passes it through one of these functions once; nobody else knows an old name.
Names of the Python API are not kept: ``CHANGELOG.md`` has the table of them.
"""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

from precomp_sdk.errors import ConfigError

__all__ = [
    "OldNameWarning",
    "current_facts",
    "current_options",
    "current_results",
    "current_state",
    "current_tables",
]

SINCE: Final = "0.2"  #: the version that renamed everything below

_NAMES: Final[Mapping[str, Mapping[str, str]]] = {  # by kind of component
    "proxy": {
        f"{codec}-surrogate": f"{codec}-proxy" for codec in ("avif", "bpg", "jpeg", "jpeg-xl", "jpeg2000", "webp")
    },
    "dataset": {"pictures": "unlabelled-images"},
}
_KEYS: Final = {  # by table, "" is the file itself: old keys and new ones
    "": {"plain_ladders": "anchor_ladders"},
    "evaluate": {"tuning_pictures": "tuning_images", "own_targets": "pseudo_labels", "pictures": "images"},
}
_VALUES: Final = {"train": {"targets": {"own": "pseudo-labels"}}}  # by table and key: old values and new ones
_DEFAULTS: Final = {"codec": {"jpeg": {"optimize": False}}}  # by table and component: what an option was by default
_OPTION_KEYS: Final = {"refine": {"calibration_pictures": "calibration_images"}}  # by component
_OPTION_VALUES: Final = {"refine": {"when_nothing": {"plain": "untouched"}}}
_MOVED: Final = {  # options of data sets that stand in a table of their own
    **dict.fromkeys(("resize", "crop", "augment", "zoom", "seed"), "geometry"),
    "max_pixels": "reading",
}
_MOVED_OF: Final = (  # the data sets that had them; others keep options of such names
    "image-folder", "unlabelled-images", "coco-detection", "mask-folder", "voc-detection", "voc-segmentation",
    "cifar10", "cifar100", "stl10", "flowers102", "food101", "imagenette", "oxford-iiit-pet",
    "oxford-iiit-pet-segmentation", "dtd", "fgvc-aircraft",
)  # fmt: skip
_COMPONENTS: Final = (  # where the tables of components stand in a file; "*" is any key
    ("proxy", ("proxy",)),
    ("proxy", ("proxies", "*")),
    ("dataset", ("data",)),
    ("dataset", ("data", "*")),
    ("preprocessor", ("preprocessor",)),
    ("preprocessor", ("preprocessors", "*")),
)


class OldNameWarning(FutureWarning):
    """A file says something by a name of an earlier version. It is read all the same; the next version may not."""


def current_tables(
    tables: Mapping[str, Any], origin: str, *, over: Mapping[str, Any] | None = None, record: bool = False
) -> dict[str, Any]:
    """Return the tables of an experiment or transfer file under today's names; one warning tells of all old ones.

    Args:
        tables: as read.
        origin: the file, for the warning.
        over: the tables that these are laid over, where they are an override: they say what a component's name is.
        record: whether the file is what a run wrote. Today's runs write every option of the codec; what an older one
            left out, or a typed file with old names, means the default of then.

    Raises:
        ConfigError: an old name stands beside the new one.
    """
    found: list[str] = []
    current = _table(tables, over or {}, (), origin, found)
    if over is None and (found or record):
        current = _with_old_defaults(current, found)
    _warn(origin, found)
    return current


def _with_old_defaults(tables: dict[str, Any], found: list[str]) -> dict[str, Any]:
    current = dict(tables)
    for key, components in _DEFAULTS.items():
        table = current.get(key)
        if isinstance(table, Mapping):
            for option, value in components.get(str(table.get("name")), {}).items():
                if option not in table:
                    found.append(f"{key}.{option} is left out and was {str(value).lower()} by default")
                    current[key] = table = {**table, option: value}
    return current


def current_options(name: str, options: Mapping[str, Any], origin: str) -> tuple[str, dict[str, Any]]:
    """Return the name and options of a component as its weights file has them, under today's names."""
    found: list[str] = []
    for kind, names in _NAMES.items():
        if name in names:
            found.append(f"the {kind} {name!r} is {names[name]!r}")
            name = names[name]
    current = _options(options, name, (), origin, found)
    _warn(origin, found)
    return name, current


def current_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a weights file under today's names; they are what was, so nothing is told."""
    current = dict(facts)
    dataset, codec, options = (facts.get(key) for key in ("dataset", "codec", "codec_options"))
    if isinstance(dataset, str):
        current["dataset"] = _NAMES["dataset"].get(dataset, dataset)
    if isinstance(codec, str) and isinstance(options, Mapping):
        current["codec_options"] = {**_DEFAULTS["codec"].get(codec, {}), **options}
    return current


def current_state(state: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return the state of an interrupted run under today's names."""
    found: list[str] = []
    current = dict(state)
    if "plain" in current and "anchor" not in current:
        found.append("'plain' is 'anchor'")
        current["anchor"] = current.pop("plain")
    run = current.get("run")
    if isinstance(run, Mapping):
        run = _values(run, _VALUES["train"], ("run",), found)
        proxy = run.get("proxy")
        if isinstance(proxy, str) and proxy in _NAMES["proxy"]:
            found.append(f"the proxy {proxy!r} is {_NAMES['proxy'][proxy]!r}")
            run = {**run, "proxy": _NAMES["proxy"][proxy]}
        current["run"] = run
    _warn(origin, found)
    return current


def current_results(record: Any) -> Any:
    """Return the record of an evaluation or a transfer matrix under today's names; it tells what was: no warning.

    The count of images was ``pictures``, and the anchor's curve ``plain``.
    """
    if isinstance(record, list):
        return [current_results(item) for item in record]
    if not isinstance(record, Mapping):
        return record
    renamed = {"pictures": "images", "plain": "anchor"}
    return {
        renamed.get(key, key): "anchor" if key in ("label", "anchor") and value == "plain" else current_results(value)
        for key, value in record.items()
    }


def _table(
    table: Mapping[str, Any], over: Mapping[str, Any], path: tuple[str, ...], origin: str, found: list[str]
) -> dict[str, Any]:
    """Rename what a table holds, then what the tables in it hold."""
    at = ".".join(path)
    current = _values(_keys(table, _KEYS.get(at, {}), path, origin, found), _VALUES.get(at, {}), path, found)
    for key, value in current.items():
        if not isinstance(value, Mapping):
            continue
        below = over.get(key) if isinstance(over.get(key), Mapping) else {}
        assert isinstance(below, Mapping)
        kinds = list(_kinds_at((*path, key)))
        current[key] = _table(value, below, (*path, key), origin, found)
        for kind in kinds:
            current[key] = _component(kind, current[key], below, (*path, key), origin, found)
    return current


def _kinds_at(path: tuple[str, ...]) -> Iterator[str]:
    for kind, pattern in _COMPONENTS:
        if len(pattern) == len(path) and all(part in ("*", key) for part, key in zip(pattern, path, strict=True)):
            yield kind


def _component(
    kind: str, table: Mapping[str, Any], over: Mapping[str, Any], path: tuple[str, ...], origin: str, found: list[str]
) -> dict[str, Any]:
    """Rename a component, and the options of one that has old ones."""
    current = _values(table, {"name": _NAMES.get(kind, {})}, path, found)
    name = current.get("name", over.get("name"))
    current = _options(current, name, path, origin, found)
    return _moved(current, path, origin, found) if kind == "dataset" and name in _MOVED_OF else current


def _moved(table: Mapping[str, Any], path: tuple[str, ...], origin: str, found: list[str]) -> dict[str, Any]:
    """Move options to the tables in which they stand now."""
    current = {key: value for key, value in table.items() if key not in _MOVED}
    for key in (key for key in table if key in _MOVED):
        inner = _MOVED[key]
        held = current.get(inner, {})
        if not isinstance(held, Mapping) or key in held:
            raise ConfigError(
                where=f"{origin}, {'.'.join((*path, key))}",
                expected=f"{inner}.{key}, where it stands since {SINCE}, and nothing else",
                got=f"both {key} and {inner}",
                remedy=f"Leave {key} out.",
            )
        found.append(f"{'.'.join((*path, key))} is {'.'.join((*path, inner, key))}")
        current[inner] = {**held, key: table[key]}
    return current


def _options(
    table: Mapping[str, Any], name: object, path: tuple[str, ...], origin: str, found: list[str]
) -> dict[str, Any]:
    current = _keys(table, _OPTION_KEYS.get(str(name), {}), path, origin, found)
    return _values(current, _OPTION_VALUES.get(str(name), {}), path, found)


def _keys(
    table: Mapping[str, Any], renamed: Mapping[str, str], path: tuple[str, ...], origin: str, found: list[str]
) -> dict[str, Any]:
    for old, new in renamed.items():
        if old in table and new in table:
            raise ConfigError(
                where=f"{origin}, {'.'.join((*path, old))}",
                expected=f"{new}, its name since {SINCE}, and nothing else",
                got=f"both {old} and {new}",
                remedy=f"Leave {old} out.",
            )
        if old in table:
            found.append(f"{'.'.join((*path, old))} is {new}")
    return {renamed.get(key, key): value for key, value in table.items()}


def _values(
    table: Mapping[str, Any], renamed: Mapping[str, Mapping[str, str]], path: tuple[str, ...], found: list[str]
) -> dict[str, Any]:
    current = dict(table)
    for key, values in renamed.items():
        value = current.get(key)
        if isinstance(value, str) and value in values:
            found.append(f"{'.'.join((*path, key))} = {value!r} is {values[value]!r}")
            current[key] = values[value]
    return current


def _warn(origin: str, found: list[str]) -> None:
    if found:
        message = f"{origin} uses names of before version {SINCE}, which are still read: {'; '.join(found)}"
        warnings.warn(message, OldNameWarning, stacklevel=4)
