"""Weights files that are damaged, absurd or of another kind: told at once, in words."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from precomp_qacnn import LightQACNN
from precomp_sdk import (
    CheckpointError,
    Compressor,
    PrecompError,
    Registry,
)
from precomp_sdk.cli import app
from precomp_sdk.config import load_experiment
from precomp_sdk.evaluation import read_results
from precomp_sdk.run.record import read_record
from precomp_sdk.training import load_module, read_module, save_module


def call(registry: Registry | None, *arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), obj=registry)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), (9, 99, 200)).save(tmp_path / "p.png")
    return tmp_path / "p.png"


@pytest.fixture
def attack(tmp_path: Path) -> Callable[..., Path]:
    """Write a weights file of a small network, changed."""

    def write(metadata: Mapping[str, str] = MappingProxyType({}), change: Any = None, **facts: Any) -> Path:
        network = LightQACNN(width=8, depth=1)
        options = dict(Registry().create("codec", "jpeg").coding_options)
        told = {"codec": "jpeg", "codec_options": options, "codec_version": "x", "ladder": [5, 30], **facts}
        good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
        save_module(good, network, name=network.name, options=network.options, facts=told)
        weights = load_file(good)
        if change is not None:
            change(weights)
        old = {
            "format": "1",
            "name": "qa-light",
            "options": json.dumps(dict(network.options)),
            "facts": json.dumps(told),
        }
        new = {key: value for key, value in {**old, **metadata}.items() if value != "(none)"}
        save_file(weights, bad, metadata=new)
        return bad

    return write


def _nan(weights: dict[str, torch.Tensor]) -> None:
    next(iter(weights.values())).view(-1)[0] = torch.nan


def _infinite(weights: dict[str, torch.Tensor]) -> None:
    next(iter(weights.values())).view(-1)[0] = torch.inf


def _int8(weights: dict[str, torch.Tensor]) -> None:
    weights.update({key: value.to(torch.int8) for key, value in weights.items()})


def _one_missing(weights: dict[str, torch.Tensor]) -> None:
    del weights[next(iter(weights))]


_DEEP = "[" * 200_000 + "]" * 200_000


@pytest.mark.parametrize(
    ("metadata", "change", "facts", "got"),
    [
        ({"options": "[1, 2]"}, None, {}, "options that are no table"),
        ({"options": '"text"'}, None, {}, "options that are no table"),
        ({"options": "{"}, None, {}, "JSONDecodeError"),
        ({"options": _DEEP}, None, {}, "brackets"),
        ({"facts": _DEEP}, None, {}, "brackets"),
        ({"facts": "3"}, None, {}, "facts that are no table"),
        ({"format": "2"}, None, {}, "format '2' instead of '1': a later version wrote it"),
        ({"format": "(none)"}, None, {}, "no format in its metadata"),
        ({"name": "(none)", "facts": "(none)"}, None, {}, "no name and no facts"),
        ({"options": '{"width": 1024, "depth": 64}'}, None, {}, "more parameters than its"),
        ({"options": '{"width": 1024, "depth": 1}'}, None, {}, "differ, first"),
        ({"options": '{"width": 8, "depth": 1000000}'}, None, {}, "a whole number from 0 to 64"),
        ({"options": '{"width": 1000000, "depth": 1}'}, None, {}, "a whole number from 1 to 1024"),
        ({"options": '{"width": 8, "depth": 1e6}'}, None, {}, "1000000.0"),
        ({"options": '{"width": 8, "depth": -3}'}, None, {}, "-3"),
        ({"options": '{"width": "8"}'}, None, {}, "'8'"),
        ({"options": '{"width": null}'}, None, {}, "None"),
        ({"options": '{"width": [[[]]]}'}, None, {}, "[[[]]]"),
        ({"options": '{"residual_scale": NaN}'}, None, {}, "NaN in its metadata"),
        ({"options": '{"residual_scale": 1e999}'}, None, {}, "inf"),
        ({"options": '{"wdith": 8}'}, None, {}, "'wdith'"),
        ({}, _nan, {}, "NaN in"),
        ({}, _infinite, {}, "an infinite one"),
        ({}, _int8, {}, "of int8 instead of"),
        ({}, _one_missing, {}, "missing instead of"),
        ({}, None, {"codec": 3}, "codec = 3"),
        ({}, None, {"codec_options": [["quality", 3]]}, "codec_options = "),
        ({}, None, {"codec_options": {"subsampling": 420}}, "420"),
        ({}, None, {"ladder": "5"}, "ladder = '5'"),
        ({}, None, {"ladder": []}, "ladder = []"),
        ({}, None, {"ladder": ["5"]}, "ladder = ['5']"),
        ({}, None, {"ladder": [True]}, "ladder = [True]"),
    ],
)
def test_an_absurd_weights_file_is_told_at_once(
    attack: Callable[..., Path], metadata: dict[str, str], change: Any, facts: dict[str, Any], got: str
) -> None:
    path = attack(metadata, change, **facts)

    with pytest.raises(CheckpointError) as caught:
        Compressor.load(path, Registry())

    assert got in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_a_pointer_of_git_lfs_is_named_as_one(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n")
    with pytest.raises(CheckpointError, match="got a pointer of git-lfs"):
        read_module(path)


@pytest.mark.parametrize(("name", "got"), [("none.safetensors", "No such file or directory"), ("", "a folder")])
def test_a_file_that_is_not_there_is_told_in_words(tmp_path: Path, name: str, got: str) -> None:
    with pytest.raises(CheckpointError, match=f"got {got}") as caught:
        read_module(tmp_path / name)
    assert "Errno" not in str(caught.value)


def test_equal_modules_give_equal_bytes_and_tied_weights_are_kept(tmp_path: Path) -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = torch.nn.Linear(3, 3)
            self.two = torch.nn.Linear(3, 3)
            self.two.weight = self.one.weight

    module = Tied()
    facts = {f"fact {number}": number for number in range(20)}
    contents = set()
    for _ in range(8):
        save_module(tmp_path / "w.safetensors", module, name="tied", options={}, facts=facts)
        contents.add((tmp_path / "w.safetensors").read_bytes())
    assert len(contents) == 1
    again = Tied()
    load_module(tmp_path / "w.safetensors", again, name="tied")
    assert again.two.weight is again.one.weight
    assert torch.equal(again.two.weight, module.one.weight)


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("results.json", _DEEP, lambda path: read_results(path)),
        ("results.json", '{"format": ' + "9" * 5000 + "}", lambda path: read_results(path)),
        ("run.json", _DEEP, lambda path: read_record(path.parent)),
        ("experiment.toml", f"a = {_DEEP}", lambda path: load_experiment(path)),
    ],
)
def test_a_file_nested_too_deeply_is_a_damaged_one(
    tmp_path: Path, name: str, text: str, read: Callable[[Path], object]
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PrecompError, match=name):
        read(tmp_path / name)


def test_names_of_files_are_shown_escaped(attack: Callable[..., Path], image: Path, tmp_path: Path) -> None:
    output = tmp_path / "o\x1b[31m\n.jpg"
    arguments = ["compress", str(attack()), str(image), "--quality", "20", "--output", str(output)]
    told = CliRunner().invoke(app, arguments, color=True)
    assert output.exists()
    assert "o\\x1b[31m" in told.stdout
    assert "\x1b" not in told.stdout
