"""Paints a scene from back to front and remembers which object is seen where."""

from dataclasses import dataclass
from math import cos, sin, tau

import numpy as np
from numpy.typing import NDArray

from precomp_data._patterns import SHAPES, TEXTURES, Plane, clutter, upscale, white_noise

__all__ = ["Canvas"]

_CONTRAST = (8.0, 26.0)  # amplitude of the fine textures, of 255
_GROUND = (95.0, 160.0)  # mean colour of the background, per channel, of 255
_COLOUR = (85.0, 170.0)  # of an object
_TILT = 0.5  # radians either way, of a shape; its texture lies at any angle
_PERIOD = (3.6, 5.8)  # of the fine textures, in pixels
_DOMINANT = (0.26, 0.36)  # radius of the disc of equal area, as a share of the image's side
_OTHER = (0.09, 0.15)
_REACH = 1.85  # no shape goes beyond, in radii
_DOMINANT_SEEN = 0.7  # share of its area that stays visible, at least
_OTHER_SEEN = 0.4


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where an object will be painted. All arrays cover its window (h, w) of the canvas."""

    texture: str
    radius: float
    top: int
    left: int
    x: Plane  # (1, w) pixels from its centre
    y: Plane  # (h, 1)
    along: Plane  # pixels from its centre along its texture
    across: Plane
    distance: Plane  # to its outline, in radii, negative inside
    cover: Plane  # 0 to 1

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.cover.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


class Canvas:
    """A square image with one dominant object and smaller ones behind and before it.

    Args:
        rng: every draw comes from it.
        size: side in pixels.
        texture: of the dominant object.
        shape: of the dominant object.
    """

    def __init__(self, rng: np.random.Generator, size: int, texture: str, shape: str) -> None:
        self._rng, self._size = rng, size
        self._light = rng.uniform(0, tau)
        middle = rng.uniform(*_GROUND, (3, 1, 1)).astype(np.float32)
        tint = upscale(white_noise(rng, (3, 4, 4)), size) * 18
        brightness = clutter(rng, size) * rng.uniform(15, 45)
        self._pixels = middle + tint + brightness  # (3, S, S), 0 to 255
        self._dominant = self._plan(texture, shape, _DOMINANT, inside=0.9)
        self._owners = np.full((size, size), -1, np.int8)  # which object is seen at a pixel
        self._owners[self._dominant.window][self._dominant.cover >= 0.5] = 0
        self._areas = [int((self._owners == 0).sum())]
        self._pending = True  # the dominant object is painted once nothing more comes behind it

    def add(self, texture: str, shape: str, *, in_front: bool) -> bool:
        """Add a small object, unless too little of it or of another one would be seen; say whether it was added."""
        if in_front:
            self._paint_dominant()
        plan = self._plan(texture, shape, _OTHER)
        owners, covered = self._owners[plan.window], plan.cover >= 0.5
        area = int(covered.sum())
        if not in_front:
            covered &= owners != 0
        if covered.sum() < max(0.0035 * self._size**2, _OTHER_SEEN * area):
            return False
        hidden = np.bincount(owners[covered] + 1, minlength=len(self._areas) + 1)[1:]
        for place in np.flatnonzero(hidden):
            seen = int((self._owners == place).sum()) - hidden[place]
            if seen < (_OTHER_SEEN if place else _DOMINANT_SEEN) * self._areas[place]:
                return False
        owners[covered] = len(self._areas)
        self._areas.append(area)
        self._paint(plan)
        return True

    def finish(self) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
        """Add light and noise.

        Shapes and units:
            returns: pixels (3, S, S), 0 to 255; and which object is seen at each pixel (S, S), in the order they were
            added, the dominant one first; -1 is the background.
        """
        self._paint_dominant()
        light = upscale(white_noise(self._rng, (2, 2)), self._size) * 0.08 + 1
        noise = white_noise(self._rng, self._pixels.shape) * self._rng.uniform(1, 4)
        return np.clip(self._pixels * light + noise, 0, 255).round().astype(np.uint8), self._owners

    def _plan(self, texture: str, shape: str, radii: tuple[float, float], inside: float = 0.0) -> _Plan:
        """Draw place, size and rotation; ``inside`` keeps the centre that many radii away from the border."""
        rng, size = self._rng, self._size
        radius = rng.uniform(*radii) * size
        middle = rng.uniform(inside * radius, size - inside * radius, 2)
        tilt, grain, stretch = rng.uniform(-_TILT, _TILT), rng.uniform(0, tau), rng.uniform(0.85, 1.18)
        top, left = (max(int(place - _REACH * radius), 0) for place in middle)
        bottom, right = (min(int(place + _REACH * radius) + 1, size) for place in middle)
        y = (np.arange(top, bottom) - middle[0]).astype(np.float32)[:, None]
        x = (np.arange(left, right) - middle[1]).astype(np.float32)[None]
        u, v = _turned(x, y, tilt)
        distance = SHAPES[shape](u / (radius * stretch), v / (radius / stretch))
        cover = np.clip(0.5 - distance * radius, 0, 1)
        return _Plan(texture, radius, top, left, x, y, *_turned(x, y, grain), distance, cover)

    def _paint_dominant(self) -> None:
        if self._pending:
            self._pending = False
            self._paint(self._dominant)

    def _paint(self, plan: _Plan) -> None:
        rng = self._rng
        fine = TEXTURES[plan.texture](plan.along, plan.across, tau / rng.uniform(*_PERIOD), rng)
        slope = plan.x * cos(self._light) + plan.y * sin(self._light)
        shade = slope * (22 / plan.radius) - 25 * np.clip(1 + 5 * plan.distance, 0, 1)
        colour = rng.uniform(*_COLOUR, (3, 1, 1)).astype(np.float32)
        paint = colour + (shade + fine * rng.uniform(*_CONTRAST))  # (3, h, w)
        self._cast_shadow(plan)
        region = self._pixels[:, *plan.window]
        region += (paint - region) * plan.cover

    def _cast_shadow(self, plan: _Plan) -> None:
        """Darken what lies behind an object, away from the light."""
        down, right = (round(-0.12 * plan.radius * part) for part in (sin(self._light), cos(self._light)))
        top, left = max(plan.top + down, 0), max(plan.left + right, 0)
        cover = plan.cover[top - plan.top - down :, left - plan.left - right :]
        region = self._pixels[:, top : top + cover.shape[0], left : left + cover.shape[1]]
        region *= 1 - 0.3 * cover[: region.shape[1], : region.shape[2]]


def _turned(x: Plane, y: Plane, angle: float) -> tuple[Plane, Plane]:
    return x * cos(angle) + y * sin(angle), y * cos(angle) - x * sin(angle)  # (h, w) each
