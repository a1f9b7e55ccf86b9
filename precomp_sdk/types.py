"""Frozen results and targets that travel between the contracts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from torch import Tensor

__all__ = [
    "Boxes",
    "Composite",
    "Label",
    "Mask",
    "ProxyOutput",
    "RateAccuracyCurve",
    "RatePoint",
    "Sample",
    "Target",
    "TargetKind",
    "Transcoded",
    "kind_of",
]


class TargetKind(StrEnum):
    """What a data set's targets are, and what a task needs."""

    LABEL = "label"
    BOXES = "boxes"
    MASK = "mask"
    COMPOSITE = "composite"  #: one target per member of an ensemble


@dataclass(frozen=True, slots=True)
class Label:
    """One class for the whole image.

    Args:
        index: the class, 0-based.
        probabilities: (K,) soft target that sums to 1; a loss prefers it over ``index``.
    """

    index: int
    probabilities: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Boxes:
    """The objects of one image.

    Shapes and units:
        boxes: (M, 4) float32, x1 y1 x2 y2 in pixels, x2 and y2 exclusive; M may be 0.
        labels: (M,) int64 classes, 0-based.
        crowd: (M,) bool, True for a region of many objects (COCO's ``iscrowd``); None means none is.
        scores: (M,) float32 in [0, 1], where the boxes are predictions.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor | None = None
    scores: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Mask:
    """One class per pixel.

    Shapes and units:
        labels: (H, W) int64 classes, 0-based.
        ignore_index: pixels with this label count for nothing.
        probabilities: (K, H, W) soft target; a loss prefers it over ``labels``.
    """

    labels: Tensor
    ignore_index: int = 255
    probabilities: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Composite:
    """One target per member of an ensemble, in the order of the members.

    Args:
        targets: the members' targets.
    """

    targets: tuple["Label | Boxes | Mask | Composite", ...]


Target: TypeAlias = Label | Boxes | Mask | Composite


def kind_of(target: Target) -> TargetKind:
    """Return the kind of a target."""
    match target:
        case Label():
            return TargetKind.LABEL
        case Boxes():
            return TargetKind.BOXES
        case Mask():
            return TargetKind.MASK
        case Composite():
            return TargetKind.COMPOSITE


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a data set.

    Args:
        image: (3, H, W) uint8, sRGB.
        target: its target, or None in an unlabelled set.
        key: names the image within its data set, for messages and result files.
    """

    image: Tensor
    target: Target | None
    key: str


@dataclass(frozen=True, slots=True)
class Transcoded:
    """An image that went through a real codec.

    Args:
        image: (3, H, W) uint8, what the receiver sees.
        bits: length of the payload, ``8 * len(payload)``, headers counted.
    """

    image: Tensor
    bits: int

    @property
    def bpp(self) -> float:
        """Bits per pixel of the image."""
        return self.bits / (self.image.shape[-2] * self.image.shape[-1])


@dataclass(frozen=True, slots=True)
class ProxyOutput:
    """What a proxy predicts for a batch.

    Shapes and units:
        images: (N, 3, H, W) float in [0, 1], the decoded images.
        bits: (N,) float, size of each payload in bits, headers counted.
    """

    images: Tensor
    bits: Tensor


@dataclass(frozen=True, slots=True)
class RatePoint:
    """One quality of a rate-accuracy curve, over a whole data set.

    Args:
        quality: on the codec's own scale.
        bpp: total bits over total pixels.
        scores: the task's metrics by name, such as ``{"top1": 0.82}``.
        task_loss: mean task loss per image.
    """

    quality: float
    bpp: float
    scores: Mapping[str, float]
    task_loss: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", MappingProxyType(dict(self.scores)))

    def __reduce__(self) -> tuple[object, ...]:  # a mapping proxy does not pickle
        return RatePoint, (self.quality, self.bpp, dict(self.scores), self.task_loss)


@dataclass(frozen=True, slots=True)
class RateAccuracyCurve:
    """The points of one way to send images, sorted by bpp.

    Args:
        label: names the way in plots and tables, such as ``"anchor"`` or ``"qa-light"``.
        points: one per quality.
        settings: what was chosen for this curve, such as a blur's sigma.
    """

    label: str
    points: tuple[RatePoint, ...]
    settings: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(sorted(self.points, key=lambda point: point.bpp)))
