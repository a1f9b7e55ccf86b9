"""A user's own network as a task: for each kind of target, and with every mistake its functions can make."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from precomp_sdk import (
    Boxes,
    BoxScorer,
    ContractError,
    Label,
    LabelScorer,
    Mask,
    MaskScorer,
    ModuleTask,
    OptionError,
    TargetError,
)
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy
from precomp_sdk.training import FitTaskSettings, Trainer, TrainSettings, fit_task, score_task


def network(outputs=4):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, outputs, 5, padding=2)]
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten())


def label_loss(logits, targets):
    return functional.cross_entropy(logits, torch.tensor([t.index for t in targets]), reduction="none")


def make(**options):
    given = {"loss": label_loss, "predict": list, "scorer": LabelScorer(), "target_kind": "label", **options}
    return ModuleTask(given.pop("module", None) or network(), **given)


IMAGES = torch.rand(3, 3, 20, 24)
LABELS = [Label(0), Label(3), Label(1)]


def test_a_network_in_a_few_lines():
    task = make(feature_layers=["1", "2"], class_names=["a", "b", "c", "d"], name="mine")
    images = IMAGES.clone().requires_grad_()
    losses = task.losses(images, LABELS)
    assert torch.equal(losses, label_loss(task.module(images), LABELS))
    (gradient,) = torch.autograd.grad(losses[1], images)
    assert gradient[1].abs().sum() > 0
    assert gradient[0].abs().sum() == 0
    assert torch.equal(torch.stack(task.predict(IMAGES)), task.module(IMAGES))
    predictions, judged = task.predict_with_losses(IMAGES, LABELS)
    assert torch.equal(judged, losses.detach())
    assert torch.equal(torch.stack(predictions), torch.stack(task.predict(IMAGES)))
    first, second = task.features(images)
    assert first.shape == (3, 8, 20, 24)
    assert torch.equal(second, task.module[:3](images))
    assert torch.autograd.grad(first.sum(), images)[0].abs().sum() > 0
    assert (task.name, task.target_kind, task.class_names) == ("mine", Label.kind, ("a", "b", "c", "d"))


def test_judging_runs_the_network_once():
    task, runs = make(), []
    task.module.register_forward_hook(lambda *_: runs.append(1))
    task.predict_with_losses(IMAGES, LABELS)
    assert len(runs) == 1


def test_images_of_unequal_sizes():
    images = [torch.rand(3, 9, 9), torch.rand(3, 12, 9), torch.rand(3, 9, 9)]
    task = make()
    alone = [task.losses([image], [label]) for image, label in zip(images, LABELS, strict=True)]
    assert torch.allclose(task.losses(images, LABELS), torch.cat(alone), atol=1e-6)


def test_its_classes_are_those_of_the_data_set():
    task = make(class_names=["a", "b"])
    task.check_dataset([])
    task.check_dataset(["a", "b"])
    make().check_dataset(["whatever"])
    with pytest.raises(TargetError, match="the classes a, b, in this order; got b, a"):
        task.check_dataset(["b", "a"])


def test_it_can_be_fitted_and_a_preprocessor_trained_for_it(tmp_path):
    data = FakeDataset(count=24, contrast=0.5)
    task = make(feature_layers=["1"], pseudo_labels=lambda logits: [Label(int(row.argmax())) for row in logits])
    before = score_task(task, data)["top1"]
    fit_task(task, data, settings=FitTaskSettings(epochs=12, batch_size=8, learning_rate=0.01, workers=1))
    assert score_task(task, data)["top1"] > max(0.6, before)
    codec, preprocessor = FakeCodec(), FakePreprocessor()
    settings = TrainSettings(
        steps=2, batch_size=4, ladder=(5.0, 30.0), lambdas={5.0: 1.0, 30.0: 1.0}, feature_weight=0.5,
        targets="pseudo-labels",
        held_out_images=4, calibration_images=4, warmup_steps=1, learning_rate=0.05,
    )  # fmt: skip
    with torch.random.fork_rng():
        trainer = Trainer(codec=codec, proxy=FakeProxy(codec), preprocessor=preprocessor, task=task, settings=settings)
        trainer.run(data, folder=tmp_path)
    assert preprocessor.gain.item() != 0.0


class Boxer(nn.Module):
    """Finds one box: the bright part."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return self.weight * images.mean(dim=1)  # (N, H, W)


def box_loss(maps, targets):
    wanted = torch.zeros_like(maps)
    for place, target in enumerate(targets):
        for x1, y1, x2, y2 in target.boxes.round().int().tolist():
            wanted[place, y1:y2, x1:x2] = 1.0
    return (maps - wanted).square().mean(dim=(1, 2))


def find_boxes(maps):
    found = []
    for bright in maps > 0.5:
        rows, columns = bright.any(1).nonzero()[:, 0], bright.any(0).nonzero()[:, 0]
        box = [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]] if len(rows) else []
        label = torch.zeros(len(box), dtype=torch.int64)
        found.append(Boxes(torch.tensor(box).float().reshape(-1, 4), label, scores=torch.ones(len(box))))
    return found


