"""What a chooser found for one image."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ChosenQuality"]


@dataclass(frozen=True, slots=True)
class ChosenQuality:
    """What was chosen for one image, and why.

    Args:
        quality: on the codec's scale.
        resolution: factor of height and width at which the image was coded.
        payload: the image at that quality, encoded.
        bits: ``8 * len(payload)``.
        bpp: bits over the source's pixels.
        loss: what the panel loses on it, each member in its own unit, as it was weighed: after the panel's word was
            shared with the average image's curve.
        losses: by member, in the member's own measure, what it loses.
        price: bits per pixel for a unit of loss.
        objective: ``bpp + price * loss``.
        encodes: how many times the image was encoded.
    """

    quality: float
    resolution: float
    payload: bytes = field(repr=False)
    bits: int
    bpp: float
    loss: float
    losses: Mapping[str, float]
    price: float
    objective: float
    encodes: int
