"""The structured half of the generic proxy: block transforms, steps that depend on the strength, bits per block."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from precomp_proxy._transforms import block_transform, inverse_block_transform, quantize

__all__ = ["CodedPlanes", "PlaneCoder", "between_knots"]

_KNOTS: Final = 9  # of what depends on the strength, evenly spaced over [0, 1]
_BANDS: Final = 8  # of what depends on the frequency
_LOG2_STEPS: Final = (0.0, 7.0)  # where the steps start: 1 at strength 0, 128 at 1, in 8-bit levels
_LARGEST_DEAD_ZONE: Final = 0.5


@dataclass(frozen=True, slots=True)
class CodedPlanes:
    """Planes as quantized with every block size.

    Shapes and units:
        planes: (N, S, P, H, W), for S block sizes and P planes, in 8-bit levels.
        cell_bits: (N, S, H / cell, W / cell), what the planes would cost if the cell lay in a block of that size.
        steps: (N,) the step of the lowest frequency band before its own correction, in 8-bit levels.
    """

    planes: Tensor
    cell_bits: Tensor
    steps: Tensor


class PlaneCoder(nn.Module):
    """Quantizes planes in square blocks of several sizes and counts their bits.

    A coefficient c of band f costs ``weight(f) * log2(1 + gain(f) * (c / step)**2)`` bits, a smooth count whose slope
    vanishes at 0: what lies deep in the dead zone has nothing to give.

    Args:
        sizes: of the blocks, in samples of these planes, each a multiple of ``cell``.
        cell: side of a cell, in samples of these planes.
        rounding: see `quantize`.
    """

    def __init__(self, sizes: Sequence[int], cell: int, rounding: float) -> None:
        super().__init__()
        self.sizes, self.cell, self.rounding = tuple(sizes), cell, rounding
        count = len(self.sizes)
        self.log2_steps = nn.Parameter(torch.linspace(*_LOG2_STEPS, _KNOTS))
        self.band_log2_steps = nn.Parameter(torch.zeros(count, _BANDS))
        self.dead_zones = nn.Parameter(torch.zeros(count, 2))  # of DC and of AC, before the sigmoid
        self.log_weights = nn.Parameter(torch.zeros(count, _BANDS))
        self.log_gains = nn.Parameter(torch.zeros(count, _BANDS))
        self.log_scales = nn.Parameter(torch.zeros(_KNOTS))  # of all bits, by strength

    def forward(self, planes: Tensor, strengths: Tensor) -> CodedPlanes:
        """Code planes (N, P, H, W), H and W divisible by every size, at strengths (N,) in [0, 1]."""
        log2_steps = between_knots(self.log2_steps, strengths)  # (N,)
        scales = between_knots(self.log_scales, strengths).exp()[:, None, None]
        coded, bits = [], []
        for index, size in enumerate(self.sizes):
            steps = torch.exp2(log2_steps[:, None, None] + _over_block(self.band_log2_steps[index], size))
            steps = steps[:, None, None, None]  # (N, 1, 1, 1, size, size)
            levels = block_transform(planes, size) / steps
            coded.append(inverse_block_transform(quantize(levels, self._zone(index, size), self.rounding) * steps))
            weights, gains = (_over_block(table[index], size).exp() for table in (self.log_weights, self.log_gains))
            block_bits = (weights * torch.log2(1.0 + gains * levels.square())).sum(dim=(1, 4, 5))  # (N, rows, columns)
            cells = size // self.cell
            bits.append((scales * block_bits / cells**2).repeat_interleave(cells, 1).repeat_interleave(cells, 2))
        return CodedPlanes(torch.stack(coded, dim=1), torch.stack(bits, dim=1), torch.exp2(log2_steps))

    def _zone(self, index: int, size: int) -> Tensor:
        zones = _LARGEST_DEAD_ZONE * torch.sigmoid(self.dead_zones[index])
        is_dc = torch.zeros(size, size).to(zones)
        is_dc[0, 0] = 1.0
        return zones[1] + (zones[0] - zones[1]) * is_dc


def between_knots(table: Tensor, positions: Tensor) -> Tensor:
    """Interpolate linearly between values at evenly spaced knots: table (K,), positions (...) in [0, 1]."""
    places = positions.clamp(0.0, 1.0) * (len(table) - 1)
    lower = places.detach().floor().clamp(max=len(table) - 2).long()
    share = places - lower
    return table[lower] * (1.0 - share) + table[lower + 1] * share


def _over_block(table: Tensor, size: int) -> Tensor:
    """Spread a table over frequency, (bands,), over a block (size, size); DC takes the first entry."""
    orders = torch.arange(size, device=table.device) / size
    rows, columns = orders[:, None], orders[None]
    return between_knots(table, (0.5 * (torch.maximum(rows, columns) + torch.minimum(rows, columns))).sqrt())
