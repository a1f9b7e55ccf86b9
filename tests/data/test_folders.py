"""Image folders, folders without labels, and their geometry."""

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from precomp_data import Geometry, ImageFolder, UnlabelledFolder
from precomp_sdk import DatasetError, Label, OptionError, ReadSettings, TaskDataset, load_samples


def save(path: Path, width: int = 20, height: int = 16, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two splits of three classes, two images each, with files that are no images between them."""
    for split in ("train", "val"):
        for place, name in enumerate(("cat", "ant", "bee")):
            for index in range(2):
                save(tmp_path / split / name / f"{index}.png", seed=10 * place + index)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / "cat" / ".thumb.png").write_bytes(b"hidden")
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "readme.md").write_text("beside the class folders")
    return tmp_path


def test_labels_follow_the_sorted_class_folders(root: Path) -> None:
    dataset = ImageFolder(root=root)
    assert dataset.class_names == ("ant", "bee", "cat")
    assert dataset.target_kind == Label.kind
    assert [dataset.key(index) for index in range(len(dataset))] == [
        f"train/{name}/{index}.png" for name in ("ant", "bee", "cat") for index in range(2)
    ]
    assert [sample.target for sample in dataset] == [Label(index=label) for label in (0, 0, 1, 1, 2, 2)]
    stored = np.array(Image.open(root / "train" / "bee" / "1.png"))
    assert torch.equal(dataset[3].image, torch.from_numpy(stored).permute(2, 0, 1))


def test_classes_restrict_and_order(root: Path) -> None:
    dataset = ImageFolder(root=str(root), split="val", classes=["cat", "ant"])
    assert dataset.class_names == ("cat", "ant")
    assert [dataset.key(index) for index in range(len(dataset))] == [
        "val/cat/0.png", "val/cat/1.png", "val/ant/0.png", "val/ant/1.png",
    ]  # fmt: skip
    assert [sample.target for sample in dataset] == [Label(index=label) for label in (0, 0, 1, 1)]


def test_images_at_any_depth_and_with_upper_case_names_count(root: Path) -> None:
    save(root / "train" / "ant" / "more" / "x.PNG")
    assert ImageFolder(root=root).key(2) == "train/ant/more/x.PNG"


def test_classes_with_folders_in_one_split_only_need_a_choice(root: Path) -> None:
    save(root / "train" / "dog" / "0.png")
    for split in ("train", "val"):
        with pytest.raises(DatasetError, match=r"the same class folders in train and val; got \['dog'\]"):
            ImageFolder(root=root, split=split)
    assert len(ImageFolder(root=root, classes=["dog"])) == 1


def test_one_split_alone_is_enough(root: Path) -> None:
    (root / "val").rename(root / "other")
    assert len(ImageFolder(root=root)) == 6


def _missing_root(root: Path) -> TaskDataset:
    return ImageFolder(root=root / "nowhere")


def _file_as_root(root: Path) -> TaskDataset:
    return ImageFolder(root=root / "train" / "readme.md")


def _missing_split(root: Path) -> TaskDataset:
    (root / "val").rename(root / "validation")
    return ImageFolder(root=root, split="val")


def _no_class_folders(root: Path) -> TaskDataset:
    save(root / "flat" / "train" / "a.png")
    return ImageFolder(root=root / "flat")


def _empty_class(root: Path) -> TaskDataset:
    for file in (root / "val" / "bee").iterdir():
        file.unlink()
    return ImageFolder(root=root, split="val")


def _unknown_class(root: Path) -> TaskDataset:
    return ImageFolder(root=root, classes=["ant", "bea"])


def _no_images(root: Path) -> TaskDataset:
    (root / "empty").mkdir()
    return UnlabelledFolder(root=root / "empty")


def _missing_images(root: Path) -> TaskDataset:
    return UnlabelledFolder(root=root / "nowhere")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_missing_root, r"nowhere: expected a folder; got nothing there"),
        (_file_as_root, r"readme.md: expected a folder; got a file"),
        (_missing_split, r"expected a folder 'val' in it; got folders \['train', 'validation'\]"),
        (_no_class_folders, r"expected a folder per class; got no folder. .*'unlabelled-images'"),
        (_empty_class, r"val: expected images in every class folder; got none in \['bee'\]"),
        (_unknown_class, r"got 'bea'. Did you mean 'bee'"),
        (_no_images, r"empty: expected images; got none"),
        (_missing_images, r"nowhere: expected a folder; got nothing there"),
    ],
)
def test_wrong_folders_are_named(root: Path, make: Callable[[Path], TaskDataset], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        make(root)


@pytest.mark.parametrize(
    "options",
    [
        {"split": "test"},
        {"classes": []},
        {"classes": "ant"},
        {"classes": ["ant", "ant"]},
    ],
)
def test_wrong_options_are_refused(root: Path, options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        ImageFolder(root=root, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"resize": 0}, {"crop": 1.5}, {"crop": True}, {"crop": "64"}, {"seed": -1}])
def test_wrong_geometry_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"geometry, option '{next(iter(options))}'"):
        Geometry(**options)


def test_unlabelled_folder_takes_every_image_below(root: Path) -> None:
    everything = UnlabelledFolder(root=root)
    assert everything.target_kind is None
    assert len(everything) == 12
    assert everything[0].target is None
    assert everything.key(0) == "train/ant/0.png"
    part = UnlabelledFolder(root=root, split="val")
    assert len(part) == 6
    assert part[5].key == "cat/1.png"
    with pytest.raises(OptionError, match="'train' or 'val'"):
        UnlabelledFolder(root=root, split="both")


def test_unreadable_images_are_named_or_skipped(root: Path) -> None:
    (root / "train" / "ant" / "1.png").write_bytes(b"")
    (root / "train" / "bee" / "0.png").write_bytes((root / "train" / "bee" / "1.png").read_bytes()[:300])
    dataset = ImageFolder(root=root)
    with pytest.raises(DatasetError, match=r"ant.1\.png: .*0 bytes"):
        load_samples(dataset, range(6))
    samples, skipped = load_samples(dataset, range(6), skip_unreadable=True)
    assert [sample.key for sample in samples] == [dataset.key(index) for index in (0, 3, 4, 5)]
    assert [item.key for item in skipped] == ["train/ant/1.png", "train/bee/0.png"]
    assert all(item.reason for item in skipped)


def test_max_pixels_is_passed_on(root: Path) -> None:
    for dataset in (
        ImageFolder(root=root, reading=ReadSettings(max_pixels=319)),
        UnlabelledFolder(root=root, reading=ReadSettings(max_pixels=319)),
    ):
        with pytest.raises(DatasetError, match="at most 319 pixels; got 20 x 16"):
            dataset[0]


def test_real_photographs_are_read(shared_data: Path) -> None:
    dataset = ImageFolder(
        root=shared_data / "imagenette", split="val", classes=["tench", "church"], geometry=Geometry(crop=160)
    )
    sample = dataset[len(dataset) - 1]
    assert sample.image.shape == (3, 160, 160)
    assert sample.target == Label(index=1)
    assert sample.key.startswith("val/church/")


# geometry


def image(height: int, width: int) -> torch.Tensor:
    """Column number in channel 0, row number in channel 1."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns, rows, rows * 0]).to(torch.uint8)


def apply(geometry: Geometry, source: torch.Tensor, epoch: int = 0, index: int = 0) -> torch.Tensor:
    return geometry.apply(source, epoch=epoch, index=index, where="image")[0]


def test_nothing_asked_nothing_changed() -> None:
    assert torch.equal(apply(Geometry(), image(5, 7)), image(5, 7))


def test_the_centre_is_cropped() -> None:
    found = apply(Geometry(crop=4), image(10, 8))
    assert found.is_contiguous()
    assert found[0].unique().tolist() == [2, 3, 4, 5]
    assert found[1].unique().tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize(("height", "width", "expected"), [(40, 60, (20, 30)), (60, 40, (30, 20)), (10, 15, (20, 30))])
def test_resize_sets_the_short_side(height: int, width: int, expected: tuple[int, int]) -> None:
    assert apply(Geometry(resize=20), image(height, width)).shape[1:] == expected


def test_resizing_is_antialiased() -> None:
    lines = torch.zeros(3, 64, 64, dtype=torch.uint8)
    lines[:, :, ::2] = 255
    assert apply(Geometry(resize=16), lines).float().std() < 8  # picking every fourth column would leave 0 or 255


def test_images_smaller_than_the_crop_are_upscaled() -> None:
    assert apply(Geometry(crop=32), image(9, 18)).shape == (3, 32, 32)
    assert apply(Geometry(resize=16, crop=32), image(90, 180)).shape == (3, 32, 32)
    assert apply(Geometry(crop=32, augment=True), image(1, 1)).shape == (3, 32, 32)


def test_random_crops_reach_every_place_and_flip_half_of_them() -> None:
    geometry = Geometry(crop=4, augment=True)
    found = [apply(geometry, image(6, 7), index=index) for index in range(200)]
    assert {int(item[1].min()) for item in found} == {0, 1, 2}
    assert {int(item[0].min()) for item in found} == {0, 1, 2, 3}
    flipped = sum(bool(item[0, 0, 0] > item[0, 0, 1]) for item in found)
    assert 70 < flipped < 130


def test_flips_need_no_crop() -> None:
    found = [apply(Geometry(augment=True), image(6, 7), index=index) for index in range(20)]
    assert {item[0, 0, 0].item() for item in found} == {0, 6}


def test_draws_depend_on_seed_epoch_and_index_only() -> None:
    source = image(60, 60)

    def draws(seed: int, epoch: int) -> list[list[int]]:
        geometry = Geometry(crop=8, augment=True, seed=seed)
        return [apply(geometry, source, epoch, index)[:, 0, 0].tolist() for index in range(8)]

    first = draws(0, 0)
    assert first == draws(0, 0)
    assert len({tuple(place) for place in first}) > 4
    assert first != draws(0, 1)
    assert first != draws(1, 0)


def test_an_elongated_image_is_not_blown_up() -> None:
    strip = torch.zeros(3, 1, 8000, dtype=torch.uint8)
    with pytest.raises(DatasetError, match=r"image: .*after resizing; got 8000 x 1, resized to 1600000 x 200"):
        apply(Geometry(resize=200), strip)


def test_a_folder_draws_by_epoch_and_repeats_itself(root: Path) -> None:
    dataset = ImageFolder(root=root, geometry=Geometry(crop=8, augment=True, seed=3))
    first = [sample.image for sample in dataset]
    dataset.set_epoch(1)
    second = [sample.image for sample in dataset]
    dataset.set_epoch(0)
    assert all(torch.equal(a, b.image) for a, b in zip(first, dataset, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert {tuple(item.shape) for item in first} == {(3, 8, 8)}


@pytest.mark.parametrize("kind", [ImageFolder, UnlabelledFolder])
def test_threads_and_pickles_see_the_same_images(root: Path, kind: type[ImageFolder] | type[UnlabelledFolder]) -> None:
    dataset = kind(root=root, geometry=Geometry(crop=8, augment=True))
    dataset.set_epoch(2)
    alone = [dataset[index].image for index in range(len(dataset))]
    with ThreadPoolExecutor(4) as pool:
        together = [sample.image for sample in pool.map(dataset.__getitem__, range(len(dataset)))]
    copy = pickle.loads(pickle.dumps(dataset))
    for index, expected in enumerate(alone):
        assert torch.equal(together[index], expected)
        assert torch.equal(copy[index].image, expected)
