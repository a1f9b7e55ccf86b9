"""What happens during a run, as frozen records that observers receive."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from precomp_sdk.types import RateAccuracyCurve, RatePoint

__all__ = [
    "CheckpointSaved",
    "CurveDone",
    "Event",
    "Notice",
    "PointMeasured",
    "RunFinished",
    "RunStarted",
    "StepDone",
]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A piece of work began.

    Args:
        stage: ``"fit-task"``, ``"fit-proxy"``, ``"calibrate"``, ``"train"`` or ``"evaluate"``.
        total_steps: how many steps it takes, or 0 where that is unknown.
        settings: what it works with, for the log.
    """

    stage: str
    total_steps: int
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class StepDone:
    """One step is done.

    Args:
        stage: as in `RunStarted`.
        step: number of steps done, from 1.
        total_steps: as in `RunStarted`.
        scalars: what was measured in this step, by name; names end in their unit where they have one.
    """

    stage: str
    step: int
    total_steps: int
    scalars: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A checkpoint is on disk, whole."""

    step: int
    path: Path


@dataclass(frozen=True, slots=True)
class PointMeasured:
    """The evaluator finished one quality of one curve."""

    label: str
    point: RatePoint


@dataclass(frozen=True, slots=True)
class CurveDone:
    """The evaluator finished one curve."""

    curve: RateAccuracyCurve


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know: a skipped image, a saturated lambda, a curve without overlap."""

    stage: str
    message: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A piece of work ended.

    Args:
        stage: as in `RunStarted`.
        seconds: wall time.
    """

    stage: str
    seconds: float


Event: TypeAlias = RunStarted | StepDone | CheckpointSaved | PointMeasured | CurveDone | Notice | RunFinished
