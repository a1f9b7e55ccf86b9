"""Targets: how they move, what they refuse, and that a kind of one's own needs nothing but its class."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as kernels

from precomp_data import Geometry
from precomp_sdk import (
    Boxes,
    BoxScorer,
    Composite,
    ContractError,
    DatasetError,
    EnsembleScorer,
    ImageTarget,
    Label,
    LabelScorer,
    Mask,
    MaskScorer,
    ModuleTask,
    Scorer,
    Target,
    TargetError,
    TaskDataset,
)
from precomp_sdk.testing import FakeDataset, FakeTask, natural_image

SIZE = (21, 34)
BOXES = Boxes(
    torch.tensor([[1.5, 2.0, 20.25, 17.0], [10.0, 3.0, 33.0, 20.5], [0.0, 0.0, 2.0, 2.0]]),
    torch.tensor([0, 1, 2]),
    crowd=torch.tensor([False, True, False]),
)
MASK = Mask(torch.arange(21 * 34).reshape(SIZE) % 5, probabilities=torch.rand(5, *SIZE))


def wrapped(boxes: torch.Tensor) -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=SIZE)


def test_boxes_move_as_torchvision_moves_them() -> None:
    resized = kernels.resize(wrapped(BOXES.boxes), [40, 17])
    assert torch.equal(BOXES.resized(SIZE, (40, 17)).boxes, resized.as_subclass(torch.Tensor))
    flipped = kernels.horizontal_flip(wrapped(BOXES.boxes))
    assert torch.equal(BOXES.flipped(34).boxes, flipped.as_subclass(torch.Tensor))
    cropped = kernels.crop(wrapped(BOXES.boxes), 4, 9, 12, 15).as_subclass(torch.Tensor)
    moved = BOXES.cropped(4, 9, 12, 15)
    assert torch.equal(moved.boxes, cropped[:2])  # the third lies outside
    assert moved.labels.tolist() == [0, 1]
    assert moved.crowd is not None
    assert moved.crowd.tolist() == [False, True]


def test_masks_move_as_torchvision_moves_them() -> None:
    assert MASK.probabilities is not None
    resized = MASK.resized(SIZE, (40, 17))
    nearest = kernels.InterpolationMode.NEAREST_EXACT
    assert torch.equal(resized.labels, kernels.resize_image(MASK.labels[None], [40, 17], interpolation=nearest)[0])
    assert torch.equal(resized.probabilities, kernels.resize_image(MASK.probabilities, [40, 17], antialias=True))
    assert torch.equal(MASK.flipped(34).labels, MASK.labels.flip(1))
    cropped = MASK.cropped(4, 9, 12, 15)
    assert torch.equal(cropped.labels, MASK.labels[4:16, 9:24])
    assert cropped.probabilities is not None
    assert cropped.probabilities.shape == (5, 12, 15)


def test_a_composite_moves_in_its_parts_and_a_label_stays() -> None:
    both = Composite((Label(3), BOXES, MASK))
    moved = both.flipped(34).resized(SIZE, (40, 17)).cropped(1, 2, 8, 9)
    assert moved.targets[0] is both.targets[0]
    assert isinstance(moved.targets[1], Boxes)
    assert isinstance(moved.targets[2], Mask)
    assert moved.targets[2].labels.shape == (8, 9)


@dataclass(frozen=True, slots=True)
class Keypoints(Target):
    kind = "keypoints"

    points: torch.Tensor  # (M, 2)


@dataclass(frozen=True, slots=True)
class Depth(ImageTarget):
    kind = "depth"

    metres: float


@pytest.mark.parametrize("geometry", [Geometry(resize=10), Geometry(crop=8), Geometry(augment=True, seed=3)])
def test_a_target_that_does_not_say_how_it_moves_stops_the_transformation(geometry: Geometry) -> None:
    image = natural_image(*SIZE)
    points = Keypoints(torch.tensor([[3.0, 4.0]]))

    def epochs() -> None:
        for epoch in range(20):  # a flip comes by chance
            geometry.apply(image, points, epoch=epoch, index=0, where="here")

    with pytest.raises(TargetError, match=r"'keypoints' without (resized|cropped|flipped)"):
        epochs()
    assert geometry.apply(image, Depth(2.0), epoch=0, index=0, where="here")[1] == Depth(2.0)
    assert Geometry().apply(image, points, epoch=0, index=0, where="here")[1] is points  # nothing moves


def tiny(width: float) -> Boxes:
    return Boxes(torch.tensor([[30.0, 2.0, 30.0 + width, 9.0]], dtype=torch.float64).float(), torch.tensor([0]))


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (Label(-1), "a whole number from 0 to 3; got -1"),
        (Label(4), "a whole number from 0 to 3; got 4"),
        (Label(True), "got True of type bool"),
        (Label(np.int64(2)), "of type int64"),  # type: ignore[arg-type]
        (tiny(5e-7), r"x1 < x2 and y1 < y2 in 32 bits in an image of 34 x 21; got box 0, \[30, 2, 30, 9\]"),
        (tiny(-3.0), "x1 < x2"),
        (tiny(float("nan")), "x1 < x2"),
        (Boxes(torch.tensor([[40.0, 2.0, 45.0, 9.0]]), torch.tensor([0])), "in an image of 34 x 21"),
        (Boxes(torch.zeros(0, 4), torch.zeros(1, dtype=torch.int64)), r"boxes \(1, 4\) float32; got \(0, 4\)"),
        (Boxes(torch.tensor([[1.0, 2.0, 4.0, 9.0]]), torch.tensor([7])), "classes from 0 to 3; got 7"),
        (Mask(torch.zeros(3, 3, dtype=torch.int64)), r"a mask \(21, 34\) int64; got \(3, 3\) int64"),
        (Mask(torch.full(SIZE, 4)), "classes from 0 to 3, or 255 for what counts for nothing; got 4"),
        (Mask(torch.full(SIZE, -1)), "got -1"),
        (Composite((Label(0), Label(9))), "part 1: expected a label"),
    ],
)
def test_a_sample_that_no_network_can_learn_from_is_refused_by_its_name(target: Target, told: str) -> None:
    class Photographs(FakeDataset):
        name = "photographs"

        def _sample(self, index: int) -> tuple[torch.Tensor, Target | None]:
            return natural_image(*SIZE), target

        def key(self, index: int) -> str:
            return f"cat-{index}.jpg"

    photographs = Photographs(count=8)
    photographs.target_kind = target.kind
    with pytest.raises(TargetError, match=told) as raised:
        photographs[3]
    assert raised.value.where.startswith("data set 'photographs', sample 'cat-3.jpg'")


def test_what_is_right_is_not_refused() -> None:
    Label(3).check("here", size=SIZE, num_classes=4)
    Label(700).check("here")
    BOXES.check("here", size=SIZE, num_classes=3)
    Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).check("here", size=SIZE, num_classes=1)
    tiny(1e-5).check("here", size=SIZE)
    MASK.check("here", size=SIZE, num_classes=5)
    Mask(torch.full(SIZE, 255)).check("here", size=SIZE, num_classes=2)


def test_a_task_names_the_sample_whose_target_it_does_not_know() -> None:
    task, images = FakeTask(classes=3), torch.rand(4, 3, 8, 8)
    wrong = [Label(0), Label(1), Label(3), Label(2)]
    with pytest.raises(TargetError, match="task 'fake', image 2: expected a label, a whole number from 0 to 2; got 3"):
        task.losses(images, wrong)
    with pytest.raises(TargetError, match=r"task 'fake', sample 'c\.png': expected a label"):
        task.predict_with_losses(images, wrong, keys=["a.png", "b.png", "c.png", "d.png"])
    with pytest.raises(TargetError, match=r"task 'fake', image 0: expected a label, .* from 0 to 2; got -1"):
        task.losses(images[:1], [Label(-1)])


def test_an_error_of_the_loss_names_the_samples() -> None:
    class Failing(FakeTask):
        def __init__(self, error: Exception) -> None:
            super().__init__()
            self._error = error

        def _logits(self, images: torch.Tensor) -> torch.Tensor:
            raise self._error

    images, labels = torch.rand(6, 3, 8, 8), [Label(0)] * 6
    keys = [f"{index}.png" for index in range(6)]
    named = "task 'fake', sample '0.png', '1.png', '2.png', '3.png' and 2 more"
    ours = ContractError(where="loss", expected="a", got="b", remedy="Mend it.")
    for call in (Failing(ours).losses, Failing(ours).predict_with_losses):
        with pytest.raises(ContractError, match=f"{named}: loss: expected a; got b"):
            call(images, labels, keys=keys)
    for call in (Failing(ZeroDivisionError()).losses, Failing(ZeroDivisionError()).predict_with_losses):
        with pytest.raises(ZeroDivisionError) as raised:
            call(images, labels, keys=keys)
        assert raised.value.__notes__ == [f"precomp_sdk: {named}"]


def test_an_error_of_the_data_set_names_the_sample_once() -> None:
    class Failing(FakeDataset):
        error: Exception = DatasetError(where="decoder", expected="a", got="b", remedy="Mend it.")

        def _sample(self, index: int) -> tuple[torch.Tensor, Target | None]:
            raise self.error

        def key(self, index: int) -> str:
            return "street.png"

    failing = Failing()
    with pytest.raises(DatasetError, match=r"^data set 'fake', sample 'street\.png': decoder: expected a; got b"):
        failing[0]
    failing.error = DatasetError(where="street.png", expected="a", got="b", remedy="Mend it.")
    with pytest.raises(DatasetError, match=r"^street\.png: expected a"):
        failing[0]
    failing.error = KeyError("label")
    with pytest.raises(KeyError) as raised:
        failing[0]
    assert raised.value.__notes__ == ["precomp_sdk: data set 'fake', sample 'street.png'"]


NAN = float("nan")


class Distance(Scorer):
    """A scorer of one's own that would call NaN right: nothing is further away than it allows."""

    metrics = ("near",)

    def _measure(self, prediction: dict[str, list[float]], target: Target) -> np.ndarray:
        return np.array([not prediction["metres"][0] > 1.0], dtype=np.float64)

    def combine(self, statistics, counts):
        return {"near": float(np.average(np.asarray(statistics)[:, 0], weights=counts))}


