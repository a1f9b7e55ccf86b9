"""`TaskDataset.of`: rows that a program holds, as a data set."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from precomp_sdk import Boxes, DatasetError, ImageTarget, Label, Mask, TargetError, TaskDataset
from precomp_sdk.data import spread_places
from precomp_sdk.testing import DatasetSettings, check, natural_image

IMAGE = natural_image(12, 20)
ARRAY = IMAGE.permute(1, 2, 0).numpy()


def test_images_may_be_of_any_common_type(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    Image.fromarray(ARRAY).save(path)
    forms = [IMAGE, IMAGE / 255, ARRAY, Image.fromarray(ARRAY), path, str(path), path.read_bytes()]
    dataset = TaskDataset.of([(form, index) for index, form in enumerate(forms)])
    assert all(torch.equal(dataset[index].image, IMAGE) for index in range(len(forms)))
    assert [dataset[index].target for index in range(3)] == [Label(0), Label(1), Label(2)]
    check(dataset, DatasetSettings(make=lambda: TaskDataset.of([(form, index) for index, form in enumerate(forms)])))


class Squares(Dataset):  # as torch has them
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[Image.Image, torch.Tensor]:
        return Image.fromarray(ARRAY), torch.tensor(index)


def test_a_torch_data_set_and_columns_by_name() -> None:
    squares = TaskDataset.of(Squares(), class_names=["a", "b", "c"], name="squares")
    assert (squares.name, len(squares), squares.target_kind) == ("squares", 3, "label")
    assert squares[2].target == Label(2)
    rows = [{"picture": ARRAY, "tag": 1, "file": f"{index}.jpg"} for index in range(4)]
    dataset = TaskDataset.of(rows, lambda row: (row["picture"], row["tag"]), key=lambda row: row["file"])
    assert dataset[3].key == "3.jpg"
    unlabelled = TaskDataset.of(rows, lambda row: row["picture"])
    assert (unlabelled.target_kind, unlabelled[0].target, unlabelled[1].key) == (None, None, "1")


def test_paths_name_their_images(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(2)]
    for path in paths:
        Image.fromarray(ARRAY).save(path)
    dataset = TaskDataset.of(paths)
    assert [dataset.key(index) for index in range(2)] == [str(path) for path in paths]
    paths[1].unlink()
    with pytest.raises(DatasetError, match=r"1\.png"):
        dataset[1]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (3, "label"),
        (np.int64(3), "label"),
        (torch.tensor(3), "label"),
        (np.zeros((12, 20), np.uint8), "mask"),
        (torch.ones(12, 20, dtype=torch.int32), "mask"),
        (Image.fromarray(np.zeros((12, 20), np.uint8)), "mask"),
        ({"boxes": [[1.0, 2.0, 5.0, 6.0]], "labels": [0], "area": [16]}, "boxes"),
        ({"boxes": torch.zeros(0, 4), "labels": torch.zeros(0)}, "boxes"),
        (Label(0), "label"),
    ],
)
def test_targets_are_read_by_their_form(given: object, kind: str) -> None:
    dataset = TaskDataset.of([(IMAGE, given)])
    target = dataset[0].target
    assert dataset.target_kind == kind
    assert isinstance(target, {"label": Label, "mask": Mask, "boxes": Boxes}[kind])


def test_a_kind_of_ones_own() -> None:
    class Angle(ImageTarget):
        kind = "angle"

    assert TaskDataset.of([(IMAGE, Angle())]).target_kind == "angle"


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([], "one row or more; got none"),
        ((row for row in [IMAGE]), "rows with a length; got generator"),
        ([(IMAGE, 1, 2)], "image and target, or an image; got 3 values"),
        ([{"image": IMAGE, "label": 0}], "a mapping with image, label"),
    ],
)
def test_what_is_no_row_is_told(items: object, told: str) -> None:
    with pytest.raises(DatasetError, match=told):
        TaskDataset.of(items)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["cat", True, 0.5, [0.5], {"x": 1}])
def test_what_is_no_target_is_told(given: object) -> None:
    with pytest.raises(TargetError, match=r"row 0: target: expected a whole number"):
        TaskDataset.of([(IMAGE, given)])


def test_a_wrong_row_is_named() -> None:
    dataset = TaskDataset.of([(IMAGE, 0), (IMAGE, 7), (np.zeros((3, 3, 3)) + 4.0, 0)], class_names=["a", "b"])
    with pytest.raises(TargetError, match=r"data set 'rows', sample '1': expected a label.* from 0 to 1; got 7"):
        dataset[1]
    with pytest.raises(DatasetError, match=r"sample '2'.*floats in"):
        dataset[2]


@pytest.mark.parametrize(
    ("length", "count", "places"), [(10, 3, [0, 3, 6]), (4, 4, [0, 1, 2, 3]), (2, 9, [0, 1]), (0, 5, [])]
)
def test_places_are_spread_over_a_set(length: int, count: int, places: list[int]) -> None:
    assert spread_places(length, count) == places
