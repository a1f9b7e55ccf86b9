"""BPG, and the plain HEVC intra stream inside it, as real codecs.

The extra ``precomp-sdk[bpg]`` brings PyAV, whose wheels bundle x265 (GPL). Without it, the plugin still loads, and
`BPGCodec` works with ``backend="bpgenc"`` where the programs ``bpgenc`` and ``bpgdec`` are installed.
"""

from precomp_bpg.codec import BPGCodec
from precomp_bpg.container import BpgFile, parse_bpg, slice_qp
from precomp_bpg.decoder import DecodedImage, decode_bpg
from precomp_bpg.foreign import Alpha
from precomp_bpg.formats import ColourSpace, PixelFormat
from precomp_bpg.hevc_codec import HEVCIntraCodec
from precomp_bpg.proxy import BPGProxy
from precomp_sdk import Codec, ProxyCodec, hookimpl

__all__ = [
    "Alpha",
    "BPGCodec",
    "BPGProxy",
    "BpgFile",
    "ColourSpace",
    "DecodedImage",
    "HEVCIntraCodec",
    "PixelFormat",
    "decode_bpg",
    "parse_bpg",
    "precomp_register_codecs",
    "precomp_register_proxies",
    "slice_qp",
]


@hookimpl
def precomp_register_codecs() -> list[type[Codec]]:
    """Offer BPG and HEVC intra."""
    return [BPGCodec, HEVCIntraCodec]


@hookimpl
def precomp_register_proxies() -> list[type[ProxyCodec]]:
    """Offer BPG's fitted proxy."""
    return [BPGProxy]
