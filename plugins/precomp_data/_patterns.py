"""What scenes are made of: shapes, fine textures and clutter, all as arrays of one number per pixel."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHAPES", "TEXTURES", "Plane", "clutter", "enlarge", "white_noise"]

Plane: TypeAlias = NDArray[np.float32]


def _disc(u: Plane, v: Plane) -> Plane:
    return np.sqrt(u * u + v * v) - np.float32(1)


def _square(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.886)


def _triangle(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.abs(u) * np.float32(0.866) + v * np.float32(0.5), -v) - np.float32(0.778)


def _star(u: Plane, v: Plane) -> Plane:
    radius = np.sqrt(u * u + v * v)
    return (radius - np.float32(0.93) - np.float32(0.33) * np.cos(5 * np.arctan2(v, u))) * np.float32(0.55)


def _cross(u: Plane, v: Plane) -> Plane:
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.maximum(u, v) - np.float32(1.088), np.minimum(u, v) - np.float32(0.457))


#: Distance to a shape's outline, negative inside, for a shape as large as the unit disc. Arguments (h, w) each.
SHAPES: Mapping[str, Callable[[Plane, Plane], Plane]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
}


def _stripes(x: Plane, y: Plane, wave: float, rng: np.random.Generator) -> Plane:
    return np.sin(x * np.float32(wave) + np.float32(rng.uniform(0, 6.28)))


def _checks(x: Plane, y: Plane, wave: float, rng: np.random.Generator) -> Plane:
    slower = np.float32(0.75 * wave)
    return np.float32(1.4) * np.sin(x * slower) * np.sin(y * slower)


def _rings(x: Plane, y: Plane, wave: float, rng: np.random.Generator) -> Plane:
    return np.sin(np.sqrt(x * x + y * y) * np.float32(wave) + np.float32(rng.uniform(0, 6.28)))


def _grain(x: Plane, y: Plane, wave: float, rng: np.random.Generator) -> Plane:
    height, width = x.shape
    noise = white_noise(rng, (height + 2, width + 2))
    rows = noise[:-2] + noise[1:-1] + noise[2:]
    blurred = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]  # 3 x 3 sums, of deviation 3
    return blurred * np.float32(0.24)


#: Textures of deviation 0.7, about a mean of 0. Arguments: x and y in pixels (h, w), radians per pixel, the draws.
TEXTURES: Mapping[str, Callable[[Plane, Plane, float, np.random.Generator], Plane]] = {
    "striped": _stripes,
    "checked": _checks,
    "ringed": _rings,
    "grained": _grain,
}


def white_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Plane:
    """Return Gaussian noise of deviation 1."""
    return rng.standard_normal(shape, dtype=np.float32)


def enlarge(grid: Plane, size: int) -> Plane:
    """Interpolate a square grid smoothly.

    Shapes and units:
        grid: (..., g, g). Returns (..., size, size).
    """
    weights = _weights(grid.shape[-1], size)
    return weights @ grid @ weights.T


def clutter(rng: np.random.Generator, size: int) -> Plane:
    """Return a cluttered background's brightness: noise of several octaves, broad stripes, patches of fine grain.

    Shapes and units:
        returns: (size, size), about -1 to 1.
    """
    steps = np.arange(size, dtype=np.float32) / np.float32(size)
    across, down = steps[None], steps[:, None]
    plane = np.zeros((size, size), np.float32)
    roughness = rng.uniform(0.5, 0.8)
    for octave in range(2, 7):  # grids of 4 to 64
        grid = white_noise(rng, (2**octave, 2**octave))
        plane += enlarge(grid, size) * np.float32(0.45 * roughness ** (octave - 2))
    if rng.random() < 0.5:
        turns, angle, phase = rng.uniform(3, 10), rng.uniform(0, 3.14), rng.uniform(0, 6.28)
        wave = 6.28 * turns * (across * np.cos(angle) + down * np.sin(angle)) + phase
        plane += np.sin(wave.astype(np.float32)) * np.float32(rng.uniform(0.1, 0.4))
    for _ in range(rng.integers(2, 5)):  # the picture's ground falls into parts with an edge between them
        angle, offset = rng.uniform(0, 6.28), rng.uniform(-0.4, 0.4)
        side = (across - 0.5) * np.float32(np.cos(angle)) + (down - 0.5) * np.float32(np.sin(angle)) > offset
        plane += side * np.float32(rng.uniform(-0.6, 0.6))
    grain = white_noise(rng, (size, size))
    where = np.clip(enlarge(white_noise(rng, (4, 4)), size), 0, 1)
    return plane + grain * where * np.float32(rng.uniform(0.1, 0.5))


@lru_cache(maxsize=64)
def _weights(count: int, size: int) -> Plane:
    """Return the (size, count) matrix that interpolates ``count`` values by smoothed steps."""
    place = np.linspace(0, count - 1, size)
    left = np.minimum(place.astype(int), count - 2)
    share = place - left
    share = share * share * (3 - 2 * share)
    weights = np.zeros((size, count), np.float32)
    rows = np.arange(size)
    weights[rows, left] = 1 - share
    weights[rows, left + 1] += share
    return weights
