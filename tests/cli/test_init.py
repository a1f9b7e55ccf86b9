"""`precomp init` writes experiment files that run."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from precomp_data import Scenes
from precomp_sdk import Registry, cli
from precomp_sdk.config import load_experiment
from precomp_sdk.image_io import write_image
from precomp_sdk.run import build_evaluation
from precomp_sdk.scaffold import LABELS, detect_layout, draft_experiment

Call = Callable[..., Result]


def draw(root: Path, kind: str) -> Path:
    """Lay out a few drawn images as one kind of labels wants them."""
    for split, count in (("train", 12), ("val", 8)):
        for index, sample in enumerate(Scenes(split=split, count=count)):
            image = {
                "folders": root / split / f"class{index % 2}" / f"{index}.png",
                "none": root / split / f"{index}.png",
                "masks": root / "images" / split / f"{index}.png",
                "coco": root / "images" / split / f"{index}.png",
                "voc": root / "JPEGImages" / f"{split}{index}.png",
            }[kind]
            image.parent.mkdir(parents=True, exist_ok=True)
            write_image(sample.image, image)
    if kind == "masks":
        (root / "masks").mkdir()
        (root / "classes.json").write_text(json.dumps({"classes": ["road", "sky"]}))
    if kind == "coco":
        categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 9, "name": "cow"}]
        for split in ("train", "val"):
            (root / f"annotations_{split}.json").write_text(json.dumps({"images": [], "categories": categories}))
    return root


@pytest.mark.parametrize(("kind", "classes"), [("folders", 2), ("none", 0), ("masks", 2), ("coco", 3), ("voc", 0)])
def test_a_folder_tells_its_kind_of_labels(tmp_path: Path, kind: str, classes: int) -> None:
    layout = detect_layout(draw(tmp_path, kind))
    assert (layout.labels, len(layout.classes), layout.split) == (kind, classes, True)


@pytest.mark.parametrize("kind", list(LABELS))
def test_every_kind_gives_a_file_that_is_read(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(draft_experiment(detect_layout(draw(tmp_path / "set", kind)), codec="webp"))

    experiment = load_experiment(file)
    assert experiment.codec.name == "webp"
    assert experiment.train.targets == ("pseudo-labels" if kind == "none" else "dataset")


@pytest.mark.slow
def test_the_file_trains_and_evaluates(call: Call, tmp_path: Path) -> None:
    draw(tmp_path / "set", "folders")
    made = call("init", "mine.toml", "--data", "set", "--network", "small", registry=None)
    assert (made.exit_code, "2 classes" in made.stdout) == (0, True), made.output
    tiny = ("--set", "task.fit.epochs=1", "--set", "train.steps=2", "--set", "train.batch_size=2")
    tiny += ("--set", "train.calibration_images=4", "--set", "train.held_out_images=2", "--set", "train.ladder=[5,20]")
    tiny += ("--set", "train.lambdas={5=1.0,20=1.0}", "--set", "data.train.geometry.crop=64")
    tiny += ("--set", "evaluate.baselines=[]", "--set", "evaluate.ladder=[5,20]", "--set", "evaluate.replicates=5")

    trained = call("train", "mine.toml", *tiny, registry=None)
    evaluated = call("evaluate", "mine.toml", *tiny, registry=None)

    assert trained.exit_code == 0, trained.output
    assert evaluated.exit_code == 0, evaluated.output


def test_components_of_the_file_exist(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(draft_experiment(detect_layout(draw(tmp_path / "set", "folders")), network="small"))
    assert build_evaluation(load_experiment(file), Registry()).task.name == "small-classifier"


def test_an_older_file_stays_unless_it_may_go(call: Call, tmp_path: Path) -> None:
    draw(tmp_path / "set", "none")
    (tmp_path / "mine.toml").write_text("mine")

    refused = call("init", "mine.toml", "--data", "set", registry=None)
    assert (refused.exit_code, (tmp_path / "mine.toml").read_text()) == (1, "mine")
    assert "--overwrite" in refused.stderr
    assert call("init", "mine.toml", "--data", "set", "--overwrite", registry=None).exit_code == 0


def test_bad_answers_say_what_to_do(call: Call, tmp_path: Path) -> None:
    draw(tmp_path / "set", "none")
    assert "--data" in call("init", registry=None).stderr
    assert "nothing there" in call("init", "--data", "nowhere", registry=None).stderr
    assert "Did you mean 'masks'" in call("init", "--data", "set", "--labels", "mask", registry=None).stderr
    assert "Did you mean 'jpeg'" in call("init", "--data", "set", "--codec", "jpg", registry=None).stderr
    assert "names of the classes" in call("init", "--data", "set", "--labels", "coco", registry=None).stderr
    assert not (tmp_path / "experiment.toml").exists()


def test_one_folder_without_splits_is_told(call: Call, tmp_path: Path) -> None:
    for index, sample in enumerate(Scenes(count=3)):
        (tmp_path / "photos").mkdir(exist_ok=True)
        write_image(sample.image, tmp_path / "photos" / f"{index}.png")

    made = call("init", "--data", "photos", registry=None)

    assert "keep some images apart" in made.stderr
    assert "split" not in tomllib.loads((tmp_path / "experiment.toml").read_text())["data"]["val"]


def test_it_asks_a_person_for_what_it_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "set", "folders")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("precomp_sdk.cli.init._is_a_terminal", lambda: True)

    told = CliRunner().invoke(cli.app, ["init"], input="set\n\nsmall\nwebp\n", obj=Registry())

    assert told.exit_code == 0, told.output
    tables = tomllib.loads((tmp_path / "experiment.toml").read_text())
    assert (tables["codec"]["name"], tables["task"]["num_classes"]) == ("webp", 2)
