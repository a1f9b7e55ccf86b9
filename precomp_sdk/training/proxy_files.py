"""Fitted proxies as files that know which codec they stand in for."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from precomp_sdk.codec import Codec
from precomp_sdk.errors import CheckpointError
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.training.checkpoints import SavedModule, fill_module, read_module, save_module

__all__ = ["load_fitting_proxy", "load_proxy", "save_proxy"]


def save_proxy(path: Path | str, proxy: ProxyCodec, *, facts: Mapping[str, Any] | None = None) -> None:
    """Write a proxy's weights as safetensors, with the codec's name and options, and the version it was fitted to.

    Args:
        path: ends in ``.safetensors``.
        proxy: a fitted one.
        facts: anything else worth knowing, such as how it was fitted; plain JSON values.
    """
    save_module(
        path,
        proxy,
        name=proxy.name,
        options=proxy.options,
        facts={**(facts or {}), **_identity(proxy.codec), "codec_version": proxy.fitted_to or proxy.codec.version},
    )


def load_proxy(path: Path | str, proxy: ProxyCodec, *, any_version: bool = False) -> SavedModule:
    """Load a file of `save_proxy` into a proxy that was constructed with the same options.

    Args:
        path: the file.
        proxy: of the codec that the file was fitted to.
        any_version: accept a file that was fitted to another version of the codec's library. Its bytes may differ;
            `precomp_sdk.evaluation.evaluate_proxy` tells by how much.

    Raises:
        CheckpointError: it was fitted to another codec, to other options or another version of it, does not say to
            what, belongs to another proxy, or its keys or shapes differ. The proxy is unchanged then.
    """
    saved = read_module(path)
    facts = _facts_of(saved, proxy.codec)
    ours = {**_identity(proxy.codec), **({} if any_version else {"codec_version": proxy.codec.version})}
    for key, value in ours.items():
        if facts.get(key) != value and (key in facts or saved.name == proxy.name):
            raise CheckpointError(
                where=str(path),
                expected=f"a proxy that was fitted to {key.replace('_', ' ')} {value!r}",
                got=repr(facts[key]) if key in facts else "a file that does not say",
                remedy="Fit one to this codec: precomp fit-proxy, or precomp_sdk.training.fit_proxy."
                + (" any_version accepts it all the same." if key == "codec_version" else ""),
            )
    _fill(proxy, saved, path)
    return saved


def load_fitting_proxy(paths: Iterable[Path | str], proxy: ProxyCodec) -> SavedModule | None:
    """Load the first of some files that was fitted to the proxy's codec with its options, in whatever version.

    Such a file is of a proxy of the same name and shapes. Options that change only gradients may differ.

    Returns:
        What the file says, or None where none fits; the proxy is unchanged then.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    shapes = {key: value.shape for key, value in proxy.state_dict().items()}
    for path in paths:
        saved = read_module(path)
        facts = _facts_of(saved, proxy.codec)
        if (
            saved.name == proxy.name
            and {key: value.shape for key, value in saved.weights.items()} == shapes
            and all(facts.get(key) == value for key, value in _identity(proxy.codec).items())
        ):
            _fill(proxy, saved, path)
            return saved
    return None


def _fill(proxy: ProxyCodec, saved: SavedModule, path: Path | str) -> None:
    fill_module(proxy, saved, name=proxy.name, where=str(path))
    proxy.fitted_to = str(saved.facts.get("codec_version", ""))


def _facts_of(saved: SavedModule, codec: Codec) -> dict[str, Any]:
    """Return a file's facts without the codec's limits, which older files name among its options."""
    facts = dict(saved.facts)
    options = facts.get("codec_options")
    if isinstance(options, dict):
        facts["codec_options"] = {name: value for name, value in options.items() if name not in codec.limits}
    return facts


def _identity(codec: Codec) -> dict[str, Any]:
    options = {
        key: value if isinstance(value, bool | int | float | str) or value is None else str(value)
        for key, value in codec.coding_options.items()
    }
    return {"codec": codec.name, "codec_options": options}
