"""The helper process: decodes one JPEG XL file after another for its parent. It is run by its path, not imported.

It reads a request (`REQUEST`, then the file) and answers with the length of a JSON header, the header and its blobs.
The kernel ends it where a file takes more CPU than the request allows, which the parent sees as the end of its answer.
"""

import contextlib
import json
import os
import signal
import struct
import sys
from importlib import import_module
from io import BytesIO
from types import ModuleType
from typing import BinaryIO

from PIL import Image

resource: ModuleType | None
try:
    import resource
except ImportError:  # not on Windows, where the parent's clock alone bounds it
    resource = None

REQUEST = struct.Struct(">ddQ")  # CPU seconds, bytes of memory, bytes of the file


def main() -> None:
    """Serve until the parent closes its end."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # sent to a whole group; the parent ends its work, then this process
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "SIGPROF"):  # the parent may ignore it, and that is inherited
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not stand in an answer
    package, problem = sys.argv[1], ""
    try:
        import_module(package)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    _answer(target, {"error": problem}, [])
    while head := source.read(REQUEST.size):
        seconds, memory, count = REQUEST.unpack(head)
        payload = source.read(count)
        _limit(seconds, memory)
        header: dict[str, object]
        try:
            header, blobs = _decoded(package, payload)
        except BaseException as error:  # a panic of the decoder's language is no Exception
            header, blobs = {"error": f"{type(error).__name__}: {error}"[:500]}, []
        _limit(0.0, 0.0)
        _answer(target, header, blobs)


def _answer(target: BinaryIO, header: dict[str, object], blobs: list[bytes]) -> None:
    text = json.dumps({**header, "blobs": [len(blob) for blob in blobs]}).encode()
    target.writelines([struct.pack(">I", len(text)), text, *blobs])
    target.flush()


def _limit(seconds: float, memory: float) -> None:
    """Let this process take so much more CPU and address space; 0 for any."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF ends a process that does not handle it
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if resource is not None:
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            most = resource.RLIM_INFINITY if hard == resource.RLIM_INFINITY else hard
            if memory:
                with open("/proc/self/statm") as file:
                    most = int(file.read().split()[0]) * resource.getpagesize() + int(memory)
                most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _decoded(package: str, payload: bytes) -> tuple[dict[str, object], list[bytes]]:
    rebuilt = False
    profile = exif = b""
    if package == "imagecodecs":
        image: Image.Image = Image.fromarray(import_module(package).jpegxl_decode(payload, numthreads=1))
    else:
        from pillow_jxl import JpegXLImagePlugin

        JpegXLImagePlugin.DECODE_THREADS = 0  # none but this one
        image = file = JpegXLImagePlugin.JXLImageFile(BytesIO(payload))
        file.load()  # type: ignore[no-untyped-call]
        rebuilt = bool(file.jpeg)
        profile, exif = image.info.get("icc_profile") or b"", image.info.get("exif") or b""
    return {"mode": image.mode, "size": image.size, "jpeg": rebuilt}, [profile, exif, image.tobytes()]


if __name__ == "__main__":
    main()
