"""An experiment file for what a user has: a folder of images, labels of some kind, a network, a codec."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from precomp_sdk.errors import ConfigError, DatasetError, OptionError

__all__ = ["LABELS", "Layout", "detect_layout", "draft_experiment"]

#: kinds of labels, and what a folder looks like that has them
LABELS: Mapping[str, str] = {
    "folders": "train/CLASS/ and val/CLASS/, a folder of images per class",
    "coco": "annotations in COCO's format beside the images",
    "masks": "images/train, images/val and a mask for each in masks/train, masks/val",
    "voc": "PASCAL VOC's folders: JPEGImages, Annotations, ImageSets",
    "none": "images alone: the network's own answers are the labels",
}
_DATASETS = {
    "folders": "image-folder",
    "coco": "coco-detection",
    "masks": "mask-folder",
    "voc": "voc-detection",
    "none": "unlabelled-images",
}
_TASKS = {  # by labels: the component, and torchvision's name of a network that a laptop can train with
    "folders": ("torchvision-classifier", "resnet18"),
    "coco": ("torchvision-detector", "fasterrcnn_mobilenet_v3_large_320_fpn"),
    "voc": ("torchvision-detector", "fasterrcnn_mobilenet_v3_large_320_fpn"),
    "masks": ("torchvision-segmenter", "lraspp_mobilenet_v3_large"),
    "none": ("torchvision-classifier", "resnet50"),
}
SMALL = "small"  #: the network that needs no download: `precomp_torchvision.SmallClassifier`, fitted from nothing
_FOLDERS_OF_SPLITS = ("train", "val")
_CROPS = {"folders": 224, "none": 224, "coco": 320, "voc": 320, "masks": 256}  # pixels; training crops


@dataclass(frozen=True, slots=True)
class Layout:
    """What a folder of images holds.

    Args:
        root: the folder.
        labels: one of `LABELS`.
        classes: names of the classes, where the folder tells them.
        split: whether there are images to train on and others to evaluate on.
    """

    root: Path
    labels: str
    classes: tuple[str, ...]
    split: bool


def detect_layout(root: Path, labels: str | None = None) -> Layout:
    """Look at a folder and say what kind of labels it holds.

    Args:
        root: the folder.
        labels: one of `LABELS`, where it is known; None finds out.

    Raises:
        DatasetError: it is no folder.
        OptionError: there is no such kind of labels.
    """
    if labels is not None and labels not in LABELS:
        raise OptionError.choice("precomp init", "labels", tuple(LABELS), labels)
    if not root.is_dir():
        raise DatasetError(
            where=str(root), expected="a folder of images", got="nothing there", remedy="Give the folder's path."
        )
    labels = labels or _labels_of(root)
    base = root / "images" if labels == "masks" and (root / "images").is_dir() else root
    split = all((base / name).is_dir() for name in _FOLDERS_OF_SPLITS) or labels in ("coco", "voc")
    return Layout(root, labels, _classes_of(root, labels), split)


def draft_experiment(
    layout: Layout, *, codec: str = "jpeg", network: str | None = None, weights: str = "DEFAULT", output: str = ""
) -> str:
    """Return the text of an experiment file for a folder of images.

    Args:
        layout: of the folder, see `detect_layout`.
        codec: name of the codec.
        network: torchvision's name of the network at the receiver, or ``"small"`` for the small classifier that
            needs no download; None takes a usual one for the labels.
        weights: ``"DEFAULT"`` for torchvision's own, or a file.
        output: folder for the results; empty takes ``runs/NAME_CODEC``.

    Raises:
        ConfigError: the labels tell no classes, or the network is not for them.
    """
    tables: dict[str, Any] = {
        "codec": {"name": codec},
        "preprocessor": {"name": "qa-light"},
        "task": _task(layout, network, weights),
        "data": _data(layout),
        "train": {"steps": 2000, "batch_size": 8, "targets": "dataset"},
        "evaluate": {},
        "output": {"folder": output or f"runs/{layout.root.resolve().name}_{codec}"},
    }
    if layout.labels == "none":
        tables["train"]["targets"] = "pseudo-labels"
        tables["evaluate"] = {"pseudo_labels": True}
    head = (
        f"# Written by `precomp init` for {layout.root}: {LABELS[layout.labels]}.\n"
        "#   precomp train THIS_FILE && precomp evaluate THIS_FILE\n"
        "# Every key and its default: docs/reference/config.md. `precomp info NAME` tells a component's options.\n\n"
    )
    return head + tomli_w.dumps(tables)


def _task(layout: Layout, network: str | None, weights: str) -> dict[str, Any]:
    component, usual = _TASKS[layout.labels]
    if network == SMALL:
        if layout.labels != "folders":
            raise ConfigError(
                where="precomp init, --network small",
                expected="class folders, which the small classifier is fitted to",
                got=f"labels of kind {layout.labels!r}",
                remedy="Name a network of torchvision.",
            )
        return {"name": "small-classifier", "num_classes": len(layout.classes), "colour": True, "fit": {"epochs": 5}}
    task: dict[str, Any] = {"name": component, "architecture": network or usual, "weights": weights}
    if layout.labels == "none":
        return task
    if layout.labels == "voc":
        return {**task, "num_classes": 20, "new_head": True, "fit": {"epochs": 3}}
    if not layout.classes:
        raise ConfigError(
            where=f"precomp init, {layout.root}",
            expected="the names of the classes: class folders, categories, or classes.json",
            got="none",
            remedy="Name the labels' kind with --labels, or `none` to take the network's own answers.",
        )
    # the published weights know other classes: the last layers start anew and are fitted to these
    return {**task, "num_classes": len(layout.classes), "new_head": True, "fit": {"epochs": 3}}


def _data(layout: Layout) -> dict[str, Any]:
    name, root = _DATASETS[layout.labels], str(layout.root)
    geometry = {"geometry": {"crop": _CROPS[layout.labels], "augment": True}}
    if layout.labels == "none" and not layout.split:
        # one folder: what is trained on is evaluated, too, which the file says
        return {"train": {"name": name, "root": root, **geometry}, "val": {"name": name, "root": root}}
    train = {"name": name, "root": root, "split": "train", **geometry}
    return {"train": train, "val": {"name": name, "root": root, "split": "val"}}


def _labels_of(root: Path) -> str:
    """Return the kind of labels a folder looks like."""
    if (root / "JPEGImages").is_dir() or (root / "VOCdevkit").is_dir():
        return "voc"
    if (root / "masks").is_dir():
        return "masks"
    if _annotations(root):
        return "coco"
    train = root / "train"
    return "folders" if train.is_dir() and any(item.is_dir() for item in train.iterdir()) else "none"


def _annotations(root: Path) -> list[Path]:
    """Return files that look like COCO's annotations, those to train on first."""
    found = [*root.glob("annotations*.json"), *root.glob("annotations/*.json")]
    return sorted(found, key=lambda path: ("train" not in path.name, path.name))


def _classes_of(root: Path, labels: str) -> tuple[str, ...]:
    if labels == "folders" and (root / "train").is_dir():
        return tuple(sorted(item.name for item in (root / "train").iterdir() if item.is_dir()))
    if labels == "masks":
        return _names(root / "classes.json", "classes")
    if labels == "coco" and (found := _annotations(root)):
        return _names(found[0], "categories")
    return ()


def _names(path: Path, key: str) -> tuple[str, ...]:
    """Return the names of classes in a JSON file; none where there is no file or it has another form."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ()
    listed: Sequence[Any] = content.get(key, ()) if isinstance(content, Mapping) else content
    return tuple(str(item["name"] if isinstance(item, Mapping) else item) for item in listed)
