from pathlib import Path

import pytest
import torch

from precomp_sdk import CheckpointError
from precomp_sdk.testing import FakePreprocessor, FakeTask
from precomp_sdk.training import load_module, read_module, save_module
from precomp_sdk.training.checkpoints import load_state, save_state


def test_module_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "weights.safetensors"
    save_module(path, FakePreprocessor(gain=0.25), name="fake", options={"gain": 0.0}, facts={"codec": "fake"})
    target = FakePreprocessor()
    saved = load_module(path, target, name="fake")
    assert target.gain.item() == 0.25
    assert (saved.options, saved.facts) == ({"gain": 0.0}, {"codec": "fake"})


def test_weights_of_another_component_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_module(path, FakePreprocessor(), name="fake", options={}, facts={})
    with pytest.raises(CheckpointError, match="weights of 'other'"):
        load_module(path, FakePreprocessor(), name="other")
    with pytest.raises(
        CheckpointError, match=r"2 differ, first filters missing instead of \(8, 1, 9, 9\), gain \(\) instead of none"
    ):
        load_module(path, FakeTask(), name="fake")


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_damaged_files_are_named(tmp_path: Path, content: bytes | None) -> None:
    for name, read in (("weights.safetensors", read_module), ("state.pt", load_state)):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            read(path)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"step": 1})
    with pytest.raises(AttributeError):  # a local function cannot be written
        save_state(path, {"step": lambda: None})
    assert load_state(path) == {"step": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["state.pt"]


def test_state_files_execute_no_code(tmp_path: Path) -> None:
    torch.save({"step": Path("x")}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        load_state(tmp_path / "state.pt")
