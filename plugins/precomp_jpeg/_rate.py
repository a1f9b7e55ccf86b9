"""The bits that libjpeg's sequential Huffman coder spends on quantized blocks, and their gradient.

The value is exact. The gradient is with respect to the unrounded coefficients, by a rule of the caller's choice:
``"finite-difference"`` asks for every coefficient what the file would cost if it alone moved to the neighbouring
integer on the side where its unrounded value lies; ``"smooth"`` is the slope of a logarithmic cost. Neither ever
charges for a DC coefficient itself: JPEG codes differences of neighbouring blocks.
"""

import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal, cast

import torch
from torch import Tensor
from torch.autograd import Function

from ._arithmetic import rounding_weight
from ._costs import END, SIZES, CostTables, build_costs, standard_costs
from ._huffman import HuffmanCode, optimal_code
from ._tables import ZIGZAG

__all__ = ["RateOptions", "RateRule", "Scan", "entropy_bits", "scan_of"]

RateRule = Literal["finite-difference", "smooth"]
_OWN_PER_CODE: Final = 64 * 256
_SPLIT_PER_CODE: Final = 63 * 64 * SIZES
_SMOOTH_BITS: Final = 2.0 / 0.6931471805599453  # two bits per doubling: a magnitude bit, and a longer code


@dataclass(frozen=True)
class RateOptions:
    """How the bits are counted and differentiated.

    Attributes:
        rule: which gradient.
        blend: the backward rule of rounding, see `rounding_weight`.
        optimize: codes made for each picture.
        stuffing: count the expected stuffed bytes too.
    """

    rule: RateRule
    blend: float
    optimize: bool
    stuffing: bool


@dataclass(frozen=True)
class Scan:
    """In which order a component's DC coefficients are predicted, and which blocks are coded beside its own.

    Attributes:
        order: raster index of the block at each place of the scan, ``(blocks,)``; None where that is raster order.
        dummies: blocks that only complete a minimum coded unit: DC difference 0 and the end of the block.
    """

    order: Tensor | None
    dummies: int


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


@functools.lru_cache(maxsize=16)
def _positions(device: torch.device) -> Tensor:
    """Scan position of each coefficient in natural order, ``(64, 1)`` int32."""
    with torch.inference_mode(False):
        positions = torch.empty(64, 1, dtype=torch.int32)
        positions[list(ZIGZAG), 0] = torch.arange(64, dtype=torch.int32)
        return positions.to(device)


def _sizes(values: Tensor) -> Tensor:
    """Bit length of the magnitude of whole float32 values (0..11), from the exponent; int32."""
    return (values.abs().view(torch.int32) >> 23).sub_(126).clamp_(0, SIZES - 1)


def _blocks_last(values: Tensor) -> Tensor:
    """``(P, h, 8, w, 8)`` to ``(64, P * h * w)``: natural order by block."""
    return values.permute(2, 4, 0, 1, 3).reshape(64, -1).contiguous()


@dataclass(frozen=True)
class _Levels:
    """What the coder sees of the AC coefficients; all ``(64, blocks)`` int32 in natural order, row 0 idle.

    Attributes:
        packed: size, plus 16 times the size after the coefficient moved towards its offset.
        sizes: magnitude category.
        previous: scan position of the last coefficient before this one, 0 (the DC) if none; -1 in row 0.
        last: ``(blocks,)``, scan position of the block's last coefficient, 0 if none.
    """

    packed: Tensor
    sizes: Tensor
    previous: Tensor
    last: Tensor


def _levels(rounded: Tensor, side: Tensor | None) -> _Levels:
    packed = _sizes(rounded)
    if side is not None:
        packed.add_(_sizes(rounded + side), alpha=16)
    packed = _blocks_last(packed.to(torch.uint8)).to(torch.int32)
    packed[0] = 0
    sizes = packed & 15
    here = sizes.clamp(max=1).mul_(_positions(sizes.device)).unbind(0)
    previous = torch.empty_like(sizes)
    rows = previous.unbind(0)
    rows[0].fill_(-1)
    rows[ZIGZAG[1]].zero_()
    for j, k in pairwise(ZIGZAG[1:]):
        torch.maximum(rows[j], here[j], out=rows[k])
    return _Levels(packed, sizes, previous, torch.maximum(rows[63], here[63]))


