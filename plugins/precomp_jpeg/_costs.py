"""Look-up tables of what coding a coefficient costs, made from Huffman codes."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ._huffman import HuffmanCode, code_of, stuffed_bits
from ._tables import AC_CODES, DC_CODES

__all__ = ["CHANGES", "END", "SIZES", "SPLITS", "CostTables", "build_costs", "standard_costs"]

SIZES: Final = 12  #: magnitude categories 0..11; 11 occurs in DC, and as a step beyond the largest AC value
END: Final = 64  #: "position" of the next coefficient where the block ends
SPLITS: Final = 63 * 64 * SIZES  #: see `CostTables.change`
CHANGES: Final = 2 * SPLITS + 64 * 16 * 16
_NO_CODE_BITS: Final = 16  # a symbol without a code occurs only as the target of a finite difference
_ZERO_RUN: Final = 0xF0


@dataclass(frozen=True)
class CostTables:
    """Bits by symbol and context, for one or more codes; each table is flat float32, code by code.

    Attributes:
        dc: a DC difference of size s: ``[code][s]``.
        own: an AC coefficient of size s after r zeros, with 16 places for each size: ``[code][r][s]``; 0 for s = 0.
        change: what moving a coefficient to the next integer adds, `CHANGES` places for each code: `SPLITS` of turning
            a zero into +-1, with r zeros after the previous coefficient and m zeros before the next one, of size s (0:
            the block ends), ``[r][m][s]``; as many of turning +-1 into a zero; and ``[r][moved][s]`` of changing its
            size from s to ``moved``, with 16 places for each.
        end: the end of a block: ``[code]``.
        table_bits: the ``DHT`` segments, ``[code]``.
    """

    dc: Tensor
    own: Tensor
    change: Tensor
    end: Tensor
    table_bits: Tensor


def build_costs(
    dc: Sequence[HuffmanCode], ac: Sequence[HuffmanCode], *, stuffing: bool, device: torch.device
) -> CostTables:
    """Make the tables of several pairs of codes.

    Args:
        dc: DC codes.
        ac: AC codes, as many.
        stuffing: count the expected stuffed bytes too.
        device: where the tables go.
    """
    sizes = torch.arange(SIZES)
    dc_cost = _symbol_costs(dc, sizes, sizes, stuffing, follows_itself=False)
    symbols = 16 * torch.arange(16)[:, None] + sizes
    ac_cost = _symbol_costs(ac, symbols, sizes.expand(16, -1), stuffing, follows_itself=True)
    zero_run, end = ac_cost[:, 15, 0], ac_cost[:, 0, 0].clone()
    runs = torch.arange(64)
    own = ac_cost[:, runs % 16] + zero_run[:, None, None] * (runs // 16)[:, None]  # (codes, 64, sizes)
    own[:, :, 0] = 0.0
    # What follows a run of zeros: the next coefficient, or the end of the block, which costs nothing after the last.
    following = own.clone()
    following[:, 1:, 0] = end[:, None]
    # After r zeros, a coefficient and m zeros instead of r + 1 + m zeros: rows r + 1 to r + 64 of what follows, as a
    # view; rows beyond 63 are combinations that cannot occur.
    beyond = torch.cat((following, following[:, -1:].expand(-1, 64, -1)), dim=1)
    together = beyond.unfold(1, 64, 1)[:, 1:64].transpose(2, 3)  # (codes, 63, 64, sizes)
    change = own.new_zeros(len(ac), CHANGES)
    born, dead, step = change[:, :SPLITS], change[:, SPLITS : 2 * SPLITS], change[:, 2 * SPLITS :]
    split = born.view(-1, 63, 64, SIZES)
    torch.add(own[:, :63, 1, None, None], following[:, None], out=split).sub_(together)
    torch.neg(born, out=dead)
    resized = step.view(-1, 64, 16, 16)[:, :, 1:SIZES, 1:SIZES]
    torch.sub(own[:, :, 1:, None], own[:, :, None, 1:], out=resized)

    def flat(table: Tensor) -> Tensor:
        return table.flatten().contiguous().to(device)

    return CostTables(
        dc=flat(torch.nn.functional.pad(dc_cost, (0, 16 - SIZES))),
        own=flat(torch.nn.functional.pad(own, (0, 16 - SIZES))),
        change=flat(change),
        end=flat(end),
        table_bits=flat(torch.tensor([float(a.table_bits + b.table_bits) for a, b in zip(dc, ac, strict=True)])),
    )


def _symbol_costs(
    codes: Sequence[HuffmanCode], symbols: Tensor, magnitude_bits: Tensor, stuffing: bool, *, follows_itself: bool
) -> Tensor:
    """Bits of each symbol with its magnitude, ``(codes, *symbols.shape)`` float32."""
    lengths = torch.from_numpy(np.array([code.lengths for code in codes]))[:, symbols]
    missing = lengths == 0
    total = torch.where(missing, _NO_CODE_BITS, lengths).double() + magnitude_bits
    if stuffing:
        bits = torch.from_numpy(np.array([code.codes for code in codes]))[:, symbols]
        total += stuffed_bits(bits, lengths, magnitude_bits.expand_as(lengths), follows_itself=follows_itself)
    return total.to(torch.float32)


@functools.lru_cache(maxsize=32)
def standard_costs(component: int, stuffing: bool, device: torch.device) -> CostTables:
    """Costs by Annex K.3's codes for luma (0) or chroma (1)."""
    with torch.inference_mode(False):
        dc, ac = code_of(*DC_CODES[component]), code_of(*AC_CODES[component])
        return build_costs([dc], [ac], stuffing=stuffing, device=device)
