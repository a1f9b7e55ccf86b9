import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner, Result

from precomp_qacnn import GuidedQACNN
from precomp_sdk import (
    CheckpointError,
    ModuleReference,
    Preprocessor,
    Registry,
    TaskDataset,
    cli,
    hookimpl,
    to_float,
    to_uint8,
)
from precomp_sdk.config import dump_experiment, parse_experiment
from precomp_sdk.deploy import Compressor
from precomp_sdk.image_io import read_image, write_image
from precomp_sdk.run import load_compressor, run_training
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeTask
from precomp_sdk.training import load_module

IMAGE = FakeDataset(size=(13, 21))[3].image


class NewerCodec(FakeCodec):
    @property
    def version(self) -> str:
        return "zlib 99"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What a training run leaves behind, as far as it matters here."""
    sender = Compressor(FakeCodec(), FakePreprocessor(gain=0.8), ladder=(5, 30))
    sender.save(tmp_path / "run" / "preprocessor.safetensors")
    write_image(IMAGE, tmp_path / "in.png")
    return tmp_path


def call(doubles: Registry, *arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], obj=doubles)


def test_export_compress_decompress(run: Path, doubles: Registry) -> None:
    exported = call(doubles, "export", run / "run", "--output", run / "sender.safetensors")
    assert exported.exit_code == 0, exported.output
    assert "1 parameters" in exported.stdout
    sent = call(
        doubles, "compress", run / "sender.safetensors", run / "in.png", "--quality", 30, "--output", run / "out.fake"
    )
    assert sent.exit_code == 0, sent.output
    payload = (run / "out.fake").read_bytes()
    assert payload == Compressor.load(run / "sender.safetensors", doubles).compress(IMAGE, 30)
    assert f"{len(payload)} bytes, {8 * len(payload) / (13 * 21):.3f} bits per pixel" in sent.stdout
    received = call(doubles, "decompress", run / "sender.safetensors", run / "out.fake", "--output", run / "seen.png")
    assert received.exit_code == 0, received.output
    assert torch.equal(read_image(run / "seen.png"), FakeCodec().decode(payload))
    larger = call(
        doubles, "decompress", run / "sender.safetensors", run / "out.fake", "--size", "26x40", "--output",
        run / "large.png",
    )  # fmt: skip
    assert larger.exit_code == 0, larger.output
    assert read_image(run / "large.png").shape == (3, 26, 40)


@pytest.mark.parametrize("name", ["sender.safetensors", "network.onnx", "pair"])
def test_export_tells_files_and_cost_as_json(run: Path, doubles: Registry, name: str) -> None:
    exported = call(doubles, "export", run / "run", "--output", run / name, "--json")
    assert exported.exit_code == 0, exported.output
    told = json.loads(exported.stdout)
    paths = sorted((run / name).glob("*.onnx")) if name == "pair" else [run / name]
    assert sorted((item["path"], item["bytes"]) for item in told["files"]) == [
        (str(path), path.stat().st_size) for path in paths
    ]
    assert told["cost"]["parameters"] == 1


@pytest.mark.slow
def test_export_to_onnx(run: Path, doubles: Registry) -> None:
    exported = call(doubles, "export", run / "run" / "preprocessor.safetensors", "--output", run / "network.onnx")
    assert exported.exit_code == 0, exported.output
    onnx.checker.check_model(run / "network.onnx")


def test_what_goes_wrong_is_told_in_one_line(run: Path, doubles: Registry) -> None:
    nothing = call(doubles, "export", run, "--output", run / "sender.safetensors")
    assert nothing.exit_code == 1
    assert nothing.stderr.startswith("precomp: ")
    assert "No such file" in nothing.stderr
    off = call(
        doubles, "compress", run / "run" / "preprocessor.safetensors", run / "in.png", "--quality", 60, "--output",
        run / "out.fake",
    )  # fmt: skip
    assert off.exit_code == 1
    assert "from 5 to 30; got 60" in off.stderr
    assert not (run / "out.fake").exists()


@pytest.mark.parametrize("size", ["26", "0x40", "26x-4", "26x40x3", "axb"])
def test_a_size_that_is_none_is_refused(run: Path, doubles: Registry, size: str) -> None:
    refused = call(
        doubles, "decompress", run / "run" / "preprocessor.safetensors", run / "in.png", "--size", size, "--output",
        run / "seen.png",
    )  # fmt: skip
    assert refused.exit_code == 2
    assert "HEIGHTxWIDTH" in refused.stderr
    assert not (run / "seen.png").exists()


def test_another_version_is_told_on_stderr(run: Path, doubles: Registry) -> None:
    sender = Compressor(NewerCodec(), FakePreprocessor(), ladder=(5, 30))
    sender.save(run / "newer.safetensors")
    exported = call(doubles, "export", run / "newer.safetensors", "--output", run / "sender.safetensors")
    assert exported.exit_code == 0, exported.output
    assert "was trained with zlib 99; here is zlib" in exported.stderr.replace("\n", " ")


class GuidedPreprocessor(FakePreprocessor):
    """Works with its task: the larger the task's filters are, the more of the mean is mixed in."""

    name = "guided"
    requires = ("task",)

    def __init__(self, task: FakeTask, *, gain: float = 0.5) -> None:
        super().__init__(gain=gain)
        self._guide = ModuleReference(task)

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        with self._guide.evaluating() as task:
            return super()._process(images, strengths * (1.0 + task.filters.detach().abs().mean()))


