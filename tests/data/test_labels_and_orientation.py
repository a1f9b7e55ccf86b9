"""An image that its EXIF data turns takes its boxes and its mask along, or is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from precomp_data import CocoDetection, MaskFolder, VocDetection, VocSegmentation
from precomp_sdk import Boxes, DatasetError, Mask, OptionError, Sample, TaskDataset
from precomp_sdk.image_io import turn_upright

TOP, LEFT, HIGH, WIDE = 2, 3, 4, 9  # a bright rectangle in the stored image, at no place that a turn leaves


def stored(height: int, width: int) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    labels[TOP : TOP + HIGH, LEFT : LEFT + WIDE] = 1
    return labels


def save_image(path: Path, labels: np.ndarray, orientation: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.stack([200 * labels] * 3, axis=-1)).save(path, exif=exif)


def coco(root: Path, size: tuple[int, int], orientation: int, upright: bool) -> Callable[..., TaskDataset]:
    labels = stored(*size)
    save_image(root / "images/train/a.png", labels, orientation)
    drawn = turn_upright(torch.from_numpy(labels), orientation).numpy() if upright else labels
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    box = [int(columns[0]), int(rows[0]), len(columns), len(rows)]
    entry = {"id": 1, "file_name": "a.png", "width": drawn.shape[1], "height": drawn.shape[0]}
    note = {"id": 1, "image_id": 1, "category_id": 1, "bbox": box}
    content = {"images": [entry], "categories": [{"id": 1, "name": "x"}], "annotations": [note]}
    (root / "annotations_train.json").write_text(json.dumps(content))
    return lambda **options: CocoDetection(root=root, **options)


def voc(root: Path, size: tuple[int, int], orientation: int, upright: bool) -> Callable[..., TaskDataset]:
    labels = stored(*size)
    save_image(root / "JPEGImages/a.png", labels, orientation)
    drawn = turn_upright(torch.from_numpy(labels), orientation).numpy() if upright else labels
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    (root / "Annotations").mkdir()
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    corners = {"xmin": columns[0], "ymin": rows[0], "xmax": columns[-1], "ymax": rows[-1]}
    sides = "".join(f"<{side}>{value + 1}</{side}>" for side, value in corners.items())
    (root / "Annotations/a.xml").write_text(
        f"<annotation><size><width>{drawn.shape[1]}</width><height>{drawn.shape[0]}</height></size>"
        f"<object><name>cat</name><bndbox>{sides}</bndbox></object></annotation>"
    )
    return lambda **options: VocDetection(root=root, **options)


def masks(root: Path, size: tuple[int, int], orientation: int, upright: bool) -> Callable[..., TaskDataset]:
    labels = stored(*size)
    save_image(root / "images/train/a.png", labels, orientation)
    drawn = turn_upright(torch.from_numpy(labels), orientation).numpy() if upright else labels
    (root / "masks/train").mkdir(parents=True)
    Image.fromarray(np.ascontiguousarray(drawn)).save(root / "masks/train/a.png")
    return lambda **options: MaskFolder(root=root, **options)


def voc_masks(root: Path, size: tuple[int, int], orientation: int, upright: bool) -> Callable[..., TaskDataset]:
    masks(root, size, orientation, upright)
    (root / "images/train").rename(root / "JPEGImages")
    (root / "masks/train").rename(root / "SegmentationClass")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("a\n")
    return lambda **options: VocSegmentation(root=root, **options)


MAKERS = [coco, voc, masks, voc_masks]


def lies_right(sample: Sample) -> bool:
    """Whether the label covers the bright rectangle of the upright image, and nothing else."""
    bright = sample.image[0] > 100
    if isinstance(sample.target, Mask):
        return torch.equal(sample.target.labels > 0, bright)
    assert isinstance(sample.target, Boxes)
    x1, y1, x2, y2 = sample.target.boxes[0].int().tolist()
    inside = torch.zeros_like(bright)
    inside[y1:y2, x1:x2] = True
    return torch.equal(inside, bright)


@pytest.mark.parametrize("upright", [False, True], ids=["stored", "upright"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(20, 30), (24, 24)], ids=["oblong", "square"])
@pytest.mark.parametrize("make", MAKERS)
def test_labels_lie_on_their_object_or_the_image_is_refused(
    make: Callable[..., Any], size: tuple[int, int], orientation: int, upright: bool, tmp_path: Path
) -> None:
    construct = make(tmp_path, size, orientation, upright)
    if orientation == 1 or (orientation >= 5 and size[0] != size[1]):  # the sizes tell
        assert lies_right(construct()[0])
    else:
        with pytest.raises(DatasetError, match=rf"a\.png: .*EXIF orientation of {orientation} .*label_orientation"):
            construct()[0]
    assert lies_right(construct(label_orientation="upright" if upright else "stored")[0])


@pytest.mark.parametrize("make", MAKERS)
def test_what_the_user_says_has_to_fit_the_sizes(make: Callable[..., Any], tmp_path: Path) -> None:
    construct = make(tmp_path, (20, 30), 6, True)
    with pytest.raises(DatasetError, match="labels of its image's size, 30 x 20; got 20 x 30"):
        construct(label_orientation="stored")[0]
    with pytest.raises(OptionError, match="'stored' or 'upright'"):
        construct(label_orientation="turned")


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_mask_with_an_orientation_of_its_own_is_upright(orientation: int, tmp_path: Path) -> None:
    construct = masks(tmp_path, (24, 24), orientation, upright=False)
    save_image(tmp_path / "other.png", stored(24, 24), orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored(24, 24)).save(tmp_path / "masks/train/a.png", exif=exif)
    assert lies_right(construct()[0])


def test_an_image_without_objects_needs_no_word(tmp_path: Path) -> None:
    construct = coco(tmp_path, (24, 24), 3, upright=True)
    content = json.loads((tmp_path / "annotations_train.json").read_text())
    content["annotations"] = []
    (tmp_path / "annotations_train.json").write_text(json.dumps(content))
    assert construct()[0].image.shape == (3, 24, 24)
