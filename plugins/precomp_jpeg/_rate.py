"""The bits that libjpeg's sequential Huffman coder spends on quantized blocks, and their gradient.

The value is exact. The gradient is with respect to the unrounded coefficients, by a rule of the caller's choice:
``"finite-difference"`` asks for every coefficient what the file would cost if it alone moved to the neighbouring
integer on the side where its unrounded value lies; ``"smooth"`` is the slope of a logarithmic cost. Neither ever
charges for a DC coefficient itself: JPEG codes differences of neighbouring blocks.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import torch
from torch import Tensor
from torch.autograd import Function

from ._arithmetic import rounding_weight
from ._costs import SIZES, CostTables, build_costs, standard_costs
from ._huffman import HuffmanCode, optimal_code
from ._levels import Levels, sizes_of
from ._scan import Scan, differences

__all__ = ["RateOptions", "RateRule", "entropy_bits"]

RateRule = Literal["finite-difference", "smooth"]
_OWN_PER_CODE: Final = 64 * 256
_SPLIT_PER_CODE: Final = 63 * 64 * SIZES
# The smooth rate, a log2(1 + |c|) over AC coefficients and b log2(1 + |d|) over DC differences: a and b fitted to the
# bits of 12 photographs at quality 5..95 (median miss 5%); here per natural logarithm.
_SMOOTH_AC: Final = 2.8 / math.log(2.0)
_SMOOTH_DC: Final = 4.3 / math.log(2.0)


@dataclass(frozen=True)
class RateOptions:
    """How the bits are counted and differentiated.

    Attributes:
        rule: which gradient.
        blend: the backward rule of rounding, see `rounding_weight`.
        optimize: codes made for each image.
        stuffing: count the expected stuffed bytes too.
    """

    rule: RateRule
    blend: float
    optimize: bool
    stuffing: bool


def _ac_change(levels: Levels, own: Tensor, costs: CostTables, code: Tensor | None) -> Tensor:
    """What moving each AC coefficient towards its offset adds to the bits, ``(63, blocks)``.

    Args:
        levels: of the coefficients.
        own: their flat index into the costs by run and sizes.
        costs: of the codes.
        code: ``(blocks,)``, which code each block has; None for one code.
    """
    delta = costs.step.index_select(0, own.view(-1)).view(own.shape)
    index = levels.split_index()
    if code is not None:
        index.add_(code * _SPLIT_PER_CODE)
    split = costs.split.index_select(0, index.view(-1)).view(index.shape)
    return delta.addcmul_(split, levels.born())


def _dc_costs(steps: Tensor, costs: CostTables, code: Tensor | None) -> Tensor:
    index = sizes_of(steps)
    if code is not None:
        index.add_(code[:, None] * 16)
    return costs.dc.index_select(0, index.view(-1)).view(index.shape)


def _made_codes(
    levels: Levels, own: Tensor, steps: Tensor, scan: Scan, channels: int
) -> tuple[list[HuffmanCode], list[HuffmanCode]]:
    """The DC and AC codes that libjpeg makes for each image; ``own`` is by image too."""
    images = steps.shape[0] // channels
    by_run = own.view(-1).bincount(minlength=_OWN_PER_CODE * images).view(images, 4, 16, 16, 16).sum(3)
    runs = by_run[..., 1:].sum((2, 3))  # by whole runs of sixteen zeros before a coefficient
    ac = by_run.sum(1)  # symbols 16 * run + size
    ac[:, :, 0] = 0  # what is zero is no symbol
    ac[:, 15, 0] = (runs * torch.arange(4, device=runs.device)).sum(1)
    ac[:, 0, 0] = levels.ended.view(images, -1).sum(1) + scan.dummies * channels
    image = torch.arange(images, device=steps.device).repeat_interleave(channels)[:, None]
    dc = (256 * image + sizes_of(steps)).view(-1).bincount(minlength=256 * images).view(images, 256)
    dc[:, 0] += scan.dummies * channels
    return [optimal_code(row) for row in dc.tolist()], [optimal_code(row) for row in ac.flatten(1).tolist()]


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
        levels = Levels.of(rounded, side)
        own = levels.run_index()
        steps = differences(scan.gather(rounded[:, :, 0, :, 0]))
        if options.optimize:
            image = torch.arange(planes // channels, dtype=torch.int32, device=rounded.device)
            of_plane: Tensor | None = image.repeat_interleave(channels)
            blocks: Tensor = image.repeat_interleave(channels * height * width)
            of_block: Tensor | None = blocks
            own.add_(blocks * _OWN_PER_CODE)
            made = _made_codes(levels, own, steps, scan, channels)
            costs = build_costs(*made, stuffing=options.stuffing, device=rounded.device)
        else:
            costs = standard_costs(component, options.stuffing, rounded.device)
            of_plane = of_block = None
        ends = costs.end if of_block is None else costs.end.index_select(0, of_block)
        ac = costs.own.index_select(0, own.view(-1)).view(own.shape).sum(0) + ends * levels.ended
        dc = _dc_costs(steps, costs, of_plane)
        bits = ac.view(planes // channels, -1).sum(1, dtype=torch.float64)
        bits += dc.view(planes // channels, -1).sum(1, dtype=torch.float64)
        bits += scan.dummies * channels * (costs.dc[::16] + costs.end)
        if offset is not None and side is not None:
            moved = _dc_change(steps, scan.gather(side[:, :, 0, :, 0]), dc, costs, of_plane)
            moved = scan.scatter(moved, height, width).view(1, -1)
            change_of_all = (
                torch.cat((moved, _ac_change(levels, own, costs, of_block)))
                .view(8, 8, planes, height, width)
                .permute(2, 3, 0, 4, 1)
            )
            ctx.save_for_backward(rounding_weight(offset, options.blend).mul_(side).mul_(change_of_all))
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


def _dc_change(steps: Tensor, side: Tensor, before: Tensor, costs: CostTables, code: Tensor | None) -> Tensor:
    """What moving each DC towards its offset adds: it takes part in its own difference and in the next one."""
    change = _dc_costs(steps + side, costs, code) - before
    change[:, :-1] += _dc_costs(steps[:, 1:] - side[:, :-1], costs, code) - before[:, 1:]
    return change


def _smooth_slope(unrounded: Tensor, scan: Scan) -> Tensor:
    """Slope of a logarithmic cost of AC coefficients and DC differences."""

    def slope_of(values: Tensor, bits: float) -> Tensor:
        return values.sign().div_(values.abs().add_(1.0)).mul_(bits)

    slope = slope_of(unrounded, _SMOOTH_AC)
    each = slope_of(differences(scan.gather(unrounded[:, :, 0, :, 0])), _SMOOTH_DC)
    total = each.clone()
    total[:, :-1] -= each[:, 1:]
    slope[:, :, 0, :, 0] = scan.scatter(total, unrounded.shape[1], unrounded.shape[3])
    return slope


def entropy_bits(
    unrounded: Tensor, rounded: Tensor, component: int, scan: Scan, options: RateOptions
) -> tuple[Tensor, Tensor]:
    """Count the coded bits of luma or of both chroma components, and those of their Huffman tables.

    Args:
        unrounded: coefficients over steps, ``(P, h, 8, w, 8)`` with blocks apart; P = N planes of luma, or 2 N of
            chroma, Cb and Cr of each image in turn.
        rounded: the quantized integers; no gradient flows to them.
        component: 0 for luma, 1 for chroma.
        scan: DC order and completing blocks.
        options: how to count and to differentiate.

    Returns:
        Coded bits ``(N,)``, float32, differentiable with respect to ``unrounded``; and the bits of the tables ``(N,)``.
    """
    return cast(tuple[Tensor, Tensor], _EntropyBits.apply(unrounded, rounded, component, scan, options))
