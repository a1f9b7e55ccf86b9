"""Targets for the images of the kit."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from precomp_sdk.testing.checks import NotApplicableError
from precomp_sdk.types import Boxes, Composite, Label, Mask, Target, TargetKind

__all__ = ["made_targets", "other_target", "read_target", "same_target"]


def made_targets(kind: TargetKind, sizes: Sequence[tuple[int, int]], classes: int) -> list[Target]:
    """Make targets: every class in turn; two boxes; the right half of a mask of another class than the left."""
    targets: list[Target] = []
    for index, (height, width) in enumerate(sizes):
        first, second = index % classes, (index + 1) % classes
        match kind:
            case TargetKind.LABEL:
                targets.append(Label(first))
            case TargetKind.BOXES:
                corners = [[0.1, 0.1, 0.6, 0.7], [0.4, 0.3, 0.9, 0.9]]
                boxes = torch.tensor(corners) * torch.tensor([width, height, width, height])
                targets.append(Boxes(boxes=boxes, labels=torch.tensor([first, second])))
            case TargetKind.MASK:
                labels = torch.full((height, width), first)
                labels[:, width // 2 :] = second
                targets.append(Mask(labels=labels))
            case TargetKind.COMPOSITE:
                raise NotApplicableError("targets of an ensemble of several kinds: give the kit targets")
    return targets


def read_target(prediction: Any, kind: TargetKind) -> Target:
    """Return the target that a prediction of a known form says."""
    match prediction:
        case Tensor(ndim=1) if kind is TargetKind.LABEL:
            return Label(int(prediction.argmax()))
        case Tensor(ndim=3) if kind is TargetKind.MASK:
            return Mask(labels=prediction.argmax(dim=0))
        case Boxes() if kind is TargetKind.BOXES:
            return Boxes(boxes=prediction.boxes, labels=prediction.labels)
        case Mask() if kind is TargetKind.MASK:
            return Mask(labels=prediction.labels)
    raise NotApplicableError(f"predictions of type {type(prediction).__name__}: give the kit a prediction per target")


def other_target(target: Target, classes: int) -> Target:
    """Return a target that says something else."""
    match target:
        case Label():
            return Label((target.index + 1) % classes)
        case Boxes():
            return Boxes(boxes=target.boxes + 1000.0, labels=target.labels)
        case Mask():
            labels = torch.where(target.labels == target.ignore_index, target.labels, (target.labels + 1) % classes)
            return Mask(labels=labels, ignore_index=target.ignore_index)
        case Composite():
            return Composite(tuple(other_target(part, classes) for part in target.targets))


def same_target(one: Target, other: Target) -> bool:
    def fields(target: Target) -> list[object]:
        return [getattr(target, name) for name in type(target).__slots__]

    if isinstance(one, Composite) and isinstance(other, Composite):
        return all(same_target(mine, its) for mine, its in zip(one.targets, other.targets, strict=True))
    return all(
        torch.equal(mine, its) if isinstance(mine, Tensor) and isinstance(its, Tensor) else mine is its or mine == its
        for mine, its in zip(fields(one), fields(other), strict=True)
    )
