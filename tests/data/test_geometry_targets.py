"""Boxes and masks follow their images through every move."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from precomp_data import Geometry, ImageDataset
from precomp_sdk import Boxes, Label, Mask, OptionError, Target


def scene(height: int = 60, width: int = 80) -> tuple[Tensor, Boxes]:
    """Bright rectangles, each in a channel of its own, and their boxes."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    boxes = torch.tensor([[4.0, 8.0, 24.0, 28.0], [40.0, 20.0, 72.0, 52.0], [56.0, 2.0, 76.0, 16.0]])
    for channel, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):
        image[channel, y1:y2, x1:x2] = 255
    return image, Boxes(
        boxes=boxes, labels=torch.arange(3), crowd=torch.tensor([False, True, False]), scores=boxes[:, 0]
    )


def seen(plane: Tensor) -> list[int]:
    rows, columns = (plane > 127).any(1).nonzero().flatten(), (plane > 127).any(0).nonzero().flatten()
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry(),
        Geometry(resize=45),
        Geometry(resize=90),
        Geometry(crop=40),
        Geometry(crop=100),
        Geometry(augment=True),
        Geometry(resize=50, crop=30, augment=True),
        Geometry(crop=44, augment=True, zoom=1.8),
    ],
)
def test_boxes_stay_around_what_they_hold(geometry: Geometry) -> None:
    image, target = scene()
    kept = 0
    for index in range(30):
        moved, found = geometry.apply(image, target, epoch=0, index=index, where="scene")
        assert isinstance(found, Boxes)
        assert found.crowd is not None
        assert found.scores is not None
        visible = {channel for channel in range(3) if (moved[channel] > 127).any()}
        assert visible >= set(found.labels.tolist()) or geometry.zoom > 1  # a sliver may fade below the threshold
        for box, label, crowd, score in zip(found.boxes, found.labels.tolist(), found.crowd, found.scores, strict=True):
            assert bool(crowd) == (label == 1)
            assert float(score) == float(target.boxes[label, 0])
            assert box[0] >= 0 <= box[1]
            assert box[2] <= moved.shape[2]
            assert box[3] <= moved.shape[1]
            if label in visible:
                assert (box - torch.tensor(seen(moved[label]))).abs().max() <= 1.0
                kept += 1
    assert kept > 20


def test_boxes_less_than_a_pixel_wide_after_a_crop_are_left_out() -> None:
    image = torch.zeros(3, 20, 20, dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0.0, 5.5, 20.0], [0.0, 0.0, 6.0, 20.0], [0.0, 0.0, 4.0, 4.0], [8.0, 8.0, 8.5, 9.0]])
    target = Boxes(boxes=boxes, labels=torch.arange(4))
    _, found = Geometry(crop=10).apply(image, target, epoch=0, index=0, where="x")  # from 5 to 15
    assert isinstance(found, Boxes)
    assert found.labels.tolist() == [1]
    assert found.boxes.tolist() == [[0, 0, 1, 10]]
    assert found.crowd is None
    assert found.scores is None
    _, whole = Geometry(resize=40).apply(image, target, epoch=0, index=0, where="x")
    assert isinstance(whole, Boxes)
    assert whole.labels.tolist() == [0, 1, 2, 3]  # nothing was cut


def test_no_boxes_are_no_trouble() -> None:
    empty = Boxes(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    geometry = Geometry(resize=30, crop=20, augment=True, zoom=2.0)
    for index in range(4):
        _, found = geometry.apply(scene()[0], empty, epoch=0, index=index, where="x")
        assert isinstance(found, Boxes)
        assert found.boxes.shape == (0, 4)


def test_masks_take_the_nearest_pixel_without_a_shift() -> None:
    labels = torch.arange(3).repeat_interleave(6).expand(6, 18).contiguous()
    _, found = Geometry(resize=2).apply(
        torch.zeros(3, 6, 18, dtype=torch.uint8), Mask(labels=labels, ignore_index=7), epoch=0, index=0, where="x"
    )
    assert isinstance(found, Mask)
    assert found.ignore_index == 7
    assert found.labels.dtype == torch.int64
    assert found.labels.tolist() == [[0, 0, 1, 1, 2, 2]] * 2
    odd = torch.tensor([[9, 0, 9, 9, 1, 9, 9, 2, 9]]).expand(3, 9).contiguous()  # the middle pixel of each three
    _, third = Geometry(resize=1).apply(
        torch.zeros(3, 3, 9, dtype=torch.uint8), Mask(labels=odd), epoch=0, index=0, where="x"
    )
    assert isinstance(third, Mask)
    assert third.labels.tolist() == [[0, 1, 2]]


def test_soft_masks_move_too() -> None:
    labels = (torch.arange(80) // 20).expand(60, 80).contiguous()
    soft = torch.nn.functional.one_hot(labels, 4).permute(2, 0, 1).float()
    geometry = Geometry(crop=40, augment=True)
    for index in range(8):
        _, found = geometry.apply(scene()[0], Mask(labels=labels, probabilities=soft), epoch=0, index=index, where="x")
        assert isinstance(found, Mask)
        assert found.probabilities is not None
        assert torch.equal(found.probabilities.argmax(dim=0), found.labels)


def test_labels_pass_untouched() -> None:
    label = Label(index=3)
    assert Geometry(crop=10, augment=True).apply(scene()[0], label, epoch=0, index=0, where="x")[1] is label


def test_zoom_draws_sizes_and_leaves_the_other_draws_alone() -> None:
    image, target = scene()
    sizes = {
        tuple(Geometry(augment=True, zoom=2.0).apply(image, target, epoch=e, index=0, where="x")[0].shape[1:])
        for e in range(30)
    }
    heights = [size[0] for size in sizes]
    assert min(heights) < 40
    assert max(heights) > 90
    assert all(30 <= height <= 120 for height in heights)
    plain = Geometry(zoom=2.0).apply(image, target, epoch=0, index=0, where="x")[0]
    assert torch.equal(plain, image)  # without augment nothing is drawn


@pytest.mark.parametrize("zoom", [0.9, float("nan"), float("inf"), True])
def test_a_wrong_zoom_is_refused(zoom: float) -> None:
    with pytest.raises(OptionError, match="a number, 1 or more"):
        Geometry(zoom=zoom)


class Rectangles(ImageDataset):
    name = "rectangles"
    source = "this test"
    target_kind = Boxes.kind

    def __len__(self) -> int:
        return 12

    def _read(self, index: int) -> tuple[Tensor, Target | None]:
        return scene()


def test_threads_epochs_and_the_global_generator_do_not_meet() -> None:
    dataset = Rectangles(Geometry(crop=32, augment=True, zoom=1.5))
    torch.manual_seed(5)
    expected_draw = torch.rand(1).item()
    torch.manual_seed(5)
    alone = [dataset[index] for index in range(12)]
    assert torch.rand(1).item() == expected_draw
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(dataset.__getitem__, range(12)))
    for first, second in zip(alone, together, strict=True):
        assert isinstance(first.target, Boxes)
        assert isinstance(second.target, Boxes)
        assert torch.equal(first.image, second.image)
        assert torch.equal(first.target.boxes, second.target.boxes)
    dataset.set_epoch(1)
    assert not all(torch.equal(sample.image, dataset[index].image) for index, sample in enumerate(alone))
