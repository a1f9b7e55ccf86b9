"""What training does for a GPU, as far as it can be seen without one."""

import copy
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from precomp_sdk import Registry, to_uint8
from precomp_sdk.config import parse_experiment
from precomp_sdk.modules import compiled, to_device
from precomp_sdk.run import run_training

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_check.py"


def check(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", *arguments])
    return runpy.run_path(str(SCRIPT))


def test_the_check_is_skipped_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check(monkeypatch)["main"]() == 0
    assert capsys.readouterr().out == "gpu-check: skipped, there is no CUDA device here\n"


@pytest.mark.slow
def test_the_check_passes_on_a_cpu_and_sees_a_wrong_proxy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script = check(monkeypatch, "--device", "cpu", "--steps", "1", "--size", "32", "--batch", "1", "--output",
                   str(tmp_path / "told.json"))  # fmt: skip
    assert script["main"]() == 0
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["proxy"]["wrong_samples"], told["training_step"]["off"]) == (0, 0)
    monkeypatch.setitem(script["check_proxy"].__globals__, "to_uint8", lambda images: to_uint8(1 - images))
    assert script["main"]() == 1
    assert "proxy failed" in capsys.readouterr().out


def test_a_batch_goes_by_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: calls.append("pinned") or self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *where, **how: calls.append((where, how)) or self)
    to_device(torch.zeros(2), "cuda")
    to_device(torch.zeros(2), torch.device("cpu"))
    assert calls == ["pinned", (("cuda",), {"non_blocking": True}), ((torch.device("cpu"),), {})]


def test_networks_are_compiled_for_a_while_and_copies_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped: list[nn.Module] = []

    def compile_(module: nn.Module) -> None:
        wrapped.append(module)
        module._compiled_call_impl = module._call_impl  # type: ignore[assignment]  # stands for what inductor makes

    monkeypatch.setattr(nn.Module, "compile", compile_)
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    names = list(network.state_dict())
    with compiled(network):
        assert wrapped == list(network.children())
        assert all(child._compiled_call_impl for child in network)
        assert not any(child._compiled_call_impl for child in copy.deepcopy(network))
        assert list(network.state_dict()) == names
    assert not any(child._compiled_call_impl for child in network)


def test_a_run_may_ask_for_it_and_go_on_without(
    doubles: Registry, tables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", asked.append)
    tables["train"] |= {"steps": 2, "compile": True}
    run_training(parse_experiment(tables), doubles)
    count = len(asked)
    tables["train"] |= {"compile": False}
    assert run_training(parse_experiment(tables), doubles, resume=True).result is not None
    assert len(asked) == count
