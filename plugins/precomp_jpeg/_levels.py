"""What JPEG's entropy coder sees of AC coefficients, and all index arithmetic on it, in one class."""

import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from ._costs import END, SIZES
from ._tables import ZIGZAG

__all__ = ["Levels", "sizes_of"]

_ORDER: Final = tuple(index - 1 for index in ZIGZAG[1:])  # rows of the AC coefficients by scan position
_STATES: Final = 1 << 13  # |3 k + side| for |k| up to 2730
_RUN: Final = 256  # unit of a scan position in ``previous`` and in the index of runs
_MOVED: Final = 16  # unit of the size after a move in ``packed``


class _Constants:
    """What the counting needs on one device; columns are ``(63, 1)`` int16, by coefficient in natural order.

    Attributes:
        packed: `Levels.packed` by ``|3 k + side|``, int16.
        here: 256 times the scan position.
        before: 256 times the scan position less one.
        following: 12 times the scan position, less that of the end.
        split: what `Levels.split_index` adds to the run and the next coefficient.
    """

    def __init__(self, device: torch.device) -> None:
        moved = torch.arange(_STATES)
        level = (moved + 1) // 3
        sizes = torch.tensor([int(value).bit_length() for value in range(_STATES // 3 + 2)])
        self.packed = (sizes[level] + _MOVED * sizes[(level + moved - 3 * level).abs()]).to(torch.int16).to(device)
        position = torch.empty(64, 1, dtype=torch.int64)
        position[list(ZIGZAG), 0] = torch.arange(64)
        position = position[1:]

        def int16(values: Tensor) -> Tensor:
            return values.to(torch.int16).to(device)

        self.here = int16(_RUN * position)
        self.before = int16(_RUN * (position - 1))
        self.following = int16(SIZES * (position - END))
        self.split = int16((position - 1) * (64 * SIZES) - (position + 1) * SIZES)


@functools.lru_cache(maxsize=16)
def _constants_on(device: torch.device) -> _Constants:
    with torch.inference_mode(False):
        return _Constants(device)


@dataclass(frozen=True)
class Levels:
    """The AC coefficients as the entropy coder sees them: by size and scan position, ``(63, blocks)`` int16.

    Why 16 bits: these passes are bound by memory, and every number here is below 2**16. The largest, an index of
    `split_index`, is at most 64 * 64 * 12 - 1 = 49151, above int16's 32767. Sums and products of int16 tensors wrap
    around modulo 2**16, so they are right modulo 2**16 whatever happens on the way, and the last step reads the result
    as the number from 0 to 65535 that it is (`& 0xFFFF` after widening). Nothing outside this class sees a wrapped
    value.

    Attributes:
        packed: size of the coefficient, plus 16 times its size after it moved towards its offset.
        sizes: magnitude category of the coefficient, 0 to 11.
        occupied: 1 where the coefficient is not zero.
        previous: 256 times the scan position of the last coefficient before this one, 0 (the DC's) if none.
        last: ``(blocks,)``, 256 times the scan position of the block's last coefficient, 0 if none.
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
        states = states.permute(2, 4, 0, 1, 3).reshape(64, -1)[1:]
        states = states.to(torch.int32, memory_format=torch.contiguous_format)
        packed = constants.packed.index_select(0, states.view(-1)).view(states.shape)
        sizes = packed & (_MOVED - 1)
        occupied = sizes.clamp(max=1)
        here = (occupied * constants.here).unbind(0)
        previous = torch.empty_like(sizes)
        rows = previous.unbind(0)
        rows[_ORDER[0]].zero_()
        for j, k in pairwise(_ORDER):
            torch.maximum(rows[j], here[j], out=rows[k])
        return cls(packed, sizes, occupied, previous, torch.maximum(rows[-1], here[-1]))

    @property
    def ended(self) -> Tensor:
        """``(blocks,)`` bool: whether the coder ends the block before its last coefficient."""
        return self.last < _RUN * 63

    def run_index(self) -> Tensor:
        """``[zeros before][size after the move][size]`` with 64, 16 and 16 places, int32: see `CostTables.own`."""
        return (self.packed - self.previous).add_(_constants_on(self.last.device).before).to(torch.int32)

    def split_index(self) -> Tensor:
        """``[zeros before][zeros until the next coefficient][its size]``, 64, 64 and 12 places: `CostTables.split`.

        The size is 0, and the zeros reach to the end, where no other coefficient comes.
        """
        constants = _constants_on(self.last.device)
        # 12 * scan position + size of each coefficient, and of the next one; 12 * 64 at the end
        here = (self.occupied * constants.following).add_(self.sizes).add_(SIZES * END).unbind(0)
        following = torch.empty_like(self.sizes)
        rows = following.unbind(0)
        rows[_ORDER[-1]].fill_(SIZES * END)
        for j, k in pairwise(_ORDER[::-1]):
            torch.minimum(rows[j], here[j], out=rows[k])
        index = torch.sub(following, self.previous, alpha=64 * SIZES // _RUN).add_(constants.split)
        return index.to(torch.int32).bitwise_and_(0xFFFF)

    def born(self) -> Tensor:
        """+1 where the move makes a coefficient of a zero, -1 where it makes a zero of a coefficient, else 0."""
        return (self.packed >> 4).clamp_(max=1).sub_(self.occupied).to(torch.float32)


def sizes_of(values: Tensor) -> Tensor:
    """Return the bit length of the magnitude of whole float32 values (0..11), from the exponent; int32."""
    return (values.abs().view(torch.int32) >> 23).sub_(126).clamp_(0, SIZES - 1)
