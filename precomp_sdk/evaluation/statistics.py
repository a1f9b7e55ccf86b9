"""What was measured, image by image, so that images can be drawn again for a bootstrap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from precomp_sdk.data import SkippedSample
from precomp_sdk.scorer import Scorer
from precomp_sdk.types import RateAccuracyCurve, RatePoint

__all__ = ["CleanScore", "ImageRow", "MeasuredCurve", "MeasuredPoint", "UncodedScore"]


@dataclass(frozen=True, slots=True)
class CleanScore:
    """What the task scores on the untouched 8-bit images.

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
    """What the task scores on preprocessed images that no codec has touched.

    Args:
        label: of the preprocessor's curve.
        quality: whose strength the preprocessor was told.
        score: the task on its 8-bit images, at their sources' size.
    """

    label: str
    quality: float
    score: CleanScore


@dataclass(frozen=True, slots=True, eq=False)
class ImageRow:
    """What was measured of one image at one quality.

    Args:
        bits: size of the payload in bits.
        losses: task losses by judge.
        statistics: those of each judge's scorer, by judge.
    """

    bits: float
    losses: Mapping[str, float]
    statistics: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredPoint:
    """One quality, image by image.

    Shapes and units:
        quality: on the codec's own scale.
        bits: (N,) float64, size of each payload in bits.
        losses: (N,) float64, task losses.
        statistics: N arrays of the task's scorer.
    """

    quality: float
    bits: NDArray[np.float64]
    losses: NDArray[np.float64]
    statistics: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(cls, quality: float, rows: Sequence[ImageRow], judge: str) -> Self:
        """Return the point of one judge's rows."""
        return cls(
            quality=quality,
            bits=np.array([row.bits for row in rows], dtype=np.float64),
            losses=np.array([row.losses[judge] for row in rows], dtype=np.float64),
            statistics=tuple(row.statistics[judge] for row in rows),
        )


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredCurve:
    """One way to send images, measured over a data set, one point per quality.

    Shapes and units:
        indices: N places of the images in their data set.
        keys: their N names.
        pixels: (N,) float64, height times width of each source; bpp counts these whatever the codec saw.
        labels: N classes, or None where an image has no one class; empty where nothing is known of them.
    """

    label: str
    scorer: Scorer
    points: tuple[MeasuredPoint, ...]
    indices: tuple[int, ...]
    keys: tuple[str, ...]
    pixels: NDArray[np.float64]
    settings: Mapping[str, float] = field(default_factory=dict)
    skipped: tuple[SkippedSample, ...] = ()
    labels: tuple[int | None, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def point(self, quality: float) -> MeasuredPoint:
        """Return the point of a quality that was measured."""
        return next(point for point in self.points if point.quality == quality)

    def curve(self) -> RateAccuracyCurve:
        """Return the curve over all images: total bits over total pixels, the scorer's metrics, mean losses."""
        ones = np.ones(len(self))
        return RateAccuracyCurve(
            label=self.label,
            points=tuple(
                RatePoint(
                    quality=point.quality,
                    bpp=float(point.bits.sum() / self.pixels.sum()),
                    scores=self.scorer.combine(point.statistics, ones),
                    task_loss=float(point.losses.mean()),
                )
                for point in self.points
            ),
            settings=dict(self.settings),
        )

    def subset(self, indices: Sequence[int]) -> "MeasuredCurve":
        """Return the curve over those of the images whose place in the data set is among ``indices``."""
        wanted = set(indices)
        rows = [row for row, index in enumerate(self.indices) if index in wanted]
        return replace(
            self,
            points=tuple(
                MeasuredPoint(
                    quality=point.quality,
                    bits=point.bits[rows],
                    losses=point.losses[rows],
                    statistics=tuple(point.statistics[row] for row in rows),
                )
                for point in self.points
            ),
            indices=tuple(self.indices[row] for row in rows),
            keys=tuple(self.keys[row] for row in rows),
            pixels=self.pixels[rows],
            labels=tuple(self.labels[row] for row in rows) if self.labels else (),
        )
