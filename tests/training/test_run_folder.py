"""Whose a run's folder is while a training works in it."""

import os
from contextvars import Context
from pathlib import Path

import pytest

from precomp_sdk.errors import CheckpointError
from precomp_sdk.training.run_folder import LOCK_FILE, locked


def enter(folder: Path) -> None:
    with locked(folder):
        pass


def test_a_folder_is_made_with_those_above_it_and_goes_where_nothing_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "of today" / "first"
    with locked(folder):
        assert folder.is_dir()
    assert not folder.exists()
    assert folder.parent.is_dir()


def test_what_was_there_or_was_written_stays(tmp_path: Path) -> None:
    with locked(tmp_path / "written"):
        (tmp_path / "written" / "weights").write_text("1", encoding="utf-8")
    assert (tmp_path / "written" / "weights").read_text(encoding="utf-8") == "1"
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / f".weights.{'0' * 32}.tmp").touch()  # of a training that was killed
    enter(tmp_path / "old")
    assert [path.name for path in (tmp_path / "old").iterdir()] == [LOCK_FILE]


def test_one_training_at_a_time_and_the_one_inside_enters_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with locked(folder):
        enter(folder)
        assert (folder / LOCK_FILE).exists()  # the inner one let nothing go
        with pytest.raises(CheckpointError, match=f"one that process {os.getpid()} on .* holds"):
            Context().run(enter, folder)  # a training that knows nothing of this one
        (folder / "weights").touch()
    Context().run(enter, folder)
    assert (folder / LOCK_FILE).read_text(encoding="utf-8") == ""
