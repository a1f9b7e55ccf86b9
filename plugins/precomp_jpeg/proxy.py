"""JPEG's trainable proxy: libjpeg's own arithmetic, with gradients."""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from precomp_sdk import Codec, OptionError, PluginError, ProxyCodec, ProxyOutput, nearest

from ._functional import jpeg_proxy
from ._rate import RateOptions, RateRule
from ._tables import base_tables, quality_percent, scaled_tables
from .codec import JPEGCodec

__all__ = ["JPEGProxy"]

_ROUNDING: Final = {"straight-through": 0.0, "nearness": 1.0}
_RATE_RULES: Final[dict[str, RateRule]] = {"finite-difference": "finite-difference", "smooth": "smooth"}
# SOI 2, APP0 18, DQT 69 a table, SOF 10 + 3 a component, SOS 8 + 2 a component, EOI 2. The Huffman tables are extra.
_HEADER_BYTES: Final = {"colour": 2 + 18 + 2 * 69 + 19 + 14 + 2, "gray": 2 + 18 + 69 + 13 + 10 + 2}
_PROGRESSIVE_HEADER_BYTES: Final = {"colour": 287, "gray": 164}  # more scans, so more SOS
_PADDING_BITS: Final = 3.5  # the last byte is filled up with ones
# Progressive over optimized sequential bits: a + b x + c x**2, x = log2(entropy-coded bits per 64 pixels), fitted to
# 41 photographs at quality 3..100; it misses by 1% (median). And the same for the Huffman tables, a plain factor.
_PROGRESSIVE_FIT: Final = {"colour": (1.2218, -0.05638, 0.0029125), "gray": (1.3244, -0.09634, 0.0062122)}
_PROGRESSIVE_FIT_RANGE: Final = (1.5, 10.0)
_PROGRESSIVE_TABLES: Final = {"colour": 2.29, "gray": 2.14}


