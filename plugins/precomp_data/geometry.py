"""Sizes and crops, shared by the data sets of photographs."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional

from precomp_data.pictures import MAX_PIXELS
from precomp_sdk import DatasetError, OptionError, Target, TaskDataset

__all__ = ["Geometry", "PictureDataset"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a picture is resized and cropped. Resizing is antialiased and bilinear and keeps the proportions.

    Args:
        resize: short side in pixels; None leaves the size.
        crop: side of a square in pixels; None keeps the whole picture. A smaller picture is first enlarged until its
            short side fits.
        augment: crop at a random position and flip left to right by chance, instead of cropping the centre.
        seed: of the random draws.

    Raises:
        OptionError: a size is not a positive integer, or the seed is negative.
    """

    resize: int | None = None
    crop: int | None = None
    augment: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("resize", self.resize), ("crop", self.crop)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise OptionError(
                    where=name, expected="a size in pixels, at least 1, or None", got=repr(value), remedy="Change it."
                )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise OptionError(where="seed", expected="an integer from 0 on", got=repr(self.seed), remedy="Change it.")

    def apply(self, image: Tensor, *, epoch: int, index: int, where: str) -> Tensor:
        """Resize and crop one picture; the draw depends on (seed, epoch, index) only.

        Shapes and units:
            image: (3, H, W) uint8. Returns (3, crop, crop), or (3, H', W') without a crop.

        Raises:
            DatasetError: so elongated a picture cannot be resized within `MAX_PIXELS`.
        """
        crop = self.crop
        image = _resize(image, max(self.resize or min(image.shape[1:]), crop or 1), where)
        draw = np.random.default_rng((self.seed, epoch, index)) if self.augment else None
        if crop is not None:
            rooms = [size - crop for size in image.shape[1:]]
            top, left = draw.integers(0, rooms, endpoint=True) if draw else (room // 2 for room in rooms)
            image = image[:, top : top + crop, left : left + crop]
        if draw and draw.random() < 0.5:
            image = image.flip(-1)
        return image.contiguous()


class PictureDataset(TaskDataset):
    """A data set whose pictures go through a `Geometry`.

    Args:
        geometry: how they are resized and cropped.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._epoch = 0

    @abstractmethod
    def _read(self, index: int) -> tuple[Tensor, Target | None]:
        """Return one picture as it is stored, and its target."""

    def _sample(self, index: int) -> tuple[Tensor, Target | None]:
        image, target = self._read(index)
        where = f"{self.name}, {self.key(index)}"
        return self._geometry.apply(image, epoch=self._epoch, index=index, where=where), target

    def set_epoch(self, epoch: int) -> None:
        """Draw the crops and flips of this epoch from now on."""
        self._epoch = epoch


def _resize(image: Tensor, short: int, where: str) -> Tensor:
    height, width = image.shape[1:]
    scale = short / min(height, width)
    size = max(short, round(height * scale)), max(short, round(width * scale))
    if size == (height, width):
        return image
    if size[0] * size[1] > MAX_PIXELS:
        raise DatasetError(
            where=where,
            expected=f"a picture of at most {MAX_PIXELS} pixels after resizing",
            got=f"{width} x {height}, resized to {size[1]} x {size[0]}",
            remedy="Take so elongated a picture out of the set, or resize less.",
        )
    return functional.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]
