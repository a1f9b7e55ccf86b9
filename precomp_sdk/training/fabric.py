"""Device and processes, as the command that started the program says."""

import os
from typing import TYPE_CHECKING

import torch

from precomp_sdk.errors import OptionError

if TYPE_CHECKING:
    from lightning_fabric import Fabric  # takes a second to import, and a sender does not train

__all__ = ["leave_a_core", "make_fabric"]


def leave_a_core() -> None:
    """Keep one core free of PyTorch's threads, for those that load images and run the codec.

    PyTorch's threads spin while they wait, so with one on every core a step takes two to three times as long. Nothing
    is changed where the user has set ``OMP_NUM_THREADS``.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) - 1)))


def make_fabric(precision: str = "32-true") -> "Fabric":
    """Return a fabric for one device of the best kind there is, or for all processes that ``torchrun`` started.

    Raises:
        OptionError: Fabric knows no such precision, or lacks a package for it.
    """
    from lightning_fabric import Fabric

    devices = nodes = 1
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    try:
        return Fabric(accelerator="auto", devices=devices, num_nodes=nodes, precision=precision)  # type: ignore[arg-type]
    except (ValueError, ModuleNotFoundError) as error:  # unknown, or of a package that is not installed
        raise OptionError(
            where="TrainSettings, option 'precision'",
            expected="a precision of Lightning Fabric whose package is installed",
            got=f"{precision!r}: {error}",
            remedy='Take "32-true" or "bf16-mixed", for instance.',
        ) from error
