"""The data sets' own labels, as each judge reads them: the second column of the tables."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sets import CLASS_ROWS, coco_files, imagenette

from precomp_sdk import Boxes, Label, Mask, Target

__all__ = ["load_labels"]


def load_labels(name: str, judge: str, data: Path) -> list[Target | None] | None:
    """Return the labels of a set for a judge, or None where the set has none of its kind."""
    if name == "cls-score" and judge not in ("nanodet", "fastestdet", "deeplab"):
        return _classes(judge, data)
    if name == "coco-score" and judge in ("nanodet", "fastestdet"):
        return _boxes(data)
    if name == "coco-score" and judge == "deeplab":
        return _masks(data)
    return None


def _classes(judge: str, data: Path) -> list[Target | None]:
    """1000-way for networks of 1000 classes, ten-way for MobileNetV2's head."""
    index = json.loads((data / "imagenette" / "imagenet_index.json").read_text())
    names = sorted(path.name for path in (data / "imagenette" / "val").iterdir() if path.is_dir())
    _, labels = imagenette(data, "val", CLASS_ROWS)
    return [Label(label if judge == "mobilenetv2" else index[names[label]]) for label in labels]


def _boxes(data: Path) -> list[Target | None]:
    content = json.loads((data / "coco640" / "annotations_val.json").read_text())
    place = {category["id"]: index for index, category in enumerate(content["categories"])}
    by_image: dict[int, list[dict[str, object]]] = {}
    for item in content["annotations"]:
        by_image.setdefault(item["image_id"], []).append(item)
    ids = {item["file_name"]: item["id"] for item in content["images"]}
    found: list[Target | None] = []
    for file in coco_files(data, "val"):
        items = by_image.get(ids[file.name], [])
        corners = torch.tensor([item["bbox"] for item in items], dtype=torch.float32).reshape(-1, 4) * 0.75
        corners[:, 2:] += corners[:, :2]
        labels = torch.tensor([place[item["category_id"]] for item in items], dtype=torch.int64)  # type: ignore[index]
        crowd = torch.tensor([bool(item.get("iscrowd", 0)) for item in items])
        found.append(Boxes(corners, labels, crowd=crowd))
    return found


def _masks(data: Path) -> list[Target | None]:
    """VOC's classes on the judge's own grid (`Segmenter.logits`); None where there is no mask."""
    found: list[Target | None] = []
    for file in coco_files(data, "val"):
        mask = data / "coco640" / "masks" / "val" / f"{file.stem}.png"
        if not mask.exists():
            found.append(None)
            continue
        with Image.open(file) as opened:
            width, height = round(opened.width * 0.75), round(opened.height * 0.75)
        ratio = 513 / max(height, width)
        grid = (round(width * ratio) // 4, round(height * ratio) // 4)
        with Image.open(mask) as opened:
            values = np.array(opened.resize(grid, Image.Resampling.NEAREST))
        found.append(Mask(torch.from_numpy(values.astype(np.int64))))
    return found
