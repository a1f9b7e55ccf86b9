"""An image turned upright, and its labels with it."""

from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from precomp_sdk import Boxes, DatasetError, Mask, OptionError, Target
from precomp_sdk.image_io import DecodedImage, turn_upright

__all__ = ["LabelOrientation", "check_label_orientation", "upright_target"]

LabelOrientation: TypeAlias = Literal["stored", "upright"]  #: what the labels of an image with an orientation lie on

_CHOICES = ("stored", "upright")


def check_label_orientation(name: str, value: LabelOrientation | None) -> LabelOrientation | None:
    """Return the option ``label_orientation``.

    Raises:
        OptionError: it is none of its choices.
    """
    if value is not None and value not in _CHOICES:
        raise OptionError.choice(f"data set {name!r}", "label_orientation", _CHOICES, value)
    return value


def upright_target(
    image: DecodedImage, target: Target, size: tuple[int, int], lies: LabelOrientation | None, where: str
) -> Target:
    """Return a target as it lies on its upright image.

    A file's EXIF data may say that the image is to be turned. Labels do not say on which of both they were drawn: the
    image as it is looked at, or the samples as they are stored. Where both have different sizes, that of the
    annotation tells; otherwise the user has to.

    Args:
        image: as `decode_image` gives it.
        target: boxes or a mask, of the annotation.
        size: (height, width) of the annotation.
        lies: what the user says.
        where: the image, for messages.

    Raises:
        DatasetError: the annotation is of another size, or it cannot be known how it lies.
    """
    upright = int(image.samples.shape[-2]), int(image.samples.shape[-1])
    allowed = {"stored": image.stored_size, "upright": upright}
    sizes = list(allowed.values()) if lies is None else [allowed[lies]]
    if tuple(size) not in sizes:
        raise DatasetError(
            where=where,
            expected=f"labels of its image's size, {sizes[-1][1]} x {sizes[-1][0]}",
            got=f"{size[1]} x {size[0]}",
            remedy="Labels would be misplaced: correct the annotation, or bring both to one size.",
        )
    if image.orientation == 1 or _has_no_place(target):
        return target
    if lies is None and image.stored_size == upright:
        raise DatasetError(
            where=where,
            expected="labels of which it is known whether they lie on the stored or on the upright image",
            got=f"an EXIF orientation of {image.orientation} and labels that fit both",
            remedy='Set label_orientation = "stored" (they were drawn on the samples as the file has them) or '
            '"upright" (on the image as it is looked at), or write the image upright.',
        )
    stored = lies == "stored" or (lies is None and tuple(size) != upright)
    return _turned(target, image) if stored else target


def _has_no_place(target: Target) -> bool:
    return isinstance(target, Boxes) and not len(target.boxes)


def _turned(target: Target, image: DecodedImage) -> Target:
    if isinstance(target, Mask):
        soft = target.probabilities
        return replace(
            target,
            labels=turn_upright(target.labels, image.orientation).contiguous(),
            probabilities=None if soft is None else turn_upright(soft, image.orientation).contiguous(),
        )
    assert isinstance(target, Boxes)
    return replace(target, boxes=_turned_boxes(target.boxes, image.orientation, image.stored_size))


def _turned_boxes(boxes: Tensor, orientation: int, size: tuple[int, int]) -> Tensor:
    """Move boxes (M, 4) as `turn_upright` moves samples of a (height, width)."""
    height, width = size
    xs, ys = boxes[:, 0::2], boxes[:, 1::2]  # (M, 2) each
    left, up = width - xs, height - ys
    x, y = {
        2: (left, ys), 3: (left, up), 4: (xs, up), 5: (ys, xs), 6: (up, xs), 7: (up, left), 8: (ys, left),
    }[orientation]  # fmt: skip
    low_x, low_y, high_x, high_y = x.amin(1), y.amin(1), x.amax(1), y.amax(1)
    return torch.stack([low_x, low_y, high_x, high_y], dim=1)
