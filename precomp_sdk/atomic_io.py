"""Atomic writes: a file is there whole, or not at all.

Ours, because the package for it, atomicwrites, is given up, and none follows links, keeps the permissions of a new
file, leaves pipes alone and puts several files in their places together.
"""

import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from precomp_sdk.errors import OptionError, StorageError

__all__ = ["check_target", "remove_leftovers", "replacing", "write_files", "write_whole"]

_FULL = (errno.ENOSPC, errno.EFBIG, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else []))  # disk, size limit, quota
_LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{32}\.tmp", re.DOTALL)


def check_target(path: Path) -> None:
    """Find out before long work whether a file can be written after it; its folder is made.

    Raises:
        OptionError: there is a folder of this name.
        OSError: its folder cannot be written to.
    """
    path = path.resolve()
    if path.is_dir():
        raise OptionError(
            where="output", expected="a file to write", got=f"the folder {path}", remedy="Name a file inside it."
        )
    if path.exists() and not path.is_file():  # a pipe or a device is written to as it is
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Offer a temporary path to write to, and put it in the place of ``path`` on success; its folder is made.

    After a crash or a power cut there is the old file or the new one, whole: the content is on the disk before the name
    is, and the name before this returns. The file gets the permissions that any new file gets (safetensors alone would
    let only its owner read it). Where ``path`` is a link its target is replaced; what is no regular file, such as a
    pipe, is written to as it is.

    Raises:
        StorageError: the disk is full.
        OSError: the folder cannot be written to.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    with _full_disk_told(path):
        try:
            temporary.touch()
            permissions = stat.S_IMODE(temporary.stat().st_mode)
            yield temporary
            temporary.chmod(permissions)
            _synchronize(temporary)
            temporary.replace(path)
            _synchronize(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, names: Container[str] | None = None) -> None:
    """Remove temporary files of `replacing` that a killed process left in a folder.

    Args:
        folder: where they are.
        names: of the files that they were to become, which nobody else writes; None: all, as nobody else writes there.
    """
    for path in folder.iterdir():
        found = _LEFTOVER.fullmatch(path.name)
        if found and (names is None or found[1] in names):
            path.unlink(missing_ok=True)


def _synchronize(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    if path.is_dir() and os.name == "nt":  # a folder cannot be opened there, and its names are written at once
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _full_disk_told(path: Path) -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StorageError(
            where=str(path),
            expected="room to write it",
            got=f"{_room(path.parent)} ({error.strerror})",
            remedy="The older file is whole. Make room, or take a folder elsewhere; a run goes on with --resume.",
        ) from error


def _room(folder: Path) -> str:
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return "a full disk"
    return f"a full disk, {usage.free / 1e6:.1f} of {usage.total / 1e6:.1f} MB free"


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file; text as UTF-8.

    Raises:
        OSError: the folder cannot be written to.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_files(folder: Path | str, contents: Mapping[str, bytes]) -> tuple[Path, ...]:
    """Write files into a folder, which is made where it does not exist; none is put in its place before all are whole.

    Raises:
        OSError: the folder cannot be written to.
    """
    paths = tuple(Path(folder) / name for name in contents)
    with ExitStack() as stack:
        for path, content in zip(paths, contents.values(), strict=True):
            stack.enter_context(replacing(path)).write_bytes(content)
    return paths
