"""The constants of ITU-T T.81 that libjpeg uses by default: scan order, quantization and Huffman tables (Annex K)."""

import functools
from typing import Final

import torch
from torch import Tensor

__all__ = ["AC_CODES", "DC_CODES", "ZIGZAG", "base_tables", "quality_percent", "scaled_tables"]


def _zigzag() -> tuple[int, ...]:
    def key(index: int) -> tuple[int, int]:
        row, column = divmod(index, 8)
        diagonal = row + column
        return diagonal, row if diagonal % 2 else column

    return tuple(sorted(range(64), key=key))


#: natural (row-major) index of the coefficient at each scan position (T.81 figure A.6)
ZIGZAG: Final = _zigzag()

_LUMA: Final = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_CORNER: Final = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))


@functools.lru_cache(maxsize=16)
def base_tables(device: torch.device) -> Tensor:
    """Annex K.1's tables, ``(2, 8, 8)`` float32: luma, chroma; rows by vertical frequency."""
    with torch.inference_mode(False):
        tables = torch.full((2, 8, 8), 99.0)
        tables[0] = torch.tensor(_LUMA, dtype=torch.float32)
        tables[1, :4, :4] = torch.tensor(_CHROMA_CORNER, dtype=torch.float32)
        return tables.to(device)


def quality_percent(quality: Tensor) -> Tensor:
    """Return libjpeg's scale of the tables, whole percents ``(N,)``, for qualities ``(N,)`` of 1..100."""
    quality = quality.to(torch.float32)
    return torch.where(quality < 50.0, torch.floor(5000.0 / quality), 200.0 - 2.0 * quality)


def scaled_tables(base: Tensor, percent: Tensor) -> Tensor:
    """Scale quantization tables as libjpeg does, kept in baseline's range; rounding is straight-through.

    Args:
        base: ``(2, 8, 8)`` float32; rounded to whole steps.
        percent: ``(N,)``.

    Returns:
        ``(N, 2, 8, 8)`` whole steps in 1..255.
    """
    whole = _straight_through(base, base.round()).clamp(1.0, 255.0)
    scaled = whole * percent.view(-1, 1, 1, 1)
    exact = torch.floor((scaled.detach() + 50.0) / 100.0)
    return _straight_through(scaled / 100.0, exact).clamp(1.0, 255.0)


def _straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """Return the rounded value with the gradient of the other; exact, as adding a difference would not be."""
    return rounded.detach() + (value - value.detach()) if value.requires_grad else rounded


_DC_LUMA_COUNTS: Final = (0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0)
_DC_CHROMA_COUNTS: Final = (0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0)
_AC_LUMA_COUNTS: Final = (0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125)
_AC_CHROMA_COUNTS: Final = (0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119)
_DC_SYMBOLS: Final = bytes(range(12))
_AC_LUMA_SYMBOLS: Final = bytes.fromhex(
    "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a"
    "434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9"
    "aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"
)
_AC_CHROMA_SYMBOLS: Final = bytes.fromhex(
    "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a35363738393a"
    "434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8"
    "a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
)


#: Annex K.3's codes for luma and chroma: how many have each length, and their symbols in order. A DC symbol is a
#: size, an AC symbol is ``16 * run + size``.
DC_CODES: Final = ((_DC_LUMA_COUNTS, _DC_SYMBOLS), (_DC_CHROMA_COUNTS, _DC_SYMBOLS))
AC_CODES: Final = ((_AC_LUMA_COUNTS, _AC_LUMA_SYMBOLS), (_AC_CHROMA_COUNTS, _AC_CHROMA_SYMBOLS))