class Guided:
    @hookimpl
    def precomp_register_preprocessors(self) -> list[type[Preprocessor]]:
        return [GuidedPreprocessor, GuidedQACNN]


@pytest.mark.slow
def test_what_works_with_the_task_is_sent_from_the_folder_of_its_run(
    run: Path, doubles: Registry, tables: dict[str, Any]
) -> None:
    doubles.register(Guided(), "guided")
    folder = run / "guided"
    tables["preprocessor"] = {"name": "guided", "gain": 0.4}
    tables["task"] = {"name": "fake", "fit": {"epochs": 1}}
    tables["output"] = {"folder": str(folder)}
    run_training(parse_experiment(tables), doubles)

    sent = call(doubles, "compress", folder, run / "in.png", "--quality", 30, "--output", run / "out.fake")
    assert sent.exit_code == 0, sent.output
    task = FakeTask()
    load_module(folder / "task.safetensors", task, name="fake")
    weights = folder / "preprocessor.safetensors"
    sender = Compressor.load(weights, doubles, preprocessor=GuidedPreprocessor(task, gain=0.4))
    assert (run / "out.fake").read_bytes() == sender.compress(IMAGE, 30) != FakeCodec().encode(IMAGE, 30)

    received = call(doubles, "decompress", folder, run / "out.fake", "--output", run / "seen.png")
    assert received.exit_code == 0, received.output
    refused = call(doubles, "export", folder, "--output", run / "sender.safetensors")
    assert refused.exit_code == 2
    assert "expected an .onnx file" in " ".join(refused.stderr.replace("\u2502", " ").split())
    assert not (run / "sender.safetensors").exists()
    exported = call(doubles, "export", folder, "--output", run / "network.onnx")
    assert exported.exit_code == 0, exported.output
    session = onnxruntime.InferenceSession(run / "network.onnx", providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_inputs()] == ["images", "strengths"]

    alone = call(doubles, "compress", weights, run / "in.png", "--quality", 30, "--output", run / "out2.fake")
    assert alone.exit_code == 1
    assert "works with its task" in alone.stderr
    assert "folder of the run" in alone.stderr


def test_a_run_is_sent_as_it_was_trained_and_without_what_it_started_from(
    run: Path, doubles: Registry, tables: dict[str, Any]
) -> None:
    doubles.register(Guided(), "guided")
    tables["preprocessor"] = {"name": "qa-guided", "width": 8, "depth": 1}
    tables["output"] = {"folder": str(run / "first")}
    run_training(parse_experiment(tables), doubles)
    tables["preprocessor"]["load"] = str(run / "first" / "preprocessor.safetensors")
    tables["output"] = {"folder": str(run / "second")}
    run_training(parse_experiment(tables), doubles)
    (run / "first" / "preprocessor.safetensors").unlink()
    assert load_compressor(str(run / "second"), doubles).compress(IMAGE, 30)

    file = run / "second" / "experiment.toml"
    file.write_text(file.read_text().replace("width = 8", "width = 8\nresidual_scale = 5.0"))
    with pytest.raises(CheckpointError, match="residual_scale"):
        load_compressor(run / "second", doubles)


def test_a_kind_that_is_not_trained_is_prepared_and_sends(run: Path, doubles: Registry, tables: dict[str, Any]) -> None:
    class Dimmer(Preprocessor):
        """Takes away an eighth of the mean of the images it was prepared on."""

        name = "dimmer"
        source = "a double"
        requires = ("task",)
        trainable = False

        def __init__(self, task: FakeTask) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(()))

        def prepare(self, dataset: TaskDataset, ladder: Sequence[float] | None = None) -> None:
            assert ladder == (5, 30)
            self.mean = torch.stack([to_float(dataset[index].image).mean() for index in range(len(dataset))]).mean()

        def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
            return images - self.mean / 8

    class Plugin:
        @hookimpl
        def precomp_register_preprocessors(self) -> list[type[Preprocessor]]:
            return [Dimmer]

    doubles.register(Plugin(), "dimmer")
    tables["preprocessor"] = {"name": "dimmer"}
    tables["output"] = {"folder": str(run / "dim")}
    (run / "dim").mkdir()
    (run / "dim" / "experiment.toml").write_text(dump_experiment(parse_experiment(tables)))

    unprepared = call(doubles, "compress", run / "dim", run / "in.png", "--quality", 30, "--output", run / "dim.fake")
    trained = call(doubles, "train", run / "dim")
    sent = call(doubles, "compress", run / "dim", run / "in.png", "--quality", 30, "--output", run / "dim.fake")
    beyond = call(doubles, "compress", run / "dim", run / "in.png", "--quality", 50, "--output", run / "beyond.fake")

    assert unprepared.exit_code == 1
    assert "preprocessor.safetensors" in unprepared.stderr
    assert (trained.exit_code, sent.exit_code) == (0, 0), trained.output + sent.output
    dataset = FakeDataset(count=30)
    mean = torch.stack([to_float(dataset[index].image).mean() for index in range(30)]).mean()
    dimmed = to_uint8((to_float(read_image(run / "in.png")) - mean / 8).clamp(0, 1))
    assert (run / "dim.fake").read_bytes() == FakeCodec().encode(dimmed, 30)
    assert beyond.exit_code == 1
    assert "from 5 to 30" in beyond.stderr
    assert not (run / "beyond.fake").exists()
