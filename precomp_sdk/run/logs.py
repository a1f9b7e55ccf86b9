"""The logs of a run, as the table ``[output]`` of its experiment asks for them."""

from pathlib import Path

from precomp_sdk.config import Output
from precomp_sdk.observers import JSONLObserver, MLflowObserver, TensorBoardObserver, Tracker, WandbObserver
from precomp_sdk.run.record import EVENTS_FILE

__all__ = ["open_logs"]


def open_logs(
    output: Output, folder: Path, *, append: bool = False, services: bool = True
) -> list[JSONLObserver | Tracker]:
    """Return the observers that write a run's logs; close them at its end.

    Args:
        output: what is wanted.
        folder: of the run.
        append: go on with the logs that are there.
        services: False leaves out those that may send anything off this machine.

    Raises:
        MissingDependencyError: a package is asked for and not installed.
    """
    logs: list[JSONLObserver | Tracker] = [JSONLObserver(folder / EVENTS_FILE, append=append)]
    if output.tensorboard is True or (output.tensorboard == "auto" and TensorBoardObserver.available()):
        logs.append(TensorBoardObserver(folder / "tensorboard"))
    if services and output.wandb:
        logs.append(WandbObserver(output.wandb, folder, append=append))
    if services and output.mlflow:
        logs.append(MLflowObserver(output.mlflow, folder, append=append))
    return logs
