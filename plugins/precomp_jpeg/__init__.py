"""JPEG: the real codec through libjpeg-turbo, and its trainable, bit-exact proxy."""

from precomp_sdk import Codec, ProxyCodec, hookimpl

from .codec import JPEGCodec
from .proxy import JPEGProxy

__all__ = ["JPEGCodec", "JPEGProxy", "precomp_register_codecs", "precomp_register_proxies"]


@hookimpl
def precomp_register_codecs() -> list[type[Codec]]:
    """The real codec."""
    return [JPEGCodec]


@hookimpl
def precomp_register_proxies() -> list[type[ProxyCodec]]:
    """Its proxy."""
    return [JPEGProxy]
