"""Files of weights: which one is meant, reading it, and whether it fits a network."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum

from precomp_sdk import CheckpointError, OptionError, nearest

__all__ = ["check_state", "find_file", "find_weights", "read_state"]


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
