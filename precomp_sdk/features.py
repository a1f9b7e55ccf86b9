"""Intermediate outputs of any network, by the names of its layers."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from precomp_sdk.errors import ContractError, OptionError, nearest

__all__ = ["capture_layers", "check_layer_names"]

_CAPTURING = threading.RLock()  # hooks are the network's, whichever thread runs it


def check_layer_names(network: nn.Module, layers: Sequence[str]) -> tuple[str, ...]:
    """Return ``layers`` if each names a layer of the network.

    Args:
        network: any.
        layers: names as ``network.named_modules()`` has them.

    Raises:
        OptionError: there is none, or one is unknown.

    Example:
        >>> check_layer_names(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), ["1"])
        ('1',)
    """
    if not layers or isinstance(layers, str):
        raise OptionError(
            where="option 'feature_layers'",
            expected="a list of layer names",
            got=repr(layers),
            remedy="Name one layer or more, as named_modules() does.",
        )
    known = [name for name, _ in network.named_modules() if name]
    for layer in layers:
        if layer not in known:
            raise OptionError(
                where="option 'feature_layers'",
                expected=f"names of layers of {type(network).__name__}",
                got=repr(layer),
                remedy=nearest(layer, known),
            )
    return tuple(layers)


def capture_layers(network: nn.Module, layers: Sequence[str], run: Callable[[], object], count: int) -> list[Tensor]:
    """Run a network and return the outputs of some of its layers, in their order, with gradients.

    A layer that runs several times gives its last output.

    Args:
        network: whose layers are meant.
        layers: their names.
        run: runs the network, or the part that the layers are in.
        count: how many images it runs on.

    Raises:
        ContractError: a layer did not run, or gave something else than one floating-point tensor (N, ...).
    """
    found: dict[str, object] = {}
    thread = threading.get_ident()

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _args: object, output: object) -> None:
            if threading.get_ident() == thread:  # another one's pass through the same network says nothing here
                found[name] = output.clone() if isinstance(output, Tensor) else output  # a later one may work in place

        return hook

    with _CAPTURING:
        handles = [network.get_submodule(name).register_forward_hook(keep(name)) for name in layers]
        try:
            run()
        finally:
            for handle in handles:
                handle.remove()
    return [_checked(name, found, count) for name in layers]


def _checked(name: str, found: dict[str, object], count: int) -> Tensor:
    output = found.get(name)
    if isinstance(output, Tensor) and output.is_floating_point() and output.ndim > 1 and output.shape[0] == count:
        return output
    if name not in found:
        got = "a layer that did not run"
    elif isinstance(output, Tensor):
        got = f"{output.dtype} {tuple(output.shape)}"
    else:
        got = type(output).__name__
    raise ContractError(
        where=f"features of layer {name!r}",
        expected=f"a floating-point tensor of {count} images, ({count}, ...)",
        got=got,
        remedy="Name a layer before the heads, whose output is one tensor with a row per image.",
    )
