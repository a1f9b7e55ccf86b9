"""An error that arises from a sample names it, wherever the task meets it."""

from collections.abc import Callable

import pytest
from torch import Tensor

from precomp_sdk.evaluation import EvaluateSettings, evaluate
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import FitTaskSettings, Trainer, TrainSettings, fit_task


class Choosy(FakeTask):
    """Refuses what it is given, as a network of a stranger's does."""

    def _losses(self, images: Tensor, targets: object) -> Tensor:
        raise RuntimeError("boxes of no height")

    def _predict_with_losses(self, images: Tensor, targets: object) -> tuple[list[int], Tensor]:
        raise RuntimeError("boxes of no height")


def train() -> None:
    codec = FakeCodec()
    settings = TrainSettings(
        steps=2, batch_size=4, ladder=(5, 30), lambdas={5: 1.0, 30: 1.0}, held_out_images=4, targets="dataset"
    )
    trainer = Trainer(
        codec=codec, proxy=FakeProxy(codec), preprocessor=FakePreprocessor(), task=Choosy(), settings=settings
    )
    trainer.run(FakeDataset(count=20))


def fit() -> None:
    fit_task(Choosy(), FakeDataset(count=8), settings=FitTaskSettings(epochs=1))


def measure() -> None:
    settings = EvaluateSettings(ladder=(5, 30), baselines=(), replicates=0)
    evaluate(FakeCodec(), Choosy(), FakeDataset(count=4), settings=settings)


@pytest.mark.parametrize("work", [train, fit, measure])
def test_an_error_of_a_strangers_network_names_the_samples(work: Callable[[], None]) -> None:
    with pytest.raises(RuntimeError, match="boxes of no height") as caught:
        work()
    told = " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    keys = {sample.key for sample in FakeDataset(count=20)}
    assert any(repr(key) in told for key in keys), told
