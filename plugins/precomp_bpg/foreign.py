"""What files of other BPG encoders may hold and ours never do: alpha, CMYK, 10 and 12 bits, other colour spaces.

Source:
    The BPG image format specification 0.9.5; matrices: ITU-T H.273, table 4; alpha and CMYK: measured on ``bpgdec``
    0.9.8 as a black box.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from precomp_bpg.formats import ColourSpace

__all__ = ["ALPHA_FLAGS", "BIT_DEPTHS", "LUMA_WEIGHTS", "NOT_LUMA", "Alpha", "apply_alpha"]

_Bytes: TypeAlias = NDArray[np.uint8]
_Rows: TypeAlias = tuple[tuple[float, float, float], ...]

BIT_DEPTHS: Final = (8, 10, 12)  #: of a sample


class Alpha(StrEnum):
    """What the fourth plane means."""

    NONE = "none"
    STRAIGHT = "straight"
    PREMULTIPLIED = "premultiplied"
    CMYK_W = "cmyk"


ALPHA_FLAGS: Final = {
    (0, 0): Alpha.NONE,
    (1, 0): Alpha.STRAIGHT,
    (1, 1): Alpha.PREMULTIPLIED,
    (0, 1): Alpha.CMYK_W,
}  #: by the file's two flags

#: luma's weights of red and blue, in spaces other than BT.601
LUMA_WEIGHTS: Final = {ColourSpace.BT709: (0.2126, 0.0722), ColourSpace.BT2020: (0.2627, 0.0593)}

#: for spaces without luma: the rows of R, G and B from the three planes, given the scale of a sample
NOT_LUMA: Final[dict[ColourSpace, Callable[[float], _Rows]]] = {
    ColourSpace.RGB: lambda scale: ((0, 0, scale), (scale, 0, 0), (0, scale, 0)),  # planes G, B, R
    ColourSpace.YCGCO: lambda scale: ((scale, -scale, scale), (scale, scale, 0), (scale, -scale, -scale)),
}


def apply_alpha(rgb: _Bytes, fourth: _Bytes, alpha: Alpha) -> tuple[_Bytes, _Bytes | None]:
    """Return colour that is not premultiplied and its alpha, given the fourth plane and what it means.

    Args:
        rgb: (3, H, W).
        fourth: (H, W).
        alpha: not `Alpha.NONE`. CMYK's fourth plane is white minus black: it darkens, and no alpha is left.
    """
    match alpha:
        case Alpha.PREMULTIPLIED:
            return _un_premultiplied(rgb, fourth), fourth
        case Alpha.CMYK_W:
            return ((rgb.astype(np.int32) * fourth + 127) // 255).astype(np.uint8), None
        case _:
            return rgb, fourth


def _un_premultiplied(rgb: _Bytes, alpha: _Bytes) -> _Bytes:
    """Divide colour (3, H, W) by its alpha (H, W); where alpha is 0 the colour becomes white."""
    wide = alpha.astype(np.int32)
    divided = (rgb.astype(np.int32) * 255 + wide // 2) // np.maximum(wide, 1)
    return np.where(wide == 0, 255, divided.clip(0, 255)).astype(np.uint8)
