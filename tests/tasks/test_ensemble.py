"""Several task models as one: of one kind, of two kinds, in Python and in an experiment file."""

import numpy as np
import pytest
import torch

from precomp_sdk import (
    Composite,
    ContractError,
    EnsembleScorer,
    EnsembleTask,
    Label,
    LabelScorer,
    Mask,
    MaskScorer,
    ModuleTask,
    OptionError,
    Registry,
    TargetError,
    builtin,
)
from precomp_sdk.testing import FakeDataset, FakeTask
from precomp_sdk.training import score_task

IMAGES = torch.rand(3, 3, 20, 24)
LABELS = [Label(0), Label(3), Label(1)]


def pair(**options):
    return EnsembleTask(members={"sure": FakeTask(), "unsure": FakeTask(sharpness=4.0)}, **options)


def make_pixels():
    """Make a member of another kind: it labels pixels by their colour."""
    torch.manual_seed(0)

    def loss(logits, targets):
        wanted = torch.stack([target.labels for target in targets])
        return torch.nn.functional.cross_entropy(logits, wanted, reduction="none").mean(dim=(1, 2))

    return ModuleTask(
        torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1)),
        loss=loss,
        predict=list,
        scorer=MaskScorer(2),
        target_kind="mask",
        pseudo_labels=lambda logits: [Mask(item.argmax(0)) for item in logits],
        feature_layers=["0"],
    )


def mixed(**options):
    return EnsembleTask(members={"kind": FakeTask(), "pixels": make_pixels()}, **options)


def test_members_of_one_kind_share_the_targets():
    task = pair(weights={"sure": 3.0})
    assert task.target_kind == Label.kind
    assert task.class_names == FakeTask().class_names
    images = IMAGES.clone().requires_grad_()
    losses = task.losses(images, LABELS)
    expected = (3.0 * FakeTask().losses(IMAGES, LABELS) + FakeTask(sharpness=4.0).losses(IMAGES, LABELS)) / 4.0
    assert torch.allclose(losses, expected, atol=1e-6)
    assert torch.autograd.grad(losses[0], images)[0][0].abs().sum() > 0
    predictions, judged = task.predict_with_losses(IMAGES, LABELS)
    assert torch.allclose(judged, losses.detach())
    assert torch.equal(predictions[2][1], FakeTask(sharpness=4.0).predict(IMAGES)[2])


def test_scores_of_every_member_and_their_mean_first():
    task = pair(weights={"unsure": 3.0})
    assert task.scorer.metrics == ("mean", "sure/top1", "sure/top5", "unsure/top1", "unsure/top5")
    data = FakeDataset(count=12)
    scores = score_task(task, data)
    alone = [score_task(member, data) for member in (FakeTask(), FakeTask(sharpness=4.0))]
    assert scores["sure/top1"] == alone[0]["top1"]
    assert scores["unsure/top1"] == alone[1]["top1"]
    assert scores["mean"] == pytest.approx(0.25 * alone[0]["top1"] + 0.75 * alone[1]["top1"])


def test_members_of_two_kinds_answer_each_for_itself():
    task = mixed(weights={"pixels": 2.0})
    assert task.target_kind == Composite.kind
    own = task.pseudo_labels(IMAGES)
    assert all(isinstance(item, Composite) and item.kind is Composite.kind for item in own)
    assert [part.kind for part in own[0].targets] == [Label.kind, Mask.kind]
    parts = [[item.targets[place] for item in own] for place in range(2)]
    expected = (FakeTask().losses(IMAGES, parts[0]) + 2.0 * make_pixels().losses(IMAGES, parts[1])) / 3.0
    predictions, losses = task.predict_with_losses(IMAGES, own)
    assert torch.allclose(losses, expected.detach(), atol=1e-6)
    statistics = [task.scorer.measure(*both) for both in zip(predictions, own, strict=True)]
    scores = task.scorer.combine(statistics, np.ones(3))
    assert scores == pytest.approx(dict.fromkeys(task.scorer.metrics, 1.0))
    assert task.scorer.metrics == ("mean", "kind/top1", "kind/top5", "pixels/mIoU", "pixels/pixel_accuracy")


