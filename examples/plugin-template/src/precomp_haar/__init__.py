"""A complete plugin for precomp_sdk: one codec, one task. Copy this folder to start your own."""

from precomp_haar.codec import HaarCodec
from precomp_haar.task import TextureNet
from precomp_sdk import Codec, TaskModel, hookimpl

__all__ = ["HaarCodec", "TextureNet", "precomp_register_codecs", "precomp_register_tasks"]


@hookimpl
def precomp_register_codecs() -> list[type[Codec]]:
    """Offer the codec. It brings no proxy: the SDK fits its trainable one."""
    return [HaarCodec]


@hookimpl
def precomp_register_tasks() -> list[type[TaskModel]]:
    """Offer the task."""
    return [TextureNet]
