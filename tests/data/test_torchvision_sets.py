"""Torchvision's own readers on tiny sets in their published layouts."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from precomp_data import TORCHVISION_SETS, Geometry, TorchvisionSet
from precomp_data.torchvision_sets import CIFAR10, Imagenette, OxfordIIITPetSegmentation
from precomp_sdk import DatasetError, Label, Mask, OptionError, Registry, construct

SHADES = {"train": (40, 80), "val": (120, 200)}  # the gray of the two images of each split

TRIMAP = np.array([1, 2, 3, 1], np.uint8).repeat(96).reshape(16, 24)  # animal, background, neither, animal


def photo(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 16), (shade, shade, shade)).save(path)


def text(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def make_cifar(folder: Path, batches: dict[str, list[int]], labels: str, meta: tuple[str, str, list[str]]) -> None:
    folder.mkdir(parents=True)
    for name, shades in batches.items():
        data = np.repeat(np.array(shades, np.uint8)[:, None], 3072, axis=1).reshape(-1, 3072)
        (folder / name).write_bytes(pickle.dumps({"data": data, labels: list(range(len(shades)))}))
    (folder / meta[0]).write_bytes(pickle.dumps({meta[1]: meta[2]}))


def make_cifar10(root: Path) -> None:
    batches: dict[str, list[int]] = {f"data_batch_{index}": [] for index in range(2, 6)}
    batches |= {"data_batch_1": list(SHADES["train"]), "test_batch": list(SHADES["val"])}
    make_cifar(root / "cifar-10-batches-py", batches, "labels", ("batches.meta", "label_names", ["first", "second"]))


def make_cifar100(root: Path) -> None:
    batches = {"train": list(SHADES["train"]), "test": list(SHADES["val"])}
    make_cifar(root / "cifar-100-python", batches, "fine_labels", ("meta", "fine_label_names", ["first", "second"]))


def make_stl10(root: Path) -> None:
    folder = root / "stl10_binary"
    text(folder / "class_names.txt", ["first", "second"])
    (folder / "unlabeled_X.bin").write_bytes(b"")
    for split, name in (("train", "train"), ("val", "test")):
        data = np.stack([np.full((3, 96, 96), shade, np.uint8) for shade in SHADES[split]])
        (folder / f"{name}_X.bin").write_bytes(data.tobytes())
        (folder / f"{name}_y.bin").write_bytes(bytes([1, 2]))


def make_flowers102(root: Path) -> None:
    folder = root / "flowers-102"
    for index, shade in enumerate((*SHADES["train"], *SHADES["val"]), 1):
        photo(folder / "jpg" / f"image_{index:05d}.jpg", shade)
    savemat(folder / "imagelabels.mat", {"labels": [[1, 2, 1, 2]]})
    savemat(folder / "setid.mat", {"trnid": [[1, 2]], "valid": [[3, 4]], "tstid": [[1, 1]]})


def make_food101(root: Path) -> None:
    folder = root / "food-101"
    for split, name in (("train", "train"), ("val", "test")):
        listed = {}
        for kind, shade in zip(("first", "second"), SHADES[split], strict=True):
            listed[kind] = [f"{kind}/{shade}"]
            photo(folder / "images" / kind / f"{shade}.jpg", shade)
        text(folder / "meta" / f"{name}.json", [json.dumps(listed)])


def make_imagenette(root: Path) -> None:
    for split, shades in SHADES.items():
        for kind, shade in zip(("n01440764", "n03888257"), shades, strict=True):
            photo(root / "imagenette2" / split / kind / f"{shade}.jpeg", shade)


def make_pets(root: Path) -> None:
    folder = root / "oxford-iiit-pet"
    for split, name in (("train", "trainval"), ("val", "test")):
        names = [f"{kind}_{shade}" for kind, shade in zip(("first", "second"), SHADES[split], strict=True)]
        for file, shade in zip(names, SHADES[split], strict=True):
            photo(folder / "images" / f"{file}.jpg", shade)
            (folder / "annotations" / "trimaps").mkdir(parents=True, exist_ok=True)
            Image.fromarray(TRIMAP).save(folder / "annotations" / "trimaps" / f"{file}.png")
        text(folder / "annotations" / f"{name}.txt", [f"{names[0]} 1 1 1", f"{names[1]} 2 1 2"])


def make_dtd(root: Path) -> None:
    folder = root / "dtd" / "dtd"
    for split, shades in SHADES.items():
        names = [f"{kind}/{shade}.jpg" for kind, shade in zip(("first", "second"), shades, strict=True)]
        for file, shade in zip(names, shades, strict=True):
            photo(folder / "images" / file, shade)
        text(folder / "labels" / f"{split}1.txt", names)


def make_aircraft(root: Path) -> None:
    folder = root / "fgvc-aircraft-2013b" / "data"
    text(folder / "variants.txt", ["first", "second"])
    for split, shades in SHADES.items():
        for shade in shades:
            photo(folder / "images" / f"{shade}.jpg", shade)
        text(folder / f"images_variant_{split}.txt", [f"{shades[0]} first", f"{shades[1]} second"])


MAKERS: dict[str, Callable[[Path], None]] = {
    "cifar10": make_cifar10,
    "cifar100": make_cifar100,
    "stl10": make_stl10,
    "flowers102": make_flowers102,
    "food101": make_food101,
    "imagenette": make_imagenette,
    "oxford-iiit-pet": make_pets,
    "oxford-iiit-pet-segmentation": make_pets,
    "dtd": make_dtd,
    "fgvc-aircraft": make_aircraft,
}
CLASS_NAMES = {"flowers102": ("pink primrose", "hard-leaved pocket orchid"), "imagenette": ("tench", "parachute")}
CLASS_NAMES["oxford-iiit-pet"] = ("First", "Second")
CLASS_NAMES["oxford-iiit-pet-segmentation"] = ("background", "pet")
SIZES = {"cifar10": (32, 32), "cifar100": (32, 32), "stl10": (96, 96)}

each_set = pytest.mark.parametrize("kind", TORCHVISION_SETS, ids=lambda kind: kind.name)


@pytest.fixture(autouse=True)
def no_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published checksums are of the published files."""
    for module in ("cifar", "stl10", "flowers102"):
        monkeypatch.setattr(
            f"torchvision.datasets.{module}.check_integrity", lambda path, md5=None: os.path.isfile(path)
        )


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def test_every_set_is_tested() -> None:
    assert sorted(kind.name for kind in TORCHVISION_SETS) == sorted(MAKERS)


