from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

ImageFactory = Callable[[int, int, int], Tensor]


@pytest.fixture(scope="session")
def make_image() -> ImageFactory:
    """Make a uint8 image (3, H, W) from a seed: gradients, hard edges, texture, and clipped whites and blacks."""

    def make(height: int, width: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        y = torch.linspace(0, 1, height)[:, None]
        x = torch.linspace(0, 1, width)[None]
        coefficients = torch.randn(3, 4, generator=generator)
        planes = []
        for c in range(3):
            a, b, d, e = coefficients[c].tolist()
            smooth = 0.5 + 0.5 * torch.sin(3 * a * x + 4 * b * y + d)
            planes.append(smooth + 0.6 * ((x * 7 + y * 5 + e) % 1 > 0.8))
        noise = 0.15 * torch.randn(3, height, width, generator=generator) * (x > 0.5)
        return ((torch.stack(planes) + noise) * 255 - 20).round().clamp(0, 255).to(torch.uint8)

    return make


@pytest.fixture(scope="session")
def photographs(shared_data: Path) -> list[Tensor]:
    """Return real photographs, uint8 (3, H, W), from three data sets."""
    files = [
        *sorted((shared_data / "imagenette" / "val").glob("*/*.JPEG"))[::167],
        *sorted((shared_data / "camvid" / "images" / "val").iterdir())[::34],
        *sorted((shared_data / "coco256" / "images" / "val").iterdir())[::43],
    ]
    assert len(files) >= 10
    return [torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1).contiguous() for file in files]
