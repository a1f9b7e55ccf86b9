"""The BPG file: its header, its extensions, its compact HEVC headers, and the images inside.

Source:
    The BPG image format specification 0.9.5 by F. Bellard, read for its format only.
"""

from dataclasses import dataclass
from typing import Final

from precomp_bpg._numbers import read_ue7, write_ue7
from precomp_bpg.foreign import ALPHA_FLAGS, BIT_DEPTHS, Alpha
from precomp_bpg.formats import ColourSpace, PixelFormat
from precomp_bpg.hevc import SequenceParameters, parse_pps, parse_slice_header
from precomp_bpg.hevc.bits import BitReader, BitWriter
from precomp_bpg.hevc.nal import (
    IDR_TYPES,
    PPS,
    SEI_TYPES,
    SPS,
    VPS,
    check_sei,
    layer_id,
    nal_type,
    set_layer,
    split_nals,
)
from precomp_bpg.hevc.tools import CodingTools, read_tools, refused, write_tools
from precomp_sdk import BitstreamError

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "BpgFile",
    "CodedImage",
    "check_decodable",
    "check_size",
    "first_image",
    "parse_bpg",
    "slice_qp",
    "write_bpg",
]

MAX_PIXELS: Final = 1 << 26  #: largest image that is coded unless asked for more, 67 megapixels
MAX_SIDE: Final = 1 << 15  #: the widest or tallest
_MAGIC: Final = b"BPG\xfb"
_WHERE: Final = "BPG file"
_ALPHA_LAYER: Final = 1


@dataclass(frozen=True, slots=True)
class CodedImage:
    """One HEVC image: its SPS, and its PPSs and slices in order, in layer 0.

    Args:
        sps: its SPS.
        nals: its PPSs and slices.
        open_end: the last slice ends where the file ends and no length says where it should: it may be cut off.
    """

    sps: SequenceParameters
    nals: tuple[bytes, ...]
    open_end: bool = False


@dataclass(frozen=True, slots=True)
class BpgFile:
    """The first image of a BPG file.

    Args:
        width: in samples, before padding.
        height: in samples, before padding.
        pixel_format: of the colour planes.
        colour_space: of the colour planes.
        limited_range: samples span 16..235 and 16..240 (at 8 bits).
        alpha: what the alpha plane means.
        animation: more images follow the first.
        colour: the colour planes.
        alpha_plane: a gray image, where ``alpha`` is not `Alpha.NONE`.
    """

    width: int
    height: int
    pixel_format: PixelFormat
    colour_space: ColourSpace
    limited_range: bool
    alpha: Alpha
    animation: bool
    colour: CodedImage
    alpha_plane: CodedImage | None = None

    @property
    def bit_depth(self) -> int:
        """Bits per sample."""
        return self.colour.sps.bit_depth


def check_size(
    width: int, height: int, tools: CodingTools, data_bytes: int, where: str, max_pixels: int = MAX_PIXELS
) -> None:
    """Refuse an image that is too large, or larger than its data can fill.

    In an intra image every coding tree block costs one bit or more: at least one bypass bin per prediction block.

    Raises:
        BitstreamError: it is.
    """
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= max_pixels):
        raise refused(where, f"an image of 1 to {max_pixels} pixels, sides of at most {MAX_SIDE}", f"{width}x{height}")
    if tools.blocks(width, height) > 8 * data_bytes:
        raise BitstreamError(
            where=where,
            expected=f"one bit or more for each of {tools.blocks(width, height)} blocks",
            got=f"{data_bytes} bytes of image data",
            remedy="The file is truncated or damaged; fetch it again.",
        )


def parse_bpg(payload: bytes, *, max_pixels: int = MAX_PIXELS) -> BpgFile:
    """Read a BPG file, without decoding its images.

    Args:
        payload: the file.
        max_pixels: largest image.

    Raises:
        BitstreamError: it is rubbish or truncated, claims too large an image, or has what is not decoded here.
    """
    if payload[:4] != _MAGIC:
        raise refused(_WHERE, f"a file that starts with {_MAGIC.hex(' ')}", payload[:4].hex(" ") or "nothing")
    bits = BitReader(payload[4:6], _WHERE)
    pixel_format, alpha1, bit_depth = bits.u(3), bits.u(1), bits.u(4) + 8
    colour_space, extension, alpha2, limited, animation = bits.u(4), bits.u(1), bits.u(1), bits.u(1), bits.u(1)
    if pixel_format not in list(PixelFormat):
        raise refused(_WHERE, "pixel format 0..5", pixel_format)
    if bit_depth not in BIT_DEPTHS:
        raise refused(_WHERE, f"a bit depth out of {BIT_DEPTHS}", bit_depth)
    if colour_space not in list(ColourSpace) or (colour_space and pixel_format == PixelFormat.GRAY):
        raise refused(_WHERE, "colour space 0..4, and 0 for gray", colour_space)
    width, offset = read_ue7(payload, 6, _WHERE)
    height, offset = read_ue7(payload, offset, _WHERE)
    length, offset = read_ue7(payload, offset, _WHERE)
    if extension:
        extension_length, offset = read_ue7(payload, offset, _WHERE)
        offset += extension_length
    end = offset + length if length else len(payload)
    if end > len(payload) or offset >= end:
        raise BitstreamError(
            where=_WHERE,
            expected=f"image data up to byte {max(end, offset + 1)}",
            got=f"{len(payload)} bytes",
            remedy="The file is truncated; fetch it again.",
        )
    alpha = ALPHA_FLAGS[alpha1, alpha2]
    data = payload[offset:end]
    tools, begin = [], 0
    for _ in range(1 if alpha is Alpha.NONE else 2):  # alpha's header stands first
        item, begin = _read_hevc_header(data, begin, bit_depth)
        tools.append(item)
    for item in tools:
        check_size(width, height, item, len(data) - begin, _WHERE, max_pixels)
    colour_format = PixelFormat(pixel_format)
    colour = _picture_parameters(width, height, colour_format.chroma_format, bit_depth, tools[-1])
    nals = split_nals(data[begin:], _WHERE)
    return BpgFile(
        width,
        height,
        colour_format,
        ColourSpace(colour_space),
        bool(limited),
        alpha,
        bool(animation),
        _coded(colour, nals, 0, not length),
        None
        if alpha is Alpha.NONE
        else _coded(
            _picture_parameters(width, height, 0, bit_depth, tools[0]),
            nals,
            _ALPHA_LAYER,
            not length,
        ),
    )


