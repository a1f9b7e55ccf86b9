"""Sizes and crops, shared by the data sets of photographs."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor
from torchvision.transforms.v2.functional import resize_image

from precomp_sdk import DatasetError, OptionError, Target, TaskDataset
from precomp_sdk.image_io import MAX_PIXELS, ReadSettings

__all__ = ["AS_STORED", "DEFAULT_READING", "Geometry", "ImageDataset"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """How an image and its target are resized and cropped.

    Resizing is antialiased and bilinear and keeps the proportions; of a mask it takes the nearest pixel.
    A target moves as its own class says (`Target.resized`, ``cropped``, ``flipped``). Parameters are drawn here: the
    transforms of torchvision draw from torch's global generator, which the loading threads share and a resumed run
    cannot restore.

    Args:
        resize: short side in pixels; None leaves the size.
        crop: side of a square in pixels; None keeps the whole image. A smaller image is first upscaled until its
            short side fits. Boxes are clipped, and left out where less than a pixel remains in width or height.
        augment: crop at a random position and flip left to right by chance, instead of cropping the centre.
        zoom: with ``augment``, resize by a random factor from 1/zoom to zoom as well; 1 does not.
        seed: of the random draws.

    Raises:
        OptionError: a size is not a positive integer, the zoom is below 1, or the seed is negative.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True}  # an experiment file has it as a table

    resize: int | None = None
    crop: int | None = None
    augment: bool = False
    zoom: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("resize", self.resize), ("crop", self.crop)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise OptionError.number("geometry", name, "a size in pixels, 1 or more", value)
        if isinstance(self.zoom, bool) or not isinstance(self.zoom, int | float) or not 1 <= self.zoom < math.inf:
            raise OptionError.number("geometry", "zoom", "a number, 1 or more", self.zoom)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise OptionError.number("geometry", "seed", "a whole number, 0 or more", self.seed)

    def apply(
        self, image: Tensor, target: Target | None = None, *, epoch: int, index: int, where: str
    ) -> tuple[Tensor, Target | None]:
        """Resize and crop one image and its target; the draw depends on (seed, epoch, index) only.

        Shapes and units:
            image: (3, H, W) uint8. Returns (3, crop, crop), or (3, H', W') without a crop.

        Raises:
            DatasetError: so elongated an image cannot be resized within `MAX_PIXELS`.
            TargetError: targets of this kind do not say how they move.
        """
        draw = np.random.default_rng((self.seed, epoch, index)) if self.augment else None
        short = self.resize or min(int(side) for side in image.shape[1:])
        if draw and self.zoom > 1:
            short = max(1, round(short * self.zoom ** draw.uniform(-1, 1)))
        image, target = self._resized(image, target, max(short, self.crop or 1), where)
        if self.crop is not None:
            rooms = [int(side) - self.crop for side in image.shape[1:]]
            top, left = draw.integers(0, rooms, endpoint=True).tolist() if draw else [room // 2 for room in rooms]
            image = image[:, top : top + self.crop, left : left + self.crop].contiguous()
            target = None if target is None else target.cropped(top, left, self.crop, self.crop)
        if draw and draw.random() < 0.5:
            target = None if target is None else target.flipped(int(image.shape[2]))
            image = image.flip(2)
        return image, target

    @staticmethod
    def _resized(image: Tensor, target: Target | None, short: int, where: str) -> tuple[Tensor, Target | None]:
        """Resize to a short side, unless the image has it."""
        size = height, width = int(image.shape[1]), int(image.shape[2])
        scale = short / min(height, width)
        new = max(short, round(height * scale)), max(short, round(width * scale))
        if new == size:
            return image, target
        if new[0] * new[1] > MAX_PIXELS:
            raise DatasetError(
                where=where,
                expected=f"an image of at most {MAX_PIXELS} pixels after resizing",
                got=f"{width} x {height}, resized to {new[1]} x {new[0]}",
                remedy="Take so elongated an image out of the set, or resize less.",
            )
        return resize_image(image, list(new), antialias=True), None if target is None else target.resized(size, new)


AS_STORED = Geometry()  #: every image in its own size
DEFAULT_READING = ReadSettings()


class ImageDataset(TaskDataset):
    """A data set whose images, with their targets, go through a `Geometry`.

    Args:
        geometry: how they are resized and cropped.
        reading: how their files are read.
    """

    def __init__(self, geometry: Geometry = AS_STORED, reading: ReadSettings = DEFAULT_READING) -> None:
        self._geometry = geometry
        self._reading = reading
        self._epoch = 0

    @abstractmethod
    def _read(self, index: int) -> tuple[Tensor, Target | None]:
        """Return one image, upright and in its own size, and its target."""

    def _sample(self, index: int) -> tuple[Tensor, Target | None]:
        image, target = self._read(index)
        where = f"{self.name}, {self.key(index)}"
        return self._geometry.apply(image, target, epoch=self._epoch, index=index, where=where)

    def set_epoch(self, epoch: int) -> None:
        """Draw the crops and flips of this epoch from now on."""
        self._epoch = epoch
