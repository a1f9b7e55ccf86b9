"""The logs of a run, as the table ``[output]`` of its experiment asks for them."""

from pathlib import Path

from precomp_sdk.config import Output
from precomp_sdk.observers import JSONLObserver, TensorBoardObserver
from precomp_sdk.run.record import EVENTS_FILE

__all__ = ["open_logs"]


def open_logs(output: Output, folder: Path, *, append: bool = False) -> list[JSONLObserver | TensorBoardObserver]:
    """Return the observers that write a run's logs; close them at its end.

    Args:
        output: what is wanted.
        folder: of the run.
        append: go on with the logs that are there.

    Raises:
        MissingDependencyError: a package is asked for and not installed.
    """
    logs: list[JSONLObserver | TensorBoardObserver] = [JSONLObserver(folder / EVENTS_FILE, append=append)]
    if output.tensorboard is True or (output.tensorboard == "auto" and TensorBoardObserver.available()):
        logs.append(TensorBoardObserver(folder / "tensorboard"))
    return logs
