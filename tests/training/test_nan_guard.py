"""A number that is not finite stops the run, is named, and never reaches a checkpoint."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from precomp_sdk import NonFiniteError
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import STATE_FILE, Trainer, TrainSettings
from precomp_sdk.types import ProxyOutput

SMALL: dict[str, Any] = {
    "steps": 6, "batch_size": 4, "held_out_images": 4, "calibration_images": 8, "held_out_every": 3,
    "checkpoint_every": 2, "warmup_steps": 1, "learning_rate": 0.05, "ladder": (5, 30),
}  # fmt: skip


def trainer(preprocessor: FakePreprocessor | None = None, proxy: FakeProxy | None = None, **settings: Any) -> Trainer:
    codec = FakeCodec()
    return Trainer(
        codec=codec,
        proxy=proxy or FakeProxy(codec),
        preprocessor=preprocessor or FakePreprocessor(),
        task=FakeTask(),
        settings=TrainSettings(**{**SMALL, **settings}),
    )


class SpoiledBits(FakeProxy):
    """Predicts its images well, and NaN bits."""

    def _predict(self, images: Tensor, qualities: Tensor) -> ProxyOutput:
        output = super()._predict(images, qualities)
        return ProxyOutput(output.images, output.bits * math.nan)


class SpoiledImages(FakePreprocessor):
    """Gives NaN from a call on, counted over training or over evaluation."""

    def __init__(self, call: int, *, training: bool) -> None:
        super().__init__()
        self.left, self.when = call, training

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        processed = super()._process(images, strengths)
        if self.training is self.when:
            self.left -= 1
        return processed * math.nan if self.left <= 0 and self.training is self.when else processed


class SpoiledGradient(FakePreprocessor):
    """Its images are well, and what flows back through them is not."""

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        processed = super()._process(images, strengths)
        if processed.requires_grad:
            spoil: Callable[[Tensor], Tensor] = lambda gradient: gradient * math.nan  # noqa: E731 - mypy wants its type
            processed.register_hook(spoil)  # type: ignore[no-untyped-call]
        return processed


def test_the_bits_are_named_and_not_their_sum() -> None:
    with pytest.raises(NonFiniteError, match="training step 1, term 'bpp'"):
        trainer(proxy=SpoiledBits(FakeCodec())).run(FakeDataset())


def test_the_preprocessors_own_images_are_named() -> None:
    with pytest.raises(NonFiniteError, match=r"training step 3, term 'processed image'.*no folder"):
        trainer(SpoiledImages(3, training=True)).run(FakeDataset())


def test_held_out_images_are_named() -> None:
    with pytest.raises(NonFiniteError, match="held-out images after training step 0, term 'processed image'"):
        trainer(SpoiledImages(1, training=False)).run(FakeDataset())


def test_the_gradient_norm_is_named(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="training step 1, term 'gradient norm'"):
        trainer(SpoiledGradient()).run(FakeDataset(), folder=tmp_path)
    assert not (tmp_path / STATE_FILE).exists()


def test_endless_weights_are_never_saved(tmp_path: Path) -> None:
    # every term and gradient of the first step is finite; the decay takes the weight to minus infinity
    with pytest.raises(NonFiniteError, match=r"training step 1, term 'weight preprocessor.gain'"):
        trainer(FakePreprocessor(gain=0.3), learning_rate=1e20, weight_decay=1e20, checkpoint_every=1).run(
            FakeDataset(), folder=tmp_path
        )
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
