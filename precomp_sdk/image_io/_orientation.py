"""The orientation that a camera writes beside the samples."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor

__all__ = ["orientation_of", "turn_upright"]

_TAG = 0x0112  # EXIF 2.32, section 4.6.4


def orientation_of(image: Image.Image) -> int:
    """Return a Pillow image's orientation, 1 to 8; 1 where it has none or its metadata is broken.

    It may be a number, as EXIF has it, or text, as PNG's text chunks and some programs have it.
    """
    try:
        found: Any = image.getexif().get(_TAG, 1)
        if isinstance(found, tuple | list):
            found = found[0]
        if isinstance(found, bytes):
            found = found.decode("ascii")
        value = int(found.strip(" \0") if isinstance(found, str) else found)
    except Exception:  # broken metadata leaves the samples as they stand
        return 1
    return value if 1 <= value <= 8 else 1


def turn_upright(samples: Tensor, orientation: int) -> Tensor:
    """Turn stored samples as an orientation says: what the first row and column of the file are in the image.

    Shapes and units:
        samples: (..., H, W), any type. Returns (..., H, W), or (..., W, H) for orientations 5 to 8.

    Source: EXIF 2.32, section 4.6.4, tag 0x0112.

    Example:
        >>> turn_upright(torch.tensor([[1, 2, 3], [4, 5, 6]]), 6).tolist()  # the first row is the right side
        [[4, 1], [5, 2], [6, 3]]
    """
    if orientation in (5, 6, 7, 8):
        samples = samples.transpose(-1, -2)
    flipped = {2: (-1,), 3: (-2, -1), 4: (-2,), 6: (-1,), 7: (-2, -1), 8: (-2,)}.get(orientation, ())
    return torch.flip(samples, flipped) if flipped else samples
