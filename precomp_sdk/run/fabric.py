"""Device and processes, as the command that started the program says."""

import os

import torch
from lightning_fabric import Fabric

from precomp_sdk.errors import ConfigError

__all__ = ["make_fabric"]


def make_fabric(precision: str = "32-true", *, origin: str = "experiment") -> Fabric:
    """Return a fabric for one device of the best kind there is, or for all processes that ``torchrun`` started.

    Raises:
        ConfigError: Fabric knows no such precision.
    """
    devices = nodes = 1
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    try:
        return Fabric(accelerator="auto", devices=devices, num_nodes=nodes, precision=precision)  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(
            where=f"{origin}, train.precision",
            expected="a precision of Lightning Fabric",
            got=f"{precision!r}: {error}",
            remedy='Take "32-true" or "bf16-mixed", for instance.',
        ) from error
