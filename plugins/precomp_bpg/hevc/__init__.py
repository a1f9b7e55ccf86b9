"""HEVC, as far as one intra image needs it: bits, NAL units, parameter sets, slice headers.

FFmpeg decodes and x265 encodes; what stands here reads and writes the few fields that BPG leaves out of its files,
which no library offers. Names are those of ITU-T H.265.
"""

from precomp_bpg.hevc.parameter_sets import (
    PictureParameters,
    SequenceParameters,
    build_sps,
    build_vps,
    parse_pps,
    parse_sps,
)
from precomp_bpg.hevc.slices import SliceHeader, parse_slice_header
from precomp_bpg.hevc.tools import CodingTools, PcmTools

__all__ = [
    "CodingTools",
    "PcmTools",
    "PictureParameters",
    "SequenceParameters",
    "SliceHeader",
    "build_sps",
    "build_vps",
    "parse_pps",
    "parse_slice_header",
    "parse_sps",
]
