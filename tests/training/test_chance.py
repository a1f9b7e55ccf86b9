"""A fitted task that is no better than one answer for every image is told."""

import re

import pytest
import torch

from precomp_sdk import Boxes, Composite, Label, Mask, Notice, RunFinished, Target
from precomp_sdk.testing import FakeDataset, FakeTask
from precomp_sdk.training import FitTaskSettings, fit_task
from precomp_sdk.training.chance import Chance

HALF = [Label(place % 2) for place in range(100)]
MASK = Mask(labels=torch.tensor([[0, 0, 0, 1], [255, 255, 255, 255]]))
NOTHING = Mask(labels=torch.full((2, 4), 255))
NO_BOX = Boxes(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize(
    ("targets", "scores", "told"),
    [
        (HALF, {"top1": 0.5}, "top1 0.500 .*commonest class scores 0.500"),
        (HALF, {"top1": 0.54}, "top1 0.540"),  # one standard error is 0.05
        (HALF, {"top1": 0.56}, ""),
        ([Label(0)] * 3 + [Label(1)], {"top1": 0.75}, "scores 0.750"),
        ([MASK, MASK], {"mIoU": 0.3, "pixel_accuracy": 0.75}, "pixel_accuracy 0.750"),
        ([MASK, MASK], {"mIoU": 0.3, "pixel_accuracy": 0.76}, ""),
        ([NO_BOX], {"mAP": 0.0}, "mAP 0.000 .*finding nothing"),
        ([NO_BOX], {"mAP": 0.02}, ""),
        ([Composite(targets=(Label(0),))], {"mean": 0.0}, ""),
        ([Label(0)], {"other": 0.0}, ""),
        ([], {"top1": 0.0}, ""),
        ([Label(0), MASK], {"top1": 0.0, "pixel_accuracy": 0.0}, ""),  # no one answer is for both
        ([MASK, Label(0)], {"top1": 0.0, "pixel_accuracy": 0.0}, ""),
        ([NOTHING], {"pixel_accuracy": 0.0}, ""),
    ],
)
def test_what_one_answer_scores(targets: list[Target], scores: dict[str, float], told: str) -> None:
    chance = Chance()
    chance.add(targets[:1])
    chance.add(targets[1:])
    found = chance.verdict(scores)
    assert re.search(told, found) if told else found == ""


def test_fitting_tells_of_a_task_at_chance() -> None:
    events: list[object] = []
    still = FitTaskSettings(epochs=1, learning_rate=1e-12)
    train, val = FakeDataset(contrast=0.0), FakeDataset(contrast=0.0, seed=1)
    fit_task(FakeTask(), train, settings=still, validation=val, observer=events.append)
    (told,) = [event.message for event in events if isinstance(event, Notice)]
    assert "has learnt nothing that carries over" in told
    assert isinstance(events[-1], RunFinished)
    events.clear()
    train, val = FakeDataset(contrast=0.5), FakeDataset(contrast=0.5, seed=1)
    fit_task(FakeTask(), train, settings=still, validation=val, observer=events.append)
    assert not [event for event in events if isinstance(event, Notice)]