@each_set
@pytest.mark.parametrize("split", ["train", "val"])
def test_images_and_labels(kind: type[TorchvisionSet], split: str, tmp_path: Path) -> None:
    MAKERS[kind.name](tmp_path)
    dataset = kind(root=tmp_path, split=split)
    assert len(dataset) == 2
    masks = kind is OxfordIIITPetSegmentation
    assert dataset.target_kind == (Mask.kind if masks else Label.kind)
    assert dataset.class_names[:2] == CLASS_NAMES.get(kind.name, ("first", "second"))
    for index in range(2):
        sample = dataset[index]
        if masks:
            assert isinstance(sample.target, Mask)
            assert sample.target.ignore_index == 255
            assert sample.target.labels[::4, 0].tolist() == [1, 0, 255, 1]
        else:
            assert sample.target == Label(index=index)
        assert sample.key == f"{split}/{index}"
        assert sample.image.shape == (3, *SIZES.get(kind.name, (16, 24)))
        assert (sample.image.int() - SHADES[split][index]).abs().max() <= 2  # JPEG
    assert kind(root=str(tmp_path), split=split, geometry=Geometry(resize=20, crop=10))[0].image.shape == (3, 10, 10)


@each_set
def test_a_missing_set_says_how_to_get_it(kind: type[TorchvisionSet], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"not found.*Set the option download to true") as raised:
        kind(root=tmp_path)
    assert kind.name in raised.value.where
    assert str(tmp_path) in raised.value.where


