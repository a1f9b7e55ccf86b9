"""Scenes: labelled images that are drawn, not downloaded."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precomp_data._canvas import Canvas
from precomp_sdk import Boxes, Label, Mask, OptionError, Target, TaskDataset

__all__ = ["SCENE_CLASSES", "Scene", "Scenes", "draw_scene"]

SCENE_CLASSES: tuple[str, ...] = (  #: texture and shape; two textures per shape, so that the texture has to decide
    "striped-disc",
    "grained-disc",
    "checked-square",
    "waved-square",
    "speckled-triangle",
    "barred-triangle",
    "ringed-star",
    "dashed-star",
)

_SPLITS = ("train", "val")


@dataclass(frozen=True, slots=True)
class Scene:
    """One drawn image with all its targets.

    Args:
        image: (3, S, S) uint8.
        label: the dominant object's class in `SCENE_CLASSES`.
        boxes: every object's visible part, the dominant one first.
        mask: (S, S) classes; 0 is the background, c + 1 is class c.
    """

    image: Tensor
    label: Label
    boxes: Boxes
    mask: Mask


class Scenes(TaskDataset):
    """A seeded generator of textured objects before clutter, made so that compression hurts.

    An image's class is that of its dominant object, a shape with a texture of 4 to 13 pixels. Colour, place, size and
    rotation say nothing; classes come in pairs of one shape, told apart by the texture, which strong compression
    removes. Smaller objects, partly hidden, the background and noise cost bits and mean nothing for the label. Image
    i depends on (seed, split, i, size) only and is the same for every target. Drawing one at 128 pixels takes a few
    milliseconds.

    Args:
        target: ``"label"``, ``"boxes"`` (all objects) or ``"mask"`` (class 0 is the background).
        split: ``"train"`` or ``"val"``; they share no image.
        count: number of images.
        size: side in pixels, at least 128.
        seed: of the generator.

    Raises:
        OptionError: an option has a wrong value.
    """

    name = "scenes"
    source = "drawn by precomp_data.scenes"

    def __init__(
        self, *, target: str = "label", split: str = "train", count: int = 2000, size: int = 128, seed: int = 0
    ) -> None:
        _check("target", target in ("label", "boxes", "mask"), "'label', 'boxes' or 'mask'", target)
        _check_whole("count", count, 1)
        _check_source(split, size, seed)
        self.target_kind = target
        self.class_names = ("background", *SCENE_CLASSES) if self.target_kind == Mask.kind else SCENE_CLASSES
        self._split, self._count, self._size, self._seed = split, count, size, seed

    def __len__(self) -> int:
        return self._count

    def _sample(self, index: int) -> tuple[Tensor, Target | None]:
        scene = draw_scene(index, split=self._split, size=self._size, seed=self._seed)
        match self.target_kind:
            case Label.kind:
                return scene.image, scene.label
            case Boxes.kind:
                return scene.image, scene.boxes
            case _:
                return scene.image, scene.mask

    def key(self, index: int) -> str:
        """Return what the image is drawn from."""
        return f"{self._split}/{index} of seed {self._seed}"


def draw_scene(index: int, *, split: str = "train", size: int = 128, seed: int = 0) -> Scene:
    """Draw one scene.

    Args:
        index: 0-based; among the first eight, the next eight and so on, every class occurs once.
        split: ``"train"`` or ``"val"``.
        size: side in pixels, at least 128.
        seed: of the generator.

    Raises:
        OptionError: an argument has a wrong value.
    """
    _check_whole("index", index, 0)
    _check_source(split, size, seed)
    part, count = _SPLITS.index(split), len(SCENE_CLASSES)
    label = int(np.random.default_rng((seed, part, 0, index // count)).permutation(count)[index % count])
    rng = np.random.default_rng((seed, part, 1, index))
    canvas = Canvas(rng, size, *SCENE_CLASSES[label].split("-"))
    kinds = [label]
    for in_front in [False] * int(rng.integers(0, 4)) + [True] * int(rng.integers(1, 5)):
        kind = int(rng.integers(count))
        if canvas.add(*SCENE_CLASSES[kind].split("-"), in_front=in_front):
            kinds.append(kind)
    pixels, owner = canvas.finish()
    boxes = [_box(owner == place) for place in range(len(kinds))]
    return Scene(
        image=torch.from_numpy(pixels),
        label=Label(index=label),
        boxes=Boxes(boxes=torch.tensor(boxes, dtype=torch.float32), labels=torch.tensor(kinds)),
        mask=Mask(labels=torch.from_numpy(np.array([*kinds, -1])[owner] + 1)),  # owner -1 takes the last, background
    )


def _box(seen: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _check_source(split: str, size: int, seed: int) -> None:
    _check("split", split in _SPLITS, "'train' or 'val'", split)
    _check_whole("size", size, 128)
    _check_whole("seed", seed, 0)


def _check_whole(option: str, value: object, least: int) -> None:
    right = isinstance(value, int) and not isinstance(value, bool) and value >= least
    _check(option, right, f"a whole number, at least {least}", value)


def _check(option: str, right: bool, expected: str, value: object) -> None:
    if not right:
        raise OptionError(
            where=f"data set 'scenes', {option}", expected=expected, got=repr(value), remedy="Change the option."
        )
