"""A trainable proxy for any codec: a codec without a proxy of its own is never a dead end."""

from precomp_proxy.generic import GenericProxy
from precomp_sdk import ProxyCodec, hookimpl

__all__ = ["GenericProxy", "precomp_register_proxies"]


@hookimpl
def precomp_register_proxies() -> list[type[ProxyCodec]]:
    """Offer the generic proxy."""
    return [GenericProxy]
