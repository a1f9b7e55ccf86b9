"""What happens during a run, shown and logged: progress, JSON lines, TensorBoard, Weights & Biases, MLflow."""

from precomp_sdk.observers._pace import duration
from precomp_sdk.observers._tracker import Tracker
from precomp_sdk.observers.jsonl import JSONLObserver
from precomp_sdk.observers.listeners import Listener, Observer, fan_out, listening
from precomp_sdk.observers.mlflow import MLflowObserver
from precomp_sdk.observers.plain import plain
from precomp_sdk.observers.progress import ProgressObserver
from precomp_sdk.observers.tensorboard import TensorBoardObserver
from precomp_sdk.observers.wandb import WandbObserver

__all__ = [
    "JSONLObserver",
    "Listener",
    "MLflowObserver",
    "Observer",
    "ProgressObserver",
    "TensorBoardObserver",
    "Tracker",
    "WandbObserver",
    "duration",
    "fan_out",
    "listening",
    "plain",
]
