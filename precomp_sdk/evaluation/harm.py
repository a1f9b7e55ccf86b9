"""Whom a preprocessor hurts: images, classes and sizes of objects whose loss rises, at equal quality."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from precomp_sdk.evaluation.statistics import MeasuredCurve

__all__ = ["ClassChange", "Harm", "ImageChange", "SizeChange", "common_qualities", "harm_of"]

_IMAGES = 30  # kept of each curve, the worst
_CLASSES = 50


@dataclass(frozen=True, slots=True)
class ImageChange:
    """What a preprocessor changes for one image, mean over the common qualities.

    Args:
        key: names the image.
        loss_change: task loss minus the anchor's; above 0 it is hurt.
        bits_change_percent: of its bits against the anchor's.
    """

    key: str
    loss_change: float
    bits_change_percent: float


@dataclass(frozen=True, slots=True)
class ClassChange:
    """What a preprocessor changes for one class, mean over the common qualities.

    Args:
        name: of the class.
        images: labelled with it; None where an image may hold several classes.
        metric: what the scores are.
        anchor: the anchor's score.
        test: the preprocessor's.
        loss_change: mean task loss of its images minus the anchor's; None where an image may hold several classes.
    """

    name: str
    images: int | None
    metric: str
    anchor: float
    test: float
    loss_change: float | None


@dataclass(frozen=True, slots=True)
class SizeChange:
    """What a preprocessor changes for objects of one size, mean over the common qualities.

    Args:
        name: of the size: ``small``, ``medium`` or ``large`` by COCO's areas for boxes.
        objects: of that size.
        metric: what the scores are.
        anchor: the anchor's score over those objects.
        test: the preprocessor's.
    """

    name: str
    objects: int
    metric: str
    anchor: float
    test: float


@dataclass(frozen=True, slots=True)
class Harm:
    """Whom one curve hurts, compared with the anchor at equal quality: fewer bits are part of the comparison.

    Args:
        label: of the curve.
        qualities: that both were measured at.
        worse: share of the images whose loss rises.
        images: those whose loss rises most, worst first; no more than 30.
        classes: those whose score falls most, worst first; no more than 50, none where classes are unknown.
        sizes: of objects, from small to large, where there are such; none where a target has no objects.
    """

    label: str
    qualities: tuple[float, ...]
    worse: float
    images: tuple[ImageChange, ...]
    classes: tuple[ClassChange, ...] = ()
    sizes: tuple[SizeChange, ...] = ()


@runtime_checkable
class _PerClass(Protocol):
    """A scorer that knows classes: `BoxScorer`, `MaskScorer`, or anyone's with this method."""

    def per_class(self, statistics: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return each class's score, (K,), NaN where it is nowhere."""


@runtime_checkable
class _PerSize(Protocol):
    """A scorer that tells objects apart by size: `BoxScorer`, or anyone's with this method."""

    def per_size(self, statistics: Sequence[NDArray[np.float64]]) -> Mapping[str, tuple[int, float]]:
        """Return for each size how many objects have it, and their score, NaN where there is none."""


def common_qualities(anchor: MeasuredCurve, test: MeasuredCurve) -> tuple[float, ...]:
    """Return the qualities at which both were measured, in the test's order."""
    known = {point.quality for point in anchor.points}
    return tuple(point.quality for point in test.points if point.quality in known)


def harm_of(anchor: MeasuredCurve, test: MeasuredCurve, class_names: Sequence[str] = ()) -> Harm | None:
    """Compare two curves of the same images; None where they share no quality."""
    qualities = common_qualities(anchor, test)
    if not qualities or anchor.indices != test.indices:
        return None
    losses, bits = np.zeros(len(test)), np.zeros(len(test))
    for quality in qualities:
        before, after = anchor.point(quality), test.point(quality)
        losses += (after.losses - before.losses) / len(qualities)
        bits += 100.0 * (after.bits / before.bits - 1.0) / len(qualities)
    worst = [int(row) for row in np.argsort(-losses, kind="stable")[:_IMAGES] if losses[row] > 0]
    return Harm(
        label=test.label,
        qualities=qualities,
        worse=float((losses > 0).mean()),
        images=tuple(ImageChange(test.keys[row], float(losses[row]), float(bits[row])) for row in worst),
        classes=_classes(anchor, test, qualities, losses, class_names),
        sizes=_sizes(anchor, test, qualities),
    )


def _sizes(anchor: MeasuredCurve, test: MeasuredCurve, qualities: Sequence[float]) -> tuple[SizeChange, ...]:
    """Return the changes by the objects' size, where the scorer tells sizes apart."""
    scorer = test.scorer
    if not isinstance(scorer, _PerSize):
        return ()
    before, after = (
        [scorer.per_size(curve.point(quality).statistics) for quality in qualities] for curve in (anchor, test)
    )
    return tuple(
        SizeChange(
            name=name,
            objects=objects,
            metric=scorer.metrics[0],
            anchor=float(np.mean([found[name][1] for found in before])),
            test=float(np.mean([found[name][1] for found in after])),
        )
        for name, (objects, _) in before[0].items()
        if objects
    )


def _classes(
    anchor: MeasuredCurve,
    test: MeasuredCurve,
    qualities: Sequence[float],
    losses: NDArray[np.float64],
    class_names: Sequence[str],
) -> tuple[ClassChange, ...]:
    """Return the changes by class: by the images' labels, or as the scorer tells classes apart."""
    metric = test.scorer.metrics[0]
    found: list[ClassChange] = []
    pairs = [(anchor.point(quality).statistics, test.point(quality).statistics) for quality in qualities]

    def name(index: int) -> str:
        return class_names[index] if index < len(class_names) else f"class {index}"

    if isinstance(test.scorer, _PerClass):
        scorer = test.scorer
        before, after = (np.mean([scorer.per_class(pair[side]) for pair in pairs], axis=0) for side in (0, 1))
        for index in np.flatnonzero(np.isfinite(before) & np.isfinite(after)).tolist():
            found.append(ClassChange(name(index), None, metric, float(before[index]), float(after[index]), None))  # noqa: PERF401
    else:
        labels = np.array([-1 if label is None else label for label in test.labels], dtype=np.int64)
        for label in sorted(set(labels[labels >= 0].tolist())):
            ours = (labels == label).astype(np.float64)
            scores = [[test.scorer.combine(side, ours)[metric] for side in pair] for pair in pairs]
            before, after = np.mean(scores, axis=0)
            change = float(losses[ours > 0].mean())
            found.append(ClassChange(name(label), int(ours.sum()), metric, float(before), float(after), change))
    found.sort(key=lambda item: (item.test - item.anchor, -(item.loss_change or 0.0)))
    return tuple(found[:_CLASSES])
