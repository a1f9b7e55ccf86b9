"""Images for the codecs of Pillow and its neighbours."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def make_image() -> Callable[[int, int], Tensor]:
    """A smooth image with some texture and an edge, (3, height, width) uint8."""

    def make(height: int, width: int) -> Tensor:
        y, x = np.mgrid[0:height, 0:width].astype(np.float64)
        noise = np.random.default_rng(5).normal(0, 6, (3, height, width))
        base = np.stack((128 + 90 * np.sin(x / 9), 128 + 80 * np.cos(y / 7 + x / 23), 60 + 120 * (x + y > 40)))
        return torch.from_numpy((base + noise).clip(0, 255).astype(np.uint8))

    return make
