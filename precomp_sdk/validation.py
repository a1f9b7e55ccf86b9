"""Checks of arguments that several rooms share."""

from typing import Any

import torch

from precomp_sdk.errors import OptionError

__all__ = ["check_instance", "find_device"]


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
