"""Weights as files: trained modules without code inside, equal bytes for equal modules."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from precomp_sdk._deprecated import current_facts, current_options
from precomp_sdk.atomic_io import check_target, replacing
from precomp_sdk.errors import CheckpointError
from precomp_sdk.task import TaskModel
from precomp_sdk.validation import LFS_POINTER

__all__ = [
    "SavedModule",
    "as_recorded",
    "check_fits",
    "fill_module",
    "load_module",
    "module_bytes",
    "read_module",
    "read_torch_file",
    "save_module",
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


def save_module(
    path: Path | str, module: nn.Module, *, name: str, options: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
    """Write a module's weights as safetensors, with what is needed to rebuild it; equal modules give equal bytes.

    Args:
        path: ends in ``.safetensors``.
        module: its ``state_dict`` is written; weights that are tied are written under each of their names.
        name: of the component, as registered.
        options: to construct it with; plain JSON values.
        facts: anything else worth knowing; plain JSON values.

    Raises:
        OptionError: the path is a folder.
        OSError: its folder cannot be written to.
    """
    check_target(Path(path))
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(module_bytes(module, name=name, options=options, facts=facts))


def module_bytes(module: nn.Module, *, name: str, options: Mapping[str, Any], facts: Mapping[str, Any]) -> bytes:
    """Return the file that `save_module` writes."""
    metadata = {"format": _FORMAT, "name": name, "options": json.dumps(dict(options)), "facts": json.dumps(dict(facts))}
    # copies: safetensors refuses tensors that share memory, as tied weights and views do; each key keeps its own
    weights = {key: value.detach().cpu().contiguous().clone() for key, value in module.state_dict().items()}
    return _ordered(save(weights, metadata=metadata))


def read_module(path: Path | str) -> SavedModule:
    """Read a weights file; nothing that it says is carried out.

    Raises:
        CheckpointError: it is missing, damaged, not written by `save_module`, of a later format, or holds a NaN.
    """
    try:
        if Path(path).is_dir():
            raise ValueError("it is a folder")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") not in (_FORMAT, None):
                raise ValueError(f"format {metadata['format']!r} instead of {_FORMAT!r}: a later version wrote it")
            missing = [key for key in ("format", "name", "options", "facts") if key not in metadata]
            if missing:
                raise ValueError(f"no {' and no '.join(missing)} in its metadata: another program wrote it")
            name, options = metadata["name"], _table(metadata["options"], "options")
            facts = _table(metadata["facts"], "facts")
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        for key, value in weights.items():
            if value.is_floating_point() and bool(value.isnan().any()):
                raise ValueError(f"NaN in {key}")
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(
            where=str(path),
            expected="a weights file written by precomp_sdk",
            got=_what_is_wrong(Path(path), error),
            remedy="Give the .safetensors file that training wrote.",
        ) from error
    name, options = current_options(name, options, str(path))
    return SavedModule(name, options, current_facts(facts), weights)


def load_module(path: Path | str, module: nn.Module, *, name: str) -> SavedModule:
    """Load a weights file into a module that was constructed with the same options; a task learns its classes again.

    Raises:
        CheckpointError: it belongs to another component, or its keys, shapes or types differ; a module's extra state, a
            tensor of ``get_extra_state``, may have any shape. Or a weight is not finite.
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
    check_fits(saved, module, where, name=name)
    for key, _ in module.named_parameters():
        if key in saved.weights and not bool(saved.weights[key].isfinite().all()):
            raise CheckpointError(
                where=f"{where}, {key}",
                expected="finite weights",
                got="an infinite one",
                remedy="The run that wrote it diverged: train again, with a lower learning rate.",
            )
    module.load_state_dict(dict(saved.weights))


def check_fits(saved: SavedModule, module: nn.Module, path: Path | str, *, name: str) -> None:
    """Compare names, shapes and types of weights with those of a module.

    Raises:
        CheckpointError: the file belongs to another component, or a weight is missing, too many or of another kind.
    """
    own, theirs = _kinds(module.state_dict()), _kinds(saved.weights)
    if saved.name != name or own != theirs:
        differing = sorted(key for key in own.keys() | theirs.keys() if own.get(key) != theirs.get(key))
        told = [f"{key} {theirs.get(key, 'missing')} instead of {own.get(key, 'none')}" for key in differing[:3]]
        raise CheckpointError(
            where=str(path),
            expected=f"weights of {name!r}",
            got=f"weights of {saved.name!r} with options {dict(saved.options)}"
            + (f"; {len(differing)} differ, first {', '.join(told)}" if differing else ""),
            remedy="Construct it by the name and options in the file.",
        )


def _kinds(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Return what must agree: the shape, and the type, where any floating one stands for any other."""
    return {key: "" if key.endswith(_EXTRA_STATE) else _kind(value) for key, value in weights.items()}


def _kind(value: Tensor) -> str:
    shape = str(tuple(value.shape))
    return shape if value.is_floating_point() else f"{shape} of {str(value.dtype).removeprefix('torch.')}"


def _table(text: str, what: str) -> dict[str, Any]:
    """Return a table of a file's metadata; numbers are finite in it."""
    table = json.loads(text, parse_constant=_refuse_constant)
    if not isinstance(table, dict):
        raise ValueError(f"{what} that are no table: {text:.60}")
    return table


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} in its metadata")


def read_torch_file(path: Path | str) -> Any:
    """Read what `torch.save` wrote, tensors and plain values; no code in it is executed, ever.

    Raises:
        CheckpointError: it is missing, damaged, or holds anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a different type for every kind of damage
        raise CheckpointError(
            where=str(path),
            expected="a file of tensors and plain values",
            got=_what_is_wrong(Path(path), error),
            remedy="Restore it or write it anew. One that holds more is never loaded, since that would run its code.",
        ) from error


def _what_is_wrong(path: Path, error: BaseException) -> str:
    """Say in words what is wrong with a file of weights; PyTorch's own words advise to run the code in it."""
    try:
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                return "a pointer of git-lfs: the file itself was not downloaded (git lfs pull)"
    except OSError as missing:
        return missing.strerror or str(missing) if not path.is_dir() else "a folder"
    if isinstance(error, RecursionError):
        return "metadata of brackets in brackets without end"
    text = " ".join(str(error).split())
    if isinstance(error, UnpicklingError) or "weights_only" in text:
        return "a damaged file, or one that holds more"
    return f"{type(error).__name__}: {text[:200]}"


def _ordered(content: bytes) -> bytes:
    """Return a safetensors file with its metadata in alphabetical order, which the library writes in any.

    Source: the format's description, https://github.com/huggingface/safetensors#format: eight bytes of length, a JSON
    header that may end in spaces, the data.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__")
    text = json.dumps({"__metadata__": dict(sorted(metadata.items())), **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]
