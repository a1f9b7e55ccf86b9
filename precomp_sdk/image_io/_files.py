"""Opens image files: which formats, how large, and what is said of the others."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from io import BytesIO
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from precomp_sdk.avif_file import check_avif
from precomp_sdk.errors import BitstreamError, CodecError, ImageError, OptionError, reason_of
from precomp_sdk.heif_file import check_heif
from precomp_sdk.image_io._claims import check_opened, check_structure
from precomp_sdk.image_io._orientation import orientation_of
from precomp_sdk.image_io._samples import low_bytes
from precomp_sdk.jpeg2000_file import jpeg2000_profile
from precomp_sdk.jpeg_file import check_jpeg
from precomp_sdk.jxl_file import decode_jxl, is_jxl, jxl_size
from precomp_sdk.validation import LFS_POINTER
from precomp_sdk.webp_file import check_webp

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "OpenedImage",
    "ReadSettings",
    "check_pixels",
    "is_image_name",
    "opened",
    "reason_not_read",
    "refuse_format",
    "unreadable",
]

MAX_PIXELS = 178_956_970  #: default limit: 512 MiB as RGB, where Pillow refuses as well

#: The formats that are read, by Pillow's names. TGA has no signature and comes last.
FORMATS: tuple[str, ...] = (
    "JPEG", "PNG", "WEBP", "AVIF", "HEIF", "JXL", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "QOI", "PPM", "TGA",
)  # fmt: skip

_EXTRAS = {  # format: (module that brings it, its package, its file endings)
    "HEIF": ("pillow_heif", "pillow-heif", (".heic", ".heif", ".hif")),
    "JXL": ("pillow_jxl", "pillow-jxl-plugin", (".jxl",)),
}
_UNREAD_ENDINGS = (  # of images that nothing here reads, beside those that Pillow knows
    ".arw", ".cr2", ".cr3", ".dng", ".exr", ".hdr", ".jxr", ".nef", ".orf", ".pef", ".psb", ".raf", ".raw", ".rw2",
    ".srw", ".svg", ".xcf",
)  # fmt: skip
_SIGNATURES = (  # what is found in the place of an image
    (
        LFS_POINTER,
        "a git-lfs pointer, not the file it stands for",
        "Run `git lfs pull`.",
    ),
    (b"%!PS", "PostScript (format EPS), which only an outside program can draw", "Convert it to PNG."),
    (b"\xc5\xd0\xd3\xc6", "PostScript (format EPS), which only an outside program can draw", "Convert it to PNG."),
    (b"%PDF", "a PDF file", "Convert its pages to PNG."),
    (b"8BPS", "a Photoshop file", "Convert it to PNG."),
    (b"<svg", "an SVG drawing", "Convert it to PNG."),
    (b"<?xml", "an XML file, such as an SVG drawing", "Convert it to PNG."),
    (b"<!DOCTYPE html", "a web page", "Download the image again."),
    (b"<html", "a web page", "Download the image again."),
)
_JPEG = b"\xff\xd8"
_REPLACE = "Replace the file, or take it out of the set."


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How image files are read.

    Args:
        max_pixels: larger images are refused before they are decoded.
        white_level: the sample that becomes white, in images of more than 8 bits: 4095 for 12 bits in a file of 16, 1.0
            for floating-point samples. By default 65535 for 16 bits; other depths have no default.

    Raises:
        OptionError: a number is out of its range.
    """

    # an experiment file has it as a table
    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "strict": True}

    max_pixels: int = MAX_PIXELS
    white_level: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.max_pixels, bool) or not isinstance(self.max_pixels, int) or self.max_pixels < 1:
            raise OptionError(
                where="max_pixels",
                expected="a whole number of pixels, 1 or more",
                got=repr(self.max_pixels),
                remedy=f"Leave it out for {MAX_PIXELS}.",
            )
        level = self.white_level
        if level is not None and (isinstance(level, bool) or not 0.0 < level < 2.0**31):
            raise OptionError(
                where="white_level",
                expected="the sample that becomes white, above 0",
                got=repr(level),
                remedy="Give 4095 for 12 bits, or leave it out.",
            )


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """A decoded image file.

    Args:
        image: Pillow's image, loaded.
        low: the lower 8 bits of each sample (H, W, C) where the file has 16 and Pillow gives the upper 8 only.
        orientation: of the file, 1 to 8; Pillow may have applied it already.
    """

    image: Image.Image
    low: NDArray[np.uint8] | None = None
    orientation: int = 1


