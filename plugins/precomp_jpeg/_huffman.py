"""Huffman codes of T.81: canonical codes, optimal code lengths, and the stuffing that a code's bits cause.

Ours, because libjpeg does not say what a symbol costs, and the proxy needs the bits of every coefficient; Huffman
libraries write codes of other rules (T.81 limits lengths to 16 and has no code of ones alone).
"""

import functools
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

__all__ = ["HuffmanCode", "code_of", "optimal_code", "stuffed_bits"]

_MAXIMUM_LENGTH: Final = 16
_MAGNITUDES: Final = 12  # a symbol is followed by 0 to 11 bits
_RUN: Final = 8  # a byte of ones is followed by a stuffed zero byte


@dataclass(frozen=True)
class HuffmanCode:
    """One table of a JPEG file.

    Attributes:
        lengths: code length of each of the 256 symbols, 0 where it has none.
        codes: the code of each symbol, right-aligned.
        table_bits: what the table costs in its ``DHT`` segment, marker included.
    """

    lengths: tuple[int, ...]
    codes: tuple[int, ...]
    table_bits: int


def code_of(counts: Sequence[int], symbols: bytes) -> HuffmanCode:
    """Assign the canonical codes.

    Args:
        counts: how many codes have each length, 1..16.
        symbols: the symbols in order of their codes.

    Source:
        T.81, annex C.2.
    """
    lengths, codes = [0] * 256, [0] * 256
    code = position = 0
    for length, count in enumerate(counts, start=1):
        for symbol in symbols[position : position + count]:
            lengths[symbol], codes[symbol] = length, code
            code += 1
        position += count
        code <<= 1
    return HuffmanCode(tuple(lengths), tuple(codes), 8 * (2 + 2 + 1 + 16 + len(symbols)))


def optimal_code(frequencies: Sequence[int]) -> HuffmanCode:
    """Make the code that libjpeg makes for these symbol frequencies when it optimizes.

    Ties are broken as there (the larger symbol is merged first), so that the lengths are libjpeg's own.

    Source:
        T.81, annex K.2; no code longer than 16 bits, no code of ones only.
    """
    # One int holds frequency, 256 - symbol and node, so that ties fall as said; what is merged keeps its first one's.
    used = [symbol for symbol, frequency in enumerate(frequencies) if frequency]
    queue = [frequencies[symbol] << 20 | (256 - symbol) << 10 | node for node, symbol in enumerate(used)]
    queue.append(1 << 20 | len(used))  # symbol 256 never occurs and keeps the code of ones free
    heapq.heapify(queue)
    parents = [0] * (2 * len(queue) - 1)
    for node in range(len(queue), len(parents)):
        first = heapq.heappop(queue)
        second = queue[0]
        parents[first & 0x3FF] = parents[second & 0x3FF] = node
        heapq.heapreplace(queue, (first & ~0x3FF) + (second >> 20 << 20) | node)
    depths = [0] * len(parents)
    for node in range(len(parents) - 2, -1, -1):
        depths[node] = depths[parents[node]] + 1
    counts = [0] * (max(depths) + 1)
    for depth in depths[: len(used) + 1]:
        counts[depth] += 1
    _limit(counts)
    order = bytes(symbol for _, symbol in sorted(zip(depths, used, strict=False)))
    return code_of((counts[1:] + [0] * _MAXIMUM_LENGTH)[:_MAXIMUM_LENGTH], order)


def _limit(counts: list[int]) -> None:
    """Shorten codes beyond 16 bits in place, then drop the reserved one (T.81, figure K.3)."""
    for length in range(len(counts) - 1, _MAXIMUM_LENGTH, -1):
        while counts[length] > 0:
            shorter = length - 2
            while counts[shorter] == 0:
                shorter -= 1
            counts[length] -= 2
            counts[length - 1] += 1
            counts[shorter + 1] += 2
            counts[shorter] -= 1
    longest = max(length for length, count in enumerate(counts) if count)
    counts[longest] -= 1


def stuffed_bits(codes: Tensor, lengths: Tensor, magnitude_bits: Tensor, *, follows_itself: bool) -> Tensor:
    """Return the bits of zero bytes that each symbol makes the coder stuff, on average.

    A byte of ones is followed by a zero byte. Eight ones in a row are such a byte once in eight times, and then cost
    eight bits: one bit for every run of eight ones, counted where it ends. Magnitude bits are taken as random, and
    what comes before a symbol as one of the same table, each with the chance that its code length stands for.

    No code consists of ones only, so what comes before a symbol matters up to its code's first zero, and not beyond.

    Args:
        codes: each symbol's code ``(tables, ...)``, int64.
        lengths: its length, 0 where there is none.
        magnitude_bits: how many bits follow it.
        follows_itself: whether a symbol of the table comes before, or a bit of zero.
    """
    leading, inside, trailing = (table[(1 << lengths) + codes] for table in _runs_of_ones())
    expected, after = _random_bits()
    own = inside + expected[trailing, magnitude_bits]
    if not follows_itself:
        return torch.where(lengths > 0, own + (leading - _RUN + 1).clamp(min=0), 0.0)
    chances = torch.where(lengths > 0, 0.5 ** lengths.double(), 0.0).flatten(1)
    chances = chances / chances.sum(1, keepdim=True)
    before = torch.einsum("ts,tsk->tk", chances, after[trailing, magnitude_bits].flatten(1, -2))  # ones before it
    most = torch.arange(_RUN)
    ends = (most[:, None] + most.new_tensor(range(_MAXIMUM_LENGTH + 1)) - _RUN + 1).clamp(min=0)  # [ones][leading]
    joined = (before @ ends.double()).gather(1, leading.flatten(1)).view(leading.shape)
    return torch.where(lengths > 0, own + joined, 0.0)


@functools.cache
def _runs_of_ones() -> tuple[Tensor, Tensor, Tensor]:
    """For each code, at ``2**length + code``: ones before its first zero; eights of ones after it; ones at its end.

    Ones at the end count up to seven: each further one of theirs ends another run of eight.
    """
    with torch.inference_mode(False):
        index = torch.arange(1 << _MAXIMUM_LENGTH + 1)
        leading, inside, run = torch.zeros_like(index), torch.zeros_like(index), torch.zeros_like(index)
        begun = torch.zeros_like(index)  # 1 from the code's first zero
        for position in range(_MAXIMUM_LENGTH - 1, -1, -1):
            within = index >> position > 1  # the bit lies below the marker that says the length
            one = within & (index >> position & 1 == 1)
            begun |= (within & ~one).long()
            run = torch.where(one, run + 1, torch.where(within, 0, run))
            leading += (one & (begun == 0)).long()
            inside += (one & (begun == 1) & (run >= _RUN)).long()
        return leading, inside, run.clamp(max=_RUN - 1)


@functools.cache
def _random_bits() -> tuple[Tensor, Tensor]:
    """For k = 0..7 (and more) ones and then m = 0..11 random bits: expected runs of eight, and chances of k after."""
    with torch.inference_mode(False):
        expected = torch.zeros(_RUN, _MAGNITUDES, dtype=torch.float64)
        after = torch.zeros(_RUN, _MAGNITUDES, _RUN, dtype=torch.float64)
        after[:, 0] = torch.eye(_RUN, dtype=torch.float64)
        for bits in range(1, _MAGNITUDES):
            before = after[:, bits - 1]
            expected[:, bits] = expected[:, bits - 1] + before[:, -1] / 2
            after[:, bits, 0] = 0.5
            after[:, bits, 1:] = before[:, :-1] / 2
            after[:, bits, -1] += before[:, -1] / 2
        return expected, after
