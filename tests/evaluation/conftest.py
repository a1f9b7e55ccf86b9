"""Simulated measurements whose true curves are known."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from precomp_sdk import LabelScorer, RateAccuracyCurve, RatePoint
from precomp_sdk.evaluation import MeasuredCurve, MeasuredPoint

Simulate = Callable[..., MeasuredCurve]
Draw = Callable[..., RateAccuracyCurve]


@pytest.fixture(scope="session")
def draw_curve() -> Draw:
    """Make a curve from numbers; the task loss is one minus the score."""

    def draw(label: str, rates: Sequence[float], scores: Sequence[float]) -> RateAccuracyCurve:
        points = [
            RatePoint(
                quality=float(index), bpp=float(rate), scores={"top1": float(score)}, task_loss=1.0 - float(score)
            )
            for index, (rate, score) in enumerate(zip(rates, scores, strict=True))
        ]
        return RateAccuracyCurve(label, tuple(points))

    return draw


@pytest.fixture(scope="session")
def simulate() -> Simulate:
    """Simulate images that are right with a given probability at each quality.

    ``hardness`` (N,) in [0, 1] is shared by the curves of one data set: it makes the same images easy in all of them.
    """

    def build(
        label: str,
        rates_bpp: NDArray[np.float64],
        accuracies: NDArray[np.float64],
        hardness: NDArray[np.float64],
        rng: np.random.Generator,
        jitter: float = 0.5,
    ) -> MeasuredCurve:
        count = len(hardness)
        points = []
        for index, (rate, accuracy) in enumerate(zip(rates_bpp, accuracies, strict=True)):
            right = ((hardness + jitter * rng.random(count)) % 1.0 < accuracy).astype(np.float64)
            bits = 1000.0 * rate * (0.8 + 0.4 * hardness) * rng.uniform(0.95, 1.05, count)
            points.append(MeasuredPoint(float(index), bits, 1.0 - right, tuple(np.stack([right, right], axis=1))))
        return MeasuredCurve(
            label=label,
            scorer=LabelScorer(),
            points=tuple(points),
            indices=tuple(range(count)),
            keys=tuple(str(index) for index in range(count)),
            pixels=np.full(count, 1000.0),
        )

    return build
