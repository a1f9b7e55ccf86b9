"""Sets in COCO's format: labels, boxes, crowds, layouts, and everything annotations get wrong."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from precomp_data import CocoDetection, Geometry
from precomp_sdk import Boxes, DatasetError, OptionError, load_samples
from precomp_sdk.testing import check

CONTENT: dict[str, Any] = {
    "images": [
        {"id": 70, "file_name": "b.png", "width": 20, "height": 16},
        {"id": 5, "file_name": "a.png", "width": 12, "height": 10},
        {"id": 6, "file_name": "none.png", "width": 8, "height": 8},
    ],
    "annotations": [
        {"id": 1, "image_id": 70, "category_id": 90, "bbox": [1, 2, 3.5, 4], "iscrowd": 0},
        {"id": 2, "image_id": 5, "category_id": 3, "bbox": [0, 0, 12, 10]},
        {"id": 3, "image_id": 70, "category_id": 3, "bbox": [10, 5, 10, 11], "iscrowd": 1},
    ],
    "categories": [{"id": 90, "name": "zebra"}, {"id": 3, "name": "cup"}, {"id": 17, "name": "ant"}],
}


def save(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for entry in CONTENT["images"]:
        save(tmp_path / "images" / "train" / entry["file_name"], entry["width"], entry["height"])
    write(tmp_path / "annotations_train.json", CONTENT)
    return tmp_path


def same(found: object, boxes: list[list[float]], labels: list[int], crowd: list[bool]) -> bool:
    assert isinstance(found, Boxes)
    assert found.crowd is not None
    assert (found.boxes.dtype, found.labels.dtype, found.crowd.dtype) == (torch.float32, torch.int64, torch.bool)
    assert found.boxes.shape == (len(labels), 4)
    return (found.boxes.tolist(), found.labels.tolist(), found.crowd.tolist()) == (boxes, labels, crowd)


def test_labels_follow_the_category_ids(root: Path) -> None:
    dataset = CocoDetection(root=root)
    assert dataset.target_kind == Boxes.kind
    assert dataset.class_names == ("cup", "ant", "zebra")
    assert [dataset.key(index) for index in range(3)] == ["b.png", "a.png", "none.png"]
    assert dataset.image_ids == (70, 5, 6)
    assert dataset.report().messages() == ["no object is of class 'ant'"]
    assert same(dataset[0].target, [[1, 2, 4.5, 6], [10, 5, 20, 16]], [2, 0], [False, True])
    assert same(dataset[1].target, [[0, 0, 12, 10]], [0], [False])
    stored = np.array(Image.open(root / "images" / "train" / "b.png"))
    assert torch.equal(dataset[0].image, torch.from_numpy(stored).permute(2, 0, 1))


@pytest.mark.parametrize("options", [{}, {"resize": 30}, {"crop": 9, "augment": True, "zoom": 1.5}])
def test_the_conformance_kit_passes(options: dict[str, Any], root: Path) -> None:
    check(lambda: CocoDetection(root=root, geometry=Geometry(**options)))


def test_images_without_objects_stay(root: Path) -> None:
    assert same(CocoDetection(root=root)[2].target, [], [], [])


def test_classes_restrict_and_order(root: Path) -> None:
    dataset = CocoDetection(root=root, classes=["zebra", "ant"])
    assert dataset.class_names == ("zebra", "ant")
    assert same(dataset[0].target, [[1, 2, 4.5, 6]], [0], [False])
    assert same(dataset[1].target, [], [], [])
    with pytest.raises(DatasetError, match=r"no 'zebr'. Did you mean 'zebra'"):
        CocoDetection(root=root, classes=["zebr"])
    with pytest.raises(OptionError, match="names of classes, each once"):
        CocoDetection(root=root, classes="zebra")


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        ("images/val", "annotations_val.json"),
        ("val", "annotations/val.json"),
        ("images/val", "annotations/instances_val.json"),
        ("val2017", "annotations/instances_val2017.json"),
        ("val2014", "annotations/instances_val2014.json"),
    ],
)
def test_layouts_are_found(images: str, annotations: str, tmp_path: Path) -> None:
    for entry in CONTENT["images"]:
        save(tmp_path / images / entry["file_name"], entry["width"], entry["height"])
    write(tmp_path / annotations, CONTENT)
    assert len(CocoDetection(root=tmp_path, split="val")) == 3


def test_paths_can_be_given(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "mine" / "boxes.json", CONTENT)
    dataset = CocoDetection(root=root, images="images/train", annotations=tmp_path / "mine" / "boxes.json")
    assert dataset[0].image.shape == (3, 16, 20)


def test_missing_places_are_named(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"split 'val': expected one of annotations_val.json, .*annotations_train"):
        CocoDetection(root=root, split="val")
    write(root / "annotations_val.json", CONTENT)
    with pytest.raises(DatasetError, match=r"a folder of images: images/val or val; .*option images"):
        CocoDetection(root=root, split="val")
    with pytest.raises(DatasetError, match="nowhere: expected a folder; got nothing there"):
        CocoDetection(root=root / "nowhere")
    with pytest.raises(DatasetError, match=r"other.json: expected a file that can be read"):
        CocoDetection(root=root, annotations="other.json")


# what single entries get wrong: an error, or left out where strict is False


def changed(root: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    content = copy.deepcopy(CONTENT)
    change(content)
    write(root / "annotations_train.json", content)
    return root


def box(numbers: list[float]) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["annotations"][0].update(bbox=numbers)


@pytest.mark.parametrize(
    ("change", "message", "left"),
    [
        (lambda c: c["images"][0].update(file_name="lost.png"), r"image 70: expected a file 'lost.png' in", None),
        (lambda c: c["annotations"][0].update(image_id=71), r"annotations\[0\].image_id: .*got 71", []),
        (lambda c: c["annotations"][0].update(category_id=4), r"\[0\].category_id: .*\(3, 17, 90\); got 4", []),
        (box([]), r"annotations\[0\].bbox: expected a box with an area; got an empty list", []),
        (lambda c: c["annotations"][0].pop("bbox"), r"\[0\].bbox: expected a box with an area; got nothing", []),
        (box([1, 2, 0, 4]), r"annotations\[0\].bbox: expected a box with an area, .*; got .* 1 2 1 6", []),
        (box([1, 2, 3, -4]), r"a box with an area", []),
        (
            box([30, 2, 1e-6, 4]),
            r"a box with an area, 0.01 pixels .* 30 2 30.000001 6",
            [],
        ),
        (box([1, 2, 3, 1e-3]), r"a box with an area", []),
        (box([1, 2, float("nan"), 4]), r"a box with an area", []),
        (box([1, 2, float("inf"), 4]), r"a box with an area", []),
        (box([float("-inf"), 2, float("inf"), 4]), r"a box with an area", []),
        (box([25, 2, 3, 4]), r"a box in its image of 20 x 16; got .*all of it outside", []),
        (box([1, -9, 3, 9]), r"all of it outside", []),
        (box([-5, 2, 9, 4]), r"a box in its image of 20 x 16; got .*-5 2 4 6, which sticks out", [[0, 2, 4, 6]]),
        (box([1, 2, 1e9, 4]), r"which sticks out", [[1, 2, 20, 6]]),
    ],
)
def test_wrong_entries_are_named_or_left_out(
    change: Callable[[dict[str, Any]], object], message: str, left: list[list[float]] | None, root: Path
) -> None:
    changed(root, change)
    with pytest.raises(DatasetError, match=message):
        CocoDetection(root=root)
    dataset = CocoDetection(root=root, strict=False)
    report = dataset.report()
    assert len(report.mended) + len(report.left_out) == 1
    if left is None:
        assert len(dataset) == 2
        assert report.left_out[0].key == "lost.png"
    else:
        crowd = [10, 5, 20, 16]
        assert same(dataset[0].target, [*left, crowd], [2] * len(left) + [0], [False] * len(left) + [True])


def test_less_than_a_pixel_outside_is_clipped_in_silence(root: Path) -> None:
    dataset = CocoDetection(root=changed(root, box([-0.5, 2, 21, 14.25])))
    assert dataset.report().mended == ()
    assert same(dataset[0].target, [[0, 2, 20, 16], [10, 5, 20, 16]], [2, 0], [False, True])


def test_no_usable_image_is_an_error(root: Path) -> None:
    (root / "empty").mkdir()
    with pytest.raises(DatasetError, match="none that can be used"):
        CocoDetection(root=root, images="empty", strict=False)


# what is wrong with the file itself: always an error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][1].update(id=70), r"images\[1\].id: expected an id of its own .*; got 70"),
        (
            lambda c: c["images"][1].update(file_name="b.png"),
            r"\[1\].file_name: expected one entry .*got 'b.png'",
        ),
        (lambda c: c["images"][1].pop("width"), r"images\[1\].width: expected a whole number from 1 on; got nothing"),
        (lambda c: c["images"][1].update(height=0), r"images\[1\].height: expected .*; got 0"),
        (lambda c: c["images"][1].update(file_name=7), r"images\[1\].file_name: expected a text; got 7"),
        (lambda c: c["images"][1].update(id="5"), r"images\[1\].id: expected a whole number; got '5'"),
        (lambda c: c["images"][1].update(id=5.5), r"images\[1\].id: expected a whole number; got 5.5"),
        (lambda c: c["images"].append(3), r"images\[3\]: expected an object; got 3"),
        (lambda c: c.pop("annotations"), r"annotations: expected a list; got nothing"),
        (lambda c: c.update(categories=[]), r"categories: expected one category or more"),
        (lambda c: c["categories"][2].update(id=90), r"categories\[2\]: expected an id and a name of its own .*90"),
        (lambda c: c["categories"][2].update(name="cup"), r"categories\[2\]: .*'cup' again"),
        (box([1, 2, 3]), r"annotations\[0\].bbox: expected \[x, y, width, height\] .*got \[1, 2, 3\]"),
        (box([1, 2, 3, 10**400]), r"annotations\[0\].bbox: expected \[x, y"),
        (lambda c: c["images"][1].update(width=10**400), r"width: expected a whole number from 1 on; got 1000"),
        (box([1, 2, 3, "4"]), r"annotations\[0\].bbox: expected \[x, y"),  # type: ignore[list-item]
        (lambda c: c["annotations"][0].update(iscrowd=2), r"iscrowd: expected 0 or 1; got 2"),
        (lambda c: c["annotations"][0].update(iscrowd="0"), r"iscrowd: expected 0 or 1; got '0'"),
        (lambda c: c["annotations"][0].pop("category_id"), r"annotations\[0\].category_id: .*; got nothing"),
    ],
)
def test_a_wrong_structure_is_named(change: Callable[[dict[str, Any]], object], message: str, root: Path) -> None:
    changed(root, change)
    for strict in (True, False):
        with pytest.raises(DatasetError, match=message):
            CocoDetection(root=root, strict=strict)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"images": [\n  {"id": 1,,}', r"annotations_train.json, line 2, column 12: expected JSON"),
        (b"[" * 200_000, r"annotations_train.json: expected JSON; got something else: .*recursion"),
        (b"[" + b"9" * 5000 + b"]", r"annotations_train.json: expected JSON; got something else: .*digits"),
        (b"", r"line 1, column 1: expected JSON"),
        (b"[1, 2]", r"expected an object with images, annotations and categories; got \[1, 2\]"),
        (b'"\xff"', r"byte 1: expected UTF-8 text"),
    ],
)
def test_a_damaged_file_says_where(data: bytes, message: str, root: Path) -> None:
    (root / "annotations_train.json").write_bytes(data)
    with pytest.raises(DatasetError, match=message):
        CocoDetection(root=root)


def test_a_image_of_another_size_is_named_or_skipped(root: Path) -> None:
    save(root / "images" / "train" / "a.png", 10, 12)
    dataset = CocoDetection(root=root)
    with pytest.raises(DatasetError, match=r"a.png: expected labels of its image's size, 10 x 12; got 12 x 10"):
        dataset[1]
    samples, skipped = load_samples(dataset, range(3), skip_unreadable=True)
    assert [sample.key for sample in samples] == ["b.png", "none.png"]
    assert [item.key for item in skipped] == ["a.png"]


def test_boxes_follow_the_crop(root: Path) -> None:
    dataset = CocoDetection(root=root, geometry=Geometry(crop=8))
    # of 20 x 16: from (6, 4) to (14, 12); of 12 x 10: from (2, 1)
    assert same(dataset[0].target, [[4, 1, 8, 8]], [0], [True])
    assert same(dataset[1].target, [[0, 0, 8, 8]], [0], [False])
    assert same(dataset[2].target, [], [], [])


@pytest.mark.parametrize(("name", "images", "boxes", "classes"), [("bccd", 72, 945, 3), ("coco256", 128, 898, 80)])
def test_real_sets_are_read(name: str, images: int, boxes: int, classes: int, shared_data: Path) -> None:
    dataset = CocoDetection(root=shared_data / name, split="val")
    targets = [sample.target for sample in dataset]
    assert len(targets) == images
    assert sum(len(target.labels) for target in targets if isinstance(target, Boxes)) == boxes
    assert len(dataset.class_names) == classes
