"""JPEG XL files: their headers, and helper processes that end what takes too long."""

import importlib.util
import io
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from precomp_sdk import BitstreamError, CodecError, ImageError
from precomp_sdk.image_io import ReadSettings, decode_image, read_image, turn_upright
from precomp_sdk.jxl_file import _decoding, decode_jxl, jxl_size
from precomp_sdk.testing import natural_image

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("pillow_jxl"), reason="no package for JPEG XL")
Image = pytest.importorskip("PIL.Image")
CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl "


def saved(image: Any, **options: Any) -> bytes:
    import pillow_jxl  # noqa: F401  # registers the format

    buffer = io.BytesIO()
    image.save(buffer, "JXL", **{"use_container": False, "effort": 3, **options})
    return buffer.getvalue()


def photograph(height: int, width: int) -> Any:
    return Image.fromarray(natural_image(height, width, seed=3).permute(1, 2, 0).numpy())


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def turned(codestream: bytes, orientation: int) -> bytes:
    """Write an orientation into a lossy codestream of RGB whose metadata is all of the default."""
    bits = [byte >> place & 1 for byte in codestream[2:12] for place in range(8)]
    at = 1 + (5 if bits[0] else 2 + (9, 13, 18, 30)[bits[1] | bits[2] << 1])
    ratio = bits[at] | bits[at + 1] << 1 | bits[at + 2] << 2
    at += 3
    if not ratio:
        at += 5 if bits[0] else 2 + (9, 13, 18, 30)[bits[at] | bits[at + 1] << 1]
    assert bits[at : at + 2] == [1, 1]  # metadata and transforms are of the default
    value = orientation - 1
    #        not default, extra fields, orientation; no intrinsic size, preview, animation; 8 bits; 16-bit buffers;
    extra = [0, 1, value & 1, value >> 1 & 1, value >> 2, 0, 0, 0, 0, 0, 0, 1]
    extra += [0, 0, 1, 1, 1, 0, 0, 1]  # no extra channels; XYB; colours, tones, extensions, transforms of the default
    header = bits[:at] + extra
    header += [0] * (-len(header) % 8)
    packed = bytes(sum(header[n + k] << k for k in range(8)) for n in range(0, len(header), 8))
    return codestream[:2] + packed + codestream[2 + (at + 2 + 7) // 8 :]


@pytest.fixture(autouse=True)
def fresh_helpers() -> Iterator[None]:
    _decoding._helpers.end()
    yield
    _decoding._helpers.end()


@pytest.mark.parametrize("size", [(8, 8), (40, 64), (64, 40), (33, 47), (300, 300), (7, 600)])
def test_the_size_is_read_from_codestreams_and_containers(size: tuple[int, int]) -> None:
    height, width = size
    bare = saved(photograph(height, width))
    parts = box(b"jxlp", struct.pack(">I", 0) + bare[:5]) + box(b"jxlp", struct.pack(">I", 1 << 31 | 1) + bare[5:])
    wide = struct.pack(">I4sQ", 1, b"jxlc", 16 + len(bare)) + bare
    endless = struct.pack(">I4s", 0, b"jxlc") + bare
    for content in (bare, *(CONTAINER + rest for rest in (box(b"jxlc", bare), parts, wide, endless))):
        assert jxl_size(content) == (width, height)
        assert (read_image(content) == read_image(bare)).all()


@pytest.mark.parametrize(
    "content", [b"\xff\x0a", CONTAINER, CONTAINER + box(b"Exif", bytes(20)), CONTAINER + bytes(40)]
)
def test_files_without_a_codestream_are_refused(content: bytes) -> None:
    with pytest.raises(BitstreamError, match="starts with ff 0a"):
        jxl_size(content)
    with pytest.raises(ImageError):
        read_image(content)


def test_too_many_pixels_are_refused_before_a_process_sees_them() -> None:
    content = saved(photograph(40, 60))
    with pytest.raises(ImageError, match=r"at most 2399 pixels; got 60 x 40\. .*max_pixels"):
        read_image(content, settings=ReadSettings(max_pixels=2399))
    with pytest.raises(BitstreamError, match="1 to 2399 pixels"):
        decode_jxl(content, max_pixels=2399)
    assert not _decoding._helpers._idle


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_that_of_the_codestream(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = photograph(24, 40)
    upright = read_image(saved(image))
    ignored = decode_image(saved(image, exif=exif.tobytes(), use_container=True))  # ISO/IEC 18181-2: EXIF's is not used
    assert ignored.orientation == 1
    assert (ignored.samples == upright).all()
    found = decode_image(turned(saved(image), orientation))
    assert found.orientation == orientation
    assert found.stored_size == (24, 40)
    assert found.samples.shape == turn_upright(upright, orientation).shape
    apart = (found.samples.int() - turn_upright(upright, orientation).int()).abs()  # libjxl dithers by the place
    assert apart.max() <= 2


def test_a_jpeg_file_within_is_read_as_that_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph(24, 40).save(tmp_path / "a.jpg", exif=exif, quality=90)
    content = saved(Image.open(tmp_path / "a.jpg"), lossless_jpeg=True, use_container=True)
    found, right = decode_image(content), decode_image(tmp_path / "a.jpg")
    assert found.orientation == right.orientation == 6
    assert (found.samples == right.samples).all()


def test_profiles_come_along() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image, _ = decode_jxl(saved(photograph(24, 40), lossless=True, icc_profile=profile), max_pixels=1000)
    assert image.info.get("icc_profile")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the kernel does not count CPU time for a process")
def test_what_takes_too_long_is_ended_and_the_next_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(photograph(3072, 3072), effort=1)  # many ticks of the kernel's clock on any machine
    with monkeypatch.context() as patch:
        patch.setattr(_decoding, "FIXED_S", 0.001)
        patch.setattr(_decoding, "PER_MEGAPIXEL_S", 0.0)
        with pytest.raises(BitstreamError, match=r"within 0\.0 s of CPU; got one that takes longer"):
            decode_jxl(content, max_pixels=1 << 24)
        assert not _decoding._helpers._idle
    assert read_image(content).shape == (3, 3072, 3072)


def test_the_clock_ends_what_takes_no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(photograph(24, 40))
    read_image(content)
    (helper,) = _decoding._helpers._idle
    os.kill(helper._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(_decoding, "_WALL", 0.0)
    monkeypatch.setattr(_decoding, "_WALL_S", 0.2)
    with pytest.raises(BitstreamError, match="no end in many times that on the clock"):
        decode_jxl(content, max_pixels=1000)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("the memory of a process is not known")
    content = saved(photograph(512, 512), effort=1)
    monkeypatch.setattr(_decoding, "_MEMORY", 1 << 12)
    monkeypatch.setattr(_decoding, "_PIXEL_MEMORY", 0)
    with pytest.raises(BitstreamError):
        decode_jxl(content, max_pixels=1 << 20)


def test_a_helper_that_ended_in_the_meantime_is_replaced() -> None:
    content = saved(photograph(24, 40))
    read_image(content)
    (helper,) = _decoding._helpers._idle
    for number in (signal.SIGINT, signal.SIGTERM):  # a batch system sends them to all; the parent needs its last image
        os.kill(helper._process.pid, number)
    read_image(content)
    assert _decoding._helpers._idle == [helper]
    helper._process.kill()
    helper._process.wait()
    read_image(content)
    assert _decoding._helpers._idle != [helper]


def test_a_process_that_was_forked_has_helpers_of_its_own() -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork")
    program = (
        "import os, sys\n"
        "from precomp_sdk.jxl_file import _decoding, decode_jxl\n"
        "content = sys.stdin.buffer.read()\n"
        "decode_jxl(content, max_pixels=1000)\n"
        "(helper,) = _decoding._helpers._idle\n"
        "child = os.fork()\n"
        "decode_jxl(content, max_pixels=1000)\n"
        "assert (_decoding._helpers._idle == [helper]) == bool(child)\n"
        "if not child:\n"
        "    _decoding._helpers.end()\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "decode_jxl(content, max_pixels=1000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        input=saved(photograph(24, 40)),
        capture_output=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_helper_that_does_not_start_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(photograph(24, 40))
    monkeypatch.setattr(_decoding.spawn, "get_executable", lambda: "/nowhere/python")
    with pytest.raises(CodecError, match=r"a helper process of Python that starts; got .*No such file"):
        read_image(content)
    monkeypatch.undo()
    with pytest.raises(CodecError, match="ModuleNotFoundError"):
        decode_jxl(content, max_pixels=1000, package="pillow_jxl_of_nobody")


def test_a_module_in_the_working_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json.py", "PIL.py", "pillow_jxl.py", "struct.py"):
        (tmp_path / name).write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    assert read_image(saved(photograph(24, 40))).shape == (3, 24, 40)
