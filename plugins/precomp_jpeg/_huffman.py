"""Huffman codes of T.81: canonical codes, optimal code lengths, and the stuffing that a code's bits cause."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

__all__ = ["HuffmanCode", "code_of", "optimal_code", "stuffed_bits"]

_MAXIMUM_LENGTH: Final = 16
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
    queue = [(frequency, -symbol) for symbol, frequency in enumerate(frequencies) if frequency]
    used = [-symbol for _, symbol in queue]
    queue.append((1, -256))  # a symbol that never occurs keeps the code of ones free
    heapq.heapify(queue)
    members = {symbol: [symbol] for symbol in (*used, 256)}
    sizes = dict.fromkeys(members, 0)
    while len(queue) > 1:
        first, keep = heapq.heappop(queue)
        second, merged = heapq.heappop(queue)
        members[-keep] += members.pop(-merged)
        for symbol in members[-keep]:
            sizes[symbol] += 1
        heapq.heappush(queue, (first + second, keep))
    counts = [0] * (max(sizes.values()) + 1)
    for size in sizes.values():
        counts[size] += 1
    _limit(counts)
    order = bytes(sorted(used, key=lambda symbol: (sizes[int(symbol)], symbol)))
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

    Args:
        codes: each symbol's code ``(tables, ...)``, int64.
        lengths: its length, 0 where there is none.
        magnitude_bits: how many bits follow it.
        follows_itself: whether a symbol of the table comes before, or a bit of zero.
    """
    ones = torch.zeros(len(codes), _RUN, dtype=torch.float64)  # chances of k ones before the symbol, k = 7 and more
    ones[:, 0] = 1.0
    weights = torch.where(lengths > 0, 0.5 ** lengths.double(), 0.0).flatten(1)
    weights = weights / weights.sum(1, keepdim=True)
    expected, after = _walk(codes, lengths, magnitude_bits, ones)
    for _ in range(3 if follows_itself else 0):  # the chances settle at once
        ones = torch.einsum("ts,tsk->tk", weights, after.flatten(1, -2))
        expected, after = _walk(codes, lengths, magnitude_bits, ones)
    return expected


def _walk(codes: Tensor, lengths: Tensor, magnitude_bits: Tensor, ones: Tensor) -> tuple[Tensor, Tensor]:
    """Go through the bits of all symbols: expected runs of eight ones, and the chances of k ones at the end."""
    shape = (len(ones), *(1,) * (codes.ndim - 1), _RUN)
    chances = ones.view(shape).expand(*codes.shape, _RUN)
    expected = torch.zeros(codes.shape, dtype=torch.float64)
    total = torch.where(lengths > 0, lengths + magnitude_bits, 0)
    for position in range(int(total.max())):
        bit = (codes >> (lengths - 1 - position).clamp(min=0)) & 1
        one = torch.where(position < lengths, bit.double(), 0.5)[..., None]
        moved = torch.cat((1.0 - one, chances[..., :-1] * one), dim=-1)
        moved[..., -1:] += chances[..., -1:] * one
        going = (position < total)[..., None]
        expected += torch.where(going, chances[..., -1:] * one, 0.0).squeeze(-1)
        chances = torch.where(going, moved, chances)
    return expected, chances
