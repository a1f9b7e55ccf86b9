"""JPEG: the real codec through libjpeg-turbo, and its trainable, bit-exact proxy; MozJPEG and jpegli beside it."""

from precomp_sdk import Codec, ProxyCodec, hookimpl

from .codec import JPEGCodec
from .proxy import JPEGProxy
from .stronger import JpegliCodec, MozJPEGCodec

__all__ = [
    "JPEGCodec",
    "JPEGProxy",
    "JpegliCodec",
    "MozJPEGCodec",
    "precomp_register_codecs",
    "precomp_register_proxies",
]


@hookimpl
def precomp_register_codecs() -> list[type[Codec]]:
    """The real codec, and the strongest free encoders of its files."""
    return [JPEGCodec, MozJPEGCodec, JpegliCodec]


@hookimpl
def precomp_register_proxies() -> list[type[ProxyCodec]]:
    """Its proxy."""
    return [JPEGProxy]
