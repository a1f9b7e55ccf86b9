"""What was left out, and what a look at a set as a whole finds, is told."""

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from precomp_data import CocoDetection, ImageFolder, MaskFolder, UnlabelledFolder, VocDetection, WebDatasetShards
from precomp_sdk import DatasetError, DatasetReport, ImageError, SkippedSample, Subset
from precomp_sdk.image_io import _files, read_image


def save(path: Path, values: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8) if values is None else values).save(path)


def test_links_are_followed_each_folder_once(tmp_path: Path) -> None:
    for name in ("set/train/cat/a.png", "set/train/dog/b.png", "disk/more/c.png", "disk/more/below/d.png"):
        save(tmp_path / name)
    cats = tmp_path / "set/train/cat"
    os.symlink(tmp_path / "disk/more", cats / "more")
    os.symlink(tmp_path / "disk", cats / "again")  # a second way to the same folder
    os.symlink(cats, cats / "loop")
    os.symlink(tmp_path / "disk/more/c.png", cats / "linked.png")
    os.symlink(tmp_path / "nowhere.png", cats / "lost.png")
    found = ImageFolder(root=tmp_path / "set")
    keys = sorted(found.key(index) for index in range(len(found)))
    assert len(keys) == 5
    assert [key for key in keys if "again" in key or "more" in key] == [
        "train/cat/again/more/below/d.png",
        "train/cat/again/more/c.png",
    ]
    assert "train/cat/linked.png" in keys
    assert found.report().left_out == (SkippedSample("train/cat/lost.png", "a link to nothing"),)
    everything = UnlabelledFolder(root=tmp_path / "set")
    assert len(everything) == 5
    assert all(sample.image.shape == (3, 8, 8) for sample in map(everything.__getitem__, range(5)))


def test_a_link_to_the_images_of_another_class_gives_them_no_second_label(tmp_path: Path) -> None:
    for name in ("cat/a.png", "dog/b.png", "dog/puppies/c.png"):
        save(tmp_path / "train" / name)
    os.symlink(tmp_path / "train", tmp_path / "train/cat/up")
    os.symlink(tmp_path / "train/dog", tmp_path / "train/cat/dogs")
    found = ImageFolder(root=tmp_path)
    keys = [found.key(index) for index in range(len(found))]
    assert keys == ["train/cat/a.png", "train/dog/b.png", "train/dog/puppies/c.png"]
    reason = "a link to a folder of other images"
    assert found.report().left_out == tuple(SkippedSample(f"train/cat/{name}", reason) for name in ("dogs", "up"))


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n"


