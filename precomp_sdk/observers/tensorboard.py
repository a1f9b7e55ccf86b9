"""Scalars for TensorBoard, where it is installed."""

from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from precomp_sdk.errors import MissingDependencyError
from precomp_sdk.events import Event, Notice, PointMeasured, StepDone

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardObserver"]


class TensorBoardObserver:
    """Writes the scalars of every step, the points of every curve, and notices.

    Scalars are called ``<stage>/<name>``; the points of curves ``<curve>/<metric>``, with the quality as their step.

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
                scalars = {f"{event.stage}/{name}": value for name, value in event.scalars.items()}
                step = event.step
            case PointMeasured(label, point):
                values = {"bpp": point.bpp, "task_loss": point.task_loss, **point.scores}
                scalars = {f"{label}/{name}": value for name, value in values.items()}
                step = round(point.quality)
            case Notice(stage, message):
                self._open().add_text(f"{stage}/notice", message)
                return
            case _:
                return
        for name, value in scalars.items():
            self._open().add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is pending and close the files."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> "SummaryWriter":
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # takes long to import, and may be absent

            self._writer = SummaryWriter(str(self._folder))
        return self._writer
