"""Images to check components with: drawn, seeded, and like photographs where it matters to a codec."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from precomp_sdk.images import to_uint8

__all__ = ["ODD_SIZES", "extreme_images", "natural_image"]

ODD_SIZES: tuple[tuple[int, int], ...] = (  #: heights and widths around the blocks of codecs and networks
    (1, 1), (1, 2), (2, 1), (1, 17), (3, 5), (7, 8), (8, 8), (9, 16), (15, 17), (16, 3), (33, 31),
)  # fmt: skip


def natural_image(height: int, width: int, *, seed: int = 0) -> Tensor:
    """Draw an image with what photographs are made of: smooth shading, texture, edges, colour and a little noise.

    Shapes and units:
        returns: (3, height, width) uint8.

    Args:
        height: in pixels, 1 or more.
        width: in pixels, 1 or more.
        seed: draws another image.

    Example:
        >>> tuple(natural_image(5, 7).shape)
        (3, 5, 7)
    """
    generator = torch.Generator().manual_seed(1_000_003 * seed + 7919 * height + width)
    octaves = torch.zeros(3, height, width)
    for exponent in range(6):  # amplitudes fall with frequency, as they do in nature
        cells = torch.rand(1, 3, 2 + 2**exponent, 2 + 2**exponent, generator=generator) - 0.5
        octaves += 0.6**exponent * functional.interpolate(cells, (height, width), mode="bilinear")[0]
    luma = octaves.mean(dim=0, keepdim=True)
    image = 0.5 + 0.9 * luma + 0.35 * (octaves - luma)
    rows = torch.linspace(0.0, 1.0, height)[:, None]
    columns = torch.linspace(0.0, 1.0, width)[None]
    draw = torch.rand(12, generator=generator).tolist()
    disc = (rows - draw[0]) ** 2 + (columns - draw[1]) ** 2 < (0.15 + 0.2 * draw[2]) ** 2
    stripes = torch.sin(2 * math.pi * (height * rows * draw[3] + width * columns * draw[4]) / 5.0)
    edge = rows * (draw[5] - 0.5) + columns * (draw[6] - 0.5) > 0.5 * (draw[5] + draw[6] - 1.0)
    colour = torch.tensor(draw[7:10])[:, None, None]
    image = torch.where(edge, image + 0.2 * (draw[10] - 0.5), image)
    image = torch.where(disc, 0.6 * colour + 0.2 + 0.15 * stripes, image)
    return to_uint8(image + 0.02 * torch.randn(3, height, width, generator=generator))


def extreme_images(height: int, width: int) -> Mapping[str, Tensor]:
    """Return images at the edge of what there is, by name: flat, saturated, gray, and as busy as can be.

    Shapes and units:
        returns: each (3, height, width) uint8.
    """
    colours = {
        "black": (0, 0, 0),
        "white": (255, 255, 255),
        "gray": (128, 128, 128),
        "red": (255, 0, 0),
        "green": (0, 255, 0),
        "blue": (0, 0, 255),
    }
    images = {
        f"all {name}": torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, height, width).contiguous()
        for name, colour in colours.items()
    }
    gray = natural_image(height, width).to(torch.float32).mean(dim=0).to(torch.uint8)
    images["a gray image"] = gray.expand(3, height, width).contiguous()
    squares = (torch.arange(height)[:, None] + torch.arange(width)[None]) % 2 * 255
    images["a chessboard of single pixels"] = squares.to(torch.uint8).expand(3, height, width).contiguous()
    noise = torch.randint(0, 2, (3, height, width), generator=torch.Generator().manual_seed(0)) * 255
    images["saturated noise"] = noise.to(torch.uint8)
    return images
