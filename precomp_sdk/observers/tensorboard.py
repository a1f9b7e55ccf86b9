"""Scalars for TensorBoard, where it is installed."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from precomp_sdk.closing import Closing
from precomp_sdk.errors import MissingDependencyError, printable
from precomp_sdk.events import CurveDone, Event, Notice, StepDone

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardObserver"]


class TensorBoardObserver(Closing):
    """Writes the scalars of every step, the points of every curve, and notices.

    Scalars are called ``<stage>/<name>``; the points of a finished curve ``<curve>/<metric>``, with the quality as
    their step. TensorBoard's steps are whole numbers: where a quality is a fraction, the curve's are multiplied by the
    power of ten that the names say, such as ``<curve>/<metric> (quality x 10)``.

    Args:
        folder: for TensorBoard's files; they are opened at the first event.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path | str) -> None:
        if not self.available():
            raise MissingDependencyError(
                where="TensorBoardObserver",
                expected="the package tensorboard",
                got="none",
                remedy='Install it: pip install "precomp-sdk[tensorboard]".',
            )
        self._folder = Path(folder)
        self._writer: SummaryWriter | None = None

    @staticmethod
    def available() -> bool:
        """Return whether TensorBoard is installed."""
        return find_spec("tensorboard") is not None

    def __call__(self, event: Event) -> None:
        """Write one event's scalars."""
        match event:
            case StepDone():
                for name, value in event.scalars.items():
                    self._open().add_scalar(f"{event.stage}/{name}", value, event.step)
            case CurveDone(curve):
                factor = _whole_steps([point.quality for point in curve.points])
                scaled = "" if factor == 1 else f" (quality x {factor})"
                for point in curve.points:
                    for name, value in {"bpp": point.bpp, "task_loss": point.task_loss, **point.scores}.items():
                        tag = printable(f"{curve.label}/{name}{scaled}")
                        self._open().add_scalar(tag, value, round(factor * point.quality))
            case Notice(stage, message):
                self._open().add_text(f"{stage}/notice", printable(message))
            case _:
                pass

    def close(self) -> None:
        """Write what is pending and close the files."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> "SummaryWriter":
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # takes long to import, and may be absent

            self._writer = SummaryWriter(str(self._folder))
        return self._writer


def _whole_steps(qualities: Sequence[float]) -> int:
    """Return the least power of ten that makes whole numbers of all qualities, up to a million."""
    factor = 1
    while factor < 10**6 and any(abs(factor * q - round(factor * q)) > 1e-6 * factor for q in qualities):
        factor *= 10
    return factor
