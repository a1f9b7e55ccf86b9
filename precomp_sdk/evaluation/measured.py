"""What was measured, picture by picture, so that pictures can be drawn again for a bootstrap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from precomp_sdk.data import SkippedSample
from precomp_sdk.records import RateAccuracyCurve, RatePoint
from precomp_sdk.task import Scorer

__all__ = ["CleanScore", "MeasuredCurve", "MeasuredPoint", "UncodedScore"]


@dataclass(frozen=True, slots=True)
class CleanScore:
    """What the task scores on the untouched 8-bit pictures.

    Args:
        scores: the task's metrics by name.
        task_loss: mean task loss per image.
    """

    scores: Mapping[str, float]
    task_loss: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", MappingProxyType(dict(self.scores)))

    def __reduce__(self) -> tuple[object, ...]:  # a mapping proxy does not pickle
        return CleanScore, (dict(self.scores), self.task_loss)


@dataclass(frozen=True, slots=True)
class UncodedScore:
    """What the task scores on preprocessed pictures that no codec has touched.

    Args:
        label: of the preprocessor's curve.
        quality: whose strength the preprocessor was told.
        score: the task on its 8-bit pictures, at their sources' size.
    """

    label: str
    quality: float
    score: CleanScore


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredPoint:
    """One quality, picture by picture.

    Shapes and units:
        quality: on the codec's own scale.
        bits: (N,) float64, size of each payload in bits.
        losses: (N,) float64, task losses.
        evidence: N arrays of the task's scorer.
    """

    quality: float
    bits: NDArray[np.float64]
    losses: NDArray[np.float64]
    evidence: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredCurve:
    """One way to send pictures, measured over a data set, one point per quality.

    Shapes and units:
        indices: N places of the pictures in their data set.
        keys: their N names.
        pixels: (N,) float64, height times width of each source; bpp counts these whatever the codec saw.
    """

    label: str
    scorer: Scorer
    points: tuple[MeasuredPoint, ...]
    indices: tuple[int, ...]
    keys: tuple[str, ...]
    pixels: NDArray[np.float64]
    settings: Mapping[str, float] = field(default_factory=dict)
    skipped: tuple[SkippedSample, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def curve(self) -> RateAccuracyCurve:
        """Return the curve over all pictures: total bits over total pixels, the scorer's metrics, mean losses."""
        ones = np.ones(len(self))
        return RateAccuracyCurve(
            label=self.label,
            points=tuple(
                RatePoint(
                    quality=point.quality,
                    bpp=float(point.bits.sum() / self.pixels.sum()),
                    scores=self.scorer.combine(point.evidence, ones),
                    task_loss=float(point.losses.mean()),
                )
                for point in self.points
            ),
            settings=dict(self.settings),
        )

    def subset(self, indices: Sequence[int]) -> "MeasuredCurve":
        """Return the curve over those of the pictures whose place in the data set is among ``indices``."""
        wanted = set(indices)
        rows = [row for row, index in enumerate(self.indices) if index in wanted]
        return replace(
            self,
            points=tuple(
                MeasuredPoint(
                    quality=point.quality,
                    bits=point.bits[rows],
                    losses=point.losses[rows],
                    evidence=tuple(point.evidence[row] for row in rows),
                )
                for point in self.points
            ),
            indices=tuple(self.indices[row] for row in rows),
            keys=tuple(self.keys[row] for row in rows),
            pixels=self.pixels[rows],
        )
