"""PyAV, where it is installed: its import, its versions, and one lock around the first use of x265."""

import re
import threading
from fractions import Fraction
from typing import Any, Final

from precomp_sdk import CodecError, MissingDependencyError

__all__ = ["ENCODER", "INSTALL", "encode_frame", "load_av", "versions"]

ENCODER: Final = "libx265"
INSTALL: Final = "pip install 'precomp-sdk[bpg]'"
_VERSION: Final = re.compile(rb"x265 \(build (\d+)\) - ([^\s:]+)")

_lock = threading.Lock()
_versions: dict[str, str] = {}


def load_av() -> Any:
    """Import PyAV and check that it has what this plugin needs.

    Raises:
        MissingDependencyError: PyAV is not installed, or was built without libx265.
    """
    try:
        import av

        encoders = av.codecs_available
    except Exception as error:  # of a half-installed package, the import or its first look may raise anything
        raise MissingDependencyError(
            where="precomp_bpg",
            expected="the package 'av' (PyAV)",
            got=str(error) if isinstance(error, ImportError) else repr(error),
            remedy=f"Install it: {INSTALL}. Or use backend='bpgenc' with the bpgenc and bpgdec programs.",
        ) from error
    if ENCODER not in encoders:
        raise MissingDependencyError(
            where="precomp_bpg",
            expected="a PyAV built with libx265",
            got=f"av {av.__version__} without it",
            remedy=f"Install PyPI's wheel: {INSTALL}. Or use backend='bpgenc' with the bpgenc and bpgdec programs.",
        )
    return av


def encode_frame(frame: Any, preset: str, parameters: str) -> bytes:
    """Encode one frame with an x265 of its own; return the HEVC byte stream.

    Raises:
        CodecError: x265 refused the frame.
    """
    av = load_av()
    try:
        context = av.CodecContext.create(ENCODER, "w")
        context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
        context.time_base = Fraction(1, 25)
        context.thread_count = 1
        context.options = {"preset": preset, "x265-params": parameters}
        return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))
    except av.error.FFmpegError as error:
        raise CodecError(
            where="BPG encoder",
            expected=f"x265 to encode {frame.width}x{frame.height} {frame.format.name}",
            got=str(error),
            remedy="Report the image's size and the codec's options.",
        ) from error


def versions() -> str:
    """Versions of PyAV, FFmpeg's libavcodec and x265, as in ``"PyAV 18.1.0, libavcodec 62.28.102, x265 4.2 (216)"``.

    The first call encodes a tiny image, behind a lock: x265 fills global tables at its first use, and tells its
    version nowhere but in the stream.
    """
    av = load_av()
    with _lock:
        if "all" not in _versions:
            frame = av.VideoFrame(64, 64, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            stream = encode_frame(frame, "ultrafast", "log-level=none:info=1:pools=none:frame-threads=1")
            found = _VERSION.search(stream)
            x265 = f"x265 {found[2].decode()} (build {found[1].decode()})" if found else "x265 of unknown version"
            codec = ".".join(map(str, av.library_versions["libavcodec"]))
            _versions["all"] = f"PyAV {av.__version__}, libavcodec {codec}, {x265}"
        return _versions["all"]
