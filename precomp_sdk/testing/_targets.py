"""Targets for the images of the kit."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from precomp_sdk.targets import Boxes, Composite, Label, Mask, Target
from precomp_sdk.testing.checks import NotApplicableError

__all__ = ["made_targets", "other_target", "read_target", "same_target", "with_nan"]


def made_targets(kind: str, sizes: Sequence[tuple[int, int]], classes: int) -> list[Target] | None:
    """Make targets: every class in turn; two boxes; the right half of a mask of another class than the left.

    Returns:
        One per image, or None for a kind that the kit does not know.
    """
    if kind not in (Label.kind, Boxes.kind, Mask.kind):
        return None
    targets: list[Target] = []
    for index, (height, width) in enumerate(sizes):
        first, second = index % classes, (index + 1) % classes
        if kind == Label.kind:
            targets.append(Label(first))
        elif kind == Boxes.kind:
            corners = [[0.1, 0.1, 0.6, 0.7], [0.4, 0.3, 0.9, 0.9]]
            boxes = torch.tensor(corners) * torch.tensor([width, height, width, height])
            targets.append(Boxes(boxes=boxes, labels=torch.tensor([first, second])))
        else:
            labels = torch.full((height, width), first)
            labels[:, width // 2 :] = second
            targets.append(Mask(labels=labels))
    return targets


def read_target(prediction: Any, kind: str) -> Target:
    """Return the target that a prediction of a known form says."""
    match prediction:
        case Tensor(ndim=1) if kind == Label.kind:
            return Label(int(prediction.argmax()))
        case Tensor(ndim=3) if kind == Mask.kind:
            return Mask(labels=prediction.argmax(dim=0))
        case Boxes() if kind == Boxes.kind:
            return Boxes(boxes=prediction.boxes, labels=prediction.labels)
        case Mask() if kind == Mask.kind:
            return Mask(labels=prediction.labels)
    raise NotApplicableError(f"predictions of type {type(prediction).__name__}: give the kit a prediction per target")


def other_target(target: Target, classes: int) -> Target | None:
    """Return a target that says something else, or None for a kind that the kit does not know."""
    match target:
        case Label():
            return Label((target.index + 1) % classes)
        case Boxes():
            return Boxes(boxes=target.boxes + 1000.0, labels=target.labels)
        case Mask():
            labels = torch.where(target.labels == target.ignore_index, target.labels, (target.labels + 1) % classes)
            return Mask(labels=labels, ignore_index=target.ignore_index)
        case Composite():
            parts = [other_target(part, classes) for part in target.targets]
            return Composite(tuple(part for part in parts if part is not None)) if None not in parts else None
    return None


def same_target(one: object, other: object, *, tolerance: float = 0.0) -> bool:
    """Return whether two targets, or two fields of them, say the same."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        return torch.equal(one, other) or (tolerance > 0 and torch.allclose(one.double(), other.double(), 0, tolerance))
    if type(one) is not type(other):
        return False
    if is_dataclass(one):
        names = [field.name for field in fields(one)]
        return all(same_target(getattr(one, name), getattr(other, name), tolerance=tolerance) for name in names)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(same_target(a, b, tolerance=tolerance) for a, b in pairs)
    return one is other or bool(one == other)


def with_nan(prediction: Any) -> Any:
    """Return a prediction all of whose floating-point numbers are NaN.

    Raises:
        NotApplicableError: it is of a form that the kit cannot look into, or has none.
    """
    if isinstance(prediction, Tensor) and prediction.is_floating_point():
        return torch.full_like(prediction, torch.nan)
    if isinstance(prediction, Boxes) and prediction.scores is not None and len(prediction.scores):
        return Boxes(prediction.boxes, prediction.labels, scores=torch.full_like(prediction.scores, torch.nan))
    if isinstance(prediction, tuple) and prediction:
        return tuple(with_nan(part) for part in prediction)
    raise NotApplicableError(f"predictions of type {type(prediction).__name__} with no number to replace by NaN")
