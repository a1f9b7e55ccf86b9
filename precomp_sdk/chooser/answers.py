"""How far a network's answer on a received image has moved from the one on the clean image."""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from precomp_sdk.errors import OptionError
from precomp_sdk.targets import Boxes, Target
from precomp_sdk.task import TaskModel

__all__ = ["CleanAnswer", "answers_apart"]

_LEAST_SCORE: Final = 0.05  # boxes below it say nothing of an answer: torchvision's detectors drop them by default


@dataclass(frozen=True, slots=True)
class CleanAnswer:
    """A member's answer on the clean image: a target with the loss it has there, or a prediction."""

    target: Target | None
    floor: float
    prediction: Any

    @classmethod
    def of(cls, task: TaskModel, batch: Tensor) -> "CleanAnswer":
        """Ask a member."""
        try:
            target = task.pseudo_labels(batch)[0]
        except OptionError:  # it offers no targets of its own: a black box
            return cls(None, 0.0, task.predict(batch)[0])
        return cls(target, float(task.losses(batch, [target])[0]), None)

    def loss(self, task: TaskModel, batch: Tensor) -> float:
        """Return how far the member's answer on a received image has moved, 0 or more."""
        if self.target is None:
            return answers_apart(self.prediction, task.predict(batch)[0])
        return max(0.0, float(task.losses(batch, [self.target])[0]) - self.floor)


def answers_apart(clean: Any, found: Any) -> float:
    """Return how far apart two predictions of one network are, from 0, the same, to 1: what a black box can tell.

    Class scores (K,): half the sum of absolute differences of the probabilities (scores that do not sum to 1 go through
    a softmax). Boxes: 1 - 2 * matched / all, where each pair of one class counts by its overlap and its lower score.
    Masks, label maps (H, W) or scores (K, H, W): the share of pixels whose class differs.

    Raises:
        OptionError: the predictions are none of these, or not alike.

    Example:
        >>> answers_apart(torch.tensor([0.9, 0.1]), torch.tensor([0.4, 0.6]))
        0.5
    """
    if isinstance(clean, Boxes) and isinstance(found, Boxes):
        return _boxes_apart(clean, found)
    if isinstance(clean, Tensor) and isinstance(found, Tensor) and clean.shape == found.shape and clean.numel():
        if clean.ndim == 1:
            ours, theirs = (_probabilities(scores) for scores in (clean, found))
            return round(float((ours - theirs).abs().sum() / 2), 6)
        if clean.ndim in (2, 3):
            ours, theirs = (scores.argmax(0) if scores.ndim == 3 else scores for scores in (clean, found))
            return float((ours != theirs).double().mean())
    raise OptionError(
        where="answers_apart",
        expected="two predictions of one kind: class scores (K,), Boxes, or masks of one size",
        got=f"{_told(clean)} and {_told(found)}",
        remedy="Give the task _pseudo_labels and _losses, so that its own loss can be used.",
    )


def _probabilities(scores: Tensor) -> Tensor:
    values = scores.detach().to("cpu", torch.float64)
    proper = bool((values >= 0).all()) and abs(float(values.sum()) - 1.0) < 1e-3
    return values if proper else functional.softmax(values, dim=0)


def _boxes_apart(clean: Boxes, found: Boxes) -> float:
    """One minus the soft Dice coefficient of two sets of boxes, matched greedily by class, from the highest score."""
    from torchvision.ops import box_iou  # torchvision takes a second to import, and most choosers need no boxes

    sides = []
    for boxes in (clean, found):
        scores = torch.ones(len(boxes.labels)) if boxes.scores is None else boxes.scores.detach().cpu().float()
        kept = scores >= _LEAST_SCORE
        sides.append((boxes.boxes.detach().cpu().float()[kept], boxes.labels.cpu()[kept], scores[kept]))
    (ours, our_labels, our_scores), (theirs, their_labels, their_scores) = sides
    total = float(our_scores.sum() + their_scores.sum())
    if total == 0.0:
        return 0.0
    shared = 0.0
    if len(ours) and len(theirs):
        overlaps = box_iou(ours, theirs) * (our_labels[:, None] == their_labels[None])
        for row in our_scores.argsort(descending=True).tolist():
            overlap, column = overlaps[row].max(dim=0)
            shared += float(overlap * torch.minimum(our_scores[row], their_scores[column]))
            overlaps[:, column] = 0.0
    return max(0.0, 1.0 - 2.0 * shared / total)


def _told(value: object) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
