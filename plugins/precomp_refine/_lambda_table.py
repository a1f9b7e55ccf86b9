"""What a unit of task loss is worth in bits per pixel, at any quality."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from precomp_refine._settings import WHERE
from precomp_sdk import (
    AnchorPoint,
    Event,
    Notice,
    OptionError,
    QualityScale,
    Subset,
    TaskDataset,
    TaskModel,
    Transcoder,
    calibrate,
)

__all__ = ["LambdaTable", "Prices", "measure_points"]

_LEAST = 1e-12  # guards logarithms and divisions by a distance that vanished


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a batch.

    Shapes and units:
        trade_offs: (N, M) lambda in bpp per unit of task loss, for each image and network.
        exchanges: (N, M) units of task loss per unit of feature distance.
    """

    trade_offs: Tensor
    exchanges: Tensor

    def rows(self, kept: list[int]) -> "Prices":
        """Return the prices of some of the images."""
        return Prices(self.trade_offs[kept], self.exchanges[kept])


class LambdaTable:
    """Lambda per quality and network; between the qualities it is interpolated, its logarithm over the strength.

    Beyond the ends of the list the price at the end holds.

    Args:
        scale: of the codec.
        table: (1 + 2 M, K) float64, as `as_tensor` gives it: K strengths, rising; a row of the logarithms of lambda for
            each of M networks; a row of the logarithms of their exchanges.
    """

    def __init__(self, scale: QualityScale, table: Tensor) -> None:
        self._scale = scale
        self._table = table.detach().cpu().double()

    @classmethod
    def of_points(cls, scale: QualityScale, points: Sequence[Sequence[AnchorPoint]]) -> "LambdaTable":
        """Return the prices at which the anchor was measured, at every quality for each network."""
        order = sorted(range(len(points[0])), key=lambda row: scale.strength(points[0][row].quality))
        strengths = [scale.strength(points[0][row].quality) for row in order]
        trade_offs = [[own[row].trade_off for row in order] for own in points]
        exchanges = [[own[row].task_loss / max(own[row].feature_loss, _LEAST) for row in order] for own in points]
        logarithms = np.log(np.maximum([*trade_offs, *exchanges], _LEAST))
        return cls(scale, torch.from_numpy(np.concatenate([[strengths], logarithms])))

    @classmethod
    def of_table(
        cls, scale: QualityScale, lambdas: Mapping[float, float], lambda_scale: float, networks: int
    ) -> "LambdaTable":
        """Return the prices of a table from quality to lambda, the same for all networks; features have none."""
        check_table(lambdas)
        points = [
            AnchorPoint(scale.check(quality), 0.0, 1.0, 1.0, lambda_scale * value) for quality, value in lambdas.items()
        ]
        return cls.of_points(scale, [points] * networks)

    def as_tensor(self) -> Tensor:
        """Return the whole list as one table, to be saved."""
        return self._table.clone()

    def at(self, qualities: Sequence[float], like: Tensor) -> Prices:
        """Return the prices at some qualities, on the device of ``like``."""
        strengths = [self._scale.strength(quality) for quality in qualities]
        known, *rows = self._table.numpy()
        read = torch.from_numpy(np.exp([np.interp(strengths, known, row) for row in rows]).T).to(like)
        return Prices(*read.chunk(2, dim=1))


def check_table(lambdas: Mapping[float, float]) -> None:
    """Raise `OptionError` where a table has no quality, or a lambda that is not above 0."""
    if not lambdas or not all(np.isfinite(value) and value > 0.0 for value in lambdas.values()):
        expected = '"auto", or a table from quality to a lambda above 0'
        raise OptionError.value(WHERE, "lambdas", expected, dict(lambdas), 'Take lambdas="auto" to measure them.')


def measure_points(
    transcoder: Transcoder,
    tasks: Sequence[TaskModel],
    images: TaskDataset,
    ladder: Sequence[float],
    *,
    lambdas: Literal["auto"] | Mapping[float, float],
    lambda_scale: float,
    features: bool,
    count: int,
    device: torch.device,
) -> list[tuple[AnchorPoint, ...]]:
    """Measure the anchor for every network on images spread evenly over a data set; see `calibrate`.

    Images that cannot be read are left out, with a warning: `Preprocessor.prepare` has no observer to tell.
    """
    spread = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int).tolist()
    chosen = Subset(images, spread)
    return [
        calibrate(
            transcoder,
            task,
            chosen,
            ladder,
            targets="pseudo-labels",
            features=features,
            lambdas=lambdas,
            lambda_scale=lambda_scale,
            skip_unreadable=True,
            device=device,
            observer=None if place else _warn,  # every network sees the same images
        )
        for place, task in enumerate(tasks)
    ]


def _warn(event: Event) -> None:
    if isinstance(event, Notice):
        warnings.warn(f"preparing {WHERE}: {event.message}", RuntimeWarning, stacklevel=2)
