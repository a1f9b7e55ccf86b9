"""The folder of a run: whose it is, and what an older run left in it."""

import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from filelock import FileLock, Timeout

from precomp_sdk.atomic_io import remove_leftovers
from precomp_sdk.errors import CheckpointError

__all__ = ["LOCK_FILE", "PROXY_FILE", "STATE_FILE", "TASK_FILE", "WEIGHTS_FILE", "check_unused", "locked"]

STATE_FILE = "state.pt"  #: checkpoint of a run, to resume it
WEIGHTS_FILE = "preprocessor.safetensors"  #: the trained preprocessor
TASK_FILE = "task.safetensors"  #: the task's weights, where the run fitted or trained it
PROXY_FILE = "proxy.safetensors"  #: the proxy's, likewise
LOCK_FILE = ".lock"  #: held while a training works in the folder; the operating system lets go of it with the process

_held: ContextVar[frozenset[Path]] = ContextVar("_held", default=frozenset())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder, and remove temporary files that a killed one left there.

    A training inside that holds the folder already enters again. The lock is the operating system's (flock, or its like
    on Windows), so that of a process that died is free; what is left of it is an empty file.

    Raises:
        CheckpointError: another training works in the folder.
        OSError: it cannot be written to.
    """
    folder = folder.resolve()
    if folder in _held.get():
        yield
        return
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        with suppress(OSError):
            owner = path.read_text(encoding="utf-8").strip()
        raise CheckpointError(
            where=str(folder),
            expected="a folder that no other training works in",
            got=f"one that {owner or 'another process'} holds",
            remedy="Wait for it, end it, or choose another folder (--output).",
        ) from error
    token = _held.set(_held.get() | {folder})
    try:
        with suppress(OSError):  # for the message alone
            path.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")
        remove_leftovers(folder)
        yield
    finally:
        _held.reset(token)
        with suppress(OSError):
            path.write_text("", encoding="utf-8")
        lock.release()
        if made and {item.name for item in folder.iterdir()} <= {LOCK_FILE}:  # refused before anything was written
            with suppress(OSError):
                path.unlink(missing_ok=True)
                folder.rmdir()


def check_unused(folder: Path, names: Iterable[str], remedy: str) -> None:
    """Refuse a folder that holds a run already.

    Args:
        folder: of the new run.
        names: of the files that tell a run.
        remedy: how to go on with it or replace it, in the caller's words.

    Raises:
        CheckpointError: one of the files is there.
    """
    held = [name for name in names if (folder / name).exists()]
    if held:
        raise CheckpointError(
            where=str(folder),
            expected="a folder without a run",
            got=f"one with {', '.join(held)}",
            remedy=remedy,
        )
