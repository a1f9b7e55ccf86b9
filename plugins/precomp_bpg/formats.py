"""What the planes of a BPG file are.

Source:
    The BPG image format specification 0.9.5 by F. Bellard, read for its format only.
"""

from enum import IntEnum

__all__ = ["ColourSpace", "PixelFormat"]


class PixelFormat(IntEnum):
    """Chroma subsampling and where its samples lie."""

    GRAY = 0
    C420 = 1
    C422 = 2
    C444 = 3
    C420_LEFT = 4
    C422_LEFT = 5

    @property
    def chroma_format(self) -> int:
        """HEVC's ``chroma_format_idc``."""
        return int(self) if self <= PixelFormat.C444 else int(self) - 3


class ColourSpace(IntEnum):
    """What the three planes mean."""

    BT601 = 0
    RGB = 1
    YCGCO = 2
    BT709 = 3
    BT2020 = 4
