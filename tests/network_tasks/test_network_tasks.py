"""Networks of one's own as tasks, by their calling convention."""

from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_sdk import (
    Boxes,
    ClassifierTask,
    ContractError,
    DetectorTask,
    Label,
    Mask,
    NetworkInput,
    OptionError,
    SegmenterTask,
    TargetError,
)
from precomp_sdk.testing import TaskSettings, check

Output = namedtuple("Output", ["loss", "logits"])  # as transformers' outputs have it


class Texture(nn.Module):
    """A network of the loudest filters; its answer has the form that a test asks for."""

    def __init__(self, classes: int = 3, form: Any = None, size: int | None = None) -> None:
        super().__init__()
        self.filters = nn.Conv2d(3, classes, 5, padding=2)
        self.norm = nn.BatchNorm2d(classes)
        self.drop = nn.Dropout(0.5)
        self.form, self.size = form, size

    def forward(self, images: Tensor) -> Any:
        if self.size is not None and images.shape[-1] != self.size:
            raise ValueError(f"{images.shape[-1]} instead of {self.size}")
        maps = self.drop(self.norm(self.filters(images)))
        scores = maps.square().mean(dim=(2, 3))
        return scores if self.form is None else self.form(scores, maps)


def classifier(**options: Any) -> ClassifierTask:
    torch.manual_seed(0)
    return ClassifierTask(Texture(), **{"mean": (0.5, 0.4, 0.3), "std": 0.25, **options})


def test_a_classifier_passes_every_check() -> None:
    report = check(lambda: classifier(feature_layers=["norm"]))
    assert report.count(report.findings[0].outcome) == len(report.findings)  # all passed, features too


@pytest.mark.parametrize(
    "form",
    [
        lambda scores, maps: scores,
        lambda scores, maps: {"logits": scores},
        lambda scores, maps: Output(None, scores),
    ],
)
def test_class_scores_are_found_where_libraries_put_them(form: Any) -> None:
    task = ClassifierTask(Texture(form=form), mean=0.5, std=0.25)
    assert task.num_classes == 3
    assert task.predict(torch.rand(2, 3, 16, 16))[1].shape == (3,)


def test_images_are_normalized_and_resized_before_the_network() -> None:
    seen: list[Tensor] = []

    class Watching(Texture):
        def forward(self, images: Tensor) -> Any:
            seen.append(images)
            return super().forward(images)

    task = ClassifierTask(Watching(size=8), mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.125), input_size=8)
    images = torch.rand(2, 3, 12, 20)
    task.predict(images)
    resized = functional.interpolate(images, (8, 8), mode="bilinear", antialias=True)
    expected = torch.stack(
        [(resized[:, 0] - 0.5) / 0.5, (resized[:, 1] - 0.4) / 0.25, (resized[:, 2] - 0.3) / 0.125], dim=1
    )
    assert torch.allclose(seen[-1], expected, atol=1e-6)
    assert seen[0].shape == (1, 3, 8, 8)  # the gray image of the probe


def test_the_probe_leaves_the_network_alone() -> None:
    network = Texture().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    ClassifierTask(network, mean=0.5, std=0.25)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network.training
    assert network.norm.training


def test_a_subclass_keeps_its_name_and_an_option_goes_before_it() -> None:
    class Mine(ClassifierTask):
        name = "mine"

    assert Mine(Texture(), mean=0.5, std=0.25).name == "mine"
    assert Mine(Texture(), mean=0.5, std=0.25, name="other").name == "other"
    assert classifier().name == "classifier"


