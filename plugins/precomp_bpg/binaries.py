"""The programs ``bpgenc`` and ``bpgdec``, where a user has them."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

import numpy as np
from PIL import Image

from precomp_bpg.colour import Bytes
from precomp_sdk import BitstreamError, CodecError, MissingDependencyError, PrecompError

__all__ = ["BpgPrograms"]

_VERSION: Final = re.compile(r"version\s+(\S+)")
_MESSAGE_CHARACTERS: Final = 2000
_LISTEN_S: Final = 1.0  # to a child that outlives its program
_LEVELS: Final = {"fast": 1, "default": 8, "best": 9}  # bpgenc's own default is 8


class BpgPrograms:
    """Runs ``bpgenc`` and ``bpgdec``, each in a temporary folder that is gone afterwards.

    Args:
        bpgenc: name on the PATH, or path.
        bpgdec: name on the PATH, or path.
        timeout_s: how long one image may take.

    Raises:
        MissingDependencyError: a program is not there.
    """

    def __init__(self, bpgenc: str, bpgdec: str, timeout_s: float) -> None:
        self._bpgenc = _found(bpgenc)
        self._bpgdec = _found(bpgdec)
        self._timeout_s = timeout_s

    def version(self) -> str:
        """What ``bpgenc`` calls itself, as in ``"bpgenc 0.9.8"``."""
        with tempfile.TemporaryDirectory(prefix="precomp-bpg-") as folder:
            _, message = self._run([self._bpgenc, "-h"], Path(folder), CodecError)
        found = _VERSION.search(message)
        return f"bpgenc {found[1] if found else 'of unknown version'}"

    def encode(self, image: Bytes, q: int, chroma: str, effort: str, encoder: str) -> bytes:
        """Encode an image.

        Args:
            image: (3, H, W), or (H, W) for gray.
            q: the value of ``-q``.
            chroma: ``"420"``, ``"422"`` or ``"444"``; gray ignores it.
            effort: maps to ``-m`` 1, 8 and 9.
            encoder: the value of ``-e``.

        Raises:
            CodecError: the program failed, wrote nothing or ran out of time; its own message is passed on.
        """
        with tempfile.TemporaryDirectory(prefix="precomp-bpg-") as name:
            folder = Path(name)
            source, target = folder / "in.png", folder / "out.bpg"
            Image.fromarray(image if image.ndim == 2 else image.transpose(1, 2, 0)).save(source, compress_level=1)
            options = ["-q", str(q), "-e", encoder, "-m", str(_LEVELS[effort])]
            if image.ndim == 3:
                options += ["-f", chroma]
            code, message = self._run([self._bpgenc, *options, "-o", str(target), str(source)], folder, CodecError)
            if code or not target.is_file() or not target.stat().st_size:
                raise CodecError(
                    where="bpgenc",
                    expected=f"a BPG file of an image of shape {image.shape}",
                    got=_ending(code, message),
                    remedy="bpgenc with x265 fails on images below its block size: use encoder='jctvc' there, or "
                    "backend='x265'.",
                )
            return target.read_bytes()

    def decode(self, payload: bytes) -> Bytes:
        """Decode a file to (3, H, W).

        Raises:
            BitstreamError: the program failed, wrote nothing or ran out of time; its own message is passed on.
        """
        with tempfile.TemporaryDirectory(prefix="precomp-bpg-") as name:
            folder = Path(name)
            source, target = folder / "in.bpg", folder / "out.png"
            source.write_bytes(payload)
            code, message = self._run([self._bpgdec, "-o", str(target), str(source)], folder, BitstreamError)
            try:
                if code:
                    raise ValueError(_ending(code, message))
                with Image.open(target) as image:
                    return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
            except (ValueError, OSError, SyntaxError) as error:
                raise BitstreamError(
                    where="bpgdec",
                    expected="a BPG file that it decodes to a PNG",
                    got=f"{error} {message}".strip(),
                    remedy="The file is damaged, or of a kind that bpgdec does not decode.",
                ) from error

    def _run(self, command: Sequence[str], folder: Path, kind: type[PrecompError]) -> tuple[int, str]:
        """Run a program; return its exit status and the end of what it said."""
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise kind(
                where=Path(command[0]).name,
                expected="a program that starts",
                got=str(error),
                remedy="Check the path and that it is built for this machine.",
            ) from error
        ending = bytearray()
        assert process.stdout is not None  # it was asked for
        listener = threading.Thread(target=_keep_ending, args=(process.stdout, ending), daemon=True)
        listener.start()
        try:
            code = process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
        listener.join(_LISTEN_S)
        message = bytes(ending).decode(errors="replace").strip()[-_MESSAGE_CHARACTERS:]
        if code is None:
            raise kind(
                where=Path(command[0]).name,
                expected=f"an end within {self._timeout_s:g} s",
                got=f"none; {message}".rstrip("; "),
                remedy="Raise timeout_s, or use backend='x265'.",
            )
        return code, message


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise MissingDependencyError(
            where="precomp_bpg, backend='bpgenc'",
            expected=f"the program {program!r}",
            got="nothing of this name that can be run",
            remedy="Build it from the sources at https://bellard.org/bpg/ and put it on the PATH, or give its path.",
        )
    return str(Path(path).resolve())


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what still runs, its children too: a program may be a script around the real one, and leave it behind."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # the group lives as long as one of its processes
    elif process.poll() is None:
        process.kill()
    process.wait()


def _keep_ending(stream: IO[bytes], ending: bytearray) -> None:
    """Read what a program says and keep the end: it may say more than memory or disk can hold."""
    with stream:
        while said := os.read(stream.fileno(), 1 << 16):
            ending += said
            del ending[: -4 * _MESSAGE_CHARACTERS]  # a character has up to four bytes


def _ending(code: int, message: str) -> str:
    if code < 0:
        try:
            how = f"killed by {signal.Signals(-code).name}"
        except ValueError:
            how = f"killed by signal {-code}"
    else:
        how = f"exit status {code}"
    return f"{how}; {message or 'it said nothing'}"
