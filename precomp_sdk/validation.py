"""Checks of arguments that several rooms share."""

import math
from collections.abc import Collection
from typing import Any

import torch

from precomp_sdk.errors import OptionError

__all__ = ["LFS_POINTER", "check_choice", "check_instance", "check_number", "check_whole_number", "find_device"]

#: how the file begins that git-lfs leaves in the place of one that was not downloaded
LFS_POINTER = b"version https://git-lfs.github.com/spec"


def check_instance(value: Any, contract: type, where: str) -> None:
    """Refuse what is not an object of a contract: a class, a name, None. What `torch.compile` wraps is looked at.

    Raises:
        OptionError: it is not.
    """
    if not isinstance(getattr(value, "_orig_mod", value), contract):
        raise OptionError(
            where=where,
            expected=f"an object of {contract.__name__}",
            got=f"the class {value.__name__}" if isinstance(value, type) else f"{' '.join(repr(value).split()):.80}",
            remedy="Construct one; Registry.create makes components by name.",
        )


def check_choice(value: object, where: str, option: str, choices: Collection[str]) -> None:
    """Refuse an option's value that is none of its choices.

    Raises:
        OptionError: it is.
    """
    if not isinstance(value, str) or value not in choices:
        raise OptionError.choice(where, option, choices, value)


def check_whole_number(
    value: object, where: str, option: str, minimum: int | None = None, maximum: int | None = None
) -> int:
    """Return an option's value as an int if it is a whole number of a range; 1.0 is one.

    Raises:
        OptionError: it is not.
    """
    whole = not isinstance(value, bool) and isinstance(value, int | float) and value == value // 1
    if not whole or (minimum is not None and value < minimum) or (maximum is not None and value > maximum):  # type: ignore[operator]
        if minimum is None and maximum is None:
            expected = "a whole number"
        elif maximum is None:
            expected = f"a whole number of {minimum} or more"
        elif minimum is None:
            expected = f"a whole number of {maximum} or less"
        else:
            expected = f"a whole number from {minimum} to {maximum}"
        raise OptionError.number(where, option, expected, value)
    return int(value)  # type: ignore[call-overload, no-any-return]


def find_device(device: torch.device | str, where: str) -> torch.device:
    """Return a device that this machine has.

    Raises:
        OptionError: torch knows no such device, or it is not there.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises either, by its build
        raise OptionError(
            where=f"{where}, option 'device'",
            expected="a device that this machine and this build of torch have",
            got=f"{device!s}: {str(error).splitlines()[0]}",
            remedy="Leave it out, or take 'cpu'.",
        ) from error
    return found


def check_number(
    where: str, option: str, value: object, *, low: float, high: float = math.inf, above: bool = False
) -> None:
    """Refuse what is no finite number of a range: text, a truth value, NaN, infinity.

    Args:
        where: what has the option, such as ``"TrainSettings"``.
        option: its name.
        value: its value.
        low: the lowest number.
        high: the highest.
        above: only numbers above ``low``.

    Raises:
        OptionError: it is not such a number.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if number and (low < value if above else low <= value) and value <= high:  # type: ignore[operator]
        return
    lower = f"above {low:g}" if above else f"from {low:g}"
    upper = "" if high == math.inf else f" to {high:g}"
    raise OptionError.number(where, option, f"a number {lower}{upper}", value)


def check_switch(where: str, option: str, value: object) -> None:
    """Refuse what is not True or False.

    Raises:
        OptionError: it is neither.
    """
    if not isinstance(value, bool):
        raise OptionError.choice(where, option, (True, False), value)
