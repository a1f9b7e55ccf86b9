"""The paper's experiment files run: two steps on tiny sets of the same layout, with random weights."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from precomp_sdk import Registry
from precomp_sdk.config import parse_experiment
from precomp_sdk.run import run_evaluation, run_training

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "paper"
FILES = sorted(FOLDER.glob("*.toml"))
SIDE = 64
TRAIN, VAL = (
    range(1, 6),
    range(1, 4),
)  # five, of which some are held back, and three, one of each folder that is a class
PAPER = {25: 16.0, 28: 8.0, 29: 6.0, 31: 4.0, 34: 2.0, 37: 1.0, 44: 0.25}  # QP and lambda of the released code


def photograph(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8)
    Image.fromarray(noise).resize((SIDE, SIDE)).save(path)


def lay_out_coco(root: Path) -> None:
    for split, numbers in (("train2017", TRAIN), ("val2017", VAL)):
        images = [{"id": number, "file_name": f"{number:012}.jpg", "height": SIDE, "width": SIDE} for number in numbers]
        for number in numbers:
            photograph(root / split / f"{number:012}.jpg", number)
        classes = tomllib.loads((FOLDER / "coco_detection.toml").read_text())["task"]["classes"]
        categories = [{"id": number + 1, "name": name} for number, name in enumerate(classes)]
        boxes = [
            {"id": n, "image_id": n, "category_id": n, "bbox": [8, 8, 24, 24], "area": 576, "iscrowd": 0}
            for n in numbers
        ]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def lay_out_imagenet(root: Path) -> None:
    for split, numbers in (("train", TRAIN), ("val", VAL)):
        for number in numbers:
            photograph(root / split / f"n0{number % 3}" / f"{number}.JPEG", number)


def lay_out_voc(root: Path) -> None:
    base = root / "VOCdevkit" / "VOC2012"
    for number in TRAIN:
        photograph(base / "JPEGImages" / f"{number}.jpg", number)
        labels = np.zeros((SIDE, SIDE), np.uint8)
        labels[12:40, 12:40] = 12
        (base / "SegmentationClass").mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(base / "SegmentationClass" / f"{number}.png")
    (base / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, numbers in (("train", TRAIN), ("val", VAL)):
        (base / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(map(str, numbers)))


LAYOUTS: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "coco_detection": (lay_out_coco, {"num_classes": 80, "min_size": 64, "max_size": 96}),
    "imagenet_classification": (lay_out_imagenet, {"num_classes": 3}),
    "voc_segmentation": (lay_out_voc, {"num_classes": 21}),
}


def small(tables: dict[str, Any], root: Path, output: Path, preprocessor: str) -> dict[str, Any]:
    """Return the tables for a tiny set: the same keys, two steps, random weights."""
    task = {key: value for key, value in tables["task"].items() if key not in ("weights", "classes")}
    task |= LAYOUTS[output.name][1]
    data = {}
    for name, table in tables["data"].items():
        data[name] = (
            {**table, "root": str(root), "download": False} if "download" in table else {**table, "root": str(root)}
        )
        for key in ("resize", "crop"):
            if key in data[name].get("geometry", {}):
                data[name]["geometry"] = {**data[name]["geometry"], key: 64}
    train = tables["train"] | {
        "steps": 2, "batch_size": 1, "warmup_steps": 0, "ladder": [28, 40], "lambdas": {"28": 8.0, "40": 0.632},
        "held_out_images": 1, "held_out_every": 2, "calibration_images": 1, "checkpoint_every": 2,
        "precision": "32-true",
    }  # fmt: skip
    evaluate = {"ladder": [28, 40], "baselines": [], "replicates": 5}
    output_table = {"folder": str(output), "tensorboard": False}
    made = {**tables, "preprocessor": {"name": preprocessor}, "task": task, "data": data, "train": train}
    return {**made, "evaluate": evaluate, "output": output_table}


def test_there_is_a_file_for_each_of_the_papers_tasks() -> None:
    assert [path.stem for path in FILES] == sorted(LAYOUTS)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_qp_and_lambda_are_the_papers(file: Path) -> None:
    train = parse_experiment(tomllib.loads(file.read_text())).train
    assert isinstance(train.lambdas, dict | type(train.lambdas))
    lambdas = dict(train.lambdas)  # type: ignore[arg-type]  # a table here
    assert lambdas.pop(40) == pytest.approx((0.5 * 0.8) ** 0.5, abs=1e-3)
    assert lambdas == PAPER
    assert (train.beta, train.targets, train.forward, train.train) == (0.5, "dataset", "codec", ("preprocessor",))
    assert train.ladder == (*sorted({*PAPER, 40}),)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "preprocessor"),
    [*((file, "qa-paper") for file in FILES), (FOLDER / "imagenet_classification.toml", "qa-light")],
    ids=lambda item: item.stem if isinstance(item, Path) else item,
)
def test_two_steps_and_an_evaluation(file: Path, preprocessor: str, tmp_path: Path) -> None:
    pytest.importorskip("av")
    root, output = tmp_path / "data", tmp_path / file.stem
    LAYOUTS[file.stem][0](root)
    experiment = parse_experiment(small(tomllib.loads(file.read_text()), root, output, preprocessor))

    outcome = run_training(experiment, Registry())
    evaluation = run_evaluation(experiment, Registry())

    assert outcome.result is not None
    assert outcome.result.steps == 2
    assert [len(curve.points) for curve in evaluation.curves] == [2, 2]
