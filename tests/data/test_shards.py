"""Sets in tar files give the samples that folders give."""

import io
import json
import os
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from precomp_data import Geometry, WebDatasetShards
from precomp_sdk import Boxes, DatasetError, Label, Mask, OptionError
from precomp_sdk.testing import check


def png(values: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", **options)
    return buffer.getvalue()


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 24, 3)).astype(np.uint8)


def mask(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (16, 24)).astype(np.uint8)


def boxes(seed: int) -> dict[str, Any]:
    return {"boxes": [[1, 2, 9, 8 + seed % 3]], "labels": [seed % 3]}


def write(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def sample(seed: int, stem: str) -> dict[str, bytes]:
    return {
        f"{stem}.PNG": png(pixels(seed)),
        f"{stem}.cls": f"{seed % 3}\n".encode(),
        f"{stem}.seg.png": png(mask(seed)),
        f"{stem}.json": json.dumps(boxes(seed)).encode(),
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for shard in range(2):
        members: dict[str, bytes] = {}
        for place in range(3):
            seed = 3 * shard + place
            members |= sample(seed, f"a/{place:03}" if place else f"{place:03}")
        write(tmp_path / f"train-{shard}.tar", members)
    write(tmp_path / "val-0.tar", sample(9, "x"))
    return tmp_path


CLASSES = ["p", "q", "r"]


def test_samples_are_those_of_the_members(root: Path) -> None:
    labels = WebDatasetShards(root=root, shards="train-*.tar", classes=CLASSES)
    masks = WebDatasetShards(root=root, shards="train-*.tar", target="mask", classes=CLASSES)
    found = WebDatasetShards(root=root, shards="train-*.tar", target="boxes", classes=CLASSES)
    plain = WebDatasetShards(root=root, shards="train-*.tar", target=None)
    assert len(labels) == len(masks) == len(found) == len(plain) == 6
    assert [labels.key(index) for index in (0, 1, 5)] == ["train-0.tar/000", "train-0.tar/a/001", "train-1.tar/a/002"]
    assert labels.report().messages() == []
    for seed in range(6):
        for dataset in (labels, masks, found, plain):
            assert torch.equal(dataset[seed].image, torch.from_numpy(pixels(seed)).permute(2, 0, 1))
        label, pixel_labels, objects = labels[seed].target, masks[seed].target, found[seed].target
        assert isinstance(label, Label)
        assert label.index == seed % 3
        assert isinstance(pixel_labels, Mask)
        assert torch.equal(pixel_labels.labels, torch.from_numpy(mask(seed)).long())
        assert isinstance(objects, Boxes)
        assert objects.boxes.tolist() == boxes(seed)["boxes"]
        assert plain[seed].target is None


@pytest.mark.parametrize("target", ["label", "mask", "boxes", None])
def test_the_conformance_kit_passes(target: str | None, root: Path) -> None:
    classes = CLASSES if target else None
    geometry = Geometry(crop=10, augment=True)
    check(lambda: WebDatasetShards(root=root, shards="train-*.tar", target=target, classes=classes, geometry=geometry))


def test_threads_and_copies_read_the_same(root: Path) -> None:
    dataset = pickle.loads(pickle.dumps(WebDatasetShards(root=root)))
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda index: dataset[index % 6].image, range(24)))
    assert all(torch.equal(image, images[index % 6]) for index, image in enumerate(images))


def test_what_lacks_a_part_is_named_or_left_out(root: Path) -> None:
    write(root / "more.tar", {"a.png": png(pixels(0)), "b.cls": b"1", "c.png": png(pixels(1)), "c.cls": b"2"})
    with pytest.raises(DatasetError, match=r"sample more\.tar/a: expected a member that ends in \.cls; got none"):
        WebDatasetShards(root=root, shards="more.tar")
    dataset = WebDatasetShards(root=root, shards="more.tar", strict=False)
    assert [item.key for item in dataset.report().left_out] == ["more.tar/a", "more.tar/b"]
    assert len(dataset) == 1


@pytest.mark.parametrize(
    ("member", "data", "target", "told"),
    [
        ("a.cls", b"cat", "label", r"more\.tar/a\.cls: expected a label's number as text; got b'cat'"),
        ("a.cls", b"7", "label", "0 to 2"),
        ("a.seg.png", b"x", "mask", r"more\.tar/a\.seg\.png: expected an image"),
        ("a.json", b"[1]", "boxes", r'more\.tar/a\.json: expected \{"boxes"'),
        ("a.json", b'{"boxes": [[1, 2, 3, 4]], "labels": []}', "boxes", "1 boxes and 0 labels"),
    ],
)
def test_a_damaged_part_is_named(member: str, data: bytes, target: str, told: str, root: Path) -> None:
    write(root / "more.tar", {"a.png": png(pixels(0)), member: data})
    with pytest.raises(Exception, match=told):
        WebDatasetShards(root=root, shards="more.tar", target=target, classes=CLASSES)[0]


def test_compressed_and_damaged_shards_are_told(root: Path) -> None:
    whole = (root / "train-0.tar").read_bytes()
    with tarfile.open(root / "x.tar", "w:gz") as archive:
        archive.add(root / "val-0.tar", "a.png")
    (root / "y.tar").write_bytes(b"rubbish" * 200)
    for name in ("x.tar", "y.tar"):
        with pytest.raises(DatasetError, match=rf"{name}: expected a whole tar file that is not compressed"):
            WebDatasetShards(root=root, shards=name)
    for end in range(512, len(whole) - 10240, 512):  # the last 10240 bytes are zeros
        (root / "z.tar").write_bytes(whole[:end])
        with pytest.raises(DatasetError, match=r"z\.tar: expected a whole tar file"):
            WebDatasetShards(root=root, shards="z.tar")
    with pytest.raises(DatasetError, match="expected tar files; got none"):
        WebDatasetShards(root=root, shards="none-*.tar")
    with pytest.raises(OptionError, match="'label', 'mask', 'boxes' or None"):
        WebDatasetShards(root=root, target="text")


def test_links_and_strange_names_in_a_shard_reach_no_file(root: Path) -> None:
    secret = root / "secret.png"
    secret.write_bytes(png(pixels(7)))
    with tarfile.open(root / "evil.tar", "w") as archive:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(link)
        data = png(pixels(8))
        info = tarfile.TarInfo("../../b.png")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    before = sorted(os.listdir(root.parent))
    dataset = WebDatasetShards(root=root, shards="evil.tar", target=None)
    assert len(dataset) == 1
    assert torch.equal(dataset[0].image, torch.from_numpy(pixels(8)).permute(2, 0, 1))
    assert sorted(os.listdir(root.parent)) == before


def test_boxes_of_a_turned_image_need_a_word(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = {"a.png": png(pixels(0), exif=exif), "a.json": b'{"boxes": [[1, 2, 9, 8]], "labels": [0]}'}
    write(root / "more.tar", turned)
    with pytest.raises(DatasetError, match="label_orientation"):
        WebDatasetShards(root=root, shards="more.tar", target="boxes")[0]
    stored = WebDatasetShards(root=root, shards="more.tar", target="boxes", label_orientation="stored")[0].target
    assert isinstance(stored, Boxes)
    assert stored.boxes.tolist() == [[8, 1, 14, 9]]  # of 16 rows: x is 16 - y
    upright = WebDatasetShards(root=root, shards="more.tar", target="boxes", label_orientation="upright")[0].target
    assert isinstance(upright, Boxes)
    assert upright.boxes.tolist() == [[1, 2, 9, 8]]