def test_own_answers_of_members_of_one_kind():
    task = pair()
    own = task.pseudo_labels(IMAGES)
    assert torch.allclose(
        own[1].targets[1].probabilities, FakeTask(sharpness=4.0).pseudo_labels(IMAGES)[1].probabilities
    )
    assert task.losses(IMAGES, own).shape == (3,)


def test_features_are_the_members_one_after_the_other():
    first, second = mixed().features(IMAGES)
    assert torch.equal(first, FakeTask().features(IMAGES)[0])
    assert torch.equal(second, make_pixels().features(IMAGES)[0])


def test_many_multisets_are_combined_by_the_members():
    task = mixed()
    own = task.pseudo_labels(IMAGES)
    targets = [own[1], own[0], own[2]]
    statistics = [task.scorer.measure(*both) for both in zip(task.predict(IMAGES), targets, strict=True)]
    counts = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]])
    many = task.scorer.combine_many(statistics, counts)
    assert set(many) == set(task.scorer.metrics)
    for row, count in enumerate(counts):
        assert {name: values[row] for name, values in many.items()} == pytest.approx(
            task.scorer.combine(statistics, count)
        )
    assert many["mean"][0] == pytest.approx((many["kind/top1"][0] + many["pixels/mIoU"][0]) / 2)


def test_images_of_unequal_sizes():
    task = mixed()
    images = [torch.rand(3, 12, 12), torch.rand(3, 16, 12), torch.rand(3, 12, 12)]
    own = task.pseudo_labels(images)
    alone = [task.losses([image], [target]) for image, target in zip(images, own, strict=True)]
    assert torch.allclose(task.losses(images, own), torch.cat(alone), atol=1e-5)


def test_targets_of_another_kind():
    masks = [Mask(torch.zeros(20, 24, dtype=torch.int64))] * 3
    for task, targets in ((pair(), masks), (mixed(), LABELS), (mixed(), masks)):
        with pytest.raises(TargetError, match="3 targets of kind"):
            task.losses(IMAGES, targets)
    for parts in ((Label(0),), (masks[0], Label(0)), (Label(0), Label(0))):
        with pytest.raises(TargetError, match="3 targets of kind 'composite'"):
            mixed().losses(IMAGES, [Composite(parts)] * 3)


def test_every_member_checks_the_data_set():
    class Picky(FakeTask):
        def check_dataset(self, class_names):
            raise TargetError(where="picky", expected="nothing", got="something", remedy="-")

    with pytest.raises(TargetError, match="picky"):
        EnsembleTask(members={"a": FakeTask(), "b": Picky()}).check_dataset(["x"])
    pair().check_dataset(["x"])


def test_scores_something_that_is_not_one_per_member():
    scorer = EnsembleScorer({"a": LabelScorer(), "b": LabelScorer()}, {"a": 1.0, "b": 1.0})
    for wrong, got in ((torch.zeros(2).tolist()[:1], "list"), (None, "NoneType")):
        with pytest.raises(ContractError, match=f"a tuple of 2 predictions, one per member; got {got}"):
            scorer.measure(wrong, Label(0))


@pytest.mark.parametrize(
    ("members", "weights", "message"),
    [
        ({}, {}, "option 'members': expected one member or more"),
        ({"a/b": FakeTask()}, {}, "names free of '/' and '.'"),
        ({"a.b": FakeTask()}, {}, "names free of '/' and '.'"),
        ({"a": FakeTask()}, {"b": 1.0}, "option 'weights': expected positive numbers for a; got b: 1.0"),
        ({"a": FakeTask()}, {"a": 0.0}, "got a: 0.0"),
        ({"a": FakeTask()}, {"a": float("nan")}, "got a: nan"),
    ],
)
def test_wrong_options(members, weights, message):
    with pytest.raises(OptionError, match=message):
        EnsembleTask(members=members, weights=weights)


def test_is_registered_by_the_package_itself():
    registry = Registry(entry_points=False)
    registry.register(builtin)
    assert registry.tasks["ensemble"] is EnsembleTask
    assert Registry().tasks["ensemble"] is EnsembleTask
