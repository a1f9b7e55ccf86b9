"""What is to be found in an image: labels, boxes, masks, and whatever kind a task of your own needs.

A kind of your own is a class: derive `Target`, say its ``kind``, and how it moves where the image is resized,
cropped or flipped. Data set, task and scorer of that kind then need nothing else::

    @dataclass(frozen=True, slots=True)
    class Keypoints(Target):
        kind = "keypoints"
        points: Tensor  # (M, 2) float32, x y in pixels

        def resized(self, before, after):
            return Keypoints(self.points * torch.tensor([after[1] / before[1], after[0] / before[0]]))
"""

from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from precomp_sdk.errors import TargetError

__all__ = ["Boxes", "Composite", "ImageTarget", "Label", "Mask", "Target", "known_kinds"]

_LEAST_SIDE_PX = 1.0  # of a box that a crop has cut


class Target(ABC):
    """What is to be found in one image; a frozen dataclass of one ``kind``.

    A target whose place in the image matters overrides ``resized``, ``cropped`` and ``flipped``; until it does, a data
    set that would move it raises, for a label that stays behind is wrong without a word. One that says something of the
    whole image, wherever its parts lie, derives from `ImageTarget`.
    """

    __slots__ = ()

    kind: ClassVar[str]  #: kebab-case; a data set fits a task of the same kind

    def resized(self, before: tuple[int, int], after: tuple[int, int]) -> Self:
        """Return the target of the image resized from one (height, width) to another."""
        raise self._immovable("resized", "resized(before, after)")

    def cropped(self, top: int, left: int, height: int, width: int) -> Self:
        """Return the target of a rectangle of the image."""
        raise self._immovable("cropped", "cropped(top, left, height, width)")

    def flipped(self, width: int) -> Self:
        """Return the target of the image flipped left to right."""
        raise self._immovable("flipped", "flipped(width)")

    def check(self, where: str, *, size: tuple[int, int] | None = None, num_classes: int | None = None) -> None:
        """Refuse a target that no network can learn from; the default accepts any.

        Data sets check every sample so, and tasks every target. Tensors on a GPU need no look, which would wait for it.

        Args:
            where: names data set and sample, for the message.
            size: height and width of its image, where they are known.
            num_classes: classes are below this, where it is known.

        Raises:
            TargetError: it is not of its types, or does not fit its image or the classes.
        """

    def _immovable(self, moved: str, method: str) -> TargetError:
        return TargetError(
            where=f"target {type(self).__name__}",
            expected=f"targets that say what they are where their image is {moved}",
            got=f"targets of kind {self.kind!r} without {method}",
            remedy="Write the method, or derive from ImageTarget if it stays as it is.",
        )


class ImageTarget(Target):
    """A target of the whole image: resizing, cropping and flipping leave it as it is."""

    __slots__ = ()

    def resized(self, before: tuple[int, int], after: tuple[int, int]) -> Self:
        """Return the target itself."""
        return self

    def cropped(self, top: int, left: int, height: int, width: int) -> Self:
        """Return the target itself."""
        return self

    def flipped(self, width: int) -> Self:
        """Return the target itself."""
        return self


@dataclass(frozen=True, slots=True)
class Label(ImageTarget):
    """One class for the whole image.

    Args:
        index: the class, 0-based.
        probabilities: (K,) soft target that sums to 1; a loss prefers it over ``index``.
    """

    kind = "label"

    index: int
    probabilities: Tensor | None = None

    def check(self, where: str, *, size: tuple[int, int] | None = None, num_classes: int | None = None) -> None:
        """Refuse an index that is no whole number or no class.

        Raises:
            TargetError: it is so.
        """
        known = "a whole number from 0 on" if num_classes is None else f"a whole number from 0 to {num_classes - 1}"
        if isinstance(self.index, bool) or not isinstance(self.index, int):
            raise _fault(where, f"a label, {known}", f"{self.index!r} of type {type(self.index).__name__}")
        if self.index < 0 or (num_classes is not None and self.index >= num_classes):
            raise _fault(where, f"a label, {known}", str(self.index))


