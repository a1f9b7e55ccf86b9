"""The state of an interrupted run: written whole, and believed only as far as it can be checked."""

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from precomp_sdk._deprecated import current_state
from precomp_sdk.atomic_io import write_whole
from precomp_sdk.errors import CheckpointError
from precomp_sdk.training.checkpoints import read_torch_file
from precomp_sdk.training.objective import AnchorPoint

__all__ = ["check_moments", "load_state", "loading", "save_state"]

_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "run": dict,
    "step": int,
    "position": (tuple, list),
    "calibration": list,
    "anchor": (dict, type(None)),
    "average": dict,
    "optimizer": dict,
    "weights": dict,
}


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a run's state (tensors and plain values); an interruption leaves the old file whole.

    Raises:
        StorageError: the disk is full.
        OSError: the folder cannot be written to.
    """
    written = io.BytesIO()  # PyTorch's own writer hides why a disk does not take a file
    torch.save(dict(state), written)
    write_whole(path, written.getvalue())


def load_state(path: Path, *, steps: int | None = None) -> dict[str, Any]:
    """Read a run's state; no code in the file is executed.

    Args:
        path: of the file.
        steps: of the whole run, for a check of where it stands.

    Raises:
        CheckpointError: there is none, it is damaged, a part is missing or absurd, or a weight is not finite.
    """
    state = read_torch_file(path)
    if not isinstance(state, dict):
        raise _absurd(path, "", "the parts of a run", f"a {type(state).__name__}")
    state = current_state(state, str(path))
    for key, kind in _KEYS.items():
        if key not in state:
            raise _absurd(path, key, "a part of every checkpoint", "nothing")
        if not isinstance(state[key], kind) or isinstance(state[key], bool):
            raise _absurd(path, key, _named(kind), type(state[key]).__name__)
    step, position = state["step"], state["position"]
    if step < 0 or (steps is not None and step > steps):
        raise _absurd(path, "step", "0 or more" if steps is None else f"0 to {steps}", str(step))
    if len(position) != 2 or not all(type(item) is int and item >= 0 for item in position):
        raise _absurd(path, "position", "two whole numbers, 0 or more", repr(position))
    _check_calibration(path, state["calibration"])
    for key in ("average", "weights"):
        _check_finite(path, key, state[key])
    return state


@contextmanager
def loading(path: Path, key: str) -> Iterator[None]:
    """Turn what PyTorch raises where a part of a state does not fit into `CheckpointError`."""
    try:
        yield
    except (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, CheckpointError):
            raise
        got = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise _absurd(path, key, "what fits the networks and settings of the run", got) from error


def check_moments(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """Check what an optimizer took from a file: one moment for each weight, of its shape and finite.

    Raises:
        CheckpointError: one is not.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for name, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                    raise _absurd(path, f"optimizer.{name}", str(tuple(parameter.shape)), str(tuple(value.shape)))
                _check_finite(path, f"optimizer.{name}", {"": value})


def _named(kind: type | tuple[type, ...]) -> str:
    return " or ".join(item.__name__ for item in (kind if isinstance(kind, tuple) else (kind,)))


def _check_calibration(path: Path, points: list[Any]) -> None:
    known = {field.name for field in fields(AnchorPoint)}
    for point in points:
        if not isinstance(point, dict) or not point.keys() <= known:
            raise _absurd(path, "calibration", f"points of {', '.join(sorted(known))}", f"{point!r:.100}")
        for name, value in point.items():
            if type(value) not in (int, float) or not math.isfinite(value):
                raise _absurd(path, f"calibration.{name}", "a finite number", f"{value!r:.100}")


def _check_finite(path: Path, key: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping):
            _check_finite(path, f"{key}.{name}", value)
        elif isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all()):
            raise _absurd(path, f"{key}.{name}", "finite numbers", "NaN or an infinite one")


def _absurd(path: Path, key: str, expected: str, got: str) -> CheckpointError:
    return CheckpointError(
        where=f"{path}, {key}" if key else str(path),
        expected=expected,
        got=got,
        remedy="The file is damaged: restore it, or start the run anew (--overwrite).",
    )