class JPEGProxy(ProxyCodec):
    """JPEG, differentiable: the decoded pixels are libjpeg's, bit by bit, and the bits are its Huffman coder's.

    What is not exact is said here: bytes that the coder stuffs after a byte of ones are counted by their expectation
    (it misses by 0.1% of the file), and a progressive file by its sequential size and a fitted factor (1.5%).

    The forward value never depends on the gradient's rules. All roundings but the quantization's are straight-through;
    clipping blocks only what would push a clipped value further out.

    Args:
        codec: the real codec, whose subsampling, optimization, mode and tables are followed.
        rounding: the derivative that the quantization of a coefficient is given: ``"nearness"``, ``12 u**2`` for the
            offset u in [-1/2, 1/2] of the unrounded value, so that a coefficient deep in the dead zone is known to be
            stuck there; ``"straight-through"``, 1; or a number between 0 (straight-through) and 1 (nearness).
        rate_rule: ``"finite-difference"``, the change of the file if the coefficient alone moved to the neighbouring
            integer on the side of its unrounded value, times the same derivative; or ``"smooth"``, the slope of
            ``2.8 log2(1 + |c|)`` over AC coefficients c and ``4.3 log2(1 + |d|)`` over DC differences d.
        stuffing: count the expected stuffed bytes. Without them, and without ``progressive``, the bits are exactly
            those of the real file less its stuffed bytes.
        trainable_tables: make the quantization tables (``tables``) parameters; see `trained_codec`.
        trainable_rate: make ``log_scale`` and ``offset_bits``, which correct the predicted bits, parameters.

    Raises:
        OptionError: an option has no such value.
        PluginError: the codec is another package's ``"jpeg"``.

    Source:
        ITU-T T.81; libjpeg's integer arithmetic; straight-through estimator: Bengio et al., arXiv 1308.3432.

    Example:
        >>> proxy = JPEGProxy(JPEGCodec(subsampling="4:4:4"))
        >>> output = proxy(torch.rand(2, 3, 16, 16), [10, 90])
        >>> bool(output.bits[0] < output.bits[1])
        True
    """

    name = "jpeg-proxy"
    source = "ITU-T T.81; libjpeg's integer arithmetic"
    codec_name = "jpeg"
    tables: Tensor  #: (2, 8, 8) base quantization tables before the quality scales them
    log_scale: Tensor  #: scalar; the coded bits are multiplied by its exponential
    offset_bits: Tensor  #: scalar; added to the bits

    def __init__(
        self,
        codec: Codec,
        *,
        rounding: str | float = "nearness",
        rate_rule: str = "finite-difference",
        stuffing: bool = True,
        trainable_tables: bool = False,
        trainable_rate: bool = False,
    ) -> None:
        super().__init__(codec)
        if not isinstance(codec, JPEGCodec):
            raise PluginError(
                where=f"proxy {self.name!r}",
                expected="a precomp_jpeg.JPEGCodec",
                got=f"{type(codec).__module__}.{type(codec).__qualname__}",
                remedy="Take the proxy that belongs to this codec.",
            )
        if rate_rule not in _RATE_RULES:
            raise OptionError(
                where=f"{self.name!r}, option rate_rule",
                expected=f"one of {', '.join(_RATE_RULES)}",
                got=repr(rate_rule),
                remedy=nearest(str(rate_rule), _RATE_RULES),
            )
        self._options = {
            "rounding": rounding,
            "rate_rule": rate_rule,
            "stuffing": stuffing,
            "trainable_tables": trainable_tables,
            "trainable_rate": trainable_rate,
        }
        self._codec = codec
        self._rules = RateOptions(
            rule=_RATE_RULES[rate_rule],
            blend=_blend(rounding),
            optimize=codec.optimize or codec.progressive,
            stuffing=stuffing,
        )
        self._kind = "gray" if codec.subsampling == "gray" else "colour"
        start = base_tables(torch.device("cpu")) if codec.tables is None else torch.tensor(codec.tables)
        self._add("tables", start.to(torch.float32).clone(), trainable_tables)
        self._add("log_scale", torch.zeros(()), trainable_rate)
        self._add("offset_bits", torch.zeros(()), trainable_rate)

    @property
    def options(self) -> Mapping[str, Any]:
        """The options this proxy was constructed with."""
        return self._options

    def trained_codec(self) -> JPEGCodec:
        """Return the real codec with the quantization tables as they are now, so that it writes what is predicted."""
        whole = self.tables.detach().round().clamp(1.0, 255.0).to(torch.int64).tolist()
        codec = self._codec
        return JPEGCodec(
            subsampling=codec.subsampling, optimize=codec.optimize, progressive=codec.progressive, tables=whole
        )

    def _add(self, name: str, value: Tensor, trainable: bool) -> None:
        if trainable:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def _predict(self, images: Tensor, qualities: Tensor) -> ProxyOutput:
        steps = scaled_tables(self.tables, quality_percent(qualities))
        coded = jpeg_proxy(images, steps, subsampling=self._codec.subsampling, options=self._rules)
        entropy, tables, header_bytes = coded.entropy_bits, coded.table_bits, _HEADER_BYTES[self._kind]
        if self._codec.progressive:
            header_bytes = _PROGRESSIVE_HEADER_BYTES[self._kind]
            tables = tables * _PROGRESSIVE_TABLES[self._kind]
            entropy = entropy * self._progressive_factor(entropy.detach(), images.shape[-2] * images.shape[-1])
        if self._rules.stuffing:
            entropy = entropy + _PADDING_BITS
        else:
            entropy = entropy + (torch.ceil(entropy / 8.0) * 8.0 - entropy).detach()
        bits = entropy * self.log_scale.exp() + tables + (8 * header_bytes + self.offset_bits)
        return ProxyOutput(images=coded.images, bits=bits)

    def _progressive_factor(self, entropy_bits: Tensor, pixels: int) -> Tensor:
        constant, linear, square = _PROGRESSIVE_FIT[self._kind]
        x = torch.log2(entropy_bits * (64.0 / pixels)).clamp(*_PROGRESSIVE_FIT_RANGE)
        return constant + x * (linear + x * square)


def _blend(rounding: str | float) -> float:
    value = _ROUNDING.get(rounding) if isinstance(rounding, str) else float(rounding)
    if value is None or not 0.0 <= value <= 1.0:
        raise OptionError(
            where=f"{JPEGProxy.name!r}, option rounding",
            expected=f"{', '.join(_ROUNDING)}, or a number from 0 (straight-through) to 1 (nearness)",
            got=repr(rounding),
            remedy=nearest(str(rounding), _ROUNDING),
        )
    return value