@dataclass(frozen=True, slots=True)
class Boxes(Target):
    """The objects of one image.

    Shapes and units:
        boxes: (M, 4) float32, x1 y1 x2 y2 in pixels, x2 and y2 exclusive; M may be 0.
        labels: (M,) int64 classes, 0-based.
        crowd: (M,) bool, True for a region of many objects (COCO's ``iscrowd``); None means none is.
        scores: (M,) float32 in [0, 1], where the boxes are predictions.
    """

    kind = "boxes"

    boxes: Tensor
    labels: Tensor
    crowd: Tensor | None = None
    scores: Tensor | None = None

    def resized(self, before: tuple[int, int], after: tuple[int, int]) -> Self:
        """Return the boxes scaled."""
        ratios = torch.tensor([after[1] / before[1], after[0] / before[0]] * 2).to(self.boxes)
        return replace(self, boxes=self.boxes * ratios)

    def cropped(self, top: int, left: int, height: int, width: int) -> Self:
        """Return the boxes clipped to the rectangle; those less than a pixel wide or high in it are left out."""
        moved = self.boxes - torch.tensor([left, top] * 2).to(self.boxes)
        corners = torch.tensor([width, height] * 2).to(self.boxes)
        boxes = torch.minimum(moved.clamp(min=0.0), corners)
        kept = ((boxes[:, 2:] - boxes[:, :2]) >= _LEAST_SIDE_PX).all(dim=1)
        crowd, scores = (None if item is None else item[kept] for item in (self.crowd, self.scores))
        return replace(self, boxes=boxes[kept], labels=self.labels[kept], crowd=crowd, scores=scores)

    def flipped(self, width: int) -> Self:
        """Return the boxes mirrored."""
        left, top, right, bottom = self.boxes.unbind(dim=1)
        return replace(self, boxes=torch.stack([width - right, top, width - left, bottom], dim=1))

    def check(self, where: str, *, size: tuple[int, int] | None = None, num_classes: int | None = None) -> None:
        """Refuse boxes of other types, without an area in 32 bits, or wholly outside their image; and wrong classes.

        Raises:
            TargetError: one is so.
        """
        count = len(self.labels) if self.labels.ndim else -1
        _check_tensor(where, "boxes", self.boxes, torch.float32, (count, 4))
        _check_tensor(where, "labels", self.labels, torch.int64, (count,))
        if self.crowd is not None:
            _check_tensor(where, "crowd", self.crowd, torch.bool, (count,))
        if self.boxes.device.type != "cpu" or not count:
            return
        left, top, right, bottom = self.boxes.unbind(dim=1)
        height, width = size or (torch.inf, torch.inf)
        usable = (right > left) & (bottom > top) & (right > 0) & (bottom > 0) & (left < width) & (top < height)
        usable &= torch.isfinite(self.boxes).all(dim=1)
        if not bool(usable.all()):
            place = int((~usable).nonzero()[0])
            inside = "" if size is None else f" in an image of {width} x {height}"
            raise _fault(
                where,
                f"boxes x1 y1 x2 y2 with x1 < x2 and y1 < y2 in 32 bits{inside}",
                f"box {place}, [{', '.join(f'{value:.9g}' for value in self.boxes[place].tolist())}]",
            )
        _check_classes(where, self.labels, num_classes)


