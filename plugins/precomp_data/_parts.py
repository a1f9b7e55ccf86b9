"""A picture and its target as torchvision's typed tensors, so that one geometric operation moves all of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as kernels

from precomp_sdk import Boxes, Mask, Target

__all__ = ["Parts", "crop", "flip", "from_parts", "resize", "to_parts"]

Parts: TypeAlias = list[tv_tensors.TVTensor]  #: the picture, then what its target is made of

_LEAST_SIDE_PX = 1.0  # of a box that a crop has cut


def to_parts(image: Tensor, target: Target | None) -> Parts:
    """Wrap a picture (3, H, W) and its target; what cannot be moved about, such as a label, is left out."""
    parts: Parts = [tv_tensors.Image(image)]
    if isinstance(target, Boxes):
        size = (int(image.shape[-2]), int(image.shape[-1]))
        parts.append(tv_tensors.BoundingBoxes(target.boxes, format="XYXY", canvas_size=size))
    elif isinstance(target, Mask):
        parts.append(tv_tensors.Mask(target.labels[None]))  # (1, H, W)
        if target.probabilities is not None:
            parts.append(tv_tensors.Image(target.probabilities))
    return parts


def from_parts(parts: Parts, target: Target | None, *, cut: bool) -> tuple[Tensor, Target | None]:
    """Return the picture and the target that the parts were made of, moved.

    Args:
        parts: as `to_parts` gave them, after any of the operations.
        target: as it was before.
        cut: a crop was among them: boxes less than a pixel wide or high are then left out.
    """
    image, *rest = (part.as_subclass(Tensor).contiguous() for part in parts)
    if isinstance(target, Boxes):
        (boxes,) = rest
        if not cut:
            return image, replace(target, boxes=boxes)
        kept = ((boxes[:, 2:] - boxes[:, :2]) >= _LEAST_SIDE_PX).all(dim=1)
        crowd, scores = (None if item is None else item[kept] for item in (target.crowd, target.scores))
        return image, Boxes(boxes=boxes[kept], labels=target.labels[kept], crowd=crowd, scores=scores)
    if isinstance(target, Mask):
        return image, replace(target, labels=rest[0][0], probabilities=rest[1] if len(rest) > 1 else None)
    return image, target


def resize(parts: Parts, size: tuple[int, int]) -> Parts:
    """Resize to (height, width): pictures bilinear and antialiased, masks by the nearest pixel."""

    def one(part: Tensor) -> Tensor:
        if isinstance(part, tv_tensors.Mask):  # v2's own kernel takes the upper left neighbour, which moves the mask
            labels = kernels.resize_image(
                part.as_subclass(Tensor), list(size), interpolation=InterpolationMode.NEAREST_EXACT
            )
            mask: Tensor = tv_tensors.Mask(labels)
            return mask
        moved: Tensor = kernels.resize(part, list(size), antialias=True)
        return moved

    return _each(parts, one)


def crop(parts: Parts, top: int, left: int, height: int, width: int) -> Parts:
    """Cut a rectangle out; boxes are clipped to it."""

    def one(part: Tensor) -> Tensor:
        moved: Tensor = kernels.crop(part, top, left, height, width)
        return moved

    return _each(parts, one)


def flip(parts: Parts) -> Parts:
    """Flip left to right."""
    return _each(parts, kernels.horizontal_flip)


def _each(parts: Sequence[tv_tensors.TVTensor], operation: Callable[[Tensor], Tensor]) -> Parts:
    return [operation(part) for part in parts]
