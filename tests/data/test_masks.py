"""Images beside their masks, and everything masks get wrong."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from precomp_data import Geometry, MaskFolder, read_mask
from precomp_sdk import DatasetError, Mask, OptionError, load_samples
from precomp_sdk.image_io import DecodedImage
from precomp_sdk.testing import check

CLASSES = {"classes": ["sky", "road", "tree"], "ignore_index": 9}


def save_image(path: Path, width: int = 8, height: int = 6) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def save_mask(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)


def mask_of(seed: int, width: int = 8, height: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([0, 1, 2, 9], dtype=np.uint8), (height, width))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index, name in enumerate(("b", "a", "deep/c")):
        save_image(tmp_path / "images" / "train" / f"{name}.webp")
        save_mask(tmp_path / "masks" / "train" / f"{name}.png", mask_of(index))
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    return tmp_path


def labels_of(target: object) -> torch.Tensor:
    assert isinstance(target, Mask)
    return target.labels


def test_images_and_masks_are_paired(root: Path) -> None:
    dataset = MaskFolder(root=root)
    assert dataset.target_kind == Mask.kind
    assert dataset.class_names == ("sky", "road", "tree")
    assert [dataset.key(index) for index in range(len(dataset))] == ["a.webp", "b.webp", "deep/c.webp"]
    for place, seed in enumerate((1, 0, 2)):
        target = dataset[place].target
        assert isinstance(target, Mask)
        assert target.ignore_index == 9
        assert target.labels.dtype == torch.int64
        assert torch.equal(target.labels, torch.from_numpy(mask_of(seed)).long())


def test_the_conformance_kit_passes(root: Path) -> None:
    check(lambda: MaskFolder(root=root))
    check(lambda: MaskFolder(root=root, geometry=Geometry(crop=5, augment=True, zoom=1.5)))


def test_options_replace_the_file(root: Path) -> None:
    dataset = MaskFolder(root=root, classes=["0", "1", "2", "x", "x2", "x3", "x4", "x5", "x6", "nine"], ignore_index=77)
    target = dataset[0].target
    assert isinstance(target, Mask)
    assert target.ignore_index == 77
    (root / "classes.json").unlink()
    unnamed = MaskFolder(root=root)
    assert unnamed.class_names == ()
    assert labels_of(unnamed[0].target).max() == 9
    assert isinstance(unnamed[0].target, Mask)
    assert unnamed[0].target.ignore_index == 255


def test_folders_can_be_given_or_have_no_splits(root: Path) -> None:
    given = MaskFolder(root=root, images="images/train", masks=root / "masks" / "train")
    assert len(given) == 3
    assert MaskFolder(root=root, split=None).key(0) == "train/a.webp"
    with pytest.raises(OptionError, match="both folders, or neither"):
        MaskFolder(root=root, images="images/train")


@pytest.mark.parametrize(
    "options", [{"classes": []}, {"classes": "sky"}, {"classes": ["a", "a"]}, {"ignore_index": -1}]
)
def test_wrong_options_are_refused(options: dict[str, object], root: Path) -> None:
    with pytest.raises(OptionError):
        MaskFolder(root=root, **options)  # type: ignore[arg-type]


def test_counterparts_that_lack_are_named_or_left_out(root: Path) -> None:
    (root / "masks" / "train" / "a.png").rename(root / "masks" / "train" / "z.png")
    with pytest.raises(DatasetError, match=r"a.webp: expected a mask of that name in .*; got none"):
        MaskFolder(root=root)
    dataset = MaskFolder(root=root, strict=False)
    assert len(dataset) == 2
    assert [item.key for item in dataset.report().left_out] == ["a.webp"]
    assert [item.key for item in dataset.report().mended] == ["z.png"]
    save_image(root / "images" / "train" / "a.png")
    with pytest.raises(DatasetError, match="one image of each name"):
        MaskFolder(root=root)


def test_missing_and_empty_folders_are_named(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"val: expected a folder; got nothing there"):
        MaskFolder(root=root, split="val")
    for kind in ("images", "masks"):
        (root / kind / "val").mkdir()
    with pytest.raises(DatasetError, match="expected images; got none"):
        MaskFolder(root=root, split="val")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (mask_of(1, width=7), r"a.png: expected labels of its image's size, 8 x 6; got 7 x 6"),
        (np.full((6, 8), 3, np.uint8), r"a.png: expected labels from 0 to 2, or 9 for .*; got \[3\]"),
        (np.arange(48, dtype=np.uint8).reshape(6, 8), r"got \[3, 4, 5, 6, 7, 8, 10, 11\] and more"),
        (
            np.zeros((6, 8, 3), np.uint8),
            r"one class per pixel: a gray or a palette image .*; got .*'RGB'",
        ),
    ],
)
def test_a_wrong_mask_is_named_or_skipped(labels: np.ndarray, message: str, root: Path) -> None:
    save_mask(root / "masks" / "train" / "a.png", labels)
    dataset = MaskFolder(root=root)
    with pytest.raises(DatasetError, match=message):
        dataset[0]
    samples, skipped = load_samples(dataset, range(3), skip_unreadable=True)
    assert [sample.key for sample in samples] == ["b.webp", "deep/c.webp"]
    assert [item.key for item in skipped] == ["a.webp"]


def test_a_broken_mask_is_named(root: Path) -> None:
    (root / "masks" / "train" / "a.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"a.png: expected an image that is read here"):
        MaskFolder(root=root)[0]


@pytest.mark.parametrize(
    "text",
    [
        '["sky"]',
        '{"classes": ["sky", "sky"]}',
        '{"classes": "sky"}',
        '{"ignore_index": -1}',
        '{"ignore_index": "void"}',
        '{"names": ["sky"]}',
    ],
)
def test_a_wrong_classes_file_is_named(text: str, root: Path) -> None:
    (root / "classes.json").write_text(text)
    with pytest.raises(DatasetError, match=r"classes.json: expected .*Repair the file"):
        MaskFolder(root=root)


def test_a_damaged_classes_file_says_where(root: Path) -> None:
    (root / "classes.json").write_text('{"classes": \n')
    with pytest.raises(DatasetError, match=r"classes.json, line 2, column 1: expected JSON"):
        MaskFolder(root=root)


def _as_bytes(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


def _palette(labels: np.ndarray) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette([value for index in range(256) for value in (255 - index, 3, index)])
    return image


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Image.fromarray(np.array([[0, 200]], np.uint8)), [[0, 200]]),
        (lambda: _palette(np.array([[0, 200]], np.uint8)), [[0, 200]]),
        (lambda: Image.fromarray(np.array([[0, 1000]], np.uint16)), [[0, 1000]]),
        (lambda: Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"), [[0, 1]]),
    ],
)
def test_samples_are_labels_in_every_gray_and_palette_format(
    make: Callable[[], Image.Image], expected: list[list[int]]
) -> None:
    image = DecodedImage(torch.zeros(3, 1, 2, dtype=torch.uint8), orientation=1)
    assert read_mask(_as_bytes(make()), image).labels.tolist() == expected


def test_masks_follow_their_images(tmp_path: Path) -> None:
    """The red channel of the image is the mask, so both must move alike."""
    labels = np.kron(np.arange(12, dtype=np.uint8).reshape(3, 4), np.ones((10, 10), np.uint8))
    save_mask(tmp_path / "masks" / "train" / "a.png", labels)
    (tmp_path / "images" / "train").mkdir(parents=True)
    Image.fromarray(np.stack([20 * labels] * 3, axis=-1)).save(tmp_path / "images" / "train" / "a.png")
    dataset = MaskFolder(root=tmp_path, geometry=Geometry(resize=20, crop=14, augment=True, zoom=1.4))
    seen = set()
    for epoch in range(12):
        dataset.set_epoch(epoch)
        sample = dataset[0]
        found = labels_of(sample.target)
        assert found.shape == sample.image.shape[1:] == (14, 14)
        agree = (20 * found - sample.image[0].long()).abs() < 10  # edges are blurred in the image only
        assert agree.float().mean() > 0.7
        seen.add(tuple(found.flatten().tolist()))
    assert len(seen) == 12


def test_real_masks_are_read(shared_data: Path) -> None:
    dataset = MaskFolder(root=shared_data / "camvid", split="val")
    assert len(dataset) == 101
    assert len(dataset.class_names) == 11
    target = dataset[0].target
    assert isinstance(target, Mask)
    assert target.ignore_index == 11
    assert target.labels.shape == (240, 320)
