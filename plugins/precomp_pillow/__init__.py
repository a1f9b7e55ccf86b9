"""WebP, AVIF and JPEG 2000 through Pillow; JPEG XL and HEIC through small packages beside it.

JPEG XL needs ``pillow-jxl-plugin`` or ``imagecodecs``, HEIC needs ``pillow-heif`` (whose wheels bundle x265, GPL).
Without them both are still listed, and say at construction what to install.
"""

from precomp_pillow.formats import AVIFCodec, JPEG2000Codec, WebPCodec
from precomp_pillow.heic import HEICCodec
from precomp_pillow.jxl import JPEGXLCodec
from precomp_pillow.proxies import AVIFProxy, JPEG2000Proxy, JPEGXLProxy, WebPProxy
from precomp_sdk import Codec, ProxyCodec, hookimpl

__all__ = [
    "AVIFCodec",
    "AVIFProxy",
    "HEICCodec",
    "JPEG2000Codec",
    "JPEG2000Proxy",
    "JPEGXLCodec",
    "JPEGXLProxy",
    "WebPCodec",
    "WebPProxy",
    "precomp_register_codecs",
    "precomp_register_proxies",
]


@hookimpl
def precomp_register_codecs() -> list[type[Codec]]:
    """Offer WebP, AVIF, JPEG 2000, JPEG XL and HEIC."""
    return [WebPCodec, AVIFCodec, JPEG2000Codec, JPEGXLCodec, HEICCodec]


@hookimpl
def precomp_register_proxies() -> list[type[ProxyCodec]]:
    """Offer the fitted proxies of WebP, AVIF, JPEG 2000 and JPEG XL."""
    return [WebPProxy, AVIFProxy, JPEG2000Proxy, JPEGXLProxy]
