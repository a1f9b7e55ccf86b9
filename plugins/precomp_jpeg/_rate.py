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
from ._costs import CHANGES, CostTables, build_costs, standard_costs
from ._huffman import HuffmanCode, optimal_code
from ._levels import Levels, sizes_of, to_natural
from ._scan import Scan, differences

__all__ = ["RateOptions", "RateRule", "entropy_bits"]

RateRule = Literal["finite-difference", "smooth"]
_OWN_PER_CODE: Final = 64 * 16
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


def _ac_change(levels: Levels, costs: CostTables, code: Tensor | None) -> Tensor:
    """What moving each AC coefficient towards its offset adds to the bits, ``(63, blocks)`` by scan position.

    Args:
        levels: of the coefficients.
        costs: of the codes.
        code: ``(blocks,)``, which code each block has; None for one code.
    """
    index = levels.change_index()
    if code is not None:
        index.add_(code, alpha=CHANGES)
    return costs.change.index_select(0, index.view(-1)).view(index.shape)


def _dc_costs(steps: Tensor, costs: CostTables, code: Tensor | None) -> Tensor:
    index = sizes_of(steps)
    if code is not None:
        index.add_(code[:, None] * 16)
    return costs.dc.index_select(0, index.view(-1)).view(index.shape)


def _counted(levels: Levels, image: Tensor, images: int) -> Tensor:
    """How many AC coefficients of each image come after r zeros with size s, ``(images, 64, 16)``."""
    index, block = levels.found()
    index.add_(image.index_select(0, block), alpha=_OWN_PER_CODE)
    return index.bincount(minlength=_OWN_PER_CODE * images).view(images, 64, 16)


def _made_codes(
    counts: Tensor, ends: Tensor, steps: Tensor, image: Tensor, dummies: int
) -> tuple[list[HuffmanCode], list[HuffmanCode]]:
    """The DC and AC codes that libjpeg makes for each image.

    Args:
        counts: of `_counted`.
        ends: blocks of each image that end before their last coefficient.
        steps: DC differences, ``(P, blocks)``.
        image: of each plane, ``(P,)``.
        dummies: blocks of an image that only complete a unit.
    """
    images = len(counts)
    by_run = counts.view(images, 4, 16, 16)
    ac = by_run.sum(1)  # symbols 16 * run + size
    ac[:, 15, 0] = (by_run.sum((2, 3)) * torch.arange(4, device=counts.device)).sum(1)  # runs of sixteen zeros
    ac[:, 0, 0] = ends + dummies
    dc = (256 * image[:, None] + sizes_of(steps)).view(-1).bincount(minlength=256 * images).view(images, 256)
    dc[:, 0] += dummies
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
        steps = differences(scan.gather(rounded[:, :, 0, :, 0]))
        images, dummies = planes // channels, scan.dummies * channels
        ends = levels.ended.view(images, -1).sum(1)
        of_plane: Tensor | None = None
        of_block: Tensor | None = None
        if options.optimize:
            image = torch.arange(images, dtype=torch.int32, device=rounded.device)
            of_plane, of_block = (image.repeat_interleave(count * channels) for count in (1, height * width))
            counts = _counted(levels, of_block, images)
            made = _made_codes(counts, ends, steps, of_plane, dummies)
            costs = build_costs(*made, stuffing=options.stuffing, device=rounded.device)
            bits = (counts.flatten(1) * costs.own.double().view(images, -1)).sum(1)
        else:
            costs = standard_costs(component, options.stuffing, rounded.device)
            own = levels.own_index()
            each = costs.own.index_select(0, own.view(-1)).view(own.shape).sum(0)
            bits = each.view(images, -1).sum(1, dtype=torch.float64)
        dc = _dc_costs(steps, costs, of_plane)
        bits += dc.view(images, -1).sum(1, dtype=torch.float64) + (ends + dummies) * costs.end.double()
        bits += dummies * costs.dc[::16]
        if offset is not None and side is not None:
            moved = _dc_change(steps, scan.gather(side[:, :, 0, :, 0]), dc, costs, of_plane)
            moved = scan.scatter(moved, height, width).view(1, -1)
            change_of_all = (
                to_natural(torch.cat((moved, _ac_change(levels, costs, of_block))))
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