@contextmanager
def opened(source: str | PathLike[str] | bytes, settings: ReadSettings, where: str) -> Iterator[OpenedImage]:
    """Open and decode an image file, or its bytes.

    Raises:
        ImageError: it cannot be read, is no image, is empty, broken or too large.
    """
    data = source if isinstance(source, bytes) else _content(source, where)
    try:
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":  # libwebp takes memory for its canvas as it opens the file
            check_webp(data, where=where, max_pixels=settings.max_pixels)
        check_structure(data, where)
        if is_jxl(data) and "JXL" in _available():  # its reader decodes as it opens a file
            check_pixels(jxl_size(data, where=where), settings, where)
            image, turned = decode_jxl(data, where=where, max_pixels=settings.max_pixels)
            yield OpenedImage(image, None, turned if turned != 1 else orientation_of(image))
            return
        with _identified(data, where) as image:
            check_pixels(image.size, settings, where)
            check_opened(image, data, where)
            if image.format == "AVIF":
                check_avif(data, image.size, where=where)
            if image.format == "HEIF":
                check_heif(data, where=where)
            if data[:2] == _JPEG:
                check_jpeg(data, where=where, max_pixels=settings.max_pixels)
            with _pillow_allows(image.size):
                low = low_bytes(image, lambda: _identified(data, where))
                turned = orientation_of(image) if image.format == "TIFF" else 1  # Pillow will apply it
                image.load()
            if image.format == "JPEG2000" and (profile := jpeg2000_profile(data)):
                image.info["icc_profile"] = profile
            yield OpenedImage(image, low, turned if turned != 1 else orientation_of(image))
    except (ImageError, CodecError):  # the latter where a decoder's process does not start
        raise
    except BitstreamError as error:
        raise unreadable(where, error.expected, error.got) from error
    except Exception as error:  # Pillow's readers raise whatever their parsing runs into
        reason = str(error) or type(error).__name__
        raise unreadable(
            where, "a whole and valid image", f"a corrupt, truncated or unsupported one ({reason})"
        ) from error


def is_image_name(name: str) -> bool:
    """Say whether a file name has the ending of a format that is read here; a hidden file's has not."""
    return not name.startswith(".") and Path(name).suffix.lower() in _endings()


def reason_not_read(name: str) -> str:
    """Return why a file that looks like an image by its name is not read; empty where it is, or is no image.

    Example:
        >>> reason_not_read("photo.psd")
        'no format that is read here'
        >>> reason_not_read("photo.jpg"), reason_not_read("notes.txt")
        ('', '')
    """
    suffix = Path(name).suffix.lower()
    if suffix in _endings():
        return "a hidden file" if name.startswith(".") else ""
    for _, package, suffixes in _EXTRAS.values():
        if suffix in suffixes:
            return f"{package} is not installed"
    kind = Image.registered_extensions().get(suffix)
    unread = suffix in _UNREAD_ENDINGS or (kind in Image.OPEN and kind != "MPEG")
    return "no format that is read here" if unread else ""


