"""A network that works inside another and belongs to neither its weights nor its copies."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, Self, TypeVar

from torch import nn

from precomp_sdk.modules import evaluation_mode

__all__ = ["ModuleReference"]

M = TypeVar("M", bound=nn.Module)


class ModuleReference(Generic[M]):
    """Holds a module for a preprocessor that works with it: the task network, the proxy.

    As an attribute it is no submodule: its weights are neither in the holder's weights file nor trained with it. A copy
    of the holder, such as the averaged weights of training, holds the same module and not a copy.

    Args:
        module: what is borrowed.

    Example:
        >>> class Holder(nn.Module):
        ...     def __init__(self, task: nn.Module) -> None:
        ...         super().__init__()
        ...         self._task = ModuleReference(task)
        >>> list(Holder(nn.Linear(2, 2)).state_dict())
        []
    """

    def __init__(self, module: M) -> None:
        self.module = module
        self._lock = threading.RLock()

    @contextmanager
    def evaluating(self) -> Iterator[M]:
        """Lend the module in evaluation mode, to one thread at a time; afterwards each part has its own mode again."""
        with self._lock, evaluation_mode(self.module):
            yield self.module

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
