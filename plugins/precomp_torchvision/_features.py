"""Feature maps of any convolutional classification network: which layers give them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.models import VisionTransformer

from precomp_sdk import OptionError, evaluation_mode, nearest
from precomp_torchvision._networks import head_of

__all__ = ["check_layers", "default_layers", "map_layers", "shapes_of"]

_DRY_RUN_SIZES = ((128, 192), (192, 128))  # two, so that height and width can be told from channels


def map_layers(network: nn.Module, side: int | None = None) -> dict[str, tuple[int, int]]:
    """Return the layers before the head that give feature maps (N, C, h, w), in the order they finish, with (h, w).

    Args:
        network: any network of images.
        side: the one input size in pixels, for a network that takes only one.
    """
    if side is not None:
        shapes = shapes_of(network, side, side)
        turned = shapes
    else:
        shapes, turned = (shapes_of(network, height, width) for height, width in _DRY_RUN_SIZES)
    return {
        name: (shape[2], shape[3])
        for name, shape in shapes.items()
        if len(shape) == 4 and min(shape[2:]) > 1 and turned.get(name) == (*shape[:2], shape[3], shape[2])
    }


def default_layers(network: nn.Module, maps: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    """Return the last layer of each resolution, finest first, among the network's stages.

    Stages are the network's own modules and the entries of those that are plain sequences, so that the inside of a
    block is never chosen.

    Raises:
        OptionError: there are none.
    """
    layers: dict[tuple[int, int], str] = {}
    if not isinstance(network, VisionTransformer):  # its only map is the linear embedding of the patches
        layers = {size: name for name, size in maps.items() if _is_stage(network, name)}
    if not layers:
        raise OptionError(
            where=f"features of {type(network).__name__}",
            expected="a network with feature maps, (N, C, h, w)",
            got="one that works on tokens",
            remedy="Train on the task loss alone, or choose a convolutional network.",
        )
    return tuple(layers[size] for size in sorted(layers, reverse=True))


def _is_stage(network: nn.Module, name: str) -> bool:
    parent, _, _ = name.rpartition(".")
    in_sequence = not parent or isinstance(network.get_submodule(parent), nn.Sequential | nn.ModuleList)
    passes_on = isinstance(network.get_submodule(name), nn.Dropout | nn.Identity | nn.AdaptiveAvgPool2d)
    return in_sequence and name.count(".") <= 1 and not passes_on


def check_layers(layers: Sequence[str], maps: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    """Return ``layers`` if each gives feature maps.

    Raises:
        OptionError: there is none, or one does not.
    """
    if not layers or isinstance(layers, str):
        raise OptionError(
            where="option 'feature_layers'",
            expected="a list of layer names",
            got=repr(layers),
            remedy="Leave it out for the last layer of each resolution.",
        )
    for layer in layers:
        if layer not in maps:
            raise OptionError(
                where="option 'feature_layers'",
                expected="names of layers that give feature maps",
                got=repr(layer),
                remedy=nearest(layer, maps),
            )
    return tuple(layers)


def shapes_of(network: nn.Module, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """Return the output shape of every layer that finishes before the head starts, in that order.

    The network runs on one meta image of the given size: nothing is computed, no statistic changes.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    at_head = False

    def record(name: str) -> Any:
        def hook(_module: nn.Module, _args: object, output: object) -> None:
            if not at_head and isinstance(output, Tensor):
                shapes.pop(name, None)  # a layer that runs again finishes later
                shapes[name] = tuple(output.shape)

        return hook

    def stop(_module: nn.Module, _args: object) -> None:
        nonlocal at_head
        at_head = True

    handles = [module.register_forward_hook(record(name)) for name, module in network.named_modules() if name]
    handles.append(network.get_submodule(head_of(network)).register_forward_pre_hook(stop))
    tensors = {name: value.to("meta") for name, value in [*network.named_parameters(), *network.named_buffers()]}
    try:
        with evaluation_mode(network), torch.no_grad():
            functional_call(network, tensors, (torch.empty(1, 3, height, width, device="meta"),))
    finally:
        for handle in handles:
            handle.remove()
    return shapes
