"""What scenes are made of: shapes, fine textures and clutter, all as arrays of one number per pixel."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from math import cos, sin, tau
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHAPES", "TEXTURES", "Plane", "clutter", "upscale", "white_noise"]

Plane: TypeAlias = NDArray[np.float32]
Draws: TypeAlias = np.random.Generator


def _length(x: Plane, y: Plane) -> Plane:
    length: Plane = np.sqrt(x * x + y * y)
    return length


def _disc(u: Plane, v: Plane) -> Plane:
    return _length(u, v) - 1


def _square(u: Plane, v: Plane) -> Plane:
    farther: Plane = np.maximum(np.abs(u), np.abs(v))
    return farther - 0.886


def _triangle(u: Plane, v: Plane) -> Plane:
    farthest: Plane = np.maximum(np.abs(u) * 0.866 + v * 0.5, -v)
    return farthest - 0.778


def _star(u: Plane, v: Plane) -> Plane:
    outline: Plane = np.cos(5 * np.arctan2(v, u)) * 0.344 + 0.97
    distance: Plane = _length(u, v) - outline
    return distance * 0.55


#: Distance to a shape's outline, negative inside, for a shape as large as the unit disc. Arguments (h, w) each.
SHAPES: Mapping[str, Callable[[Plane, Plane], Plane]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
}


def _sine(phase: Plane) -> Plane:
    values: Plane = np.sin(phase)
    return values


def _striped(x: Plane, _y: Plane, wave: float, rng: Draws) -> Plane:
    return _sine(x * wave + rng.uniform(0, tau))


def _barred(x: Plane, _y: Plane, wave: float, rng: Draws) -> Plane:
    return _sine(x * (0.45 * wave) + rng.uniform(0, tau))


def _ringed(x: Plane, y: Plane, wave: float, rng: Draws) -> Plane:
    return _sine(_length(x, y) * wave + rng.uniform(0, tau))


def _waved(x: Plane, y: Plane, wave: float, rng: Draws) -> Plane:
    phase = _sine(y * (0.36 * wave) + rng.uniform(0, tau)) * 2.5
    phase += x * wave
    return _sine(phase)


def _checked(x: Plane, y: Plane, wave: float, _rng: Draws) -> Plane:
    return _sine(x * (0.75 * wave)) * _sine(y * (0.75 * wave)) * 1.4


def _dashed(x: Plane, y: Plane, wave: float, _rng: Draws) -> Plane:
    shown: Plane = np.clip(_sine(y * (0.35 * wave)) * 2, 0, 1)
    return _sine(x * wave) * shown * 1.5


def _speckled(x: Plane, y: Plane, wave: float, _rng: Draws) -> Plane:
    slanted: Plane = y * (0.6 * wave) + x * (0.3 * wave)
    lattice = _sine(x * (0.6 * wave)) + _sine(slanted)  # 2 on the specks
    specks: Plane = np.maximum(lattice - 0.6, 0)
    return specks * 2.2 - 0.4


def _grained(x: Plane, _y: Plane, _wave: float, rng: Draws) -> Plane:
    height, width = x.shape
    noise = white_noise(rng, (height + 2, width + 2))
    rows = noise[:-2] + noise[1:-1] + noise[2:]
    sums: Plane = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return sums * 0.24  # sums of 9 have deviation 3


#: Textures of deviation 0.7, about a mean of 0. Arguments: x and y in pixels (h, w), radians per pixel, the draws.
TEXTURES: Mapping[str, Callable[[Plane, Plane, float, Draws], Plane]] = {
    "striped": _striped,
    "barred": _barred,
    "ringed": _ringed,
    "waved": _waved,
    "checked": _checked,
    "dashed": _dashed,
    "speckled": _speckled,
    "grained": _grained,
}


def white_noise(rng: Draws, shape: tuple[int, ...]) -> Plane:
    """Return Gaussian noise of deviation 1."""
    return rng.standard_normal(shape, dtype=np.float32)


def upscale(grid: Plane, size: int) -> Plane:
    """Interpolate a square grid smoothly.

    Shapes and units:
        grid: (..., g, g). Returns (..., size, size).
    """
    weights = _weights(grid.shape[-1], size)
    upscaled: Plane = np.matmul(np.matmul(weights, grid), weights.T)
    return upscaled


def clutter(rng: Draws, size: int) -> Plane:
    """Return a background's brightness: noise of several octaves, broad stripes, edges, patches of fine grain.

    Shapes and units:
        returns: (size, size), about -1 to 1.
    """
    steps = np.linspace(-0.5, 0.5, size).astype(np.float32)
    across, down = steps[None], steps[:, None]
    plane = np.zeros((size, size), np.float32)
    roughness = rng.uniform(0.5, 0.8)
    for octave in range(2, 7):  # grids of 4 to 64
        plane += upscale(white_noise(rng, (2**octave, 2**octave)), size) * (0.45 * roughness ** (octave - 2))
    if rng.random() < 0.5:
        angle, phase, wave = rng.uniform(0, tau), rng.uniform(0, tau), tau * rng.uniform(3, 10)
        stripes: Plane = across * (wave * cos(angle)) + down * (wave * sin(angle))
        plane += _sine(stripes + phase) * rng.uniform(0.1, 0.4)
    for _ in range(rng.integers(2, 5)):
        angle, offset, step = rng.uniform(0, tau), rng.uniform(-0.4, 0.4), rng.uniform(-0.6, 0.6)
        plane += (across * cos(angle) + down * sin(angle) > offset) * np.float32(step)
    where: Plane = np.clip(upscale(white_noise(rng, (4, 4)), size), 0, 1)
    plane += white_noise(rng, (size, size)) * where * rng.uniform(0.1, 0.5)
    return plane


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
    weights[rows, left + 1] = share
    return weights