def test_a_network_that_finds_boxes():
    images = torch.zeros(2, 3, 16, 16)
    images[0, :, 2:9, 4:12] = 1.0
    targets = [
        Boxes(torch.tensor([[4.0, 2.0, 12.0, 9.0]]), torch.zeros(1, dtype=torch.int64)),
        Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)),
    ]
    task = ModuleTask(
        Boxer(), loss=box_loss, predict=find_boxes, scorer=BoxScorer(1), target_kind="boxes", pseudo_labels=find_boxes
    )
    predictions, losses = task.predict_with_losses(images, targets)
    assert losses.tolist() == [0.0, 0.0]
    statistics = [task.scorer.measure(*pair) for pair in zip(predictions, targets, strict=True)]
    assert task.scorer.combine(statistics, np.ones(2))["mAP"] == pytest.approx(1.0)
    assert torch.equal(task.pseudo_labels(images)[0].boxes, targets[0].boxes)


def test_a_network_that_labels_pixels():
    def loss(logits, targets):
        wanted = torch.stack([target.labels for target in targets])
        return functional.cross_entropy(logits, wanted, reduction="none", ignore_index=255).mean(dim=(1, 2))

    task = ModuleTask(nn.Conv2d(3, 2, 1), loss=loss, predict=list, scorer=MaskScorer(2), target_kind=Mask.kind)
    masks = [Mask(torch.randint(0, 2, (20, 24))) for _ in range(3)]
    predictions, losses = task.predict_with_losses(IMAGES, masks)
    assert losses.shape == (3,)
    statistics = [task.scorer.measure(*pair) for pair in zip(predictions, masks, strict=True)]
    assert 0.0 < task.scorer.combine(statistics, np.ones(3))["mIoU"] < 1.0


@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (lambda logits, targets: 0.5, "got float"),
        (lambda logits, targets: [0.5] * 3, "got list"),
        (lambda logits, targets: logits.mean(), r"got torch.float32 \(\)"),
        (lambda logits, targets: logits, r"got torch.float32 \(3, 4\)"),
        (lambda logits, targets: logits.argmax(1), r"got torch.int64 \(3,\)"),
        (lambda logits, targets: logits.detach().mean(1), "a gradient to the images; got losses without one"),
    ],
)
def test_a_loss_that_returns_something_else(loss, got):
    with pytest.raises(ContractError, match=f"ModuleTask 'module', loss function: expected .*{got}"):
        make(loss=loss).losses(IMAGES.clone().requires_grad_(), LABELS)


@pytest.mark.parametrize(
    ("predict", "got"),
    [
        (lambda logits: None, "NoneType"),
        (lambda logits: "abc", "str"),
        (lambda logits: logits.mean(), r"a tensor of shape \(\)"),
        (lambda logits: list(logits)[:2], "2"),
        (lambda logits: {0: 1}, "dict"),
    ],
)
def test_predictions_that_are_something_else(predict, got):
    with pytest.raises(ContractError, match=f"predict function: expected 3 answers, one per image; got {got}"):
        make(predict=predict).predict(IMAGES)


def test_a_tensor_of_predictions_is_one_per_row():
    assert len(make(predict=lambda logits: logits).predict(IMAGES)) == 3


def test_pseudo_labels_of_another_kind():
    with pytest.raises(ContractError, match="pseudo_labels function: expected targets of kind 'label'; got Mask"):
        make(pseudo_labels=lambda logits: [Mask(row) for row in logits]).pseudo_labels(IMAGES)
    with pytest.raises(ContractError, match="targets of kind 'label'; got Tensor"):
        make(pseudo_labels=list).pseudo_labels(IMAGES)
    with pytest.raises(ContractError, match="pseudo_labels function: expected 3 answers"):
        make(pseudo_labels=lambda logits: [Label(0)]).pseudo_labels(IMAGES)


def test_targets_of_another_kind():
    with pytest.raises(TargetError, match=r"3 targets of kind 'label'; got 3 of kinds \['mask'\]"):
        make().losses(IMAGES, [Mask(torch.zeros(20, 24))] * 3)


def test_what_was_not_given_is_not_offered():
    with pytest.raises(OptionError, match="a ModuleTask without pseudo_labels"):
        make().pseudo_labels(IMAGES)
    with pytest.raises(OptionError, match="a ModuleTask without feature_layers"):
        make().features(IMAGES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target_kind": "labels"},
            "'target_kind': expected the kind of .*; got 'labels'. Did you mean 'label'",
        ),
        ({"feature_layers": ["9"]}, "names of layers of Sequential; got '9'"),
        ({"feature_layers": []}, "a list of layer names"),
        ({"feature_layers": "1"}, "a list of layer names; got '1'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(OptionError, match=message):
        make(**options)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.pair = Pair()
        self.idle = nn.Identity()
        self.mean = nn.Flatten(0)
        self.whole = nn.Identity()

    def forward(self, images):
        first, _ = self.pair(images)
        self.mean(images)
        self.whole((images * 9).long())
        return first


class Pair(nn.Module):
    def forward(self, images):
        return images.mean(dim=(2, 3)), images


@pytest.mark.parametrize(
    ("layer", "got"),
    [
        ("pair", "tuple"),
        ("idle", "a layer that did not run"),
        ("mean", r"torch.float32 \(4320,\)"),
        ("whole", r"torch.int64 \(3, 3, 20, 24\)"),
    ],
)
def test_layers_without_a_row_per_image(layer, got):
    task = make(module=Odd(), feature_layers=[layer])
    with pytest.raises(
        ContractError, match=f"features of layer '{layer}': expected a floating-point tensor.*got {got}"
    ):
        task.features(IMAGES)
    assert not any(module._forward_hooks for module in task.modules())