def _split_cost(levels: _Levels, costs: CostTables, code: Tensor | None) -> Tensor:
    """What a coefficient of +-1 costs at each place, over a zero there, given its neighbours; ``(64, blocks)``."""
    position = _positions(levels.sizes.device)
    # following[j]: 12 * scan position + size of the next coefficient, 12 * 64 if none.
    none = SIZES * END
    here = levels.sizes.clamp(max=1).mul_(position * SIZES - none).add_(levels.sizes).add_(none).unbind(0)
    following = torch.empty_like(levels.sizes)
    rows = following.unbind(0)
    rows[0].fill_(none)
    rows[ZIGZAG[63]].fill_(none)
    for j, k in pairwise(ZIGZAG[:0:-1]):
        torch.minimum(rows[j], here[j], out=rows[k])
    # (64 * run + zeros before the next) * 12 + next size
    index = torch.sub(following, levels.previous, alpha=64 * SIZES)
    index.add_((position - 1) * (64 * SIZES) - (position + 1) * SIZES)
    if code is not None:
        index.add_(code * _SPLIT_PER_CODE)
    return costs.split.index_select(0, index.view(-1)).view(index.shape)


def _ac_bits(levels: _Levels, costs: CostTables, code: Tensor | None, change: bool) -> tuple[Tensor, Tensor | None]:
    """Bits of each block's AC coefficients, and (``change``) what moving each towards its offset adds."""
    index = torch.sub(levels.packed, levels.previous, alpha=256).add_((_positions(levels.last.device) - 1) * 256)
    if code is not None:
        index.add_(code * _OWN_PER_CODE)
    flat = index.view(-1)
    ends = costs.end if code is None else costs.end.index_select(0, code)
    bits = costs.own.index_select(0, flat).view(index.shape).sum(0) + ends * (levels.last < 63)
    if not change:
        return bits, None
    delta = costs.step.index_select(0, flat).view(index.shape)
    # +1 where a zero becomes +-1, -1 where +-1 becomes zero, else 0.
    born = (levels.packed >> 4).clamp_(max=1).sub_(levels.sizes.clamp(max=1))
    return bits, delta.addcmul_(_split_cost(levels, costs, code), born.to(torch.float32))


def _in_order(values: Tensor, scan: Scan) -> Tensor:
    """Values of the DC coefficients, ``(P, h, w)``, in the order of the scan, ``(P, blocks)``."""
    flat = values.reshape(values.shape[0], -1)
    return flat if scan.order is None else flat[:, scan.order]


def _in_place(values: Tensor, scan: Scan, height: int, width: int) -> Tensor:
    """The way back of `_in_order`."""
    if scan.order is not None:
        values = torch.empty_like(values).scatter_(1, scan.order.expand_as(values), values)
    return values.view(values.shape[0], height, width)


def _differences(values: Tensor) -> Tensor:
    return torch.diff(values, dim=1, prepend=values.new_zeros(values.shape[0], 1))


def _dc_costs(differences: Tensor, costs: CostTables, code: Tensor | None) -> Tensor:
    index = _sizes(differences)
    if code is not None:
        index.add_(code[:, None] * 16)
    return costs.dc.index_select(0, index.view(-1)).view(index.shape)


