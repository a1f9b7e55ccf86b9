"""What refinement did to each image, and what it cost."""

from dataclasses import dataclass, fields

from torch import Tensor

__all__ = ["Refined", "Refinement", "RefinementCost", "Terms"]


@dataclass(frozen=True, slots=True)
class Terms:
    """One image through the real codec, as the refiner measures it.

    Args:
        bits: of the payload.
        bpp: bits per pixel.
        task_loss: weighted mean over the task networks.
        feature_distance: likewise; 0 where features are not matched.
        objective: in bits per pixel: ``bpp`` plus what the losses are priced at.
    """

    bits: int
    bpp: float
    task_loss: float
    feature_distance: float
    objective: float


@dataclass(frozen=True, slots=True)
class RefinementCost:
    """What refinement took, summed over images and task networks.

    Args:
        images: how many were refined.
        task_forward: passes of one image forward through one task network, those on the clean image included.
        task_backward: passes back.
        proxy_forward: passes forward through the proxy.
        proxy_backward: passes back.
        encodes: real encodes, each with its decode.
        milliseconds: wall time.
    """

    images: int = 0
    task_forward: int = 0
    task_backward: int = 0
    proxy_forward: int = 0
    proxy_backward: int = 0
    encodes: int = 0
    milliseconds: float = 0.0

    def __add__(self, other: "RefinementCost") -> "RefinementCost":
        return RefinementCost(
            **{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        )

    @property
    def milliseconds_per_image(self) -> float:
        """Wall time per image; images of one batch share it."""
        return self.milliseconds / max(self.images, 1)

    @property
    def statement(self) -> str:
        """The cost per image in one sentence."""
        count = max(self.images, 1)
        return (
            f"{self.images} images, each {self.task_forward / count:.1f} forward and "
            f"{self.task_backward / count:.1f} backward passes of a task network, {self.proxy_forward / count:.1f} and "
            f"{self.proxy_backward / count:.1f} of the proxy, {self.encodes / count:.1f} real encodes, "
            f"{self.milliseconds_per_image:.0f} ms"
        )


@dataclass(frozen=True, slots=True)
class Refined:
    """One refined image.

    Args:
        image: (3, H, W) uint8; the encoder gets it downscaled to `Refiner.resolution`, where that is below 1.
        quality: it was refined for.
        anchor: the untouched image through the codec.
        refined: ``image`` through the codec; its objective is never above ``anchor``'s.
        steps: gradient steps that were taken.
        best_step: after which of them ``image`` was found; 0 is the starting point, None the untouched image.
        stopped: why it ended: ``"steps"`` (all were taken), ``"patience"``, ``"budget"``, ``"nothing found"`` (the task
            networks see nothing in the clean image) or ``"non-finite gradient"``.
    """

    image: Tensor
    quality: float
    anchor: Terms
    refined: Terms
    steps: int
    best_step: int | None
    stopped: str


@dataclass(frozen=True, slots=True)
class Refinement:
    """Refined images, in order, and what they cost together."""

    images: tuple[Refined, ...]
    cost: RefinementCost