def check_pixels(size: tuple[int, int], settings: ReadSettings, where: str) -> None:
    """Refuse an image of more pixels than the settings allow, or of none.

    Raises:
        ImageError: its (width, height) is too large, or has no pixel.
    """
    width, height = size
    if width < 1 or height < 1:
        raise unreadable(where, "an image of at least one pixel", f"{width} x {height}")
    if width * height > settings.max_pixels:
        raise ImageError(
            where=where,
            expected=f"an image of at most {settings.max_pixels} pixels",
            got=f"{width} x {height}",
            remedy="Downscale it, or raise max_pixels.",
        )


def refuse_format(kind: str | None, where: str) -> None:
    """Refuse a Pillow image that was opened from a format that is not read here.

    Raises:
        ImageError: it was; loading it might start an outside program.
    """
    if kind is not None and kind not in (*FORMATS, "MPO"):
        raise unreadable(where, f"an image ({_names()})", f"a file of format {kind}", "Convert it to PNG.")


def unreadable(where: str, expected: str, got: str, remedy: str = _REPLACE) -> ImageError:
    """Return the error of a file that is no image."""
    return ImageError(where=where, expected=expected, got=got, remedy=remedy)


def _content(path: str | PathLike[str], where: str) -> bytes:
    path = Path(path)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a pipe waits for ever, a device has no end
            raise unreadable(where, "a file", "a pipe, a socket or a device", "Read it, and give the bytes.")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        raise unreadable(where, "a file that can be read", reason_of(error), "Check the path.") from error


def _identified(data: bytes, where: str) -> ImageFile.ImageFile:
    """Return the image of a file, its header read.

    `Image.open` would do, but for its limit of pixels: that is a global of the process, and refuses before it can be
    asked for the size.
    """
    if not data:
        raise unreadable(where, "an image", "an empty file (0 bytes)")
    start = data[:16]
    for kind in (kind for kind in _available() if kind != "JXL"):  # which has a process of its own
        factory, accept = Image.OPEN[kind]
        try:
            if accept is not None and accept(start) is not True:
                continue
            with _pillow_allows(None):
                return factory(BytesIO(data), b"")
        except (SyntaxError, IndexError, TypeError, struct.error):  # Pillow's own list of "another format"
            continue
    for signature, got, remedy in _SIGNATURES:
        if data[:512].lstrip().lower().startswith(signature.lower()):
            raise unreadable(where, f"an image ({_names()})", got, remedy)
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"heim", b"heis", b"hevc"):
        module, package, _ = _EXTRAS["HEIF"]
        raise unreadable(where, f"an image ({_names()})", f"HEIC, and no {module}", f"Install {package}.")
    raise unreadable(where, f"an image that is read here ({_names()})", "something else")


@cache
def _available() -> tuple[str, ...]:
    """Return the formats that can be read here; those of packages that are not installed are missing."""
    Image.init()
    for module, _, _ in _EXTRAS.values():
        try:
            found = import_module(module)
        except ImportError:
            continue
        if hasattr(found, "register_heif_opener"):
            found.register_heif_opener()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


@cache
def _endings() -> frozenset[str]:
    kinds = _available()
    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in kinds)


def _names() -> str:
    return ", ".join(_available())


class _Lifted:
    """How many readers work beyond Pillow's limit of pixels, which is a global of the process."""

    lock = Lock()
    readers = 0
    limit: int | None = None


@contextmanager
def _pillow_allows(size: tuple[int, int] | None) -> Iterator[None]:
    """Lift Pillow's own limit where its readers look at it: at a header, and at samples that are beyond it."""
    with _Lifted.lock:
        limit = _Lifted.limit if _Lifted.readers else Image.MAX_IMAGE_PIXELS
        lifts = limit is not None and (size is None or size[0] * size[1] > limit)
        if lifts:
            _Lifted.limit, Image.MAX_IMAGE_PIXELS = limit, None
            _Lifted.readers += 1
    try:
        yield
    finally:
        with _Lifted.lock:
            _Lifted.readers -= lifts
            if lifts and _Lifted.readers == 0:
                Image.MAX_IMAGE_PIXELS = _Lifted.limit
