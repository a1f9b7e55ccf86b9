"""torchvision's classification networks: building them, loading weights into them, finding their heads."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum

from precomp_sdk import CheckpointError, OptionError, nearest
from precomp_sdk.weights import check_state, read_state, without_prefix

__all__ = [
    "build",
    "check_architecture",
    "head_of",
    "load_enum",
    "load_file_into",
    "minimum_side",
    "normalization",
    "outputs_of",
    "pair_of",
    "renew_head",
    "takes_one_size",
]

# Two networks have auxiliary heads, which only help to train from nothing: they are left out. Both can transform their
# input; that is always on, as it is with the published weights, so that a file of weights means one thing.
_WITH_AUXILIARY = ("googlenet", "inception_v3")
_AUXILIARY = ("aux1", "aux2", "AuxLogits")
_IMAGENET_CLASSES = 1000


def takes_one_size(architecture: str) -> bool:
    """Return whether a network is built for one square size: its attention counts on the number of positions."""
    return architecture.startswith(("vit_", "maxvit"))


def minimum_side(architecture: str) -> int:
    """Return the smallest height and width, in pixels, that a network of any size is given.

    Every network of torchvision runs on 64 pixels, with 2 positions left after a stride of 32, so that batch
    normalization works on a single image too; Inception's unpadded convolutions need 75.
    """
    return 75 if architecture == "inception_v3" else 64


def build(architecture: str, num_classes: int | None = None, side: int | None = None) -> nn.Module:
    """Build a network with random weights.

    Args:
        architecture: as in ``torchvision.models.list_models``.
        num_classes: outputs; default 1000.
        side: the one input size, where `takes_one_size`.

    Raises:
        OptionError: torchvision has no classification network of this name, or none of this size.
    """
    check_architecture(architecture)
    extra: dict[str, Any] = {}
    if architecture in _WITH_AUXILIARY:
        extra = {"aux_logits": False, "transform_input": True, "init_weights": True}
    if side is not None:
        extra = {"image_size": side} if architecture.startswith("vit_") else {"input_size": (side, side)}
    outputs = _IMAGENET_CLASSES if num_classes is None else num_classes
    try:
        network: nn.Module = models.get_model(architecture, weights=None, num_classes=outputs, **extra)
    except (AssertionError, ValueError) as error:
        if side is None:
            raise
        raise OptionError(
            where="option 'input_size'",
            expected=f"a size that {architecture!r} can be built for",
            got=f"{side}: {error}",
            remedy="Leave it out for 224, or give a multiple of 224.",
        ) from error
    return network


def check_architecture(architecture: str) -> None:
    """Raise `OptionError` if torchvision has no classification network of this name."""
    known = models.list_models(module=models)
    if architecture not in known:
        raise OptionError(
            where="option 'architecture'",
            expected="a classification network of torchvision",
            got=repr(architecture),
            remedy=nearest(architecture, known),
        )


def normalization(architecture: str, weights: WeightsEnum | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation (each three numbers) the published weights were trained with."""
    published = weights or models.get_model_weights(architecture).DEFAULT
    transforms = published.transforms()
    return tuple(transforms.mean), tuple(transforms.std)


def load_enum(architecture: str, weights: WeightsEnum) -> nn.Module:
    """Build a network with published weights, downloaded by torchvision where they are not in its cache.

    Raises:
        CheckpointError: the download failed.
    """
    try:
        network: nn.Module = models.get_model(architecture, weights=weights, progress=False)
    except (OSError, RuntimeError) as error:  # no network, a bad checksum, or keys that do not fit
        raise CheckpointError(
            where=f"weights {weights}",
            expected=f"a download from {weights.url}",
            got=str(error)[:500],
            remedy="Get the file some other way and give its path as weights.",
        ) from error
    if architecture in _WITH_AUXILIARY:
        for name, off in (("aux_logits", False), *((name, None) for name in _AUXILIARY)):
            if hasattr(network, name):
                setattr(network, name, off)
    return network


def load_file_into(architecture: str, path: Path, side: int | None = None) -> nn.Module:
    """Build a network with as many outputs as a file of weights has, and load the file.

    Raises:
        CheckpointError: the file cannot be read, or is of another network; the message names keys and shapes.
    """
    state = without_prefix(read_state(path), ())
    if architecture in _WITH_AUXILIARY:
        state = {key: value for key, value in state.items() if key.split(".")[0] not in _AUXILIARY}
    if architecture.startswith("densenet"):  # published files still have the names of torchvision 0.1
        state = {re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", key): value for key, value in state.items()}
    network = build(architecture, side=side)
    head = state.get(f"{head_of(network)}.weight")
    if head is not None and head.ndim > 0 and len(head) not in (0, _IMAGENET_CLASSES):
        network = build(architecture, len(head), side)
    check_state(network, state, f"{path}, loaded into {architecture!r}")
    network.load_state_dict(state, strict=False)  # checked above; what may be missing are counters of batches
    return network


def head_of(network: nn.Module) -> str:
    """Return the name of the layer that gives the logits: the last linear or convolutional one."""
    names: list[str] = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return names[-1]


def outputs_of(network: nn.Module) -> int:
    """Return how many logits a network gives."""
    return len(network.get_parameter(f"{head_of(network)}.weight"))


def renew_head(network: nn.Module, num_classes: int) -> None:
    """Replace the head with a new one of random weights."""
    name = head_of(network)
    old = network.get_submodule(name)
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
    else:
        assert isinstance(old, nn.Conv2d)
        new = nn.Conv2d(old.in_channels, num_classes, kernel_size=1, bias=old.bias is not None)
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, new)


def pair_of(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Return the option ``input_size`` as (height, width).

    Raises:
        OptionError: it is neither a number of pixels nor two.
    """
    if size is None:
        return None
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2 or not all(isinstance(side, int) and side >= 1 for side in pair):
        raise OptionError(
            where="option 'input_size'",
            expected="a number of pixels, or (height, width)",
            got=str(size),
            remedy="Leave it out for the native size.",
        )
    return pair[0], pair[1]
