"""MaskScorer against torchmetrics."""

import time

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from precomp_sdk import Boxes, ContractError, Mask, MaskScorer, TargetError


def make_set(images, classes=6, *, ignore=255, used=5):
    """Return predictions that are right on about 70% of the pixels, and targets; the last class never occurs."""
    predictions, targets = [], []
    for index in range(images):
        size = (20 + index % 3, 31)
        labels = torch.randint(0, used, size)
        answer = torch.where(torch.rand(size) < 0.7, labels, torch.randint(0, used, size))
        labels[torch.rand(size) < 0.1] = ignore
        predictions.append(answer)
        targets.append(Mask(labels, ignore_index=ignore))
    return predictions, targets


def by_torchmetrics(predictions, targets, classes):
    """torchmetrics lists a label to be ignored among the classes if it is one of them, so it is moved out."""
    index = MulticlassJaccardIndex(classes, average="macro", ignore_index=255)
    accuracy = MulticlassAccuracy(classes, average="micro", ignore_index=255)
    for prediction, target in zip(predictions, targets, strict=True):
        labels = torch.where(target.labels == target.ignore_index, 255, target.labels)
        for metric in (index, accuracy):
            metric.update(prediction.flatten()[None], labels.flatten()[None])
    return {"mIoU": float(index.compute()), "pixel_accuracy": float(accuracy.compute())}


def measure(scorer, predictions, targets):
    return [scorer.measure(*pair) for pair in zip(predictions, targets, strict=True)]


@pytest.mark.parametrize("ignore", [255, -1, 6])
def test_equals_torchmetrics(ignore):
    predictions, targets = make_set(12, ignore=ignore)
    scorer = MaskScorer(6)
    scores = scorer.combine(measure(scorer, predictions, targets), np.ones(12))
    assert scores == pytest.approx(by_torchmetrics(predictions, targets, 6), abs=1e-6)
    assert 0.3 < scores["mIoU"] < scores["pixel_accuracy"] < 0.9


def test_a_image_that_counts_twice_is_there_twice():
    predictions, targets = make_set(6)
    scorer = MaskScorer(6)
    counts = np.array([[2.0, 0, 1, 1, 0, 3], [0, 0, 0, 0, 0, 1]])
    many = scorer.combine_many(measure(scorer, predictions, targets), counts)
    for row, count in enumerate(counts):
        chosen = np.repeat(np.arange(6), count.astype(int))
        expected = by_torchmetrics([predictions[i] for i in chosen], [targets[i] for i in chosen], 6)
        assert {name: values[row] for name, values in many.items()} == pytest.approx(expected, abs=1e-6)
        assert scorer.combine(measure(scorer, predictions, targets), count) == pytest.approx(expected, abs=1e-6)


def test_class_scores_are_answered_by_the_highest():
    _, (target,) = make_set(1)
    scores = torch.rand(6, *target.labels.shape)
    scorer = MaskScorer(6)
    assert np.array_equal(scorer.measure(scores, target), scorer.measure(scores.argmax(0).to(torch.uint8), target))


def test_per_class():
    scorer = MaskScorer(3)
    statistics = [scorer.measure(torch.tensor([[0, 0, 1, 1]]), Mask(torch.tensor([[0, 1, 1, 255]])))]
    np.testing.assert_allclose(scorer.per_class(statistics), [0.5, 0.5, np.nan])
    assert scorer.combine(statistics, np.ones(1)) == {"mIoU": 0.5, "pixel_accuracy": pytest.approx(2 / 3)}


def test_2000_replicates_in_seconds():
    scorer = MaskScorer(11)
    statistics = [np.random.default_rng(index).random((3, 11)) for index in range(1000)]
    begin = time.process_time()
    values = scorer.combine_many(statistics, np.random.default_rng(0).integers(0, 3, (2000, 1000)).astype(float))
    assert time.process_time() - begin < 10
    assert values["mIoU"].shape == (2000,)


def test_images_without_a_labelled_pixel():
    scorer = MaskScorer(2)
    nothing = scorer.measure(torch.zeros(1, 4).long(), Mask(torch.full((1, 4), 255)))
    right = scorer.measure(torch.zeros(1, 4).long(), Mask(torch.zeros(1, 4).long()))
    assert scorer.combine([nothing, right], np.ones(2)) == {"mIoU": 1.0, "pixel_accuracy": 1.0}
    with pytest.raises(TargetError, match="images with one labelled pixel or more; got none in 1"):
        scorer.combine([nothing], np.ones(1))
    np.testing.assert_array_equal(scorer.combine_many([nothing, right], np.eye(2))["mIoU"], [np.nan, 1.0])


def test_wrong_targets():
    prediction = torch.zeros(2, 3).long()
    with pytest.raises(TargetError, match="expected a Mask; got Boxes"):
        MaskScorer(2).measure(prediction, Boxes(torch.zeros(0, 4), torch.zeros(0)))
    with pytest.raises(TargetError, match="target: expected labels from 0 to 1, or 255 to ignore; got 0 to 2"):
        MaskScorer(2).measure(prediction, Mask(torch.tensor([[0, 1, 2]] * 2)))
    with pytest.raises(TargetError, match="got -1 to 0"):
        MaskScorer(2).measure(prediction, Mask(torch.tensor([[0, 0, -1]] * 2)))


@pytest.mark.parametrize(
    ("prediction", "got"),
    [
        (torch.zeros(3, 2).long(), r"int64 \(3, 2\)"),
        (torch.zeros(2, 3), r"float32 \(2, 3\)"),
        (torch.zeros(3, 2, 3), r"float32 \(3, 2, 3\)"),
        ([[0, 0, 0]] * 2, "got list"),
        (torch.full((2, 3), 2), "labels from 0 to 1.*got 2 to 2"),
    ],
)
def test_wrong_predictions(prediction, got):
    with pytest.raises(ContractError, match=f"MaskScorer, prediction: .*{got}"):
        MaskScorer(2).measure(prediction, Mask(torch.zeros(2, 3).long()))