@pytest.mark.parametrize(
    ("scorer", "prediction", "target"),
    [
        (LabelScorer(), torch.full((4,), NAN), Label(1)),
        (LabelScorer(), torch.tensor([0.0, NAN, 0.0]), Label(1)),
        (MaskScorer(2), torch.full((2, 3, 3), NAN), Mask(torch.zeros(3, 3, dtype=torch.int64))),
        (
            BoxScorer(2),
            Boxes(BOXES.boxes[:1], torch.tensor([0]), scores=torch.tensor([NAN])),
            Boxes(BOXES.boxes[:1], torch.tensor([0])),
        ),
        (
            BoxScorer(2),
            Boxes(BOXES.boxes[:1] * NAN, torch.tensor([0]), scores=torch.tensor([1.0])),
            Boxes(BOXES.boxes[:1], torch.tensor([0])),
        ),
        (
            EnsembleScorer({"a": LabelScorer(), "b": LabelScorer()}, {"a": 1.0, "b": 1.0}),
            (torch.tensor([1.0, 0.0]), torch.tensor([NAN, NAN])),
            Label(0),
        ),
        (Distance(), {"metres": [NAN]}, Depth(1.0)),
        (Distance(), {"metres": np.array([0.5, NAN])}, Depth(1.0)),
    ],
)
def test_no_scorer_calls_nan_right(scorer: Scorer, prediction: object, target: Target) -> None:
    with pytest.raises(ContractError, match="prediction: expected finite numbers; got NaN"):
        scorer.measure(prediction, target)


