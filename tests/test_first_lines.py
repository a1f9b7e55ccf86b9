"""The first lines a user of PyTorch writes, one test per row; the files named in `ELSEWHERE` hold the rest."""

import subprocess
import sys
from pathlib import Path
from typing import get_overloads

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import precomp_sdk
from precomp_sdk import (
    ClassifierTask,
    CodecLayer,
    Compressor,
    EvaluateSettings,
    Label,
    Registry,
    TaskDataset,
    Trainer,
    TrainSettings,
    evaluate,
)
from precomp_sdk.image_io import write_image
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask, natural_image

TESTS = Path(__file__).resolve().parent
ELSEWHERE = {
    "help fits a page": "core/test_hooks.py",
    "segmenters and detectors": "network_tasks/test_network_tasks.py",
    "rows of any sequence": "core/test_row_dataset.py",
    "the codec's own proxy": "training/test_default_proxy.py",
    "a class, a file, an import path": "run/test_import_paths.py",
    "tables, plots, frames": "evaluation/test_views.py",
    "text and retrieval": "examples/test_examples.py",
    "who hears of a run": "observers/test_listening.py",
    "libraries of others": "interop/test_networks.py",
}


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


@pytest.mark.parametrize("row", list(ELSEWHERE))
def test_the_other_rows_have_their_tests(row: str) -> None:
    assert (TESTS / ELSEWHERE[row]).is_file()


def test_names_and_submodules_are_there_at_first_use() -> None:
    code = "import sys, precomp_sdk as p; assert 'torch' not in sys.modules; p.training, p.Trainer, p.__version__"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert {"Trainer", "TrainSettings", "evaluate", "Compressor", "training"} <= set(dir(precomp_sdk))


def test_a_network_is_a_task_and_its_weights_are_a_file_of_any_kind(tmp_path: Path) -> None:
    task = ClassifierTask(network(), mean=(0.5,) * 3, std=(0.5,) * 3)
    task.save(tmp_path / "mine.safetensors")
    torch.save(task.network.state_dict(), tmp_path / "plain.pth")
    save_file(task.network.state_dict(), tmp_path / "plain.safetensors")
    image = torch.rand(1, 3, 32, 32)
    for name in ("mine.safetensors", "plain.pth", "plain.safetensors"):
        other = ClassifierTask(network(), mean=(0.5,) * 3, std=(0.5,) * 3)
        other.load(tmp_path / name)
        assert torch.equal(other.losses(image, [Label(1)]), task.losses(image, [Label(1)]))


def pictures(folder: Path) -> dict[str, object]:
    tensor = natural_image(24, 32)
    array = tensor.permute(1, 2, 0).numpy()
    write_image(tensor, folder / "a.png")
    return {"tensor": tensor, "array": array, "PIL": Image.fromarray(array), "path": folder / "a.png"}


def test_images_may_be_anything(tmp_path: Path) -> None:
    given = pictures(tmp_path)
    sender = Compressor(FakeCodec(), FakePreprocessor())
    assert len({sender.compress(image, 20) for image in given.values()}) == 1  # type: ignore[arg-type]
    rows = [{"image": image, "label": place % 2} for place, image in enumerate(given.values())]
    dataset = TaskDataset.of(rows, lambda row: (row["image"], row["label"]))
    samples = [dataset[place] for place in range(len(dataset))]
    assert all(torch.equal(sample.image, samples[0].image) for sample in samples)
    assert [sample.target.index for sample in samples if isinstance(sample.target, Label)] == [0, 1, 0, 1]


def test_a_loop_of_ones_own() -> None:
    codec = FakeCodec()
    batch = torch.rand(2, 3, 16, 16, requires_grad=True)
    images, bits = CodecLayer(codec, FakeProxy(codec))(batch, [10, 40])
    (images.mean() + bits.mean()).backward()
    assert batch.grad is not None
    assert batch.grad.abs().sum() > 0


def test_train_evaluate_and_look(capsys: pytest.CaptureFixture[str]) -> None:
    codec, task, preprocessor = FakeCodec(), FakeTask(), FakePreprocessor()
    settings = TrainSettings(steps=2, batch_size=4, ladder=(5, 30), lambdas={5: 2.0, 30: 2.0}, calibration_images=4)
    trainer = Trainer(
        codec=codec, proxy=FakeProxy(codec), preprocessor=preprocessor, task=task, settings=settings, observer=None
    )
    trainer.run(FakeDataset())
    told = EvaluateSettings(ladder=(5, 30), baselines=(), replicates=5)
    result = evaluate(codec, task, FakeDataset(), preprocessors=preprocessor, settings=told, observer=None)
    assert str(result).count("\n") > 2
    assert "<td" in result._repr_html_()
    assert result.to_dict()["curves"]
    assert capsys.readouterr() == ("", "")  # observer=None is silence


def test_objects_say_what_they_are() -> None:
    assert repr(FakeCodec(level=3)) == "FakeCodec(level=3)"
    assert repr(Registry().create("codec", "jpeg", subsampling="4:4:4")).startswith("JPEGCodec(subsampling='4:4:4'")
    kinds = [overload.__annotations__["return"] for overload in get_overloads(Registry.create)]
    assert [getattr(kind, "__name__", kind) for kind in kinds[:4]] == [
        "Codec",
        "Preprocessor",
        "TaskModel",
        "TaskDataset",
    ]
