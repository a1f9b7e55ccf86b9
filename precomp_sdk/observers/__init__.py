"""What happens during a run, shown and logged: progress, JSON lines, TensorBoard."""

from precomp_sdk.observers.jsonl import JSONLObserver
from precomp_sdk.observers.plain import fan_out, plain
from precomp_sdk.observers.progress import ProgressObserver
from precomp_sdk.observers.tensorboard import TensorBoardObserver

__all__ = ["JSONLObserver", "ProgressObserver", "TensorBoardObserver", "fan_out", "plain"]
