"""libjpeg's transform and quantization as differentiable tensor operations.

The values are exactly the integers of libjpeg's default path (``JDCT_ISLOW`` both ways), held in float32. The gradient
is that of the underlying real-valued map: rounding is straight-through everywhere but in `quantize`, whose rule is the
caller's choice.

Planes are ``(..., H, W)`` with sides divisible by 8, and blocks stay in place: coefficient ``(v, u)`` of block
``(i, j)`` lies at ``(8 i + v, 8 j + u)``. No block is ever copied out.
"""

import functools
from typing import Any, Final, cast

import torch
from torch import Tensor
from torch.autograd import Function

__all__ = [
    "BLOCK",
    "clip",
    "dct_matrix",
    "exact_dtype",
    "forward_dct",
    "inverse_dct",
    "quantize",
    "rounding_weight",
    "through_clamp",
]

BLOCK: Final = 8  #: samples on a side of a block
# A product of 13-bit factors and 12-bit values needs more than float32's 24 bits. The matrix is split into
# 128 * high + low, each half's sums stay below 2**24, and floor((128 h + l) / 2**n) = floor((h + floor(l / 128)) /
# 2**(n - 7)) joins them exactly. Scaling by powers of two is folded into the halves.
_SPLIT_BITS: Final = 7
# Two neighbouring blocks are multiplied at once, by a block-diagonal matrix: BLAS is poor at eight columns.
_PAIR: Final = 2

# Fixed-point factors of the 8-point transform, round(x * 2**13), named by x.
_0_298: Final = 2446
_0_390: Final = 3196
_0_541: Final = 4433
_0_765: Final = 6270
_0_899: Final = 7373
_1_175: Final = 9633
_1_501: Final = 12299
_1_847: Final = 15137
_1_961: Final = 16069
_2_053: Final = 16819
_2_562: Final = 20995
_3_072: Final = 25172
_ONE: Final = 1 << 13


@functools.cache
def dct_matrix() -> tuple[tuple[int, ...], ...]:
    """Return the integer 8x8 matrix that one pass of libjpeg's forward transform amounts to before it rounds.

    Returns:
        Rows by frequency, columns by sample; ``2**13 * sqrt(8)`` times the orthonormal DCT.

    Source:
        Loeffler, Ligtenberg and Moschytz, ICASSP 1989, with 13-bit factors, applied to the unit vectors.
    """
    columns = []
    for sample in range(BLOCK):
        x = [int(i == sample) for i in range(BLOCK)]
        s0, s1, s2, s3 = (x[i] + x[7 - i] for i in range(4))
        d0, d1, d2, d3 = (x[i] - x[7 - i] for i in range(4))
        rotated = (s1 - s2 + s0 - s3) * _0_541
        shared = (d0 + d1 + d2 + d3) * _1_175
        odd = shared - (d1 + d3) * _1_961
        even = shared - (d0 + d2) * _0_390
        outer, inner = (d0 + d3) * _0_899, (d1 + d2) * _2_562
        columns.append(
            (
                (s0 + s1 + s2 + s3) * _ONE,
                d0 * _1_501 - outer + even,
                rotated + (s0 - s3) * _0_765,
                d1 * _3_072 - inner + odd,
                (s0 - s1 - s2 + s3) * _ONE,
                d2 * _2_053 - inner + even,
                rotated - (s1 - s2) * _1_847,
                d3 * _0_298 - outer + odd,
            )
        )
    return tuple(zip(*columns, strict=True))


