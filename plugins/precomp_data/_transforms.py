"""An image and its target as torchvision's typed tensors, so that one geometric operation moves all of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as kernels

from precomp_sdk import Boxes, Mask, Target

__all__ = ["Tensors", "crop", "flip", "from_tensors", "resize", "to_tensors"]

Tensors: TypeAlias = list[tv_tensors.TVTensor]  #: the image, then what its target is made of

_LEAST_SIDE_PX = 1.0  # of a box that a crop has cut


def to_tensors(image: Tensor, target: Target | None) -> Tensors:
    """Wrap an image (3, H, W) and its target; what cannot be moved about, such as a label, is left out."""
    tensors: Tensors = [tv_tensors.Image(image)]
    if isinstance(target, Boxes):
        size = (int(image.shape[-2]), int(image.shape[-1]))
        tensors.append(tv_tensors.BoundingBoxes(target.boxes, format="XYXY", canvas_size=size))
    elif isinstance(target, Mask):
        tensors.append(tv_tensors.Mask(target.labels[None]))  # (1, H, W)
        if target.probabilities is not None:
            tensors.append(tv_tensors.Image(target.probabilities))
    return tensors


def from_tensors(tensors: Tensors, target: Target | None, *, cut: bool) -> tuple[Tensor, Target | None]:
    """Return the image and the target that the tensors were made of, moved.

    Args:
        tensors: as `to_tensors` gave them, after any of the operations.
        target: as it was before.
        cut: a crop was among them: boxes less than a pixel wide or high are then left out.
    """
    image, *rest = (part.as_subclass(Tensor).contiguous() for part in tensors)
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


def resize(tensors: Tensors, size: tuple[int, int]) -> Tensors:
    """Resize to (height, width): images bilinear and antialiased, masks by the nearest pixel."""

    def one(part: Tensor) -> Tensor:
        if isinstance(part, tv_tensors.Mask):  # v2's own kernel takes the upper left neighbour, which moves the mask
            labels = kernels.resize_image(
                part.as_subclass(Tensor), list(size), interpolation=InterpolationMode.NEAREST_EXACT
            )
            mask: Tensor = tv_tensors.Mask(labels)
            return mask
        moved: Tensor = kernels.resize(part, list(size), antialias=True)
        return moved

    return _each(tensors, one)


def crop(tensors: Tensors, top: int, left: int, height: int, width: int) -> Tensors:
    """Cut a rectangle out; boxes are clipped to it."""

    def one(part: Tensor) -> Tensor:
        moved: Tensor = kernels.crop(part, top, left, height, width)
        return moved

    return _each(tensors, one)


def flip(tensors: Tensors) -> Tensors:
    """Flip left to right."""
    return _each(tensors, kernels.horizontal_flip)


def _each(tensors: Sequence[tv_tensors.TVTensor], operation: Callable[[Tensor], Tensor]) -> Tensors:
    return [operation(part) for part in tensors]
