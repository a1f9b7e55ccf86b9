"""Scalars for TensorBoard, where it is installed."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from precomp_sdk.observers._tracker import Tracker, points_of
from precomp_sdk.types import RateAccuracyCurve

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardObserver"]


class TensorBoardObserver(Tracker):
    """Writes the scalars of every step, the points of every curve, and notices.

    Scalars are called ``<stage>/<name>``; the points of a finished curve ``<curve>/<metric>``, with the quality as
    their step. TensorBoard's steps are whole numbers: where a quality is a fraction, the curve's are multiplied by the
    power of ten that the names say, such as ``<curve>/<metric> (quality x 10)``.

    Args:
        folder: for TensorBoard's files; they are opened at the first event.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """

    package = "tensorboard"

    def __init__(self, folder: Path | str) -> None:
        super().__init__()
        self._folder = Path(folder)
        self._writer: SummaryWriter | None = None

    def _scalars(self, stage: str, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._open().add_scalar(f"{stage}/{name}", value, step)

    def _curve(self, curve: RateAccuracyCurve) -> None:
        for name, step, value in points_of(curve):
            self._open().add_scalar(name, value, step)

    def _notice(self, stage: str, message: str) -> None:
        self._open().add_text(f"{stage}/notice", message)

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
