"""Run states and trained preprocessors as files, written atomically and without code inside."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from precomp_sdk._deprecated import current_facts, current_options, current_state
from precomp_sdk.atomic_io import check_target, replacing
from precomp_sdk.errors import CheckpointError
from precomp_sdk.task import TaskModel

__all__ = [
    "SavedModule",
    "as_recorded",
    "check_unused",
    "fill_module",
    "load_module",
    "load_state",
    "read_module",
    "save_module",
    "save_state",
]

_FORMAT = "1"  # of the metadata
_EXTRA_STATE = "_extra_state"  # how PyTorch ends the key of what `Module.get_extra_state` returns


@dataclass(frozen=True, slots=True)
class SavedModule:
    """What a weights file says of itself.

    Args:
        name: of the component, as registered.
        options: it was constructed with.
        facts: whatever else was recorded: codec, its version, the ladder.
        weights: by parameter and buffer name.
    """

    name: str
    options: Mapping[str, Any]
    facts: Mapping[str, Any]
    weights: Mapping[str, Tensor]


def as_recorded(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as they come back from a file: tuples are lists there, and what is no JSON is its text."""
    recorded: dict[str, Any] = json.loads(json.dumps(dict(options), default=str))
    return recorded


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a run's state (tensors and plain values); an interruption leaves the old file whole."""
    with replacing(path) as temporary:
        torch.save(dict(state), temporary)


def load_state(path: Path) -> dict[str, Any]:
    """Read a run's state; no code in the file is executed.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a different type for every kind of damage
        raise CheckpointError(
            where=str(path),
            expected="a checkpoint of this package",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            remedy="Start the run anew, or restore the file.",
        ) from error
    return current_state(state, str(path))


def check_unused(folder: Path, names: Iterable[str], remedy: str) -> None:
    """Refuse a folder that holds a run already.

    Args:
        folder: of the new run.
        names: of the files that tell a run.
        remedy: how to go on with it or replace it, in the caller's words.

    Raises:
        CheckpointError: one of the files is there.
    """
    held = [name for name in names if (folder / name).exists()]
    if held:
        raise CheckpointError(
            where=str(folder),
            expected="a folder without a run",
            got=f"one with {', '.join(held)}",
            remedy=remedy,
        )


def save_module(
    path: Path | str, module: nn.Module, *, name: str, options: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
    """Write a module's weights as safetensors, with what is needed to rebuild it.

    Args:
        path: ends in ``.safetensors``.
        module: its ``state_dict`` is written.
        name: of the component, as registered.
        options: to construct it with; plain JSON values.
        facts: anything else worth knowing; plain JSON values.

    Raises:
        OptionError: the path is a folder.
        OSError: its folder cannot be written to.
    """
    check_target(Path(path))
    metadata = {"format": _FORMAT, "name": name, "options": json.dumps(dict(options)), "facts": json.dumps(dict(facts))}
    # copies: safetensors refuses tensors that share memory, as tied weights and views do; each key keeps its own
    weights = {key: value.detach().cpu().contiguous().clone() for key, value in module.state_dict().items()}
    with replacing(Path(path)) as temporary:
        save_file(weights, temporary, metadata=metadata)


def read_module(path: Path | str) -> SavedModule:
    """Read a weights file.

    Raises:
        CheckpointError: it is missing, damaged or not written by `save_module`.
    """
    try:
        if Path(path).is_dir():
            raise ValueError("it is a folder")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        name, options = current_options(metadata["name"], json.loads(metadata["options"]), str(path))
        return SavedModule(name, options, current_facts(json.loads(metadata["facts"])), weights)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            where=str(path),
            expected="a weights file written by precomp_sdk",
            got=f"{type(error).__name__}: {error}",
            remedy="Give the .safetensors file that training wrote.",
        ) from error


def load_module(path: Path | str, module: nn.Module, *, name: str) -> SavedModule:
    """Load a weights file into a module that was constructed with the same options; a task learns its classes again.

    Raises:
        CheckpointError: it belongs to another component, or its keys or shapes differ; a module's extra state, a tensor
            of ``get_extra_state``, may have any shape.
    """
    saved = read_module(path)
    fill_module(module, saved, name=name, where=str(path))
    if isinstance(module, TaskModel):
        module.fitted_classes = _class_names(saved, str(path))
    return saved


def _class_names(saved: SavedModule, where: str) -> tuple[str, ...]:
    """Return the classes that a task was fitted to; files of before they were recorded have none."""
    names = saved.facts.get("class_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(
            where=f"{where}, class_names",
            expected="a list of names",
            got=repr(names)[:80],
            remedy="Fit the task anew: the file is damaged.",
        )
    return tuple(names)


def fill_module(module: nn.Module, saved: SavedModule, *, name: str, where: str) -> None:
    """Load what was read from a weights file into a module; see `load_module`.

    Args:
        module: of the name, options and shapes in the file.
        saved: from `read_module`.
        name: of the component.
        where: the file, for the message.

    Raises:
        CheckpointError: as `load_module` raises it.
    """
    own, theirs = _shapes(module.state_dict()), _shapes(saved.weights)
    if saved.name != name or own != theirs:
        differing = sorted(key for key in own.keys() | theirs.keys() if own.get(key) != theirs.get(key))
        told = [f"{key} {theirs.get(key, 'missing')} instead of {own.get(key, 'none')}" for key in differing[:3]]
        raise CheckpointError(
            where=where,
            expected=f"weights of {name!r}",
            got=f"weights of {saved.name!r} with options {dict(saved.options)}"
            + (f"; {len(differing)} differ, first {', '.join(told)}" if differing else ""),
            remedy="Construct it by the name and options in the file.",
        )
    module.load_state_dict(dict(saved.weights))


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: () if key.endswith(_EXTRA_STATE) else tuple(value.shape) for key, value in weights.items()}
