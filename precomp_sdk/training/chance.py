"""What an answer scores that looks at no image: the floor under a fitted task."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from precomp_sdk.targets import Boxes, Label, Mask, Target

__all__ = ["Chance"]

_NOTHING_FOUND = 0.001  # mAP


class Chance:
    """Counts classes, and says what one answer for all images would score.

    Of labels that is the share of the commonest class, of masks that of its pixels, of boxes nothing found. Targets of
    other kinds have no such floor.
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._kinds: set[type[Target]] = set()
        self._images = 0

    def add(self, targets: Sequence[Target]) -> None:
        """Count the targets of some images."""
        for target in targets:
            self._kinds.add(type(target))
            self._images += 1
            if isinstance(target, Label):
                self._counts[target.index] += 1
            elif isinstance(target, Mask):
                counted = target.labels[target.labels != target.ignore_index].cpu().numpy()
                values, counts = np.unique(counted, return_counts=True)
                self._counts.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def floor(self) -> tuple[str, float] | None:
        """Return a metric and what one answer for all images scores; None where that is not known."""
        if self._kinds == {Boxes}:
            return "mAP", 0.0
        metric = {Label: "top1", Mask: "pixel_accuracy"}.get(next(iter(self._kinds), Target))
        total = sum(self._counts.values())
        return (metric, max(self._counts.values()) / total) if metric and len(self._kinds) == 1 and total else None

    def verdict(self, scores: Mapping[str, float]) -> str:
        """Return a sentence where scores cannot be told from those of one answer for all images; else nothing.

        A share of labels counts as higher only beyond its standard error.
        """
        floor = self.floor()
        if floor is None or floor[0] not in scores:
            return ""
        metric, chance = floor
        margin = {"top1": math.sqrt(chance * (1 - chance) / self._images), "mAP": _NOTHING_FOUND}.get(metric, 0.0)
        if scores[metric] > chance + margin:
            return ""
        constant = "finding nothing" if metric == "mAP" else "always answering the commonest class"
        return (
            f"the fitted task scores {metric} {scores[metric]:.3f} on images it has not seen, and {constant} scores "
            f"{chance:.3f}: it has learnt nothing that carries over; fit it longer, on more images, or take another "
            "network"
        )
