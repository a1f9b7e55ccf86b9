"""What JPEG's entropy coder sees of AC coefficients, and all index arithmetic on it, in one class."""

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ._costs import END, SIZES, SPLITS
from ._tables import ZIGZAG

__all__ = ["Levels", "sizes_of", "to_natural"]

_STATES: Final = 1 << 13  # |3 k + side| for |k| up to 2730
_MOVED: Final = 16  # unit of the size after a move in ``packed``
_GROUP: Final = 8  # scans run within groups of eight positions, then over the groups
_BEHIND: Final = SIZES * END  # what `Levels.following` counts from, so that nothing behind is 0


class _Constants:
    """What the counting needs on one device; columns are ``(63, 1)`` int16, by scan position.

    Attributes:
        packed: `Levels.packed` by ``|3 k + side|``, int16.
        order: natural index of the coefficient at each scan position, ``(64,)``.
        natural: scan position of each coefficient in natural order, ``(64,)``.
        here: the scan position.
        before: 16 times the scan position less one.
        following: 12 times the scan position, less that of the end.
        split: what `Levels.split_index` adds to the run and the next coefficient.
    """

    def __init__(self, device: torch.device) -> None:
        moved = torch.arange(_STATES)
        level = (moved + 1) // 3
        sizes = torch.tensor([int(value).bit_length() for value in range(_STATES // 3 + 2)])
        self.packed = (sizes[level] + _MOVED * sizes[(level + moved - 3 * level).abs()]).to(torch.int16).to(device)
        self.order = torch.tensor(ZIGZAG).to(device)
        self.natural = self.order.argsort()
        position = torch.arange(1, 64)[:, None]

        def int16(values: Tensor) -> Tensor:
            return values.to(torch.int16).to(device)

        self.here = int16(position)
        self.before = int16(_MOVED * (position - 1))
        self.following = int16(SIZES * (position - END))
        self.split = int16((position - 1) * (64 * SIZES) - (position + 1) * SIZES + _BEHIND)


@functools.lru_cache(maxsize=16)
def _constants_on(device: torch.device) -> _Constants:
    with torch.inference_mode(False):
        return _Constants(device)


@dataclass(frozen=True)
class Levels:
    """The AC coefficients as the entropy coder sees them: by size and scan position, ``(63, blocks)`` int16.

    Why 16 bits: these passes are bound by memory, and every number here is below 2**16. The largest, an index of
    `_split_index`, is at most 64 * 64 * 12 - 1 = 49151, above int16's 32767. Sums and products of int16 tensors wrap
    around modulo 2**16, so they are right modulo 2**16 whatever happens on the way, and the last step reads the result
    as the number from 0 to 65535 that it is (`& 0xFFFF` after widening). Nothing outside this class sees a wrapped
    value.

    Attributes:
        packed: size of the coefficient, plus 16 times its size after it moved towards its offset.
        sizes: magnitude category of the coefficient, 0 to 11.
        occupied: 1 where the coefficient is not zero.
        previous: scan position of the last coefficient before this one, 0 (the DC's) if none.
        last: ``(blocks,)``, scan position of the block's last coefficient, 0 if none.
    """

    packed: Tensor
    sizes: Tensor
    occupied: Tensor
    previous: Tensor
    last: Tensor

    @classmethod
    def of(cls, rounded: Tensor, side: Tensor | None) -> "Levels":
        """Look at the AC coefficients.

        Args:
            rounded: quantized coefficients, ``(P, h, 8, w, 8)``.
            side: +1, -1 or 0: where each would move; None if that does not matter.
        """
        constants = _constants_on(rounded.device)
        state = rounded * 3.0 if side is None else torch.add(side, rounded, alpha=3.0)
        states = state.abs_().to(torch.int16).bitwise_and_(_STATES - 1)  # the mask matters for NaN only
        states = states.permute(2, 4, 0, 1, 3).reshape(64, -1).index_select(0, constants.order[1:])
        packed = constants.packed.index_select(0, states.view(-1).to(torch.int32)).view(states.shape)
        sizes = packed & (_MOVED - 1)
        occupied = sizes.clamp(max=1)
        reached = packed.new_empty(64, packed.shape[1])  # scan position of the last coefficient up to here
        reached[0] = 0
        torch.mul(occupied, constants.here, out=reached[1:])
        places = reached.view(_GROUP, _GROUP, -1).unbind(1)
        for j in range(1, _GROUP):
            torch.maximum(places[j - 1], places[j], out=places[j])
        groups = reached.view(_GROUP, _GROUP, -1).unbind(0)
        for j in range(1, _GROUP):
            torch.maximum(groups[j - 1][-1], groups[j], out=groups[j])
        return cls(packed, sizes, occupied, reached[:-1], reached[-1])

    @property
    def ended(self) -> Tensor:
        """``(blocks,)`` bool: whether the coder ends the block before its last coefficient."""
        return self.last < END - 1

    def own_index(self) -> Tensor:
        """``[zeros before][size]`` with 64 and 16 places, int32: see `CostTables.own`."""
        constants = _constants_on(self.last.device)
        index = torch.sub(self.sizes, self.previous, alpha=_MOVED).add_(constants.before)
        return index.to(torch.int32)

    def found(self) -> tuple[Tensor, Tensor]:
        """Return `own_index` of the coefficients that are not zero and their blocks, int64: few, so quickly counted."""
        blocks = self.last.numel()
        if self.occupied.device.type == "cpu":  # NumPy finds them in a third of the time
            places = torch.from_numpy(np.flatnonzero(self.occupied.numpy() > 0))
        else:
            places = self.occupied.view(-1).nonzero().view(-1)
        row = (places.double() / blocks).long()  # the scan position less one; integers divide ten times slower
        before = row - self.previous.view(-1).index_select(0, places)
        return before * _MOVED + self.sizes.view(-1).index_select(0, places), places - row * blocks

    def change_index(self) -> Tensor:
        """Where `CostTables.change` says what the move of each coefficient adds; int32.

        Where it does not move at all, as if a zero became a coefficient.
        """
        constants = _constants_on(self.last.device)
        split = self._split_index()
        run = (self.packed - _MOVED * _MOVED * self.previous).add_(constants.before, alpha=_MOVED).to(torch.int32)
        split = torch.where(self.packed == 1, split + SPLITS, split)  # of size 1 before, of size 0 after
        return torch.where(self.packed > _MOVED, run.add_(2 * SPLITS), split)

    def _split_index(self) -> Tensor:
        """``[zeros before][zeros until the next coefficient][its size]``, 64, 64 and 12 places, int32.

        The size is 0, and the zeros reach to the end, where no other coefficient comes.
        """
        constants = _constants_on(self.last.device)
        # By scan position less one: 12 * (scan position - 64) + size of the next coefficient from there on, 0 if none
        ahead = self.sizes.new_empty(64, self.sizes.shape[1])
        ahead[63] = 0
        torch.mul(self.occupied, constants.following, out=ahead[:-1]).add_(self.sizes)
        places = ahead.view(_GROUP, _GROUP, -1).unbind(1)
        for j in range(_GROUP - 2, -1, -1):
            torch.minimum(places[j + 1], places[j], out=places[j])
        groups = ahead.view(_GROUP, _GROUP, -1).unbind(0)
        for j in range(_GROUP - 2, -1, -1):
            torch.minimum(groups[j + 1][0], groups[j], out=groups[j])
        index = torch.sub(ahead[1:], self.previous, alpha=64 * SIZES).add_(constants.split)
        return index.to(torch.int32).bitwise_and_(0xFFFF)


def to_natural(values: Tensor) -> Tensor:
    """Bring rows ``(64, ...)`` from scan order into natural order."""
    return values.index_select(0, _constants_on(values.device).natural)


def sizes_of(values: Tensor) -> Tensor:
    """Return the bit length of the magnitude of whole float32 values (0..11), from the exponent; int32."""
    return (values.abs().view(torch.int32) >> 23).sub_(126).clamp_(0, SIZES - 1)