class _Matrices:
    """The transform's matrices: exact halves for values, the real-valued matrix for gradients.

    A row matrix is ``(in, out)``, block-diagonal for a pair of blocks, and multiplies from the right; a column matrix
    is ``(out, in)`` and multiplies from the left.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        full = torch.tensor(dct_matrix(), dtype=dtype)
        high = torch.floor(full / 2.0**_SPLIT_BITS + 0.5)
        low = full / 2.0**_SPLIT_BITS - high

        def columns(matrix: Tensor) -> Tensor:
            return matrix.contiguous().to(device)

        def rows(matrix: Tensor) -> Tensor:
            return torch.kron(torch.eye(_PAIR, dtype=dtype), matrix.contiguous()).to(device)

        self.forward_rows = rows(full.T / 2.0**11)  # 13 - 2 bits are rounded away
        self.forward_columns_high = columns(high / 2.0**8)  # 13 + 2 bits = 7 + 8
        self.forward_columns_low = columns(low)
        self.inverse_columns_high = columns(high.T / 2.0**4)  # 13 - 2 bits = 7 + 4
        self.inverse_columns_low = columns(low.T)
        self.inverse_rows_high = rows(high / 2.0**11)  # 13 + 2 + 3 bits = 7 + 11
        self.inverse_rows_low = rows(low)
        # The gain is sqrt(8) for each forward pass and 1 / sqrt(8) for each inverse one.
        real = full / 2.0**13
        self.adjoint_forward_columns = columns(real.T)
        self.adjoint_forward_rows = rows(real)
        self.adjoint_inverse_rows = rows(real.T / 8.0)  # both passes together: 1 / sqrt(8) each
        self.adjoint_inverse_columns = columns(real)


@functools.lru_cache(maxsize=16)
def _matrices(device: torch.device, dtype: torch.dtype) -> _Matrices:
    with torch.inference_mode(False):
        return _Matrices(device, dtype)


def exact_dtype(device: torch.device) -> torch.dtype:
    """float32 where a matrix product in it keeps 24 bits, else float64: TF32 and bfloat16 products would not."""
    if device.type == "cuda" or (device.type == "cpu" and torch.get_float32_matmul_precision() != "highest"):
        return torch.float64
    return torch.float32


def _right(plane: Tensor, matrix: Tensor, bias: float = 0.0) -> Tensor:
    """``row @ matrix + bias`` for every run of eight samples."""
    runs = plane.reshape(-1, _PAIR * BLOCK)
    product = torch.addmm(runs.new_full((1, 1), bias), runs, matrix) if bias else runs @ matrix
    return product.view(plane.shape)


def _left(matrix: Tensor, plane: Tensor, bias: float = 0.0) -> Tensor:
    """``matrix @ strip + bias`` for every strip of eight rows."""
    strips = plane.reshape(-1, BLOCK, plane.shape[-1])
    stack = matrix.expand(strips.shape[0], BLOCK, BLOCK)
    if bias:
        return torch.baddbmm(strips.new_full((1, 1, 1), bias), stack, strips).view(plane.shape)
    return torch.bmm(stack, strips).view(plane.shape)


class _ForwardDct(Function):
    @staticmethod
    def forward(_ctx: Any, plane: Tensor) -> Tensor:
        dtype = exact_dtype(plane.device)
        m = _matrices(plane.device, dtype)
        rows = _right(plane.to(dtype), m.forward_rows, 0.5).floor_()
        low = _left(m.forward_columns_low, rows, 2.0 ** (14 - _SPLIT_BITS)).floor_()
        return _left(m.forward_columns_high, rows).add_(low, alpha=2.0**-8).floor_().to(torch.float32)

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        m = _matrices(grads[0].device, grads[0].dtype)
        return _right(_left(m.adjoint_forward_columns, grads[0]), m.adjoint_forward_rows)


class _InverseDct(Function):
    @staticmethod
    def forward(ctx: Any, coefficients: Tensor) -> Tensor:
        dtype = exact_dtype(coefficients.device)
        m = _matrices(coefficients.device, dtype)
        values = coefficients.to(dtype)
        low = _left(m.inverse_columns_low, values, 2.0 ** (10 - _SPLIT_BITS)).floor_()
        columns = _left(m.inverse_columns_high, values).add_(low, alpha=2.0**-4).floor_()
        low = _right(columns, m.inverse_rows_low, 2.0 ** (17 - _SPLIT_BITS)).floor_()
        samples = _right(columns, m.inverse_rows_high, 128.0).add_(low, alpha=2.0**-11).floor_().to(torch.float32)
        clamped, excess = clip(samples, 0.0, 255.0)
        ctx.save_for_backward(excess)
        return clamped

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = through_clamp(grads[0], *ctx.saved_tensors)
        m = _matrices(grad.device, grad.dtype)
        return _left(m.adjoint_inverse_columns, _right(grad, m.adjoint_inverse_rows))


def clip(values: Tensor, low: float, high: float) -> tuple[Tensor, Tensor | None]:
    """Clamp, perhaps in place, and say how far outside values were; None where none was.

    Most planes need no clipping, and looking costs a tenth of it. A GPU would have to wait for the answer.
    """
    if values.device.type == "cpu":
        least, most = torch.aminmax(values)
        if low <= float(least) and float(most) <= high:
            return values, None
    clamped = values.clamp(low, high)
    return clamped, values.sub_(clamped)


def through_clamp(grad: Tensor, excess: Tensor | None) -> Tensor:
    """Pass a gradient through a clamp, except where descent would push a clipped value further out.

    Args:
        grad: with respect to the clamped values.
        excess: unclamped minus clamped values; None where none was clipped.
    """
    return grad if excess is None else (excess * grad).ge_(0.0).mul_(grad)


def forward_dct(plane: Tensor) -> Tensor:
    """Transform level-shifted samples, integers in -128..127, to integer coefficients at eight times scale."""
    return cast(Tensor, _ForwardDct.apply(plane))


def inverse_dct(coefficients: Tensor) -> Tensor:
    """Transform dequantized coefficients to samples in 0..255."""
    return cast(Tensor, _InverseDct.apply(coefficients))


def rounding_weight(offset: Tensor, blend: float) -> Tensor:
    """Return the derivative that a rounding is given at ``offset`` in [-1/2, 1/2] from its result.

    Args:
        offset: unrounded minus rounded value.
        blend: 1 for the nearness of the threshold, ``12 * offset**2``, whose integral is 1; 0 for straight-through;
            between them a convex combination.
    """
    return torch.addcmul(offset.new_full((), 1.0 - blend), offset, offset, value=12.0 * blend)


class _Quantize(Function):
    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, table: Tensor, blend: float) -> tuple[Tensor, Tensor, Tensor]:
        # libjpeg rounds halves away from zero. The factor moves exact halves outwards, and nothing else across a
        # threshold: every other |c| / 8q is at least 2**-16 of its value away from one.
        factor = (1.0 + 2.0**-20) / (8.0 * table)
        unrounded = coefficients * factor
        rounded = unrounded.round()
        ctx.save_for_backward(unrounded, rounded, factor, table)
        ctx.blend = blend
        ctx.mark_non_differentiable(rounded)
        ctx.set_materialize_grads(False)
        return unrounded, rounded, rounded * table

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        unrounded, rounded, factor, table = ctx.saved_tensors
        through, _, image = grads
        grad, steps = through, None
        if image is not None:
            grad = rounding_weight(unrounded - rounded, ctx.blend).mul_(image * table)
            if through is not None:
                grad.add_(through)
        if grad is None:
            return None, None, None
        if ctx.needs_input_grad[1]:  # u = c / 8q, so du/dq = -u / q; and the dequantized value is round(u) * q
            steps = -grad * unrounded / table
            steps = (steps if image is None else steps.addcmul_(image, rounded)).sum_to_size(table.shape)
        return grad * factor, steps, None


def quantize(coefficients: Tensor, table: Tensor, blend: float) -> tuple[Tensor, Tensor, Tensor]:
    """Divide coefficients by eight times the table, round halves away from zero, and multiply back.

    Args:
        coefficients: integers of `forward_dct`, with the blocks' axes apart: ``(P, h, 8, w, 8)``.
        table: whole steps, broadcastable to ``coefficients``.
        blend: the backward rule of the rounding, see `rounding_weight`.

    Returns:
        The unrounded quotients, with the gradient of a division; the quantized integers, without gradient; and the
        dequantized coefficients, with the gradient by the rule.
    """
    return cast(tuple[Tensor, Tensor, Tensor], _Quantize.apply(coefficients, table, blend))
