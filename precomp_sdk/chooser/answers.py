"""How far a network's answer on a received image has moved from the one on the clean image."""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from precomp_sdk.errors import OptionError
from precomp_sdk.targets import Boxes, Target
from precomp_sdk.task import TaskModel

__all__ = ["CleanAnswer", "answers_apart", "answers_differ"]

_SAME_BOX: Final = 0.5  # intersection over union: as mAP50 has it
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


def answers_differ(clean: Any, found: Any, *, score: float = 0.3) -> float:
    """Return how much of an answer has changed, from 0, it is the same, to 1: as whoever acts on it would say.

    Class scores (K,): 1 where another class is first, else 0. Boxes: those of a score of ``score`` or more, each paired
    with one of its class that overlaps it by half or more (intersection over union); the share left without a partner.
    Masks, label maps (H, W) or scores (K, H, W): the share of pixels whose class differs. Anything else, such as the
    text that was read: 0 where the two are equal, else 1.

    Raises:
        OptionError: one is a tensor or boxes, and the other is not alike.

    Example:
        >>> answers_differ(torch.tensor([0.9, 0.1]), torch.tensor([0.6, 0.4])), answers_differ("STOP", "SHOP")
        (0.0, 1.0)
    """
    if isinstance(clean, Boxes) and isinstance(found, Boxes):
        sides = [_solid(boxes, score) for boxes in (clean, found)]
        total = sum(len(boxes) for boxes, _, _ in sides)
        return 1.0 - 2.0 * _matched(*sides, least_overlap=_SAME_BOX)[1] / total if total else 0.0
    if isinstance(clean, Tensor) and isinstance(found, Tensor) and clean.ndim == 1 and clean.shape == found.shape:
        return float(clean.argmax() != found.argmax())
    if isinstance(clean, Tensor | Boxes) or isinstance(found, Tensor | Boxes):
        return answers_apart(clean, found)
    return float(clean != found)


def _probabilities(scores: Tensor) -> Tensor:
    values = scores.detach().to("cpu", torch.float64)
    proper = bool((values >= 0).all()) and abs(float(values.sum()) - 1.0) < 1e-3
    return values if proper else functional.softmax(values, dim=0)


def _boxes_apart(clean: Boxes, found: Boxes) -> float:
    """One minus the soft Dice coefficient of two sets of boxes, matched greedily by class, from the highest score."""
    ours, theirs = (_solid(boxes, _LEAST_SCORE) for boxes in (clean, found))
    total = float(ours[2].sum() + theirs[2].sum())
    return max(0.0, 1.0 - 2.0 * _matched(ours, theirs)[0] / total) if total else 0.0


_Side = tuple[Tensor, Tensor, Tensor]  # boxes (M, 4), labels (M,), scores (M,)


def _solid(boxes: Boxes, least_score: float) -> _Side:
    """Return the boxes of a score or more; where there are no scores, all count as sure."""
    scores = torch.ones(len(boxes.labels)) if boxes.scores is None else boxes.scores.detach().cpu().float()
    kept = scores >= least_score
    return boxes.boxes.detach().cpu().float()[kept], boxes.labels.cpu()[kept], scores[kept]


def _matched(ours: _Side, theirs: _Side, *, least_overlap: float = 0.0) -> tuple[float, int]:
    """Pair boxes of one class greedily, from the highest score; return overlap times lower score, summed, and pairs."""
    from torchvision.ops import box_iou  # torchvision takes a second to import, and most choosers need no boxes

    (boxes, labels, scores), (other_boxes, other_labels, other_scores) = ours, theirs
    shared, pairs = 0.0, 0
    if len(boxes) and len(other_boxes):
        overlaps = box_iou(boxes, other_boxes) * (labels[:, None] == other_labels[None])
        for row in scores.argsort(descending=True).tolist():
            overlap, column = overlaps[row].max(dim=0)
            shared += float(overlap * torch.minimum(scores[row], other_scores[column]))
            pairs += bool(overlap > 0.0) and bool(overlap >= least_overlap)
            overlaps[:, column] = 0.0
    return shared, pairs


def _told(value: object) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
