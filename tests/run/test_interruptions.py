"""A run that is killed, stopped, locked out or out of disk loses nothing and says what to do."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

from precomp_sdk import CheckpointError, Registry, Trainer, TrainSettings
from precomp_sdk.atomic_io import replacing, write_whole
from precomp_sdk.config import Experiment, load_experiment, parse_experiment
from precomp_sdk.errors import StorageError
from precomp_sdk.interrupts import Interrupted, deferred, signals_raise
from precomp_sdk.run import run_evaluation, run_training
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import locked, read_module
from precomp_sdk.training.run_state import load_state

OPERATIONS = ("replace", "unlink", "fsync", "chmod", "mkdir", "rmdir")


@pytest.fixture(autouse=True)
def _signals_as_a_terminal_has_them() -> Iterator[None]:
    """A program started in the background ignores some, and would hand that on."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@contextmanager
def snapshots(folder: Path, into: Path) -> Iterator[list[tuple[str, Path]]]:
    """Copy a folder before each file operation of the program: what a kill at that moment would leave on the disk.

    Yields:
        The operation that was to come, and the copy; a copy that equals the one before is left out.
    """
    taken: list[tuple[str, Path]] = []
    seen: set[frozenset[tuple[str, bytes]]] = set()

    def watched(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def operate(*args: Any, **options: Any) -> Any:
            left = frozenset(on_disk(folder))
            if left not in seen:
                seen.add(left)
                copy = into / str(len(taken))
                original["mkdir"](copy)
                for path in folder.iterdir() if folder.exists() else ():
                    with (copy / path.name).open("wb") as file:
                        file.write(path.read_bytes())
                taken.append((name, copy))
            return operation(*args, **options)

        return operate

    original = {name: getattr(os, name) for name in OPERATIONS}
    with pytest.MonkeyPatch.context() as patch:
        for name, operation in original.items():
            patch.setattr(os, name, watched(name, operation))
        patch.setattr(Path, "write_bytes", watched("write", Path.write_bytes))
        yield taken


def on_disk(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of a folder, with temporary files under the name of what they were for."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.name != ".lock":
            yield (f"{path.name.split('.')[1]} to be" if path.name.endswith(".tmp") else path.name), path.read_bytes()


@pytest.fixture
def experiment(tables: dict[str, Any]) -> Experiment:
    tables["train"] |= {
        "steps": 2,
        "checkpoint_every": 1,
        "held_out_every": 2,
        "train": ["preprocessor", "task"],
        "held_out_images": 2,
        "calibration_images": 2,
        "batch_size": 2,
    }
    tables["data"]["train"]["count"] = 8
    tables["data"]["val"]["count"] = 3
    tables["task"]["fit"] = {"epochs": 1, "batch_size": 4}
    tables["evaluate"]["replicates"] = 0
    return parse_experiment(tables)


def at(experiment: Experiment, folder: Path) -> Experiment:
    return experiment.model_copy(update={"output": experiment.output.model_copy(update={"folder": folder})})


def test_a_kill_between_any_two_file_operations_loses_nothing(
    experiment: Experiment, doubles: Registry, tmp_path: Path
) -> None:
    (tmp_path / "left").mkdir()
    with snapshots(tmp_path / "whole", tmp_path / "left") as moments:
        run_training(at(experiment, tmp_path / "whole"), doubles)
    kept = ("preprocessor.safetensors", "task.safetensors")
    whole = {name: (tmp_path / "whole" / name).read_bytes() for name in kept}
    assert len(moments) > 15  # of about 60 operations, those that changed what is on the disk

    for operation, folder in moments:
        run_training(at(experiment, folder), doubles, resume=True)

        assert {name: (folder / name).read_bytes() for name in kept} == whole, f"{folder.name}: {operation}"
        assert load_state(folder / "state.pt")["step"] == 2
        record = json.loads((folder / "run.json").read_text())
        assert record["training"]["results"]["training"]["steps"] == 2
        assert not [path.name for path in folder.iterdir() if path.name.endswith(".tmp")], "leftovers"
    assert run_evaluation(load_experiment(moments[-1][1]), doubles).images == 3


def test_weights_of_another_step_than_the_state_are_written_again(
    experiment: Experiment, doubles: Registry, tmp_path: Path
) -> None:
    mine = at(experiment, tmp_path / "run")
    run_training(mine, doubles)
    weights = tmp_path / "run" / "preprocessor.safetensors"
    right = weights.read_bytes()
    weights.unlink()  # as an older version left it, killed between the state and the weights of the last checkpoint
    run_training(mine, doubles, resume=True)
    assert weights.read_bytes() == right


def test_equal_runs_give_equal_bytes(experiment: Experiment, doubles: Registry, tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second"):
        run_training(at(experiment, tmp_path / name), doubles)
        contents.append([(tmp_path / name / file).read_bytes() for file in ("preprocessor.safetensors", "state.pt")])
    assert contents[0] == contents[1]


def test_python_writes_what_the_command_line_writes(experiment: Experiment, doubles: Registry, tmp_path: Path) -> None:
    run_training(at(experiment, tmp_path / "run"), doubles)
    codec, task = FakeCodec(), FakeTask()
    task.load_state_dict(dict(read_module(tmp_path / "run" / "task.safetensors").weights))
    settings = TrainSettings(
        steps=1, batch_size=2, ladder=(5, 30), lambdas={5: 0.5, 30: 2.0}, held_out_images=2, calibration_images=2,
        train=("preprocessor", "task"),
    )  # fmt: skip
    trainer = Trainer(
        codec=codec, proxy=FakeProxy(codec), preprocessor=FakePreprocessor(), task=task, settings=settings
    )
    trainer.run(FakeDataset(count=8), folder=tmp_path / "python")
    by_command, by_python = (read_module(tmp_path / name / "task.safetensors") for name in ("run", "python"))
    assert (by_python.name, by_python.options) == (by_command.name, by_command.options)
    assert by_python.facts.keys() == by_command.facts.keys()
    assert by_python.weights.keys() == by_command.weights.keys()


# -- one training in one folder


@pytest.mark.slow
def test_a_folder_in_which_a_training_works_is_refused(
    experiment: Experiment, doubles: Registry, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    code = (
        "import sys, time; from pathlib import Path; from precomp_sdk.training import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            for options in ({}, {"resume": True}, {"overwrite": True}):
                with pytest.raises(
                    CheckpointError, match=f"no other training works in; got one that process {other.pid}"
                ):
                    run_training(at(experiment, folder), doubles, **options)
        finally:
            other.kill()
    run_training(at(experiment, folder), doubles)  # the dead process's lock is free


def test_two_threads_do_not_train_in_one_folder(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(tmp_path / "run"):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(10)
    try:
        with pytest.raises(CheckpointError, match="no other training"), locked(tmp_path / "run"):
            pass
    finally:
        leave.set()
        thread.join()
    with locked(tmp_path / "run"), locked(tmp_path / "run"):  # a training inside one that holds it
        pass


def test_leftovers_of_a_killed_run_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = ["state.pt", ".mine.tmp", "notes.tmp", ".state.pt.0123.tmp"]
    for name in [*kept, f".state.pt.{'0a' * 16}.tmp"]:
        (tmp_path / name).touch()
    with locked(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, ".lock"])


def test_a_refused_run_leaves_no_folder(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="name of a codec"):
        run_training(at(experiment, tmp_path / "new" / "run"), Registry(entry_points=False))
    assert not (tmp_path / "new" / "run").exists()


# -- a full disk


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_is_told_with_its_path_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "state.pt"
    write_whole(path, b"old")

    def full(self: Path, content: bytes) -> int:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError) as caught:
        write_whole(path, b"new")
    assert str(caught.value).startswith(f"{path}: expected room to write it; got a full disk, ")
    assert "MB free" in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["state.pt"]


def test_other_errors_of_the_disk_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), replacing(tmp_path / "file"):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_a_training_on_a_full_disk_ends_in_one_line(tables: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    tables["preprocessor"] = {"name": "qa-light", "width": 64, "depth": 2}
    tables |= {"codec": {"name": "jpeg"}, "task": {"name": "small-classifier", "num_classes": 8}}
    tables["data"] = {"train": {"name": "scenes", "count": 12, "size": 128}, "val": {"name": "scenes", "count": 4}}
    tables["train"] |= {"steps": 1, "ladder": [5, 30]}
    file.write_text(tomli_w.dumps(tables))
    code = (
        "import signal, resource, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "sys.argv = ['precomp', 'train', sys.argv[1]]; from precomp_sdk.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("precomp: ")
    assert "full disk" in last
    assert str(tmp_path / "run") in last
    assert "Traceback" not in done.stderr


# -- signals


SLOW = """
import sys, time
from precomp_sdk import Registry, hookimpl
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.cli import app

class Slow(FakeProxy):
    def _predict(self, images, qualities):
        time.sleep(0.05)
        return super()._predict(images, qualities)

class Plugin:
    precomp_register_codecs = staticmethod(hookimpl(lambda: [FakeCodec]))

class All:
    @hookimpl
    def precomp_register_codecs(self): return [FakeCodec]
    @hookimpl
    def precomp_register_proxies(self): return [Slow]
    @hookimpl
    def precomp_register_preprocessors(self): return [FakePreprocessor]
    @hookimpl
    def precomp_register_tasks(self): return [FakeTask]
    @hookimpl
    def precomp_register_datasets(self): return [FakeDataset]

registry = Registry(entry_points=False)
registry.register(All(), "all")
app(["train", *sys.argv[1:]], obj=registry)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_saves_a_checkpoint_and_the_run_goes_on_to_the_same_bits(
    tables: dict[str, Any], doubles: Registry, tmp_path: Path, name: str, status: int
) -> None:
    tables["train"] |= {"steps": 40, "checkpoint_every": 1000, "held_out_every": 1000, "batch_size": 2}
    file = tmp_path / "mine.toml"
    file.write_text(tomli_w.dumps(tables))
    events = tmp_path / "run" / "events.jsonl"
    with subprocess.Popen([sys.executable, "-c", SLOW, str(file)], stderr=subprocess.PIPE, text=True) as run:
        for _ in range(3000):
            if events.exists() and events.read_text().count('"StepDone"') > 3:
                break
            time.sleep(0.1)
        run.send_signal(getattr(signal, name))
        _, told = run.communicate(timeout=300)

    assert run.returncode == status, told
    last = told.splitlines()[-1]
    assert last.startswith("precomp: interrupted at step ")
    assert last.endswith(f"of 40, saved in {tmp_path / 'run'}; --resume goes on from the last checkpoint")
    step = load_state(tmp_path / "run" / "state.pt")["step"]
    assert 3 < step < 40
    assert "Traceback" not in told

    run_training(load_experiment(tmp_path / "run"), doubles, resume=True)
    tables["output"]["folder"] = str(tmp_path / "whole")
    run_training(parse_experiment(tables), doubles)
    resumed, whole = (read_module(tmp_path / name / "preprocessor.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(resumed.weights[key], whole.weights[key]) for key in whole.weights)


def test_a_second_signal_does_not_wait_and_a_first_outside_of_steps_neither() -> None:
    with signals_raise():
        with deferred() as asked:
            os.kill(os.getpid(), signal.SIGTERM)
            assert asked() == signal.SIGTERM
            with pytest.raises(Interrupted) as caught:
                os.kill(os.getpid(), signal.SIGINT)
        assert caught.value.status == 130
        with pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        assert caught.value.status == 143
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_was_to_be_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as under nohup
    try:
        with signals_raise():
            os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
