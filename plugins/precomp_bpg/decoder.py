"""BPG images through FFmpeg's HEVC decoder."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from precomp_bpg._av import load_av
from precomp_bpg.colour import Bytes, Samples, planes_to_rgb
from precomp_bpg.container import MAX_PIXELS, BpgFile, CodedImage, check_decodable, parse_bpg
from precomp_bpg.foreign import apply_alpha
from precomp_bpg.formats import ColourSpace, PixelFormat
from precomp_bpg.hevc import SequenceParameters, build_sps, build_vps
from precomp_bpg.hevc.nal import byte_stream
from precomp_sdk import BitstreamError

__all__ = ["DecodedImage", "decode_bpg", "decode_planes"]

_WHERE: Final = "BPG decoder"
_BLOCK: Final = 4  # samples at the end of each plane: no more than the smallest coding block, in chroma
_ONES: Final = b"\xff" * 32
_FORMATS: Final = ("gray", "yuv420p", "yuv422p", "yuv444p")


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A decoded BPG image.

    Shapes and units:
        rgb: (3, H, W) uint8, sRGB; not premultiplied.
        alpha: (H, W) uint8, 255 is opaque; None where the file has none.
    """

    rgb: Bytes
    alpha: Bytes | None = None


def decode_bpg(payload: bytes, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decode a BPG file, or the first image of an animation, to 8 bits.

    Args:
        payload: the file.
        max_pixels: largest image.

    Raises:
        BitstreamError: the file is rubbish or truncated, or has what is not decoded here.
        MissingDependencyError: PyAV is not installed.
    """
    return decode_parsed(parse_bpg(payload, max_pixels=max_pixels))


def decode_parsed(file: BpgFile) -> DecodedImage:
    """Decode a BPG file that `parse_bpg` has read."""
    rgb = planes_to_rgb(
        decode_planes(file.colour, file.width, file.height, zeros=file.colour_space is ColourSpace.RGB),
        file.pixel_format,
        file.colour_space,
        file.bit_depth,
        file.limited_range,
    )
    if file.alpha_plane is None:
        return DecodedImage(rgb)
    coded = decode_planes(file.alpha_plane, file.width, file.height)
    fourth = planes_to_rgb(coded, PixelFormat.GRAY, ColourSpace.BT601, file.bit_depth, limited_range=False)[0]
    return DecodedImage(*apply_alpha(rgb, fourth, file.alpha))


def decode_planes(image: CodedImage, width: int, height: int, *, zeros: bool = False) -> list[Samples]:
    """Decode one HEVC image and crop it.

    Args:
        image: as HEVC.
        width: in samples.
        height: in samples.
        zeros: all planes may be 0 in one place, as black is in RGB. In luma and chroma that lies far outside the RGB
            cube, beyond any encoder's error, and is what FFmpeg leaves where nothing was coded.

    Returns:
        Luma (H, W), and unless gray two chroma planes, (ceil(H / 2), ceil(W / 2)) where the format halves them.

    Raises:
        BitstreamError: FFmpeg cannot decode it, or its last block was never coded.
    """
    check_decodable(image, _WHERE)
    sps = image.sps
    planes = _decode(sps, image.nals)
    if image.open_end:
        # Any continuation of a cut-off arithmetic code decodes to something between that of zeros, which FFmpeg reads
        # behind the end, and that of ones. Where both are the same image, padding included, nothing is missing.
        others = _decode(sps, (*image.nals[:-1], image.nals[-1] + _ONES))
        if not all(np.array_equal(plane, other) for plane, other in zip(planes, others, strict=True)):
            raise _damaged("a slice that ends before the file does", "one that depends on what would follow")
    if not zeros and len(planes) == 3 and not any(plane[-_BLOCK:, -_BLOCK:].any() for plane in planes):
        raise _damaged("a slice that covers the image", "one that ends before the last block")
    rows = -(-height // 2) if sps.chroma_format == 1 else height
    columns = -(-width // 2) if sps.chroma_format in (1, 2) else width
    return [planes[0][:height, :width], *(plane[:rows, :columns] for plane in planes[1:])]


def _decode(sps: SequenceParameters, nals: tuple[bytes, ...]) -> list[Samples]:
    """Return the planes of FFmpeg's one frame, of the size and format that the SPS says."""
    av = load_av()
    context = av.CodecContext.create("hevc", "r")
    context.thread_count = 1  # threads only cost time on a single image
    context.options = {"err_detect": "explode"}
    try:
        packet = av.Packet(byte_stream((build_vps(sps), build_sps(sps), *nals)))
        frames = [*context.decode(packet), *context.decode(None)]
    except av.error.FFmpegError as error:
        raise _damaged("an HEVC image", f"FFmpeg: {error}") from error
    name = _FORMATS[sps.chroma_format] + ("" if sps.bit_depth == 8 else f"{sps.bit_depth}le")
    got = [(frame.width, frame.height, frame.format.name) for frame in frames]
    if got != [(sps.width, sps.height, name)]:
        raise _damaged(f"one image of {sps.width}x{sps.height} {name}", str(got or "none"))
    kind = np.dtype(np.uint8 if sps.bit_depth == 8 else np.uint16)
    return [np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width] for plane in frames[0].planes]


def _damaged(expected: str, got: str) -> BitstreamError:
    return BitstreamError(
        where=_WHERE, expected=expected, got=got, remedy="The file is truncated or damaged; fetch it again."
    )