def _read_hevc_header(data: bytes, offset: int, bit_depth: int) -> tuple[CodingTools, int]:
    length, offset = read_ue7(data, offset, "BPG's HEVC header")
    reader = BitReader(data[offset : offset + length], "BPG's HEVC header")
    return read_tools(reader, bit_depth), offset + length


def _picture_parameters(
    width: int, height: int, chroma_format: int, bit_depth: int, tools: CodingTools
) -> SequenceParameters:
    return SequenceParameters(chroma_format, tools.padded(width), tools.padded(height), bit_depth, tools)


def _coded(sps: SequenceParameters, nals: list[bytes], layer: int, no_length: bool) -> CodedImage:
    kept = first_image(nals, layer, _WHERE)
    last = nals[-1]
    return CodedImage(sps, kept, no_length and layer_id(last) == layer and set_layer(last, 0) == kept[-1])


def first_image(nals: list[bytes], layer: int, where: str) -> tuple[bytes, ...]:
    """Pick the PPSs and the slices of a layer's first image, an IDR; return them in layer 0.

    Raises:
        BitstreamError: there is no such image, or other parameter sets lie among them.
    """
    kept: list[bytes] = []
    slices = 0
    for nal in nals:
        if layer_id(nal) != layer:
            continue
        kind = nal_type(nal)
        if kind in (VPS, SPS):
            raise refused(where, "no VPS or SPS among the image data", f"NAL unit type {kind}")
        if kind < VPS:
            first = bool(nal[2] & 0x80)
            if first and slices:
                break  # the next image of an animation
            if kind not in IDR_TYPES or first == bool(slices):
                raise refused(where, "an IDR image that starts with its first slice", f"NAL unit type {kind}")
            slices += 1
        elif kind != PPS:
            if kind in SEI_TYPES:
                check_sei(nal, where)
            continue
        kept.append(set_layer(nal, 0))
    if not slices:
        raise refused(where, f"an image in layer {layer}", "none")
    return tuple(kept)


def check_decodable(image: CodedImage, where: str) -> None:
    """Refuse what FFmpeg is known to decode to other pixels than the standard's.

    Raises:
        BitstreamError: the image combines implicit RDPCM with the transform bypass, as ``bpgenc -e jctvc -lossless``.
    """
    if not image.sps.tools.implicit_rdpcm:
        return
    if any(parse_pps(nal).transquant_bypass for nal in image.nals if nal_type(nal) == PPS):
        raise refused(
            where,
            "an image without implicit RDPCM in lossless blocks, which FFmpeg decodes wrongly",
            "a lossless file of BPG's jctvc encoder",
        )


def slice_qp(image: CodedImage) -> int:
    """The QP in the header of an image's first slice."""
    images = {pps.identifier: pps for pps in (parse_pps(nal) for nal in image.nals if nal_type(nal) == PPS)}
    first = next(nal for nal in image.nals if nal_type(nal) != PPS)
    return parse_slice_header(first, image.sps, images).qp


def write_bpg(width: int, height: int, pixel_format: PixelFormat, image: CodedImage) -> bytes:
    """Return a BPG file of one full-range BT.601 or gray image.

    Args:
        width: in samples, before padding.
        height: in samples, before padding.
        pixel_format: of the planes.
        image: as HEVC.
    """
    tools = BitWriter()
    write_tools(tools, image.sps.tools)
    header = tools.zero_padded()
    nals = b"\x00\x00\x01".join(image.nals)
    data = write_ue7(len(header)) + header + nals
    flags = bytes((pixel_format << 5 | image.sps.bit_depth - 8, ColourSpace.BT601 << 4))
    return b"".join((_MAGIC, flags, write_ue7(width), write_ue7(height), write_ue7(len(data)), data))