@pytest.mark.parametrize("name", ["annotations_train.json", "ImageSets/Main/train.txt", "Annotations/a.xml", "a.tar"])
def test_a_pointer_of_git_lfs_is_named_as_one(name: str, tmp_path: Path) -> None:
    save(tmp_path / "images/train/a.png")
    save(tmp_path / "JPEGImages/a.png")
    for folder in ("ImageSets/Main", "Annotations"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\n")
    (tmp_path / name).write_text(POINTER)
    make = {".json": CocoDetection, ".tar": WebDatasetShards}.get(Path(name).suffix, VocDetection)
    with pytest.raises(DatasetError, match=r"a pointer of git-lfs: .*git lfs pull"):
        make(root=tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_and_a_device_are_no_images(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    os.symlink("/dev/zero", tmp_path / "c.png")
    (tmp_path / "d.png").mkdir()
    found = UnlabelledFolder(root=tmp_path)
    assert len(found) == 1
    assert [item.key for item in found.report().left_out] == ["b.png", "c.png"]
    for name in ("b.png", "c.png"):
        with pytest.raises(ImageError, match="expected a file; got a pipe, a socket or a device"):
            read_image(tmp_path / name)


def test_a_folder_keeps_its_own_name_beside_a_link_to_it(tmp_path: Path) -> None:
    save(tmp_path / "z/a.png")
    os.symlink(tmp_path / "z", tmp_path / "a-link")
    found = UnlabelledFolder(root=tmp_path)
    assert [found.key(index) for index in range(len(found))] == ["z/a.png"]


def test_what_looks_like_an_image_and_is_not_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.jpg")
    save(tmp_path / ".thumbnails/a.jpg")
    (tmp_path / ".git").mkdir()
    for name in ("._a.jpg", "b.psd", "notes.txt", *(f"IMG_{number}.HEIC" for number in range(8))):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(_files, "_available", lambda: ("JPEG", "PNG"))
    _files._endings.cache_clear()
    try:
        told = UnlabelledFolder(root=tmp_path).report().messages()
    finally:
        _files._endings.cache_clear()
    assert told == [
        "1 of 12 images was left out (a hidden file): ._a.jpg",
        "1 of 12 images was left out (a hidden folder): .thumbnails",
        "8 of 12 images were left out (pillow-heif is not installed): IMG_0.HEIC, IMG_1.HEIC, IMG_2.HEIC and 5 more",
        "1 of 12 images was left out (no format that is read here): b.psd",
    ]


def test_images_in_no_class_folder_are_told(tmp_path: Path) -> None:
    for name in ("train/cat/a.png", "train/dog/b.png", "train/stray.png"):
        save(tmp_path / name)
    assert ImageFolder(root=tmp_path).report().messages() == [
        "1 of 3 images was left out (in no class folder): train/stray.png"
    ]


def test_a_folder_of_unreadable_images_says_why_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.psd").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"got none; a\.psd: no format that is read here"):
        UnlabelledFolder(root=tmp_path)


def coco(root: Path, count: int, there: int) -> Path:
    images, notes = [], []
    for number in range(count):
        images.append({"id": number, "file_name": f"{number}.png", "width": 8, "height": 8})
        notes.append({"id": number, "image_id": number, "category_id": 1, "bbox": [1, 1, 4, 4]})
        if number < there:
            save(root / f"images/train/{number}.png")
    content = {"images": images, "annotations": notes, "categories": [{"id": 1, "name": "x"}]}
    (root / "annotations_train.json").write_text(json.dumps(content))
    return root


def test_missing_images_are_counted_and_listed(tmp_path: Path) -> None:
    report = CocoDetection(root=coco(tmp_path, 30, 8), strict=False).report()
    assert report.images == 8
    assert [item.key for item in report.left_out] == [f"{number}.png" for number in range(8, 30)]
    (told,) = report.messages()
    assert told.startswith("22 of 30 images were left out (")
    assert told.endswith("8.png, 9.png, 10.png and 19 more")


def test_a_subset_passes_the_report_on(tmp_path: Path) -> None:
    report = Subset(CocoDetection(root=coco(tmp_path, 3, 2), strict=False), [0]).report()
    assert report.images == 1
    assert [item.key for item in report.left_out] == ["2.png"]


def test_a_report_without_findings_says_nothing() -> None:
    assert DatasetReport(images=3).messages() == []


# masks


def mask_set(root: Path, masks: list[np.ndarray], suffix: str = "png") -> Path:
    for place, labels in enumerate(masks):
        save(root / f"images/train/{place}.png", np.zeros((*labels.shape, 3), np.uint8))
        save(root / f"masks/train/{place}.{suffix}", labels)
    return root


def binary() -> np.ndarray:
    labels = np.zeros((40, 60), np.uint8)
    labels[10:30, 10:50] = 255
    return labels


@pytest.mark.parametrize("classes", [None, ["background", "cell"]])
def test_masks_of_0_and_255_are_refused(classes: list[str] | None, tmp_path: Path) -> None:
    root = mask_set(tmp_path, [binary(), binary()])
    with pytest.raises(DatasetError, match=r"got \[0\] and 255 in the 2 masks; 255 covers 33% .* write 1 instead"):
        MaskFolder(root=root, classes=classes)


def test_a_rare_object_that_is_255_is_refused_too(tmp_path: Path) -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[3, 4] = 255
    with pytest.raises(DatasetError, match=r"255 covers 0\.01% of all pixels"):
        MaskFolder(root=mask_set(tmp_path, [labels]))


def test_shards_of_masks_are_looked_at_as_folders_are(tmp_path: Path) -> None:
    labels = binary()
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for name, samples in (("0.png", np.zeros((40, 60, 3), np.uint8)), ("0.mask.png", labels)):
            save(tmp_path / "loose" / name, samples)
            shard.add(tmp_path / "loose" / name, name)
    with pytest.raises(DatasetError, match=r"got \[0\] and 255 .* 255 covers 33%"):
        WebDatasetShards(root=tmp_path, target="mask")
    told = WebDatasetShards(root=tmp_path, target="mask", classes=["a", "b"], ignore_index=255).report().messages()
    assert told[-1] == "no pixel of the 1 masks is of class 'b'"


def test_who_chooses_to_ignore_255_may(tmp_path: Path) -> None:
    root = mask_set(tmp_path, [binary()])
    data = MaskFolder(root=root, classes=["background", "cell"], ignore_index=255)
    assert data.report().messages() == [
        "label 255 counts for nothing and covers 33% of the pixels of the 1 masks",
        "no pixel of the 1 masks is of class 'cell'",
    ]
    (root / "classes.json").write_text('{"classes": ["background", "cell"], "ignore_index": 255}')
    assert len(MaskFolder(root=root)) == 1
    with pytest.raises(DatasetError, match=r"labels from 0 to 1, or 9 .*got \[255\]"):
        MaskFolder(root=root, classes=["background", "cell"], ignore_index=9)[0]


def test_a_class_in_no_mask_and_a_large_share_are_told(tmp_path: Path) -> None:
    labels = binary()
    labels[0] = 1
    told = MaskFolder(root=mask_set(tmp_path, [labels]), classes=["ground", "tree", "car"]).report().messages()
    assert told == [
        "label 255 counts for nothing and covers 33% of the pixels of the 1 masks",
        "no pixel of the 1 masks is of class 'car'",
    ]


def test_good_masks_are_not_spoken_of(tmp_path: Path) -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[:9] = 1
    labels[9] = 255  # a border
    assert MaskFolder(root=mask_set(tmp_path, [labels]), classes=["a", "b"]).report().messages() == []
    assert MaskFolder(root=tmp_path).report().messages() == []


def test_masks_of_a_lossy_format_are_refused_and_their_copies_told(tmp_path: Path) -> None:
    smooth = np.kron(np.random.default_rng(0).integers(0, 2, (6, 6)), np.ones((9, 9))).astype(np.uint8) * 200
    root = mask_set(tmp_path, [smooth], "jpg")
    with pytest.raises(DatasetError, match=r"0\.jpg: .*the lossy format JPEG"):
        MaskFolder(root=root)
    with Image.open(root / "masks/train/0.jpg") as image:
        image.save(root / "masks/train/0.png")
    (root / "masks/train/0.jpg").unlink()
    (told,) = MaskFolder(root=root).report().messages()
    assert "different labels" in told
    assert "lossy format" in told
    with pytest.raises(DatasetError, match="labels from 0 to 1"):
        MaskFolder(root=root, classes=["a", "b"])[0]


def test_the_look_at_many_masks_is_bounded_and_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from precomp_data import _mask_survey

    masks = [np.full((10, 10), 1, np.uint8) for _ in range(20)]
    masks[0][:] = masks[10][:] = 0
    monkeypatch.setattr(_mask_survey, "_BUDGET_PX", 500)
    root = mask_set(tmp_path, masks)
    (told,) = MaskFolder(root=root, classes=["a", "b", "c"]).report().messages()
    assert told == "no pixel of the 5 masks looked at, of 20, is of class 'c'"


# VOC's annotations


def voc(root: Path, content: bytes) -> Path:
    save(root / "JPEGImages/a.png", np.zeros((48, 64, 3), np.uint8))
    (root / "Annotations").mkdir()
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    (root / "Annotations/a.xml").write_bytes(content)
    return root


XML = (
    '<?xml version="1.0" encoding="{encoding}"?><annotation><folder>{folder}</folder><size><width>64</width>'
    "<height>48</height></size><object><name>{name}</name>{flag}<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>20</xmax>"
    "<ymax>20</ymax></bndbox></object></annotation>"
)


def xml(flag: str = "", encoding: str = "utf-8", folder: str = "x", name: str = "cat") -> str:
    return XML.format(flag=flag, encoding=encoding, folder=folder, name=name)


@pytest.mark.parametrize(
    ("text", "difficult"),
    [("1", True), ("True", True), (" true ", True), ("yes", True), ("0", False), ("False", False), ("", False)],
)
def test_a_difficult_object_is_told_in_several_ways(text: str, difficult: bool, tmp_path: Path) -> None:
    data = VocDetection(root=voc(tmp_path, xml(f"<difficult>{text}</difficult>").encode()))
    assert data[0].target.crowd.tolist() == [difficult]  # type: ignore[union-attr]


def test_an_unknown_flag_is_named_or_told(tmp_path: Path) -> None:
    root = voc(tmp_path, xml("<difficult>Maybe</difficult>").encode())
    with pytest.raises(DatasetError, match=r"object 1, difficult: expected 0 or 1; got 'Maybe'"):
        VocDetection(root=root)
    (mended,) = VocDetection(root=root, strict=False).report().mended
    assert mended.key == "a"


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("iso-8859-1", "Bäume"), ("utf-16", "Bäume"), ("windows-1252", "Bäume"), ("gb18030", "猫"), ("shift_jis", "猫")],
)
def test_a_file_is_read_in_the_encoding_it_declares(encoding: str, name: str, tmp_path: Path) -> None:
    root = voc(tmp_path, xml(encoding=encoding, name=name).encode(encoding))
    assert len(VocDetection(root=root, classes=[name])[0].target.labels) == 1  # type: ignore[union-attr]


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert len(VocDetection(root=voc(tmp_path, b"\xef\xbb\xbf" + xml().encode()))) == 1


@pytest.mark.parametrize("encoding", ["klingon", "gb18030"])
def test_an_encoding_that_is_wrong_is_named(encoding: str, tmp_path: Path) -> None:
    content = xml(encoding=encoding, name="cat").encode().replace(b"x<", b"\xff\xff<", 1)
    with pytest.raises(DatasetError, match=r"a\.xml: expected XML in the encoding that its first line declares"):
        VocDetection(root=voc(tmp_path, content))