def test_class_names_are_compared() -> None:
    task = classifier(class_names=["a", "b", "c"])
    task.check_dataset(["a", "b", "c"])
    task.check_dataset([])
    with pytest.raises(TargetError, match="the classes a, b, c, in this order; got c, b, a"):
        task.check_dataset(["c", "b", "a"])
    with pytest.raises(TargetError, match="a data set of 3 classes; got 2"):
        task.check_dataset(["a", "b"])
    with pytest.raises(TargetError, match="image 1: expected a label, a whole number from 0 to 2; got 3"):
        task.losses(torch.rand(2, 3, 8, 8), [Label(0), Label(3)])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"std": 0.0}, "option 'std': expected one number or three, above 0"),
        ({"mean": (0.5, 0.5)}, "option 'mean': expected one number or three"),
        ({"mean": float("nan")}, "option 'mean'"),
        ({"input_size": 0}, "option 'input_size'"),
        ({"input_size": (8, 8, 8)}, "option 'input_size'"),
        ({"class_names": ["a"]}, "option 'class_names': expected 3 names"),
        ({"feature_layers": ["head"]}, "names of layers of Texture; got 'head'"),
        ({"loss": "hinge"}, "'cross-entropy' or 'expected-error'; got 'hinge'"),
        ({"temperature": 0.0}, "a number above 0"),
        ({"label_smoothing": 1.0}, "a number from 0 to below 1"),
    ],
)
def test_wrong_options(options: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        classifier(**options)


def test_a_network_that_cannot_be_read_is_told_at_once() -> None:
    with pytest.raises(
        OptionError, match=r"\(1, 3, 224, 224\); got one that raises ValueError: 224 instead of 8.*input"
    ):
        ClassifierTask(Texture(size=8), mean=0.5, std=0.25)
    with pytest.raises(OptionError, match=r"an nn.Module; got the class Texture"):
        ClassifierTask(Texture, mean=0.5, std=0.25)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"an nn.Module; got function"):
        ClassifierTask(lambda images: images, mean=0.5, std=0.25)  # type: ignore[arg-type]
    with pytest.raises(ContractError, match=r"scores \(N, K\), .*; got torch.float32 \(1, 3, 224, 224\)"):
        ClassifierTask(Texture(form=lambda scores, maps: maps), mean=0.5, std=0.25)
    with pytest.raises(ContractError, match="got dict with features"):
        ClassifierTask(Texture(form=lambda scores, maps: {"features": scores}), mean=0.5, std=0.25)


def test_features_where_layers_are_named() -> None:
    assert classifier(feature_layers=["norm"]).features(torch.rand(2, 3, 9, 9))[0].shape == (2, 3, 9, 9)
    with pytest.raises(OptionError, match="ClassifierTask without feature_layers"):
        classifier().features(torch.rand(2, 3, 9, 9))


def segmenter(form: Any = None, **options: Any) -> SegmenterTask:
    torch.manual_seed(0)
    read = form or (lambda scores, maps: {"out": functional.avg_pool2d(maps, 4)})
    return SegmenterTask(Texture(form=read), **{"mean": 0.5, "std": 0.25, "multiple": 4, **options})


def test_a_segmenter_passes_every_check() -> None:
    report = check(lambda: segmenter(feature_layers=["norm"]))
    told = [finding.check.number for finding in report.findings if finding.outcome != "passed"]
    assert told == ["T16"]  # label maps are whole numbers


def test_masks_have_their_images_size_whatever_the_network_answers() -> None:
    for options in ({}, {"multiple": 8}, {"input_size": 16}, {"input_size": (12, 20), "multiple": 4}):
        task = segmenter(**options)  # type: ignore[arg-type]
        assert task.predict(torch.rand(2, 3, 13, 21))[0].shape == (13, 21)
        assert task.losses(torch.rand(1, 3, 13, 21), [Mask(torch.zeros(13, 21, dtype=torch.int64))]).shape == (1,)


def test_a_segmenters_nan_is_never_right() -> None:
    task = segmenter()
    task.network.filters.bias.data.fill_(float("nan"))  # type: ignore[union-attr, operator]
    (answer,) = task.predict(torch.rand(1, 3, 8, 8))
    with pytest.raises(ContractError, match="got NaN"):
        task.scorer.measure(answer, Mask(torch.zeros(8, 8, dtype=torch.int64)))


def test_wrong_options_of_a_segmenter() -> None:
    for options, told in (({"multiple": 0}, "a whole number from 1 on"), ({"loss": "dice"}, "'cross-entropy' or")):
        with pytest.raises(OptionError, match=told):
            segmenter(**options)
    with pytest.raises(TargetError, match="a data set of 3 classes; got 2"):
        segmenter().check_dataset(["a", "b"])


