"""`precomp compress` over folders, and through standard input and output."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from precomp_sdk import Compressor, Registry, cli
from precomp_sdk.image_io import read_image, write_image
from precomp_sdk.testing import FakeCodec, FakePreprocessor, natural_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Compressor(FakeCodec(), FakePreprocessor(gain=0.5), ladder=(5, 70)).save(tmp_path / "sender.safetensors")
    for name in ("a.png", "deep/b.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(natural_image(20, 30), tmp_path / "in" / name)
    return tmp_path


def call(registry: Registry, *arguments: object, data: bytes | None = None) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], obj=registry, input=data)


def test_a_folder_goes_into_a_folder_and_a_second_call_has_nothing_to_do(folder: Path, doubles: Registry) -> None:
    command = ("compress", folder / "sender.safetensors", folder / "in", "--quality", 30, "--output", folder / "out")
    first, second = call(doubles, *command), call(doubles, *command, "--json")
    assert first.exit_code == 0, first.output
    assert (folder / "out" / "deep" / "b.fake").exists()
    assert first.stdout.startswith("2 done; ")
    assert [item["status"] for item in json.loads(second.stdout)["records"]] == ["skipped", "skipped"]


def test_failures_are_listed_and_are_the_exit_code_on_request(folder: Path, doubles: Registry) -> None:
    (folder / "in" / "c.png").write_bytes(b"no image")
    command = ("compress", folder / "sender.safetensors", folder / "in", "--bpp", 2, "--output", folder / "out")
    told = call(doubles, *command)
    assert told.exit_code == 0
    assert "2 done, 1 failed" in told.stdout
    assert f"failed: {folder / 'in' / 'c.png'}: " in told.stdout
    assert call(doubles, *command, "--fail").exit_code == 1


def test_standard_input_and_output(folder: Path, doubles: Registry) -> None:
    model = folder / "sender.safetensors"
    source = (folder / "in" / "a.png").read_bytes()
    sent = call(doubles, "compress", model, "-", "--quality", 30, "--output", "-", data=source)
    assert sent.exit_code == 0, sent.output
    assert sent.stdout_bytes == Compressor.load(model, doubles).compress(folder / "in" / "a.png", 30)
    received = call(doubles, "decompress", model, "-", "--output", "-", data=sent.stdout_bytes)
    assert received.exit_code == 0, received.output
    assert torch.equal(read_image(received.stdout_bytes), FakeCodec().decode(sent.stdout_bytes))
    assert (
        call(doubles, "compress", model, "-", folder / "in", "--quality", 30, "--output", folder / "o").exit_code == 2
    )


def test_one_image_to_a_limit_says_its_quality(folder: Path, doubles: Registry) -> None:
    command = ("compress", folder / "sender.safetensors", folder / "in" / "a.png", "--max-bytes", 600)
    told = call(doubles, *command, "--output", folder / "a.fake")
    assert told.exit_code == 0, told.output
    assert "at most 600 bytes" in told.stdout
    assert (folder / "a.fake").stat().st_size <= 600
    as_json = json.loads(call(doubles, *command, "--output", folder / "a.fake", "--json").stdout)
    assert as_json["bytes"] == (folder / "a.fake").stat().st_size


def test_a_dry_run_and_wrong_choices(folder: Path, doubles: Registry) -> None:
    command = ("compress", folder / "sender.safetensors", folder / "in", "--output", folder / "out")
    assert "2 planned" in call(doubles, *command, "--quality", 30, "--dry-run").stdout
    assert not (folder / "out").exists()
    assert "one of a quality, bits per pixel, and bytes" in call(doubles, *command).stderr
    assert "'local' or 'ray'" in call(doubles, *command, "--quality", 30, "--engine", "dask").stderr


@pytest.mark.slow
def test_workers_know_the_codec_of_a_file(tmp_path: Path) -> None:
    """A worker is a process of its own: what --plugin adds here is added there."""
    text = "from precomp_sdk.testing import FakeCodec, FakePreprocessor\n"
    text += "class Mine(FakeCodec):\n    name = 'mine'\nclass Mixer(FakePreprocessor):\n    name = 'mixer'\n"
    (tmp_path / "my_worker_codec.py").write_text(text)
    registry = Registry(entry_points=False)
    registry.add_file(tmp_path / "my_worker_codec.py")
    codec, network = registry.create("codec", "mine"), registry.create("preprocessor", "mixer", gain=0.5)
    Compressor(codec, network, ladder=(5, 70)).save(tmp_path / "sender.safetensors")
    (tmp_path / "in").mkdir()
    write_image(natural_image(20, 30), tmp_path / "in" / "a.png")

    done = call(
        Registry(), "--plugin", tmp_path / "my_worker_codec.py", "compress", tmp_path / "sender.safetensors",
        tmp_path / "in", "--quality", 30, "--output", tmp_path / "out", "--workers", 2,
    )  # fmt: skip

    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("1 done"), done.stdout
    assert (tmp_path / "out" / "a.mine").exists()
