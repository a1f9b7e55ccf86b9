"""Decodes JPEG XL in helper processes that the kernel ends when a file takes too long."""

import atexit
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import spawn
from pathlib import Path
from threading import Lock, Timer
from typing import Any, Final

from PIL import Image

from precomp_sdk.errors import CodecError
from precomp_sdk.jxl_file._header import fault, jxl_orientation, jxl_size

__all__ = ["FIXED_S", "PER_MEGAPIXEL_S", "decode_jxl"]

FIXED_S: Final = 1.5  #: of CPU for any file, which leaves half a second for what is around it, and
PER_MEGAPIXEL_S: Final = 1.0  #: for each megapixel of its size

_WALL: Final = 10.0  # times the CPU, and
_WALL_S: Final = 30.0  # more: what bounds a decoder on a busy machine, or where the kernel does not count
_MEMORY: Final = 1 << 30  # of address space for any file, and
_PIXEL_MEMORY: Final = 256  # bytes for each pixel; libjxl takes up to 100
_START_S: Final = 60.0
_LINGER_S: Final = 1.0
_SIGPROF: Final = getattr(signal, "SIGPROF", 0)
_MOST_HEADER: Final = 1 << 16
_REQUEST: Final = struct.Struct(">ddQ")
_PROGRAM: Final = (
    "import sys, json, runpy; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
)


def decode_jxl(
    data: bytes, *, where: str = "JPEG XL file", max_pixels: int, package: str = "pillow_jxl"
) -> tuple[Image.Image, int]:
    """Decode a JPEG XL file, or refuse it after 1.5 s of CPU and 1 s for each megapixel of its size.

    The image is upright: libjxl applies the orientation of the codestream, and EXIF's does not count. An image that was
    a JPEG file and is rebuilt as one is as that file is, with its EXIF data.

    Args:
        data: the file.
        where: names the file in errors.
        max_pixels: larger ones are refused before they are decoded.
        package: the module that decodes, ``"pillow_jxl"`` or ``"imagecodecs"``.

    Returns:
        The image, and the orientation that was applied to it, 1 to 8.

    Raises:
        BitstreamError: it does not decode, or not within the limits.
        CodecError: no process can be started.
    """
    width, height = jxl_size(data, where=where)
    if width * height > max_pixels:
        raise fault(where, f"an image of 1 to {max_pixels} pixels", f"{width}x{height}")
    seconds = FIXED_S + PER_MEGAPIXEL_S * width * height / 1e6
    request = _REQUEST.pack(seconds, _MEMORY + _PIXEL_MEMORY * width * height, len(data))
    with _helpers.one(package) as helper, helper.at_most(_WALL * seconds + _WALL_S):
        try:
            helper.ask(request, data)
            header = helper.header()
            if "size" in header and sorted(header["size"]) != sorted((width, height)):
                raise fault(where, f"an image of {width}x{height}, as the file begins", f"one of {header['size']}")
            blobs = [helper.read(count) for count in header["blobs"]]
        except (EOFError, OSError) as error:
            raise fault(where, f"a file that decodes within {seconds:.1f} s of CPU", helper.ending()) from error
        helper.ready = True
    if "error" in header:
        raise fault(where, "a codestream that decodes", str(header["error"]))
    profile, exif, samples = blobs
    image = Image.frombytes(header["mode"], tuple(header["size"]), samples)
    image.format = "JXL"
    if profile:
        image.info["icc_profile"] = bytes(profile)
    if exif and header["jpeg"]:
        image.info["exif"] = bytes(exif)
    return image, 1 if header["jpeg"] else jxl_orientation(data)


class _Helper:
    """A process that decodes. It is not ``ready`` where it has work half done, and can only be ended."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.ready = False
        self._late = False
        program = Path(__file__).with_name("_helper.py")
        command = [spawn.get_executable(), "-I", "-S", "-c", _PROGRAM, json.dumps(sys.path), str(program), package]
        try:
            self._process = subprocess.Popen(
                command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            with self.at_most(_START_S):
                problem = self.header()["error"]
            if problem:
                self.end()
        except EOFError:
            problem = self.ending()
        except OSError as error:
            problem = str(error)
        if problem:
            raise CodecError(
                where="JPEG XL decoder",
                expected="a helper process of Python that starts",
                got=problem,
                remedy="Check that sys.executable is Python, and that this process may start others.",
            )
        self.ready = True

    @property
    def lives(self) -> bool:
        """Whether it can take work: something else may have ended it in the meantime."""
        return self.ready and self._process.poll() is None

    @contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """End the process where the work inside takes longer."""
        timer = Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def ask(self, *parts: bytes) -> None:
        """Send a request."""
        assert self._process.stdin is not None  # it was asked for
        for part in parts:
            left = memoryview(part)
            while left:
                left = left[self._process.stdin.write(left) :]

    def header(self) -> dict[str, Any]:
        """Read the header of an answer."""
        (count,) = struct.unpack(">I", self.read(4))
        found: dict[str, Any] = json.loads(self.read(min(count, _MOST_HEADER)))
        return found

    def read(self, count: int) -> bytearray:
        """Read so many bytes.

        Raises:
            EOFError: the process ended before.
        """
        assert self._process.stdout is not None  # it was asked for
        found = bytearray(count)
        left = memoryview(found)
        while left:
            got = self._process.stdout.readinto(left)  # type: ignore[attr-defined]  # it is raw
            if not got:
                raise EOFError
            left = left[got:]
        return found

    def ending(self) -> str:
        """Say how the process ended."""
        self.end()
        code = self._process.returncode
        if self._late:
            return "no end in many times that on the clock"
        return "one that takes longer" if code == -_SIGPROF else f"a decoder that ended with status {code}"

    def end(self) -> None:
        """End the process and wait for it."""
        self._close()
        if not self.ready and not self._late:
            with suppress(subprocess.TimeoutExpired):  # one that has ended by itself says how
                self._process.wait(_LINGER_S)
            self._process.kill()
        self._process.wait()

    def abandon(self) -> None:
        """Let go of it after a fork: it is the parent's."""
        self._close()
        self._process.returncode = 0  # or subprocess waits for a child that is not this process's

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def _expire(self) -> None:
        self._late = True
        self._process.kill()


class _Helpers:
    """The helpers of this process: as many as threads decode at the same time, up to the processor's cores."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._idle: list[_Helper] = []

    @contextmanager
    def one(self, package: str) -> Iterator[_Helper]:
        """Lend a helper; one that comes back unready is ended."""
        with self._lock:
            found = next((helper for helper in reversed(self._idle) if helper.package == package), None)
            if found is not None:
                self._idle.remove(found)
        if found is not None and not found.lives:
            found.end()
            found = None
        helper = found or _Helper(package)
        helper.ready = False
        try:
            yield helper
        finally:
            with self._lock:
                keeps = helper.ready and len(self._idle) < (os.cpu_count() or 1)
                if keeps:
                    self._idle.append(helper)
            if not keeps:
                helper.end()

    def end(self) -> None:
        """End all that are idle."""
        while self._idle:
            self._idle.pop().end()

    def forget(self) -> None:
        """Let go of all, in a process that was forked."""
        self._lock = Lock()
        while self._idle:
            self._idle.pop().abandon()


_helpers = _Helpers()
atexit.register(_helpers.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.forget)
