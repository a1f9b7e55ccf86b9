"""The order in which JPEG codes a component's coefficients, and what its entropy coder sees of them."""

import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from ._costs import END, SIZES
from ._tables import ZIGZAG

__all__ = ["AC_ORDER", "Constants", "Levels", "Scan", "constants_on", "differences", "levels_of", "scan_of", "sizes_of"]

#: rows of the 63 AC coefficients, in natural order less the DC, by scan position
AC_ORDER: Final = tuple(index - 1 for index in ZIGZAG[1:])
_STATES: Final = 1 << 13  # |3 k + side| for |k| up to 2730


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


class Constants:
    """What the counting needs on one device. AC coefficients are 63 rows in natural order, ``(63, blocks)``.

    Attributes:
        packed: size of k plus 16 times the size of the neighbour it moves to, by ``|3 k + side|``, int16.
        run: 256 times the scan position less one, ``(63, 1)`` int16.
        here: 256 times the scan position.
        following: 12 times the scan position, less that of the end.
        split: what the index of `CostTables.split` lacks, by row; int16 that wraps around.
    """

    def __init__(self, device: torch.device) -> None:
        moved = torch.arange(_STATES)
        level = (moved + 1) // 3
        sizes = torch.tensor([int(value).bit_length() for value in range(_STATES // 3 + 2)])
        self.packed = (sizes[level] + 16 * sizes[(level + moved - 3 * level).abs()]).to(torch.int16).to(device)
        position = torch.empty(64, 1, dtype=torch.int64)
        position[list(ZIGZAG), 0] = torch.arange(64)
        position = position[1:]

        def int16(values: Tensor) -> Tensor:
            return values.to(torch.int16).to(device)

        self.here = int16(256 * position)
        self.run = int16(256 * (position - 1))
        self.following = int16(SIZES * (position - END))
        self.split = int16((position - 1) * (64 * SIZES) - (position + 1) * SIZES)


@functools.lru_cache(maxsize=16)
def constants_on(device: torch.device) -> Constants:
    """Return the constants on a device, made once."""
    with torch.inference_mode(False):
        return Constants(device)


def sizes_of(values: Tensor) -> Tensor:
    """Return the bit length of the magnitude of whole float32 values (0..11), from the exponent; int32."""
    return (values.abs().view(torch.int32) >> 23).sub_(126).clamp_(0, SIZES - 1)


@dataclass(frozen=True)
class Levels:
    """What the coder sees of the AC coefficients; ``(63, blocks)`` int16 in natural order.

    Attributes:
        packed: size, plus 16 times the size after the coefficient moved towards its offset.
        sizes: magnitude category.
        occupied: 1 where the coefficient is not zero.
        previous: 256 times the scan position of the last coefficient before this one, 0 (the DC) if none.
        last: ``(blocks,)``, 256 times the scan position of the block's last coefficient, 0 if none.
    """

    packed: Tensor
    sizes: Tensor
    occupied: Tensor
    previous: Tensor
    last: Tensor


def differences(values: Tensor) -> Tensor:
    """Subtract from each value in scan order, ``(P, blocks)``, the one before it, and nothing from the first."""
    return torch.diff(values, dim=1, prepend=values.new_zeros(values.shape[0], 1))


def levels_of(rounded: Tensor, side: Tensor | None) -> Levels:
    """Look at the AC coefficients as the entropy coder does.

    Args:
        rounded: quantized coefficients, ``(P, h, 8, w, 8)``.
        side: +1, -1 or 0: where each would move; None if that does not matter.
    """
    constants = constants_on(rounded.device)
    state = rounded * 3.0 if side is None else torch.add(side, rounded, alpha=3.0)
    states = state.abs_().to(torch.int16).bitwise_and_(_STATES - 1)  # the mask matters for NaN only
    states = states.permute(2, 4, 0, 1, 3).reshape(64, -1)[1:].to(torch.int32, memory_format=torch.contiguous_format)
    packed = constants.packed.index_select(0, states.view(-1)).view(states.shape)
    sizes = packed & 15
    occupied = sizes.clamp(max=1)
    here = (occupied * constants.here).unbind(0)
    previous = torch.empty_like(sizes)
    rows = previous.unbind(0)
    rows[AC_ORDER[0]].zero_()
    for j, k in pairwise(AC_ORDER):
        torch.maximum(rows[j], here[j], out=rows[k])
    return Levels(packed, sizes, occupied, previous, torch.maximum(rows[-1], here[-1]))
