"""What the logs of experiment trackers have in common: which events they keep, and what a curve is to them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import ClassVar

from precomp_sdk.closing import Closing
from precomp_sdk.errors import MissingDependencyError, printable
from precomp_sdk.events import CurveDone, Event, Notice, RunStarted, StepDone
from precomp_sdk.types import RateAccuracyCurve

__all__ = ["Tracker", "points_of", "whole_steps"]


class Tracker(Closing, ABC):
    """Writes settings, scalars, curves and notices to a tracker of experiments whose package may be absent.

    Raises:
        MissingDependencyError: the package is not installed.
    """

    package: ClassVar[str]  #: what is imported, and the extra that installs it

    def __init__(self) -> None:
        if (error := self.missing()) is not None:
            raise error

    @classmethod
    def available(cls) -> bool:
        """Return whether the package is installed."""
        return cls.missing() is None

    @classmethod
    def missing(cls) -> MissingDependencyError | None:
        """Return the error of a package that is not installed, or None where it is."""
        if find_spec(cls.package) is not None:
            return None
        return MissingDependencyError(
            where=cls.__name__,
            expected=f"the package {cls.package}",
            got="none",
            remedy=f'Install it: pip install "precomp-sdk[{cls.package}]".',
        )

    def __call__(self, event: Event) -> None:
        """Write one event."""
        match event:
            case RunStarted(stage=stage, settings=settings):
                self._settings(stage, settings)
            case StepDone():
                self._scalars(event.stage, event.step, event.scalars)
            case CurveDone(curve):
                self._curve(curve)
            case Notice(stage, message):
                self._notice(stage, printable(message))
            case _:
                pass

    def _settings(self, stage: str, settings: Mapping[str, object]) -> None:
        """Keep what a stage works with; the default does not."""

    @abstractmethod
    def _scalars(self, stage: str, step: int, scalars: Mapping[str, float]) -> None:
        """Write what was measured in a step."""

    @abstractmethod
    def _curve(self, curve: RateAccuracyCurve) -> None:
        """Write a finished curve."""

    @abstractmethod
    def _notice(self, stage: str, message: str) -> None:
        """Write a notice."""


def points_of(curve: RateAccuracyCurve) -> Iterator[tuple[str, int, float]]:
    """Yield the points of a curve for a tracker whose steps are whole numbers: name, step and value.

    Names are ``<curve>/<metric>``, and steps qualities. Where a quality is a fraction, all are multiplied by the power
    of ten that the names say, such as ``<curve>/<metric> (quality x 10)``.
    """
    factor = whole_steps([point.quality for point in curve.points])
    scaled = "" if factor == 1 else f" (quality x {factor})"
    for point in curve.points:
        for name, value in {"bpp": point.bpp, "task_loss": point.task_loss, **point.scores}.items():
            yield printable(f"{curve.label}/{name}{scaled}"), round(factor * point.quality), value


def whole_steps(qualities: Sequence[float]) -> int:
    """Return the least power of ten that makes whole numbers of all qualities, up to a million."""
    factor = 1
    while factor < 10**6 and any(abs(factor * q - round(factor * q)) > 1e-6 * factor for q in qualities):
        factor *= 10
    return factor
