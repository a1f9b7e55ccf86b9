"""Frozen results that travel between the contracts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from torch import Tensor

from precomp_sdk.targets import Target

__all__ = [
    "ProxyOutput",
    "RateAccuracyCurve",
    "RatePoint",
    "Sample",
    "Transcoded",
]


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
