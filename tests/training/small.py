"""A trainer of doubles that is done in a moment."""

from typing import Any

from precomp_sdk.testing import FakeCodec, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import Trainer, TrainSettings

__all__ = ["SMALL", "trainer"]

SMALL: dict[str, Any] = {
    "steps": 6, "batch_size": 4, "held_out_images": 4, "calibration_images": 8, "held_out_every": 3,
    "checkpoint_every": 2, "warmup_steps": 1, "learning_rate": 0.05, "ladder": (5, 30),
}  # fmt: skip


def trainer(observer: Any = None, *, preprocessor: Any = None, task: Any = None, **settings: Any) -> Trainer:
    codec = FakeCodec()
    return Trainer(
        codec=codec,
        proxy=FakeProxy(codec),
        preprocessor=preprocessor or FakePreprocessor(),
        task=task or FakeTask(),
        settings=TrainSettings(**{**SMALL, **settings}),
        observer=observer,
    )
