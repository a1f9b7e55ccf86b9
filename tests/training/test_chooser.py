"""A trainer whose images are sent at the qualities that a chooser takes for them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from precomp_sdk import (
    CheckpointError,
    CheckpointSaved,
    Event,
    NotFittedError,
    OptionError,
    QualityChooser,
    Trainer,
    TrainSettings,
)
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import loop

from .small import SMALL

IMAGES = [FakeDataset(count=4, contrast=0.3)[place].image for place in range(4)]


def fitted(codec: FakeCodec, **options: Any) -> QualityChooser:
    torch.manual_seed(0)
    chooser = QualityChooser(codec, {"one": FakeTask()}, **{"ladder": SMALL["ladder"], **options})
    chooser.fit(IMAGES)
    return chooser


def trainer(chooser: QualityChooser | None, codec: FakeCodec, observer: Any = None) -> Trainer:
    torch.manual_seed(0)
    return Trainer(
        codec=codec, proxy=FakeProxy(codec), preprocessor=FakePreprocessor(), task=FakeTask(), chooser=chooser,
        settings=TrainSettings(**SMALL), observer=observer,
    )  # fmt: skip


def test_images_are_trained_at_the_chosen_qualities(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = FakeCodec()
    chooser = fitted(codec)
    seen: list[tuple[Any, float]] = []
    step = loop.training_step

    def noted(samples: Any, qualities: Any, **given: Any) -> Any:
        seen.extend(zip((sample.image for sample in samples), qualities, strict=True))
        return step(samples, qualities, **given)

    monkeypatch.setattr(loop, "training_step", noted)
    asked: list[float] = []
    choose = chooser.choose

    def spied(image: Any, quality: float, **given: Any) -> Any:
        asked.append(quality)
        return choose(image, quality, **given)

    monkeypatch.setattr(chooser, "choose", spied)
    trainer(chooser, codec).run(FakeDataset(count=24))
    assert set(asked) == set(SMALL["ladder"])  # operating points
    assert [choose(image, point, search="searched").quality for (image, _), point in zip(seen, asked, strict=True)] == [
        quality for _, quality in seen
    ]
    assert asked != [quality for _, quality in seen]


def test_a_resumed_run_is_the_uninterrupted_one_and_another_chooser_is_refused(tmp_path: Path) -> None:
    codec, dataset = FakeCodec(), FakeDataset(count=24)
    whole = trainer(fitted(codec), codec)
    whole.run(dataset, folder=tmp_path / "whole")

    class InterruptedRunError(BaseException):
        pass

    def pull_the_plug(event: Event) -> None:
        if isinstance(event, CheckpointSaved) and event.step == 4:
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        trainer(fitted(codec), codec, pull_the_plug).run(dataset, folder=tmp_path / "part")
    with pytest.raises(CheckpointError, match="chooser"):
        trainer(None, codec).run(dataset, folder=tmp_path / "part", resume=True)
    part = trainer(fitted(codec), codec)
    part.run(dataset, folder=tmp_path / "part", resume=True)
    weights, expected = (run.preprocessor.state_dict() for run in (part, whole))
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())


@pytest.mark.parametrize(
    ("options", "told"),
    [({"ladder": (5, 60)}, "ladder that is trained for"), ({"resolutions": (1.0, 0.5)}, "full size")],
)
def test_a_chooser_of_something_else_is_refused(options: dict[str, Any], told: str) -> None:
    codec = FakeCodec()
    with pytest.raises(OptionError, match=told):
        trainer(fitted(codec, **options), codec)


def test_a_chooser_of_another_codec_or_one_that_was_not_fitted_is_refused() -> None:
    codec = FakeCodec()

    class Other(FakeCodec):
        name = "other"

    with pytest.raises(OptionError, match="codec that is trained for"):
        trainer(fitted(Other()), codec)
    with pytest.raises(NotFittedError):
        trainer(QualityChooser(codec, {"one": FakeTask()}, ladder=SMALL["ladder"]), codec)
