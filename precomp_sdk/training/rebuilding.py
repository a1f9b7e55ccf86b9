"""A module whose name and options come from a file, constructed with no more work than its weights justify."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from precomp_sdk.errors import CheckpointError, PrecompError
from precomp_sdk.training.checkpoints import SavedModule, check_fits

__all__ = ["rebuild"]

M = TypeVar("M", bound=nn.Module)

_SPARE = 64  # parameters that a constructor may make and drop again, beside four for each tensor of the file


class _TooManyError(Exception):
    """More parameters than the file has weights for."""


def rebuild(make: Callable[[], M], saved: SavedModule, path: Path | str) -> M:
    """Construct what a weights file describes.

    The options are not believed: the module is first constructed without memory (PyTorch's device ``meta``), which
    ends as soon as it has more parameters than the file has tensors, and its shapes are compared.

    Args:
        make: constructs the module with the file's options.
        saved: what the file holds.
        path: of the file, for messages.

    Raises:
        CheckpointError: options and weights do not belong together, or the constructor refuses the options.
    """
    most = 4 * len(saved.weights) + _SPARE
    try:
        with _counted(most), torch.device("meta"):
            trial = make()
    except _TooManyError as error:
        raise _no_match(saved, path, f"more parameters than its {len(saved.weights)} tensors") from error
    except PrecompError as error:
        raise _no_match(saved, path, str(error)) from error
    except Exception:  # a constructor that computes with its tensors cannot be tried; its parameters are counted below
        trial = None
    if trial is not None:
        check_fits(saved, trial, path, name=saved.name)
    try:
        with _counted(most):
            return make()
    except _TooManyError as error:
        raise _no_match(saved, path, f"more parameters than its {len(saved.weights)} tensors") from error
    except (PrecompError, RuntimeError, ValueError, TypeError, MemoryError, OverflowError) as error:
        raise _no_match(saved, path, f"{type(error).__name__}: {error}") from error


@contextmanager
def _counted(most: int) -> Iterator[None]:
    """Raise `_TooManyError` from a constructor in this thread that makes one parameter too many."""
    thread, count = threading.get_ident(), 0

    def hook(*_: object) -> None:
        nonlocal count
        count += threading.get_ident() == thread
        if count > most:
            raise _TooManyError

    handle = register_module_parameter_registration_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _no_match(saved: SavedModule, path: Path | str, got: str) -> CheckpointError:
    return CheckpointError(
        where=str(path),
        expected=f"options of {saved.name!r} that its weights were trained with",
        got=f"{_shortened(saved.options)}: {got}",
        remedy="The file is damaged or was made to look like one of ours: take it from where it was written.",
    )


def _shortened(options: Mapping[str, Any]) -> str:
    text = repr(dict(options))
    return text if len(text) <= 200 else f"{text[:200]} ..."
