import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from typer.testing import Result

from precomp_sdk import Registry, hookimpl
from precomp_sdk.testing import FakeCodec, FakeProxy
from precomp_sdk.training import read_module

Call = Callable[..., Result]


def test_a_proxy_is_not_fitted_on_a_data_set_without_a_folder(call: Call) -> None:
    result = call(
        "fit-proxy",
        "--codec",
        "fake",
        "--data",
        "images",
        "--output",
        "p.safetensors",
        "--set",
        "data.name=fake",
    )

    assert result.exit_code == 1
    assert "fit-proxy, data.root: expected a known option" in result.stderr


def with_images(folder: Path) -> Registry:
    """Write three images; return the installed plugins and the double of a codec with its proxy."""
    from PIL import Image

    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (20, 16), (80 * index, 10, 30)).save(folder / f"{index}.png")
    registry = Registry()
    registry.register(_FakeCodecOnly(), "fake codec")
    return registry


def test_a_proxy_is_fitted_on_a_folder_of_images(call: Call, tmp_path: Path) -> None:
    registry = with_images(tmp_path / "images")

    result = call(
        *(
            "fit-proxy",
            "--codec",
            "fake",
            "--data",
            "images",
            "--output",
            "new/p.safetensors",
            "--proxy",
            "fake",
        ),
        *("--set", "fit.steps=2", "--set", "fit.batch_size=2", "--set", "data.geometry.crop=8"),
        registry=registry,
    )

    assert result.exit_code == 0, result.output
    assert "weights: new/p.safetensors" in result.stdout
    saved = read_module(tmp_path / "new" / "p.safetensors")
    assert (saved.name, saved.facts["codec"]) == ("fake", "fake")
    assert not torch.equal(saved.weights["log_scale"], torch.zeros(()))


def test_a_folder_as_output_is_refused_before_the_work(call: Call, tmp_path: Path) -> None:
    registry = with_images(tmp_path / "images")
    work = ("--codec", "fake", "--data", "images", "--proxy", "fake", "--output", "images")
    for command in ("fit-proxy", "evaluate-proxy"):
        result = call(command, *work, registry=registry)
        assert result.exit_code == 1
        assert "output: expected a file to write; got the folder" in result.stderr
        assert re.search(r"\b1/\d", result.stderr + result.stdout) is None  # no step


class _FakeCodecOnly:
    @hookimpl
    def precomp_register_codecs(self) -> list[Any]:

        return [FakeCodec]

    @hookimpl
    def precomp_register_proxies(self) -> list[Any]:
        return [FakeProxy]


def test_a_proxy_is_measured_and_its_report_written(call: Call, tmp_path: Path) -> None:
    registry = with_images(tmp_path / "images")
    fit = ("--codec", "fake", "--data", "images", "--proxy", "fake")
    fitted = call(
        "fit-proxy",
        *fit,
        "--output",
        "p.safetensors",
        "--set",
        "fit.steps=1",
        "--set",
        "fit.batch_size=2",
        registry=registry,
    )
    assert fitted.exit_code == 0, fitted.output

    result = call("evaluate-proxy", *fit, "--load", "p.safetensors", "--output", "new/report.json", registry=registry)

    assert result.exit_code == 0, result.output
    assert "fake against fake" in result.stdout
    assert any(line.split()[:1] == ["5"] for line in result.stdout.splitlines())
    assert json.loads((tmp_path / "new" / "report.json").read_text())["images"] == 3
    assert "fake against fake" in (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    refused = call("evaluate-proxy", *fit, "--load", "p.safetensors", "--set", "codec.level=1", registry=registry)
    assert refused.exit_code == 1
    assert "proxy.load: p.safetensors: expected a proxy that was fitted to codec options" in refused.stderr


def test_a_poor_fit_is_told_in_the_summary_and_kept_in_the_file(call: Call, tmp_path: Path) -> None:
    registry = with_images(tmp_path / "in")
    output = tmp_path / "proxy.safetensors"
    settings = [
        "fit.steps=2",
        "fit.batch_size=2",
        "fit.learning_rate=1e-9",
        "data.crop=16",
        "proxy.width=8",
        "proxy.depth=1",
    ]
    result = call(
        "fit-proxy", "--codec", "fake", "--proxy", "generic-proxy", "--data", str(tmp_path / "in"), "--output",
        str(output), *(part for setting in settings for part in ("--set", setting)), registry=registry,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "from its bits; a poor fit: " in result.output
    assert "poor fit" in read_module(output).facts["doubt"]


def test_a_path_that_goes_through_a_file_is_told_in_a_sentence(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    result = call("fit-proxy", "--codec", "fake", "--data", "in", "--output", str(tmp_path / "file" / "x"))
    assert result.exit_code == 1
    assert "Errno" not in result.output
    assert "expected a folder, or a path that is free; got a file" in result.output
