"""Files of weights: reading plain state dicts safely, fitting them to a network, writing a task's own."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from precomp_sdk.atomic_io import replacing
from precomp_sdk.errors import CheckpointError
from precomp_sdk.validation import LFS_POINTER

__all__ = ["check_state", "load_weights", "read_name", "read_state", "save_weights", "without_prefix"]

_FORMAT = "1"  # of the metadata, as `precomp_sdk.training.save_module` writes it


def read_state(path: Path | str) -> dict[str, Tensor]:
    """Read a file of weights, names to tensors: ``.safetensors``, or what torch.save wrote; no code in it is executed.

    Raises:
        CheckpointError: it cannot be read, or holds something else; a pointer of git-lfs is named as one.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
        state: object
        if start == LFS_POINTER:
            raise ValueError("a pointer of git-lfs: the file itself was not downloaded; run git lfs pull")
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the readers raise almost anything
        raise CheckpointError(
            where=str(path),
            expected="a file of weights",
            got=_message(error),
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
    return {str(key): value for key, value in state.items()}


def without_prefix(state: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """Return a state dict without what wrappers put before every name: ``module.``, ``model.``, ``_orig_mod.``.

    nn.DataParallel and DistributedDataParallel, Lightning and torch.compile do so.

    Args:
        state: names to tensors.
        own: the network's names; a prefix that they have too stays.

    Example:
        >>> without_prefix({"module.0.weight": torch.zeros(1)}, ["0.weight"]).keys()
        dict_keys(['0.weight'])
    """
    own, found = list(own), dict(state)
    while found:
        prefixes = {key.partition(".")[0] + "." for key in found if "." in key}
        prefix = prefixes.pop() if len(prefixes) == 1 else ""
        if not prefix or any(key.startswith(prefix) for key in own) or not all(key.startswith(prefix) for key in found):
            break
        found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found


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


def load_weights(network: nn.Module, path: Path | str) -> None:
    """Load a plain state dict into a network, prefixes of wrappers taken off.

    Raises:
        CheckpointError: it cannot be read, does not fit, or holds NaN.
    """
    state = without_prefix(read_state(path), network.state_dict())
    check_state(network, state, str(path))
    broken = [key for key, value in state.items() if value.is_floating_point() and bool(value.isnan().any())]
    if broken:
        raise CheckpointError(
            where=str(path),
            expected="weights that are numbers",
            got=f"NaN in {_some(broken)}",
            remedy="The run that wrote it diverged: take an earlier file.",
        )
    network.load_state_dict(state, strict=False)  # checked above; what may be missing are counters of batches


def save_weights(path: Path | str, module: nn.Module, *, name: str) -> None:
    """Write a component's weights as safetensors, with its name.

    Raises:
        CheckpointError: the file's name does not end in ``.safetensors``.
    """
    if Path(path).suffix != ".safetensors":
        raise CheckpointError(
            where=str(path), expected="a name that ends in .safetensors", got="another", remedy="Rename it."
        )
    weights = {key: value.detach().cpu().contiguous().clone() for key, value in module.state_dict().items()}
    with replacing(Path(path)) as temporary:
        save_file(weights, temporary, metadata={"format": _FORMAT, "name": name, "options": "{}", "facts": "{}"})


def read_name(path: Path | str) -> str | None:
    """Return whose weights a file holds, or None for a plain state dict and what cannot be read."""
    if Path(path).suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except Exception:  # whoever reads the weights says what is wrong
        return None
    return metadata.get("name") if "format" in metadata else None


def _message(error: Exception) -> str:
    """Say what is wrong with a file, without PyTorch's advice to let it run code by ``weights_only=False``."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if text.startswith("a pointer of git-lfs"):
        return text
    return f"{type(error).__name__}: {'it holds more than tensors' if 'weights_only' in text else text[:300]}"


def _shape(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
