import math
from pathlib import Path
from typing import Any

import pytest
import torch

from precomp_sdk import CheckpointError
from precomp_sdk.testing import FakePreprocessor, FakeTask
from precomp_sdk.training import load_module, read_module, save_module
from precomp_sdk.training.run_state import check_moments, load_state, save_state


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


STATE = {
    "run": {},
    "step": 1,
    "position": (0, 1),
    "calibration": [],
    "anchor": {5.0: 1.0},
    "average": {},
    "optimizer": {},
    "weights": {},
}


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(path, STATE)
    with pytest.raises(AttributeError):  # a local function cannot be written
        save_state(path, {"step": lambda: None})
    assert load_state(path) == STATE
    assert [item.name for item in tmp_path.iterdir()] == ["state.pt"]


def test_state_files_execute_no_code(tmp_path: Path) -> None:
    torch.save({"step": Path("x")}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        load_state(tmp_path / "state.pt")


@pytest.mark.parametrize(
    ("change", "got"),
    [
        *(({key: None}, f"{key}: expected") for key in STATE if key != "anchor"),
        ({"step": -5}, "step: expected 0 to 8; got -5"),
        ({"step": 9}, "step: expected 0 to 8; got 9"),
        ({"step": True}, "step: expected int; got bool"),
        ({"step": 1.0}, "step: expected int; got float"),
        ({"position": (0, -1)}, "position: expected two whole numbers"),
        ({"position": (0, 1, 2)}, "position: expected two whole numbers"),
        ({"calibration": [3]}, "calibration: expected points of"),
        ({"calibration": [{"quality": 5.0, "evil": 1}]}, "calibration: expected points of"),
        ({"calibration": [{"bpp": float("nan")}]}, "calibration.bpp: expected a finite number; got nan"),
        ({"average": {"w": torch.tensor([1.0, torch.nan])}}, "average.w: expected finite numbers"),
        ({"weights": {"preprocessor": {"w": torch.tensor(torch.inf)}}}, "weights.preprocessor.w: expected finite"),
    ],
)
def test_an_absurd_state_is_told(tmp_path: Path, change: dict[str, Any], got: str) -> None:
    save_state(tmp_path / "state.pt", {**STATE, **change})
    with pytest.raises(CheckpointError) as caught:
        load_state(tmp_path / "state.pt", steps=8)
    assert got in str(caught.value)
    assert str(tmp_path / "state.pt") in str(caught.value)


@pytest.mark.parametrize("key", list(STATE))
def test_a_state_without_a_part_is_told(tmp_path: Path, key: str) -> None:
    save_state(tmp_path / "state.pt", {name: value for name, value in STATE.items() if name != key})
    with pytest.raises(CheckpointError, match=f"state.pt, {key}: expected a part of every checkpoint; got nothing"):
        load_state(tmp_path / "state.pt")


def test_nobody_is_advised_to_run_code(tmp_path: Path) -> None:
    for content in (Path("x"), {"step": print}, torch.nn.Linear(2, 2)):
        torch.save(content, tmp_path / "state.pt")
        with pytest.raises(CheckpointError) as caught:
            load_state(tmp_path / "state.pt")
        assert "weights_only" not in str(caught.value)
        assert "got a damaged file, or one that holds more" in str(caught.value)


def test_an_infinite_weight_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_module(path, FakePreprocessor(gain=math.inf), name="fake", options={}, facts={})
    target = FakePreprocessor(gain=0.5)
    with pytest.raises(CheckpointError, match="gain: expected finite weights"):
        load_module(path, target, name="fake")
    assert target.gain.item() == 0.5


@pytest.mark.parametrize("length", range(9))
def test_the_data_of_a_weights_file_begins_at_a_multiple_of_eight(length: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_module(path, FakePreprocessor(), name="fake", options={}, facts={"note": "x" * length})
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


def test_a_moment_of_another_shape_is_told(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([weight])
    weight.grad = torch.ones(3)
    optimizer.step()
    check_moments(tmp_path / "state.pt", optimizer)
    optimizer.state[weight]["exp_avg"] = torch.zeros(2)
    with pytest.raises(CheckpointError, match=r"optimizer\.exp_avg: expected \(3,\); got \(2,\)"):
        check_moments(tmp_path / "state.pt", optimizer)
    optimizer.state[weight]["exp_avg"] = torch.full((3,), math.nan)
    with pytest.raises(CheckpointError, match="finite numbers"):
        check_moments(tmp_path / "state.pt", optimizer)
