"""Files of weights: what is read, what is taken off, what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from precomp_sdk import CheckpointError, ClassifierTask, Registry
from precomp_sdk.config import Loadable
from precomp_sdk.run.build import Builder
from precomp_sdk.testing import FakeTask
from precomp_sdk.training import load_module
from precomp_sdk.weights import load_weights, read_state


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_plain_state_dict_is_loaded_whatever_wrapped_the_network(tmp_path: Path, prefix: str, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    state = {prefix + key: value for key, value in network(1).state_dict().items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    plain, task = network(), ClassifierTask(network(), mean=0.5, std=0.25)
    load_weights(plain, path)
    task.load(path)
    assert same(plain, network(1))
    assert same(task.network, network(1))


def test_a_task_loads_what_it_saved(tmp_path: Path) -> None:
    path = tmp_path / "task.safetensors"
    ClassifierTask(network(1), mean=0.5, std=0.25).save(path)
    task = ClassifierTask(network(), mean=0.5, std=0.25)
    task.load(path)
    assert same(task.network, network(1))
    load_module(path, ClassifierTask(network(), mean=0.5, std=0.25), name="classifier")  # as an experiment file does
    with pytest.raises(CheckpointError, match="weights of 'mine'; got weights of 'classifier'"):
        ClassifierTask(network(), mean=0.5, std=0.25, name="mine").load(path)
    with pytest.raises(CheckpointError, match=r"a name that ends in \.safetensors"):
        task.save(tmp_path / "task.pth")


def test_an_experiment_loads_a_plain_state_dict_into_its_task(tmp_path: Path, doubles: Registry) -> None:
    path = tmp_path / "fake.pth"
    wanted = FakeTask()
    wanted.filters.data.add_(1.0)
    torch.save({f"module.{key}": value for key, value in wanted.state_dict().items()}, path)
    made = Builder(doubles, "here", seed=0).make("task", Loadable(name="fake", load=path), "task")
    assert torch.equal(made.filters, wanted.filters)


def test_a_prefix_of_the_networks_own_stays(tmp_path: Path) -> None:
    class Wrapped(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.module = network(seed)

    path = tmp_path / "weights.pth"
    torch.save(Wrapped(1).state_dict(), path)
    own = Wrapped(0)
    load_weights(own, path)
    assert same(own, Wrapped(1))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "got a pointer of git-lfs: the file"),
        (b"", "got EOFError|got .*Error"),
        (b"rubbish" * 50, "got .*Error"),
        ({"state_dict": {"a": torch.zeros(1)}, "epoch": 3}, r"names to tensors; got dict with keys \['epoch', 'state"),
        ({"0.weight": torch.zeros(1)}, "a file without 0.bias"),
        ([torch.zeros(1)], "names to tensors; got list"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_file_of_weights_is_named(tmp_path: Path, content: Any, told: str, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif suffix == ".pth":
        torch.save(content, path)
    else:
        pytest.skip("safetensors hold tensors by name alone")
    with pytest.raises(CheckpointError, match=told) as raised:
        load_weights(network(), path)
    assert "weights_only" not in str(raised.value)


def test_a_file_that_would_run_code_a_missing_one_and_nan(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": Path("x")}, path)
    with pytest.raises(CheckpointError, match="it holds more than tensors") as raised:
        read_state(path)
    assert "weights_only" not in str(raised.value)
    with pytest.raises(CheckpointError, match="got No such file or directory"):
        read_state(tmp_path / "none.pth")
    broken = network()
    broken[0].weight.data[0] = float("nan")
    torch.save(broken.state_dict(), path)
    with pytest.raises(CheckpointError, match=r"NaN in 0\.weight"):
        load_weights(network(), path)