@each_set
def test_a_failed_download_says_so(kind: type[TorchvisionSet], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"can download; got .*Check the network"):
        kind(root=tmp_path, download=True)


def test_download_fetches_into_the_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched: list[str] = []

    def fetch(url: str, root: str, **options: object) -> None:
        fetched.append(url)
        make_cifar10(Path(root))

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fetch)
    for _ in range(2):
        assert len(CIFAR10(root=tmp_path, download=True)) == 2
    assert fetched == ["https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"]


@each_set
def test_a_split_is_train_or_val(kind: type[TorchvisionSet], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=f"{kind.name}', split: .*got 'test'"):
        kind(root=tmp_path, split="test")


@pytest.mark.parametrize("data", [b"", b"no image"])
def test_a_broken_image_is_named(data: bytes, tmp_path: Path) -> None:
    make_imagenette(tmp_path)
    (tmp_path / "imagenette2" / "train" / "n03888257" / "80.jpeg").write_bytes(data)
    dataset = Imagenette(root=tmp_path)
    assert dataset[0].image.shape == (3, 16, 24)
    with pytest.raises(DatasetError, match="imagenette', train/1: expected a whole and valid image"):
        dataset[1]


@pytest.mark.parametrize(
    ("trimap", "message"),
    [
        (TRIMAP[:, :23], r"train/0: expected labels of its image's size, 24 x 16; got 23 x 16"),
        (np.zeros_like(TRIMAP), r"train/0: expected a trimap of 1, 2 and 3; got 0"),
        (np.full_like(TRIMAP, 4), r"train/0: expected labels from 0 to 3.*got \[4\]"),
        (None, r"train/0: expected a whole and valid image"),
    ],
)
def test_a_wrong_trimap_is_named(trimap: np.ndarray | None, message: str, tmp_path: Path) -> None:
    make_pets(tmp_path)
    path = tmp_path / "oxford-iiit-pet" / "annotations" / "trimaps" / "first_40.png"
    if trimap is None:
        path.write_bytes(path.read_bytes()[:60])
    else:
        Image.fromarray(trimap).save(path)
    with pytest.raises(DatasetError, match=message):
        OxfordIIITPetSegmentation(root=tmp_path)[0]


def test_imagenette_comes_in_sizes(tmp_path: Path) -> None:
    make_imagenette(tmp_path)
    (tmp_path / "imagenette2").rename(tmp_path / "imagenette2-160")
    assert len(Imagenette(root=tmp_path, size="160px")) == 2
    with pytest.raises(OptionError, match="'full', '320px' or '160px'; got '100px'"):
        Imagenette(root=tmp_path, size="100px")


@pytest.mark.parametrize("kind", ["cifar10", "imagenette"])
def test_pickles_and_epochs(kind: str, tmp_path: Path) -> None:
    MAKERS[kind](tmp_path)
    cls = next(item for item in TORCHVISION_SETS if item.name == kind)
    dataset = construct(cls, root=tmp_path, geometry=Geometry(crop=8, augment=True, seed=5))
    dataset.set_epoch(3)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[1].image, dataset[1].image)


def test_the_plugin_registers_every_set() -> None:
    import precomp_data

    registry = Registry(entry_points=False)
    registry.register(precomp_data)
    others = {
        "image-folder",
        "unlabelled-images",
        "webdataset",
        "coco-detection",
        "mask-folder",
        "voc-detection",
        "voc-segmentation",
        "scenes",
    }
    assert set(registry.datasets) == {*MAKERS, *others}
    assert len(registry.create("dataset", "scenes", count=3, split="val")) == 3
    with pytest.raises(OptionError, match="Did you mean 'geometry'"):
        registry.create("dataset", "cifar10", root="x", geomtry=3)
