"""The conformance kit on everything that is shipped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from precomp_bpg import BPGCodec
from precomp_data import Geometry, ImageFolder, Scenes, UnlabelledFolder
from precomp_jpeg import JPEGCodec, JPEGProxy
from precomp_pillow import JPEG2000Codec, WebPCodec
from precomp_qacnn import LightQACNN
from precomp_sdk import (
    ANY_CODEC,
    Boxes,
    Codec,
    Composite,
    EnsembleTask,
    Label,
    Mask,
    MissingDependencyError,
    Registry,
    Target,
)
from precomp_sdk.run import run_check
from precomp_sdk.testing import (
    CodecSettings,
    FakeTask,
    PreprocessorSettings,
    ProxySettings,
    TaskSettings,
    check,
    natural_image,
)
from precomp_torchvision import Classifier, Detector, Segmenter, SmallClassifier

FEW_SIZES = ((1, 1), (2, 17), (16, 3), (33, 31))
REGISTRY = Registry()

pytestmark = pytest.mark.slow


def shipped(kind: str) -> list[str]:
    return [item.name for item in REGISTRY.components() if item.kind == kind and item.plugin.package == "precomp-sdk"]


def made(kind: str, name: str, **options: Any) -> Any:
    try:
        return REGISTRY.create(kind, name, **options)
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", shipped("codec"))
def test_codecs(name: str) -> None:
    check(lambda: made("codec", name), CodecSettings(sizes=FEW_SIZES, images=2, damages=16))


@pytest.mark.parametrize(
    "codec",
    [
        JPEGCodec(subsampling="gray", progressive=True),
        JPEGCodec(subsampling="4:4:4", optimize=True, tables=[[[20] * 8] * 8] * 2),
        WebPCodec(method=0),
        JPEG2000Codec(levels=1),
    ],
    ids=["jpeg-gray", "jpeg-444", "webp-0", "jpeg2000-1"],
)
def test_codecs_with_other_options(codec: Codec) -> None:
    check(codec, CodecSettings(sizes=FEW_SIZES, damages=8))


def test_bpg_with_other_options() -> None:
    pytest.importorskip("av")
    check(BPGCodec(chroma="444", effort="fast"), CodecSettings(sizes=FEW_SIZES, images=1, damages=8))


@pytest.mark.parametrize("name", shipped("proxy"))
def test_proxies(name: str) -> None:
    own = REGISTRY.proxies[name].codec_name
    codec = made("codec", "jpeg" if own == ANY_CODEC else own)
    check(lambda: REGISTRY.proxy_for(codec, name), ProxySettings(sizes=FEW_SIZES))


def test_the_jpeg_proxy_with_other_options() -> None:
    codec = JPEGCodec(subsampling="4:4:4", progressive=True)
    options: dict[str, Any] = {"rounding": 0.5, "rate_rule": "smooth", "stuffing": False}
    check(lambda: JPEGProxy(codec, **options, trainable_tables=True, trainable_rate=True))


@pytest.mark.parametrize(
    "name", [name for name in shipped("preprocessor") if not REGISTRY.preprocessors[name].requires]
)
def test_preprocessors(name: str) -> None:
    check(lambda: made("preprocessor", name), PreprocessorSettings(size=(20, 36), sizes=FEW_SIZES))


@pytest.mark.parametrize("name", [name for name in shipped("preprocessor") if REGISTRY.preprocessors[name].requires])
def test_preprocessors_that_work_with_other_parts(name: str) -> None:
    run_check(name, REGISTRY).raise_if_failed()


def test_a_preprocessor_with_other_options() -> None:
    check(lambda: LightQACNN(width=16, depth=1, residual_scale=0.1))


def test_tasks() -> None:
    check(lambda: SmallClassifier(num_classes=8))
    check(lambda: SmallClassifier(num_classes=3, loss="expected-error", label_smoothing=0.1))
    check(lambda: Classifier(architecture="squeezenet1_1", num_classes=5))


@pytest.mark.parametrize("target", ["label", "boxes", "mask"])
def test_scenes(target: str) -> None:
    check(lambda: Scenes(target=target, count=24))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Folders of three classes in two splits, with images of unequal sizes in two formats."""
    for split in ("train", "val"):
        for label, name in enumerate(("cat", "dog", "owl")):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for index, suffix in enumerate(("png", "jpg", "png")):
                image = natural_image(20 + 9 * index, 31 + label, seed=3 * label + index)
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{index}.{suffix}")
    return tmp_path


def test_folders(images: Path) -> None:
    check(lambda: ImageFolder(root=images))
    check(lambda: ImageFolder(root=images, split="val", classes=["owl", "cat"], geometry=Geometry(resize=24, crop=16)))
    check(lambda: ImageFolder(root=images, geometry=Geometry(crop=16, augment=True, seed=3)))
    check(lambda: UnlabelledFolder(root=images))
    check(lambda: UnlabelledFolder(root=images, geometry=Geometry(crop=40, augment=True)))


def test_everything_was_found() -> None:
    assert {"jpeg", "bpg", "hevc-intra", "webp", "avif", "heic", "jpeg-xl", "jpeg2000"} <= set(shipped("codec"))
    assert "jpeg-proxy" in shipped("proxy")
    assert {"qa-light", "qa-paper"} <= set(shipped("preprocessor"))


ANCHORS = ("cell_anchors",)  # torchvision moves them with every batch


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["fcos", "retinanet", "fasterrcnn"])
def test_detectors(architecture: str) -> None:
    def make() -> Detector:
        return Detector(
            architecture=architecture, backbone="squeezenet1_1", pyramid_channels=64, num_classes=2, own_threshold=0.0
        )

    check(make, TaskSettings(moved=ANCHORS, prediction=_scored))


@pytest.mark.parametrize("architecture", ["lraspp", "fcn", "deeplabv3"])
def test_segmenters(architecture: str) -> None:
    check(lambda: Segmenter(architecture=architecture, backbone="squeezenet1_1", num_classes=2))


def test_ensembles() -> None:
    check(lambda: EnsembleTask(members={"sure": FakeTask(), "unsure": FakeTask(sharpness=4.0)}))


def test_an_ensemble_of_two_kinds() -> None:
    def make() -> EnsembleTask:
        small = SmallClassifier(num_classes=3, width=4)
        return EnsembleTask(
            members={
                "kind": small,
                "pixels": Segmenter(architecture="lraspp", backbone="squeezenet1_1", num_classes=3),
            }
        )

    def targets(sizes: Sequence[tuple[int, int]]) -> list[Target]:
        return [
            Composite((Label(index % 3), Mask(torch.full(size, index % 3, dtype=torch.int64))))
            for index, size in enumerate(sizes)
        ]

    check(make, TaskSettings(targets=targets, classes=3))


def _scored(target: Target) -> Boxes:
    assert isinstance(target, Boxes)
    return Boxes(target.boxes, target.labels, scores=torch.ones(len(target.labels)))
