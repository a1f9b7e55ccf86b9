"""The order in which JPEG codes a component's DC coefficients, and the blocks that complete its units."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Scan", "differences", "scan_of"]


@dataclass(frozen=True)
class Scan:
    """In which order a component's DC coefficients are predicted, and which blocks are coded beside its own.

    Attributes:
        order: raster index of the block at each place of the scan, ``(blocks,)``; None where that is raster order.
        dummies: blocks that only complete a minimum coded unit: DC difference 0 and the end of the block.
    """

    order: Tensor | None
    dummies: int

    def gather(self, values: Tensor) -> Tensor:
        """Put values of the DC coefficients, ``(P, h, w)``, in the order of the scan, ``(P, blocks)``."""
        flat = values.reshape(values.shape[0], -1)
        return flat if self.order is None else flat[:, self.order]

    def scatter(self, values: Tensor, height: int, width: int) -> Tensor:
        """Undo `gather`."""
        if self.order is not None:
            values = torch.empty_like(values).scatter_(1, self.order.expand_as(values), values)
        return values.view(values.shape[0], height, width)


@functools.lru_cache(maxsize=128)
def scan_of(height: int, width: int, rows: int, columns: int, device: torch.device) -> Scan:
    """Scan of ``height`` by ``width`` blocks, ``rows`` by ``columns`` of them in each minimum coded unit."""
    down, across = -height % rows, -width % columns
    dummies = (height + down) * (width + across) - height * width
    if rows == 1:
        return Scan(None, dummies)
    with torch.inference_mode(False):
        raster = torch.arange(height * width).view(height, width)
        padded = torch.nn.functional.pad(raster, (0, across, 0, down), value=-1)
        units = padded.view((height + down) // rows, rows, (width + across) // columns, columns).transpose(1, 2)
        order = units.flatten()
        return Scan(order[order >= 0].to(device), dummies)


def differences(values: Tensor) -> Tensor:
    """Subtract from each value in scan order, ``(P, blocks)``, the one before it, and nothing from the first."""
    return torch.diff(values, dim=1, prepend=values.new_zeros(values.shape[0], 1))