def _made_codes(
    levels: _Levels, differences: Tensor, scan: Scan, channels: int
) -> tuple[list[HuffmanCode], list[HuffmanCode]]:
    """The DC and AC codes that libjpeg makes for each picture."""
    pictures = differences.shape[0] // channels
    position = _positions(levels.sizes.device)
    run = position - 1 - levels.previous
    picture = torch.arange(pictures, device=run.device).repeat_interleave(levels.last.numel() // pictures)
    coded = levels.sizes > 0

    def counted(symbols: Tensor, weights: Tensor | None = None) -> Tensor:
        return torch.bincount(symbols.flatten(), weights, minlength=256 * pictures).view(pictures, 256)

    ac = counted((256 * picture + 16 * (run % 16) + levels.sizes)[coded])
    ac[:, 0xF0] += ((run // 16) * coded).view(64, pictures, -1).sum((0, 2))
    ac[:, 0x00] += (levels.last < 63).view(pictures, -1).sum(1) + scan.dummies * channels
    dc_picture = torch.arange(pictures, device=run.device).repeat_interleave(channels)[:, None]
    dc = counted(256 * dc_picture + _sizes(differences))
    dc[:, 0] += scan.dummies * channels
    return [optimal_code(row) for row in dc.tolist()], [optimal_code(row) for row in ac.tolist()]


class _EntropyBits(Function):
    @staticmethod
    def forward(
        ctx: Any, unrounded: Tensor, rounded: Tensor, component: int, scan: Scan, options: RateOptions
    ) -> tuple[Tensor, Tensor]:
        planes, height, _, width, _ = rounded.shape
        channels = 1 if component == 0 else 2
        wanted = bool(ctx.needs_input_grad[0])
        change = wanted and options.rule == "finite-difference"
        offset = unrounded - rounded if change else None
        side = None if offset is None else offset.sign()
        levels = _levels(rounded, side)
        differences = _differences(_in_order(rounded[:, :, 0, :, 0], scan))
        if options.optimize:
            made = _made_codes(levels, differences, scan, channels)
            costs = build_costs(*made, stuffing=options.stuffing, device=rounded.device)
            of_plane = torch.arange(planes // channels, dtype=torch.int32, device=rounded.device)
            of_plane = of_plane.repeat_interleave(channels)
            of_block = of_plane.repeat_interleave(height * width)
        else:
            costs = standard_costs(component, options.stuffing, rounded.device)
            of_plane = of_block = None
        ac, delta = _ac_bits(levels, costs, of_block, change)
        dc = _dc_costs(differences, costs, of_plane)
        bits = ac.view(planes // channels, -1).sum(1, dtype=torch.float64)
        bits += dc.view(planes // channels, -1).sum(1, dtype=torch.float64)
        bits += scan.dummies * channels * (costs.dc[::16] + costs.end)
        if offset is not None and side is not None and delta is not None:
            delta = delta.view(8, 8, planes, height, width).permute(2, 3, 0, 4, 1)
            slope = rounding_weight(offset, options.blend).mul_(side)
            weight = slope[:, :, 0, :, 0].clone()
            slope.mul_(delta)
            moved = _dc_change(differences, _in_order(side[:, :, 0, :, 0], scan), dc, costs, of_plane)
            slope[:, :, 0, :, 0] = _in_place(moved, scan, height, width).mul_(weight)
            ctx.save_for_backward(slope)
        elif wanted:
            ctx.save_for_backward(_smooth_slope(unrounded, scan))
        ctx.channels = channels
        table_bits = costs.table_bits.expand(len(bits)).clone()
        ctx.mark_non_differentiable(table_bits)
        return bits.to(torch.float32), table_bits

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (slope,) = ctx.saved_tensors
        grad = grads[0].repeat_interleave(ctx.channels).view(-1, 1, 1, 1, 1)
        return slope * grad, None, None, None, None


def _dc_change(differences: Tensor, side: Tensor, before: Tensor, costs: CostTables, code: Tensor | None) -> Tensor:
    """What moving each DC towards its offset adds: it takes part in its own difference and in the next one."""
    change = _dc_costs(differences + side, costs, code) - before
    change[:, :-1] += _dc_costs(differences[:, 1:] - side[:, :-1], costs, code) - before[:, 1:]
    return change


def _smooth_slope(unrounded: Tensor, scan: Scan) -> Tensor:
    """Slope of ``2 log2(1 + |c|)`` over AC coefficients and DC differences."""

    def slope_of(values: Tensor) -> Tensor:
        return values.sign().div_(values.abs().add_(1.0)).mul_(_SMOOTH_BITS)

    slope = slope_of(unrounded)
    each = slope_of(_differences(_in_order(unrounded[:, :, 0, :, 0], scan)))
    total = each.clone()
    total[:, :-1] -= each[:, 1:]
    slope[:, :, 0, :, 0] = _in_place(total, scan, unrounded.shape[1], unrounded.shape[3])
    return slope


def entropy_bits(
    unrounded: Tensor, rounded: Tensor, component: int, scan: Scan, options: RateOptions
) -> tuple[Tensor, Tensor]:
    """Count the coded bits of luma or of both chroma components, and those of their Huffman tables.

    Args:
        unrounded: coefficients over steps, ``(P, h, 8, w, 8)`` with blocks apart; P = N planes of luma, or 2 N of
            chroma, Cb and Cr of each picture in turn.
        rounded: the quantized integers; no gradient flows to them.
        component: 0 for luma, 1 for chroma.
        scan: DC order and completing blocks.
        options: how to count and to differentiate.

    Returns:
        Coded bits ``(N,)``, float32, differentiable with respect to ``unrounded``; and the bits of the tables ``(N,)``.
    """
    return cast(tuple[Tensor, Tensor], _EntropyBits.apply(unrounded, rounded, component, scan, options))
