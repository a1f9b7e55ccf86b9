"""The contract of an engine."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeAlias, TypeVar

from precomp_sdk.closing import Closing
from precomp_sdk.errors import PrecompError, file_trouble

__all__ = ["Engine", "Outcome", "Work", "attempted"]

Item = TypeVar("Item")
Result = TypeVar("Result")

#: makes, once in every worker, the function that does one item: networks are loaded there and not sent around
Work: TypeAlias = Callable[[], Callable[[Item], Result]]


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Item, Result]):
    """What became of one item.

    Args:
        item: what was to be done.
        result: what the work returned; None where it failed.
        error: what it raised, in one line; empty where it did not.
    """

    item: Item
    result: Result | None
    error: str = ""


class Engine(Closing, ABC):
    """Runs a piece of work over items, each by itself, and says what became of every one.

    An item that fails is an `Outcome` with an error, not an exception: the others go on. A worker that dies takes none
    of the others' items along: what it was at is tried once more, by itself.

    Workers end with each run. As a context manager an engine keeps them from run to run, which saves their start.
    """

    workers: int  #: how many items are done at a time
    _kept = False  # workers outlive a run

    @abstractmethod
    def run(self, work: Work[Any, Any], items: Iterable[Any]) -> Iterator[Outcome[Any, Any]]:
        """Yield an outcome for every item, in the order in which they are done.

        Args:
            work: makes the function that does one item; it and the items can be pickled, as can the results.
            items: taken as they are needed, so that there may be more than memory holds.

        Raises:
            ResourceError: a worker dies before it is ready.
            Exception: what ``work`` raises when it is made: without it nothing can be done.
        """

    def __enter__(self) -> Self:
        self._kept = True
        return self

    def close(self) -> None:
        """End the workers."""
        self._kept = False
        self._end()

    def _end(self) -> None:
        """End the workers that there are."""


def attempted(function: Callable[[Any], Any], item: Any) -> tuple[Any, str]:
    """Do one item; return its result, or None and what it raised in one line."""
    try:
        return function(item), ""
    except Exception as error:  # whatever it is, it is this item's: the others go on
        told = file_trouble(error) if isinstance(error, OSError) and not isinstance(error, PrecompError) else str(error)
        text = " ".join(told.split())
        return None, text or type(error).__name__
