"""What happens during a run, shown and logged: progress, JSON lines, TensorBoard."""

from precomp_sdk.observers._pace import duration
from precomp_sdk.observers.jsonl import JSONLObserver
from precomp_sdk.observers.listeners import Listener, Observer, fan_out, listening
from precomp_sdk.observers.plain import plain
from precomp_sdk.observers.progress import ProgressObserver
from precomp_sdk.observers.tensorboard import TensorBoardObserver

__all__ = [
    "JSONLObserver",
    "Listener",
    "Observer",
    "ProgressObserver",
    "TensorBoardObserver",
    "duration",
    "fan_out",
    "listening",
    "plain",
]
