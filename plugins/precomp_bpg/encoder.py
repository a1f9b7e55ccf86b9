"""RGB images to HEVC intra images through PyAV's libx265, one encoder per image."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from precomp_bpg._av import encode_frame, load_av, versions
from precomp_bpg.colour import Bytes, rgb_to_planes
from precomp_bpg.container import MAX_PIXELS, MAX_SIDE, CodedImage, slice_qp
from precomp_bpg.formats import PixelFormat
from precomp_bpg.hevc import parse_sps
from precomp_bpg.hevc.nal import IDR_TYPES, PPS, SPS, nal_type, split_nals
from precomp_sdk import BitstreamError, CodecError

__all__ = ["CHROMA", "EFFORTS", "PARAMETERS", "EncodedImage", "encode_image"]

CHROMA: Final = {
    "420": PixelFormat.C420,
    "422": PixelFormat.C422,
    "444": PixelFormat.C444,
    "gray": PixelFormat.GRAY,
}  #: the option ``chroma``
EFFORTS: Final = {
    "fast": ("superfast", "sao=1"),
    "default": ("superfast", "sao=1:rdoq-level=2:signhide=1"),
    "best": ("slower", ""),
}  #: the option ``effort``: x265's preset, and what differs from it

# x265 ignores what it does not know in silence: every setting here shows in a field that the tests read back.
PARAMETERS: Final = (
    "log-level=none:info=0:keyint=1:ipratio=1:bframes=0:rc-lookahead=0:scenecut=0:frame-threads=1:pools=none:wpp=0"
    ":repeat-headers=1:psy-rd=0:psy-rdoq=0:aq-mode=0:allow-non-conformance=1"
)
_UNIT: Final = 8  # the smallest coding block
_SMALL: Final = 16  # the smallest coding tree block, and all of an image with a side of at most 8


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image as HEVC.

    Args:
        width: in samples, before padding.
        height: in samples, before padding.
        pixel_format: of the planes.
        image: as HEVC.
    """

    width: int
    height: int
    pixel_format: PixelFormat
    image: CodedImage


def encode_image(
    rgb: Bytes, qp: int, pixel_format: PixelFormat, effort: str, max_pixels: int = MAX_PIXELS
) -> EncodedImage:
    """Encode an image at a slice QP.

    Args:
        rgb: (3, H, W).
        qp: 0..51.
        pixel_format: one of `CHROMA`.
        effort: one of `EFFORTS`.
        max_pixels: largest image.

    Raises:
        CodecError: the image is too large, or x265 did not do what it was told.
        MissingDependencyError: PyAV with libx265 is not installed.
    """
    _, height, width = rgb.shape
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise CodecError(
            where="BPG encoder",
            expected=f"at most {max_pixels} pixels, sides of at most {MAX_SIDE}",
            got=f"{width}x{height}",
            remedy="Raise the option max_pixels, or cut the image into tiles.",
        )
    versions()  # x265's first use must not happen in two threads at once
    unit = _SMALL if min(width, height) <= _UNIT else _UNIT
    padded_width, padded_height = -(-width // unit) * unit, -(-height // unit) * unit
    smaller = min(padded_width, padded_height)
    block = next(size for size in (64, 32, 16) if size <= smaller)
    preset, extras = EFFORTS[effort]
    parameters = [PARAMETERS, f"qp={qp}:ctu={block}", *filter(None, [extras])]
    if unit == _SMALL:
        parameters.append("min-cu-size=16")
    frame = _frame(rgb_to_planes(rgb, pixel_format), padded_width, padded_height, pixel_format)
    stream = encode_frame(frame, preset, ":".join(parameters))
    return _read_back(stream, width, height, pixel_format, qp)


def _frame(planes: list[Bytes], width: int, height: int, pixel_format: PixelFormat) -> Any:
    name = ("gray", "yuv420p", "yuv422p", "yuv444p")[pixel_format]
    frame = load_av().VideoFrame(width, height, name)
    for target, source in zip(frame.planes, planes, strict=True):
        margins = ((0, target.height - source.shape[0]), (0, target.line_size - source.shape[1]))
        target.update(np.pad(source, margins, mode="edge"))
    return frame


def _read_back(stream: bytes, width: int, height: int, pixel_format: PixelFormat, qp: int) -> EncodedImage:
    """Take x265's stream apart and check that it is the image that was asked for."""
    try:
        nals = split_nals(stream.lstrip(b"\x00").removeprefix(b"\x01"), "x265")
        sps = parse_sps(next(nal for nal in nals if nal_type(nal) == SPS))
        image = CodedImage(sps, tuple(nal for nal in nals if nal_type(nal) == PPS or nal_type(nal) in IDR_TYPES))
        got = (sps.chroma_format, sps.width, sps.height, sps.bit_depth, sps.window, slice_qp(image))
    except (BitstreamError, StopIteration) as error:
        raise _unexpected("SPS, PPS and an IDR slice that BPG can carry", repr(error)) from error
    expected = (pixel_format.chroma_format, sps.tools.padded(width), sps.tools.padded(height), 8, (0, 0, 0, 0), qp)
    if got != expected or [nal_type(nal) == PPS for nal in image.nals] != [True, False]:
        raise _unexpected(f"chroma format, size, bit depth, window and QP {expected}", str(got))
    return EncodedImage(width, height, pixel_format, image)


def _unexpected(expected: str, got: str) -> CodecError:
    return CodecError(
        where="BPG encoder",
        expected=f"x265 to write {expected}",
        got=got,
        remedy="This build of x265 behaves differently: report its version (BPGCodec.version).",
    )
