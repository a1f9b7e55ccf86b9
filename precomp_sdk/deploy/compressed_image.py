"""What a sender returns of one image."""

from dataclasses import dataclass

__all__ = ["CompressedImage"]


@dataclass(frozen=True, slots=True)
class CompressedImage:
    """A payload and how it came about.

    Args:
        payload: an ordinary file of the codec.
        quality: on the codec's scale.
        encodes: how often the image was encoded.
        reason: why this quality; empty where it was given.
        resolution: factor of height and width at which the image was coded.
    """

    payload: bytes
    quality: float
    encodes: int
    reason: str = ""
    resolution: float = 1.0