class Corner(nn.Module):
    """Finds one box per image, whose corner it learns; called as torchvision's detection networks are."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(4, 6)
        self.drop = nn.Dropout(0.5)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        found = []
        for image in images:
            values = self.head(self.drop(self.look(image[None])[0, :, 0, 0]))
            low, high = values[:2].sigmoid() * 8, values[2:4].sigmoid() * 8 + 9
            found.append((torch.cat([low, high])[None], values[4:].softmax(dim=0)))
        if self.training:
            assert targets is not None
            noise = torch.rand(())  # as regions are drawn
            boxes = [(box - target["boxes"]).abs().mean() for (box, _), target in zip(found, targets, strict=True)]
            labels = [-scores[target["labels"] - 1].log().mean() for (_, scores), target in zip(found, targets)]  # noqa: B905
            return {"boxes": torch.stack(boxes).mean() * (1 + noise), "labels": torch.stack(labels).mean()}
        return [
            {"boxes": box, "labels": scores.argmax()[None] + 1, "scores": scores.max()[None]} for box, scores in found
        ]


def detector(**options: Any) -> DetectorTask:
    torch.manual_seed(0)
    return DetectorTask(Corner(), num_classes=2, **options)


def test_a_detector_passes_every_check() -> None:
    def perfect(target: Any) -> Boxes:
        return Boxes(target.boxes, target.labels, scores=torch.ones(len(target.labels)))

    report = check(lambda: detector(own_threshold=0.0), TaskSettings(prediction=perfect))
    told = [finding.check.number for finding in report.findings if finding.outcome != "passed"]
    assert told == ["T15"]  # no features were asked for


BOXES = [Boxes(torch.tensor([[1.0, 2.0, 9.0, 12.0]]), torch.tensor([label])) for label in (0, 1)]


def test_losses_are_per_image_and_leave_mode_and_random_state_alone() -> None:
    task, images = detector().eval(), torch.rand(2, 3, 16, 16)
    drawn = torch.random.get_rng_state()
    losses = task.losses(images, BOXES)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert not any(module.training for module in task.modules())
    assert torch.allclose(losses[1:], task.losses(images[1:], BOXES[1:]))
    assert torch.equal(losses, task.losses(images, BOXES))  # one seed, no dropout
    task.train()
    assert not torch.equal(task.losses(images, BOXES), task.losses(images, BOXES))


def test_labels_count_from_where_the_network_counts() -> None:
    class Fixed(nn.Module):
        def forward(self, images: list[Tensor], targets: Any = None) -> Any:
            if self.training:
                self.seen = targets[0]["labels"].tolist()
                return {"loss": images[0].mean()}
            boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]] * 4)
            return [{"boxes": boxes, "labels": torch.tensor([0, 1, 2, 3]), "scores": torch.full((4,), 0.9)}] * len(
                images
            )

    network = Fixed()
    for first, kept in ((1, [0, 1]), (0, [0, 1]), (2, [0, 1])):
        task = DetectorTask(network, num_classes=2, first_label=first)
        assert task.predict(torch.rand(1, 3, 8, 8))[0].labels.tolist() == kept
        network.add_module("part", nn.ReLU())  # only what has parts is put into training mode
        crowd = Boxes(
            torch.tensor([[1.0, 2.0, 9.0, 12.0]] * 2), torch.tensor([1, 0]), crowd=torch.tensor([False, True])
        )
        task.losses(torch.rand(1, 3, 16, 16), [crowd])
        assert network.seen == [1 + first]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ([], "a list of 1 detections"),
        ([{"boxes": torch.zeros(1, 4)}], "a mapping with tensors 'boxes', 'labels' and 'scores'"),
        (torch.zeros(1, 6), "tensors 'boxes', 'labels'|a list of 1"),
    ],
)
def test_another_calling_convention_is_told(answer: Any, told: str) -> None:
    class Other(nn.Module):
        def forward(self, images: Any, targets: Any = None) -> Any:
            return answer

    with pytest.raises(ContractError, match=told):
        DetectorTask(Other(), num_classes=2).predict(torch.rand(1, 3, 8, 8))
    with pytest.raises(ContractError, match="a mapping of losses in training mode"):
        DetectorTask(Other(), num_classes=2).losses(torch.rand(1, 3, 16, 16), BOXES[:1])


def test_wrong_options_of_a_detector() -> None:
    for options, told in (
        ({"num_classes": 0}, "a whole number from 1 on"),
        ({"num_classes": 2, "first_label": -1}, "a whole number from 0 on"),
        ({"num_classes": 2, "own_threshold": 2.0}, "a number from 0 to 1"),
    ):
        with pytest.raises(OptionError, match=told):
            DetectorTask(Corner(), **options)
    with pytest.raises(TargetError, match="a data set of 2 classes; got 3"):
        detector().check_dataset(["a", "b", "c"])


def test_an_input_has_no_weights() -> None:
    assert not NetworkInput(mean=0.5, std=0.25).state_dict()
