"""Sets in the folders of PASCAL VOC, and everything they get wrong."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from precomp_data import VOC_CLASSES, Geometry, VocDetection, VocFolder, VocSegmentation
from precomp_sdk import Boxes, DatasetError, Mask, OptionError
from precomp_sdk.testing import check

DOG = "<object><name>dog</name>{more}<bndbox><xmin>3</xmin><ymin>1</ymin><xmax>{right}</xmax><ymax>12</ymax></bndbox>"
DOG += (
    "<part><name>head</name><bndbox><xmin>4</xmin><ymin>2</ymin><xmax>5</xmax><ymax>3</ymax></bndbox></part></object>"
)
CAR = "<object><name>car</name><bndbox><xmin>1</xmin><ymin>5.5</ymin><xmax>24</xmax><ymax>16</ymax></bndbox></object>"


def annotation(*objects: str, width: str = "24", height: str = "16") -> str:
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>wrong.jpg</filename>{size}{''.join(objects)}</annotation>"


def dog(more: str = "", right: str = "20") -> str:
    return DOG.format(more=more, right=right)


def save(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(samples).save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def make_voc(folder: Path) -> None:
    for index, name in enumerate(("000001", "000002", "000003")):
        save(folder / "JPEGImages" / f"{name}.png", np.full((16, 24, 3), 40 * index, np.uint8))
        labels = np.zeros((16, 24), np.uint8)
        labels[4:8], labels[8:10] = 12, 255
        save(folder / "SegmentationClass" / f"{name}.png", labels)
    text(folder / "Annotations" / "000001.xml", annotation(dog("<difficult>0</difficult>"), CAR))
    text(folder / "Annotations" / "000002.xml", annotation())
    text(folder / "Annotations" / "000003.xml", annotation(dog("<difficult>1</difficult>")))
    for kind in ("Main", "Segmentation"):
        text(folder / "ImageSets" / kind / "train.txt", "000001\n000002\n\n000003\n")
        text(folder / "ImageSets" / kind / "val.txt", "000002 \n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_voc(tmp_path)
    return tmp_path


def boxes_of(dataset: VocDetection, index: int) -> tuple[list[list[float]], list[str], list[bool]]:
    target = dataset[index].target
    assert isinstance(target, Boxes)
    assert target.crowd is not None
    assert target.boxes.shape == (len(target.labels), 4)
    return target.boxes.tolist(), [dataset.class_names[label] for label in target.labels], target.crowd.tolist()


def test_boxes_count_from_zero_and_end_after_the_last_pixel(root: Path) -> None:
    dataset = VocDetection(root=root)
    assert dataset.target_kind == Boxes.kind
    assert dataset.class_names == VOC_CLASSES
    assert [dataset.key(index) for index in range(3)] == ["000001", "000002", "000003"]
    assert boxes_of(dataset, 0) == ([[2, 0, 20, 12], [0, 4.5, 24, 16]], ["dog", "car"], [False, False])
    assert boxes_of(dataset, 1) == ([], [], [])
    assert boxes_of(dataset, 2) == ([[2, 0, 20, 12]], ["dog"], [True])  # difficult
    assert dataset[2].image.unique().tolist() == [80]
    assert len(VocDetection(root=root, split="val")) == 1


def test_masks_have_a_background_and_a_border(root: Path) -> None:
    dataset = VocSegmentation(root=root)
    assert dataset.target_kind == Mask.kind
    assert dataset.class_names == ("background", *VOC_CLASSES)
    target = dataset[1].target
    assert isinstance(target, Mask)
    assert target.ignore_index == 255
    assert target.labels[:, 0].tolist() == [0] * 4 + [12] * 4 + [255] * 2 + [0] * 6
    assert dataset.class_names[12] == "dog"


@pytest.mark.parametrize("kind", [VocDetection, VocSegmentation])
def test_both_crop_pickle_and_repeat_themselves(kind: type[VocFolder], root: Path) -> None:
    check(lambda: kind(root=root))
    dataset = kind(root=root, geometry=Geometry(crop=8, augment=True))
    dataset.set_epoch(4)
    copy = pickle.loads(pickle.dumps(dataset))
    assert dataset[0].image.shape == (3, 8, 8)
    first, second = dataset[0].target, copy[0].target
    if isinstance(first, Mask):
        assert isinstance(second, Mask)
        assert torch.equal(first.labels, second.labels)
        assert first.labels.shape == (8, 8)
    else:
        assert isinstance(first, Boxes)
        assert isinstance(second, Boxes)
        assert torch.equal(first.boxes, second.boxes)


@pytest.mark.parametrize("inside", ["VOCdevkit/VOC2010", "TrainVal/VOCdevkit/VOC2010", "VOC2010"])
def test_archives_fit_as_they_unpack(inside: str, tmp_path: Path) -> None:
    make_voc(tmp_path / inside)
    assert len(VocDetection(root=tmp_path, year="2010")) == 3
    with pytest.raises(DatasetError, match=r"a folder JPEGImages, there or in VOCdevkit/VOC2012; got none"):
        VocDetection(root=tmp_path)


def test_download_is_left_to_torchvision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched: list[str] = []

    def fetch(url: str, root: str, **options: object) -> None:
        fetched.append(url.rpartition("/")[2])
        make_voc(Path(root) / "VOCdevkit" / "VOC2007")

    monkeypatch.setattr("torchvision.datasets.voc.download_and_extract_archive", fetch)
    for kind in (VocDetection, VocSegmentation):
        assert len(kind(root=tmp_path, year="2007", download=True)) == 3
    assert fetched == ["VOCtrainval_06-Nov-2007.tar"]
    with pytest.raises(DatasetError, match=r"that torchvision can download; got .*test.txt"):
        VocDetection(root=tmp_path, year="2007", split="test", download=True)
    assert fetched[1:] == ["VOCtest_06-Nov-2007.tar"]


def _no_list(root: Path) -> VocFolder:
    return VocDetection(root=root, split="trainval")


def _no_root(root: Path) -> VocFolder:
    return VocSegmentation(root=root / "nowhere")


def _two_names(root: Path) -> VocFolder:
    text(root / "ImageSets" / "Main" / "train.txt", "000001\n000002 -1\n")
    return VocDetection(root=root)


def _listed_twice(root: Path) -> VocFolder:
    text(root / "ImageSets" / "Main" / "train.txt", "000001\n000001\n")
    return VocDetection(root=root, strict=False)


def _empty_list(root: Path) -> VocFolder:
    text(root / "ImageSets" / "Main" / "train.txt", "\n")
    return VocDetection(root=root)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_no_list, r"ImageSets.Main: expected a list trainval.txt; got \['train.txt', 'val.txt'\]"),
        (_no_root, r"nowhere: expected a folder; got nothing there"),
        (_two_names, r"train.txt, line 2: expected one image's name, .*got '000002 -1'"),
        (_listed_twice, r"train.txt, line 2: expected one image's name, not listed before; got '000001'"),
        (_empty_list, r"split 'train': expected images; got none"),
    ],
)
def test_wrong_folders_and_lists_are_named(make: Callable[[Path], VocFolder], message: str, root: Path) -> None:
    with pytest.raises(DatasetError, match=message):
        make(root)


@pytest.mark.parametrize("options", [{"year": "2013"}, {"classes": "dog"}, {"label_orientation": "x"}])
def test_wrong_options_are_refused(options: dict[str, object], root: Path) -> None:
    with pytest.raises(OptionError):
        VocDetection(root=root, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [VocDetection, VocSegmentation])
@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("JPEGImages", r"train.txt, line 2: expected an image of that name in .*; got no '000002'"),
        ("annotation", r"train.txt, line 2: expected a file .*000002.*; got none"),
    ],
)
def test_missing_files_are_named_or_left_out(kind: type[VocFolder], lost: str, message: str, root: Path) -> None:
    folder = {VocDetection: "Annotations", VocSegmentation: "SegmentationClass"}[kind] if lost == "annotation" else lost
    next((root / folder).glob("000002.*")).unlink()
    with pytest.raises(DatasetError, match=message):
        kind(root=root)
    dataset = kind(root=root, strict=False)
    assert [dataset.key(index) for index in range(len(dataset))] == ["000001", "000003"]
    assert [item.key for item in dataset.report().left_out] == ["000002"]


@pytest.mark.parametrize(
    ("content", "message", "left"),
    [
        (annotation(CAR.replace("car", "cart")), r"000001.xml, object 1: .*'cart' \(Did you mean .*'car'", []),
        (annotation(dog(right="2"), CAR), r"1: expected a box with an area, .*; got .*2 0 2 12", [[0, 4.5, 24, 16]]),
        (annotation(dog(right="nan")), r"object 1, bndbox/xmax: expected a finite number; got 'nan'", None),
        (annotation(dog(), width="inf"), r"size/width: expected a finite number, at least 1; got 'inf'", None),
        (annotation(dog(right="29")), r"in its image of 24 x 16; got .*which sticks out", [[2, 0, 24, 12]]),
        (annotation(dog(), width="2"), r"all of it outside", []),
        (annotation(dog(), width="wide"), r"000001.xml, size/width: expected a number; got 'wide'", None),
        (annotation(dog(), height="0"), r"size/height: expected a finite number, at least 1; got '0'", None),
        ("<annotation></annotation>", r"size/width: expected a number; got nothing", None),
        (annotation(dog(right="")), r"object 1, bndbox/xmax: expected a number; got ''", None),
        (annotation(CAR.replace("car", " ")), r"object 1, name: expected a class; got nothing", None),
        ("<annotation>\n <size>", r"000001.xml, line 2, column 8: expected XML", None),
        ("", r"000001.xml, line 1, column 1: expected XML", None),
    ],
)  # fmt: skip
def test_wrong_annotations_are_named_or_left_out(
    content: str, message: str, left: list[list[float]] | None, root: Path
) -> None:
    text(root / "Annotations" / "000001.xml", content)
    with pytest.raises(DatasetError, match=message):
        VocDetection(root=root)
    dataset = VocDetection(root=root, strict=False)
    report = dataset.report()
    assert [item.key for item in (*report.left_out, *report.mended)] == ["000001"]
    if left is None:
        assert len(dataset) == 2
    elif "width>2<" not in content:
        assert boxes_of(dataset, 0)[0] == left


def test_a_image_of_another_size_is_named(root: Path) -> None:
    save(root / "JPEGImages" / "000001.png", np.zeros((24, 16, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"000001.png: expected labels of its image's size, 16 x 24; got 24 x 16"):
        VocDetection(root=root)[0]
    with pytest.raises(DatasetError, match=r"expected labels of its image's size, 16 x 24; got 24 x 16"):
        VocSegmentation(root=root)[0]


def test_unknown_labels_are_named(root: Path) -> None:
    assert VocSegmentation(root=root, classes=[str(index) for index in range(13)])[0].target is not None
    with pytest.raises(DatasetError, match=r"000001.png: expected labels from 0 to 11, or 255 .*got \[12\]"):
        VocSegmentation(root=root, classes=[str(index) for index in range(12)])[0]