@dataclass(frozen=True, slots=True)
class Mask(Target):
    """One class per pixel.

    Shapes and units:
        labels: (H, W) int64 classes, 0-based.
        ignore_index: pixels with this label count for nothing.
        probabilities: (K, H, W) soft target; a loss prefers it over ``labels``.
    """

    kind = "mask"

    labels: Tensor
    ignore_index: int = 255
    probabilities: Tensor | None = None

    def resized(self, before: tuple[int, int], after: tuple[int, int]) -> Self:
        """Return the mask at another size: labels of the nearest pixel, probabilities bilinear and antialiased."""
        labels = functional.interpolate(self.labels[None, None].double(), after, mode="nearest-exact")[0, 0].long()
        soft = self.probabilities
        if soft is not None:
            soft = functional.interpolate(soft[None], after, mode="bilinear", antialias=True)[0]
        return replace(self, labels=labels, probabilities=soft)

    def cropped(self, top: int, left: int, height: int, width: int) -> Self:
        """Return the rectangle of the mask."""
        return self._moved(lambda part: part[..., top : top + height, left : left + width].contiguous())

    def flipped(self, width: int) -> Self:
        """Return the mask mirrored."""
        return self._moved(lambda part: part.flip(-1))

    def check(self, where: str, *, size: tuple[int, int] | None = None, num_classes: int | None = None) -> None:
        """Refuse masks of another type or another size than their image's, and labels that are no class.

        Raises:
            TargetError: it is so.
        """
        _check_tensor(where, "a mask", self.labels, torch.int64, size or tuple(self.labels.shape[-2:]))
        if self.labels.device.type == "cpu":
            _check_classes(where, self.labels, num_classes, self.ignore_index)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> Self:
        soft = self.probabilities
        return replace(self, labels=move(self.labels), probabilities=None if soft is None else move(soft))


@dataclass(frozen=True, slots=True)
class Composite(Target):
    """One target per member of an ensemble, in the order of the members.

    Args:
        targets: the members' targets.
    """

    kind = "composite"

    targets: tuple[Target, ...]

    def resized(self, before: tuple[int, int], after: tuple[int, int]) -> Self:
        """Return every part resized."""
        return replace(self, targets=tuple(part.resized(before, after) for part in self.targets))

    def cropped(self, top: int, left: int, height: int, width: int) -> Self:
        """Return every part cropped."""
        return replace(self, targets=tuple(part.cropped(top, left, height, width) for part in self.targets))

    def flipped(self, width: int) -> Self:
        """Return every part flipped."""
        return replace(self, targets=tuple(part.flipped(width) for part in self.targets))

    def check(self, where: str, *, size: tuple[int, int] | None = None, num_classes: int | None = None) -> None:
        """Check every part; the number of classes says nothing where the parts have their own.

        Raises:
            TargetError: one is refused.
        """
        for place, part in enumerate(self.targets):
            part.check(f"{where}, part {place}", size=size, num_classes=num_classes)


def known_kinds() -> frozenset[str]:
    """Return the kinds of all targets that there is a class for."""
    kinds: set[str] = set()
    classes: list[type[Target]] = [Target]
    while classes:
        cls = classes.pop()
        classes += cls.__subclasses__()
        if isinstance(vars(cls).get("kind"), str):
            kinds.add(cls.kind)
    return frozenset(kinds)


def _check_tensor(where: str, what: str, tensor: object, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    expected = f"{what} {tuple(shape)} {str(dtype).removeprefix('torch.')}"
    if not isinstance(tensor, Tensor):
        raise _fault(where, expected, type(tensor).__name__)
    if tensor.dtype != dtype or tuple(tensor.shape) != tuple(shape):
        raise _fault(where, expected, f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}")


def _check_classes(where: str, labels: Tensor, num_classes: int | None, ignored: int | None = None) -> None:
    if not labels.numel():
        return
    wrong = labels < 0
    if num_classes is not None:
        wrong |= labels >= num_classes
    if ignored is not None:
        wrong &= labels != ignored
    if bool(wrong.any()):
        top = "on" if num_classes is None else f"to {num_classes - 1}"
        also = "" if ignored is None else f", or {ignored} for what counts for nothing"
        raise _fault(where, f"classes from 0 {top}{also}", str(int(labels[wrong][0])))


def _fault(where: str, expected: str, got: str) -> TargetError:
    return TargetError(
        where=where, expected=expected, got=got, remedy="Mend the sample or take it out; classes count from 0."
    )