def test_a_label_that_the_prediction_does_not_know_is_refused() -> None:
    for wrong in (Label(-1), Label(3)):
        with pytest.raises(TargetError, match="LabelScorer, target: expected a label"):
            LabelScorer().measure(torch.zeros(3), wrong)
    for form in (torch.zeros(2, 3), [0.0, 1.0]):
        with pytest.raises(ContractError, match=r"a tensor of class scores \(K,\)"):
            LabelScorer().measure(form, Label(0))


def test_a_kind_of_ones_own_goes_from_data_set_to_loss_and_score() -> None:
    class Distances(TaskDataset):
        name = "distances"
        source = "drawn"
        target_kind = Depth.kind

        def __len__(self) -> int:
            return 4

        def _sample(self, index: int) -> tuple[torch.Tensor, Target | None]:
            return torch.full((3, 8, 8), 40 * index, dtype=torch.uint8), Depth(40 * index / 255)

    class Brightness(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(1, 2, 3))

    task = ModuleTask(
        Brightness(),
        loss=lambda metres, targets: (metres - torch.tensor([target.metres for target in targets])).abs(),
        predict=lambda metres: [{"metres": [float(value)]} for value in metres],
        scorer=Distance(),
        target_kind=Depth.kind,
    )
    samples = [Distances()[index] for index in range(4)]
    predictions, losses = task.predict_with_losses(
        [sample.image / 255 for sample in samples], [sample.target for sample in samples if sample.target is not None]
    )
    assert float(losses.max()) < 1e-6
    assert task.scorer.measure(predictions[0], Depth(0.0)) == 1.0
    with pytest.raises(TargetError, match=r"1 targets of kind 'depth'; got 1 of kinds \['label'\]"):
        task.losses(torch.rand(1, 3, 8, 8), [Label(0)])
