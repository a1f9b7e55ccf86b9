"""What a check is: a number, a statement, and a plain function that raises where the statement does not hold."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

__all__ = ["Check", "CheckFailedError", "NotApplicableError", "numbered", "require"]

F = TypeVar("F", bound=Callable[..., None])


class CheckFailedError(AssertionError):
    """A check failed."""


class NotApplicableError(Exception):
    """A check says nothing about this component or this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One numbered check of a contract.

    Args:
        number: such as ``"C3"``.
        statement: what holds for a component that passes, in words.
        run: a plain function of a component and its contract's settings; raises where the statement does not hold.
    """

    number: str
    statement: str
    run: Callable[[Any, Any], None]

    @property
    def id(self) -> str:
        """Number and function in one word, as tests are named."""
        return f"{self.number}-{self.run.__name__.replace('_', '-')}"


class Numbered(Protocol):
    """What `numbered` returns."""

    def __call__(self, number: str, statement: str, /) -> Callable[[F], F]:
        """Return the decorator of one check."""


def numbered(checks: list[Check]) -> Numbered:
    """Return a decorator that adds functions to a contract's checks and leaves them plain functions.

    Example:
        >>> checks: list[Check] = []
        >>> check = numbered(checks)
        >>> @check("X1", "The component is true.")
        ... def is_true(component, settings=None):
        ...     require(component, f"expected something true; got {component!r}")
        >>> checks[0].number, checks[0].id
        ('X1', 'X1-is-true')
    """

    def check(number: str, statement: str) -> Callable[[F], F]:
        def add(function: F) -> F:
            checks.append(Check(number, statement, function))
            return function

        return add

    return check


def require(holds: object, message: str) -> None:
    """Go on where something holds; an assertion that ``python -O`` keeps.

    Args:
        holds: anything with a truth value.
        message: what was expected and what came instead, for the report.

    Raises:
        CheckFailedError: it does not hold.
    """
    if not holds:
        raise CheckFailedError(message)
