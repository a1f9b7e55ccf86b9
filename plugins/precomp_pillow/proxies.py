"""Trainable proxies for the codecs of this plugin: the generic proxy, fitted to each at its default options."""

from pathlib import Path
from typing import Final

from precomp_proxy import GenericProxy

__all__ = ["AVIFProxy", "JPEG2000Proxy", "JPEGXLProxy", "WebPProxy"]

_WEIGHTS: Final = Path(__file__).parent / "weights"


class WebPProxy(GenericProxy):
    """WebP, differentiable: `precomp_proxy.GenericProxy`, fitted to the default options; others need fitting."""

    name = "webp-proxy"
    source = "this project's generic proxy, fitted to WebP"
    codec_name = "webp"
    weights_files = (_WEIGHTS / "webp.safetensors",)


class AVIFProxy(GenericProxy):
    """AVIF, differentiable: `precomp_proxy.GenericProxy`, fitted to the default options; others need fitting."""

    name = "avif-proxy"
    source = "this project's generic proxy, fitted to AVIF 4:2:0"
    codec_name = "avif"
    weights_files = (_WEIGHTS / "avif.safetensors",)


class JPEG2000Proxy(GenericProxy):
    """JPEG 2000, differentiable: `precomp_proxy.GenericProxy`, fitted to the default options; others need fitting."""

    name = "jpeg2000-proxy"
    source = "this project's generic proxy, fitted to JPEG 2000"
    codec_name = "jpeg2000"
    weights_files = (_WEIGHTS / "jpeg2000.safetensors",)


class JPEGXLProxy(GenericProxy):
    """JPEG XL, differentiable: `precomp_proxy.GenericProxy`, fitted to the default options; others need fitting."""

    name = "jpeg-xl-proxy"
    source = "this project's generic proxy, fitted to JPEG XL"
    codec_name = "jpeg-xl"
    weights_files = (_WEIGHTS / "jpeg-xl.safetensors",)
