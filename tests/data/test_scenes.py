"""Scenes: pure functions of their options, with targets that agree with each other and the image."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from precomp_data import SCENE_CLASSES, Scene, Scenes, draw_scene
from precomp_data._patterns import SHAPES, TEXTURES
from precomp_sdk import Boxes, Label, Mask, OptionError


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(index) for index in range(80)]


def test_images_and_targets_have_the_promised_form(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.image.shape == (3, 128, 128)
        assert scene.image.dtype == torch.uint8
        assert scene.boxes.boxes.dtype == torch.float32
        assert scene.boxes.labels.dtype == torch.int64
        assert scene.boxes.boxes.shape == (len(scene.boxes.labels), 4)
        assert scene.mask.labels.dtype == torch.int64
        assert scene.mask.labels.shape == (128, 128)
        assert scene.image.float().std() > 8


def test_every_run_of_images_holds_every_class_once(scenes: list[Scene]) -> None:
    labels = [scene.label.index for scene in scenes]
    count = len(SCENE_CLASSES)
    runs = [labels[start : start + count] for start in range(0, len(labels), count)]
    assert all(sorted(run) == list(range(count)) for run in runs)
    assert len({tuple(run) for run in runs}) > 5


def test_the_label_is_the_dominant_objects(scenes: list[Scene]) -> None:
    for scene in scenes:
        seen = torch.bincount(scene.mask.labels.flatten(), minlength=len(SCENE_CLASSES) + 1)[1:]
        assert int(seen.argmax()) == scene.label.index
        assert int(scene.boxes.labels[0]) == scene.label.index


def test_boxes_fit_the_mask(scenes: list[Scene]) -> None:
    objects = 0
    for scene in scenes:
        everywhere = torch.zeros(128, 128, dtype=torch.bool)
        for box, kind in zip(scene.boxes.boxes, scene.boxes.labels, strict=True):
            left, top, right, bottom = (int(value) for value in box)
            assert 0 <= left < right <= 128
            assert 0 <= top < bottom <= 128
            part = scene.mask.labels[top:bottom, left:right] == kind + 1
            assert part.sum() > 30
            assert all(edge.any() for edge in (part[0], part[-1], part[:, 0], part[:, -1]))
            everywhere[top:bottom, left:right] = True
            objects += 1
        assert not (scene.mask.labels[~everywhere] > 0).any()
        assert (scene.mask.labels == 0).any()
    assert objects > 3 * len(scenes)  # several objects


def test_objects_hide_each_other(scenes: list[Scene]) -> None:
    def overlap(boxes: torch.Tensor) -> bool:
        corner, end = boxes[:, None, :2].maximum(boxes[None, :, :2]), boxes[:, None, 2:].minimum(boxes[None, :, 2:])
        return bool(((end - corner).clamp(min=0).prod(-1) > 0).sum() > len(boxes))

    assert sum(overlap(scene.boxes.boxes) for scene in scenes) > len(scenes) // 2


def test_a_image_depends_on_seed_split_index_and_size_only() -> None:
    first = draw_scene(5).image
    assert torch.equal(first, draw_scene(5).image)
    others = [draw_scene(6), draw_scene(5, split="val"), draw_scene(5, seed=1)]
    assert not any(torch.equal(first, other.image) for other in others)
    for target in (Label.kind, Boxes.kind, Mask.kind):
        assert torch.equal(Scenes(target=target, count=6)[5].image, first)
        assert torch.equal(Scenes(target=target, count=600)[5].image, first)


def test_the_global_generators_are_neither_used_nor_moved() -> None:
    first = draw_scene(3).image
    state = torch.random.get_rng_state()
    np.random.seed(123)  # noqa: NPY002
    place = np.random.get_state()[2]  # noqa: NPY002
    torch.manual_seed(99)
    assert torch.equal(draw_scene(3).image, first)
    assert np.random.get_state()[2] == place  # noqa: NPY002
    torch.random.set_rng_state(state)


@pytest.mark.parametrize(
    ("target", "kind", "names"),
    [("label", Label, SCENE_CLASSES), ("boxes", Boxes, SCENE_CLASSES), ("mask", Mask, ("background", *SCENE_CLASSES))],
)
def test_the_target_is_chosen(target: str, kind: type, names: tuple[str, ...]) -> None:
    dataset = Scenes(target=target, count=3, split="val", seed=4)
    assert len(dataset) == 3
    assert dataset.target_kind == target
    assert dataset.class_names == names
    sample = dataset[2]
    assert isinstance(sample.target, kind)
    assert sample.key == "val/2 of seed 4"
    with pytest.raises(IndexError):
        dataset[3]


@pytest.mark.parametrize("size", [129, 200, 256])
def test_larger_images(size: int) -> None:
    scene = draw_scene(0, size=size)
    assert scene.image.shape == (3, size, size)
    assert scene.mask.labels.shape == (size, size)
    assert scene.boxes.boxes.max() <= size
    share = (scene.mask.labels == scene.label.index + 1).float().mean()
    assert 0.1 < share < 0.5


def test_threads_and_pickles_agree() -> None:
    dataset = Scenes(count=12)
    alone = [dataset[index].image for index in range(12)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda index: dataset[index].image, range(12)))
    copy = pickle.loads(pickle.dumps(dataset))
    for index in range(12):
        assert torch.equal(alone[index], together[index])
        assert torch.equal(alone[index], copy[index].image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "depth"}, r"target: expected 'label', 'boxes' or 'mask'; got 'depth'"),
        ({"split": "test"}, r"split: expected 'train' or 'val'"),
        ({"count": 0}, r"count: expected a whole number, at least 1"),
        ({"count": 1.0}, r"count: .*got 1\.0"),
        ({"size": 127}, r"size: expected a whole number, at least 128; got 127"),
        ({"size": True}, r"size: .*got True"),
        ({"seed": -1}, r"seed: expected a whole number, at least 0"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Scenes(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"index": -1}, {"split": "test"}, {"size": 64}, {"seed": 0.5}])
def test_wrong_arguments_of_draw_scene_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="expected"):
        draw_scene(**{"index": 0, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_equally_large(shape: str) -> None:
    axis = np.linspace(-2, 2, 401, dtype=np.float32)
    across, down = np.meshgrid(axis, axis)
    area = float((SHAPES[shape](across, down) < 0).mean()) * 16
    assert area == pytest.approx(np.pi, rel=0.05)


@pytest.mark.parametrize("texture", TEXTURES)
def test_textures_are_equally_strong_and_fine(texture: str) -> None:
    down, across = np.mgrid[-64:64, -64:64].astype(np.float32)
    plane = TEXTURES[texture](across * 0.8 + down * 0.6, down * 0.8 - across * 0.6, 1.2, np.random.default_rng(0))
    assert plane.dtype == np.float32
    assert float(plane.std()) == pytest.approx(0.7, rel=0.2)
    assert abs(float(plane.mean())) < 0.15
    blocks = plane.reshape(8, 16, 8, 16).mean((1, 3))
    assert float(blocks.std()) < 0.2  # nothing is left of it at a sixteenth of the resolution


def test_every_class_is_a_texture_and_a_shape() -> None:
    parts = [name.split("-") for name in SCENE_CLASSES]
    assert {texture for texture, _ in parts} == set(TEXTURES)
    assert {shape for _, shape in parts} == set(SHAPES)
    assert all(sum(shape == other for _, other in parts) == 2 for _, shape in parts)  # texture has to decide
