"""Atomic writes: a file is there whole, or not at all.

Ours, because the package for it, atomicwrites, is given up, and none follows links, keeps the permissions of a new
file, leaves pipes alone and puts several files in their places together.
"""

import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from precomp_sdk.errors import OptionError

__all__ = ["check_target", "replacing", "write_files", "write_whole"]


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

    The file gets the permissions that any new file gets (safetensors alone would let only its owner read it). Where
    ``path`` is a link its target is replaced; what is no regular file, such as a pipe, is written to as it is.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    temporary.touch()
    permissions = stat.S_IMODE(temporary.stat().st_mode)
    try:
        yield temporary
        temporary.chmod(permissions)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
