"""The image sets of docs/protocol.md: which images tune, and which are scored."""

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = [
    "CLASS_ROWS",
    "camvid",
    "camvid_files",
    "coco",
    "coco_files",
    "imagenette",
    "imagenette_files",
    "kodak",
    "load_set",
    "read",
]

SEED = 19
CLASS_ROWS = 36  # scored photographs of each class


def imagenette(data: Path, split: str, per_class: int) -> tuple[list[Tensor], list[int]]:
    """Return images 3 x 216 x 216 uint8 and labels 0..9, the first of a fixed shuffle of every class.

    The files are JPEGs of 224 pixels, quality 75: 4 pixels are cut off every side, for a grid of their own.
    Encoded on its old grid, an image at quality 50 takes 38% more bits than at 42, and the curve means nothing.
    """
    images, labels = [], []
    for row in imagenette_files(data, split)[:per_class]:
        for label, file in enumerate(row):
            images.append(read(file)[:, 4:220, 4:220].contiguous())
            labels.append(label)
    return images, labels


def imagenette_files(data: Path, split: str) -> list[tuple[Path, ...]]:
    """Return rows of one file a class, so that a beginning holds all of them."""
    found = []
    for folder in sorted(path for path in (data / "imagenette" / split).iterdir() if path.is_dir()):
        files = sorted(folder.glob("*.JPEG"))
        random.Random(SEED).shuffle(files)
        found.append(files)
    return list(zip(*found, strict=False))


def coco(data: Path, split: str, count: int = 128) -> list[Tensor]:
    """Return COCO's images at three quarters of their size (JPEG's grid broken), in a fixed shuffle."""
    return [read(file, 0.75) for file in coco_files(data, split)[:count]]


def coco_files(data: Path, split: str) -> list[Path]:
    """Return the files in the fixed shuffle."""
    files = sorted((data / "coco640" / "images" / split).glob("*.jpg"))
    random.Random(SEED).shuffle(files)
    return files


def camvid(data: Path, split: str, every: int = 1) -> list[Tensor]:
    """Return CamVid's frames, 320 x 240."""
    return [read(file) for file in camvid_files(data, split)[::every]]


def camvid_files(data: Path, split: str) -> list[Path]:
    """Return the files, frame after frame."""
    return sorted((data / "camvid" / "images" / split).iterdir())


def kodak(data: Path) -> list[Tensor]:
    """Return Kodak's 24 photographs, 768 x 512 or 512 x 768."""
    return [read(file) for file in sorted((data / "kodak").glob("*.png"))]


def load_set(name: str, data: Path) -> list[Tensor]:
    """Return a set by the name that docs/protocol.md gives it."""
    sets = {
        "cls-tune": lambda: _tune(data)[:80],
        "cls-tune-wide": lambda: _tune(data),
        "cls-score": lambda: imagenette(data, "val", CLASS_ROWS)[0],
        "coco-tune": lambda: coco(data, "train", 48),
        "coco-tune-wide": lambda: coco(data, "train"),
        "coco-score": lambda: coco(data, "val"),
        "camvid-tune": lambda: camvid(data, "train", 10),
        "camvid-score": lambda: camvid(data, "val", 4),
        "kodak": lambda: kodak(data),
    }
    return sets[name]()


def _tune(data: Path) -> list[Tensor]:
    """Return 24 train images a class that follow the 60 which MobileNetV2's head was fitted on."""
    images, _ = imagenette(data, "train", 84)
    return images[600:]


def read(file: Path, factor: float = 1.0) -> Tensor:
    """Return an image, (3, H, W) uint8, resized by a factor."""
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    if factor != 1.0:
        image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
