"""torchvision's classification networks: building them, loading weights into them, finding their heads."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum

from precomp_sdk import CheckpointError, OptionError, nearest

__all__ = [
    "build",
    "check_architecture",
    "check_state",
    "find_file",
    "find_weights",
    "head_of",
    "load_enum",
    "load_file_into",
    "minimum_side",
    "normalization",
    "outputs_of",
    "pair_of",
    "read_state",
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
    normalization works on a single picture too; Inception's unpadded convolutions need 75.
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


def find_weights(architecture: str, weights: str | Path | WeightsEnum) -> WeightsEnum | Path:
    """Return which published weights or which file is meant.

    Args:
        architecture: a known network.
        weights: ``"DEFAULT"``, a member's name such as ``"IMAGENET1K_V1"`` (also behind its enum's name), the member
            itself, or a path.

    Raises:
        OptionError: it is neither a member of the network's weights enum nor looks like a path.
    """
    enum = models.get_model_weights(architecture)
    text = str(weights)
    member = text.removeprefix(f"{enum.__name__}.")
    if member in enum.__members__:
        found: WeightsEnum = enum[member]
        return found
    path = Path(text)
    if _is_file(path):
        return path
    raise OptionError(
        where=f"option 'weights' of {architecture!r}",
        expected="the name of published weights, or a path to a .pth, .pt or .safetensors file",
        got=repr(text),
        remedy=nearest(member, enum.__members__),
    )


def find_file(weights: str | Path | WeightsEnum) -> Path:
    """Return the path that is meant, for a network of which no weights are published.

    Raises:
        OptionError: it does not look like a path.
    """
    path = Path(str(weights))
    if not _is_file(path):
        raise OptionError(
            where="option 'weights'",
            expected="a path to a .pth, .pt or .safetensors file",
            got=repr(str(weights)),
            remedy="No weights are published of a network on a backbone of your choice; see backbone_weights.",
        )
    return path


def _is_file(path: Path) -> bool:
    return path.suffix in (".pth", ".pt", ".safetensors") or path.is_file()


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
    state = read_state(path)
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


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a file of weights, names to tensors; no code in it is executed.

    Raises:
        CheckpointError: it cannot be read, or holds something else.
    """
    try:
        state: object
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the readers raise almost anything
        raise CheckpointError(
            where=str(path),
            expected="a file of weights",
            got=f"{type(error).__name__}: {str(error)[:300]}",
            remedy="Save one with torch.save(network.state_dict(), path), or as safetensors.",
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        keys = f" with keys {sorted(map(str, state))[:5]}" if isinstance(state, Mapping) else ""
        raise CheckpointError(
            where=str(path),
            expected="a state dict: names to tensors",
            got=f"{type(state).__name__}{keys}",
            remedy="Save the network's state_dict() alone, without optimizer or epoch around it.",
        )
    return dict(state)


def check_state(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Raise `CheckpointError`, with keys and shapes, if weights do not fit a network; batch counters may be missing."""
    own = network.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in own]
    other = [
        f"{key} {_shape(value)} instead of {_shape(own[key])}"
        for key, value in state.items()
        if key in own and (value.shape != own[key].shape or value.is_floating_point() != own[key].is_floating_point())
    ]
    if missing or unknown or other:
        found = [("without", missing), ("with unknown", unknown), ("with", other)]
        raise CheckpointError(
            where=where,
            expected=f"{len(own)} tensors under the names and of the shapes of the network",
            got="; ".join(f"a file {word} {_some(keys)}" for word, keys in found if keys),
            remedy="Choose the architecture the file was saved from.",
        )


def _shape(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
