"""One candidate: encoded, decoded, and shown to a panel."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from precomp_sdk.channel import Channel
from precomp_sdk.chooser.answers import CleanAnswer
from precomp_sdk.codec import Codec
from precomp_sdk.images import coded_size, downscale, to_float, to_uint8
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.task import TaskModel
from precomp_sdk.transcode import Transcoder

__all__ = ["Trials", "Tried"]


@dataclass(frozen=True, slots=True)
class Tried:
    """One candidate, encoded and judged.

    Args:
        payload: of the codec.
        bpp: bits over the source's pixels.
        losses: by member, in the member's own measure.
    """

    payload: bytes
    bpp: float
    losses: Mapping[str, float]


class Trials:
    """Tries ways to code an image on a panel of networks.

    Args:
        codec: the real codec.
        panel: members by name.
        panel_px: the longer side that members are shown at most; None: images as they are.
    """

    def __init__(self, codec: Codec, panel: Mapping[str, TaskModel], panel_px: int | None = None) -> None:
        self.codec: Codec = codec
        self.panel: dict[str, TaskModel] = dict(panel)
        self.panel_px: int | None = panel_px
        self._transcoder = Transcoder(codec, workers=1)

    @torch.no_grad()
    def clean(self, image: Tensor) -> dict[str, CleanAnswer]:
        """Return what each member answers on the clean image, (3, H, W) uint8."""
        batch = self._shown(image, (int(image.shape[1]), int(image.shape[2])))
        return {name: CleanAnswer.of(task, batch) for name, task in self.panel.items()}

    @torch.no_grad()
    def attempt(
        self,
        image: Tensor,
        answers: Mapping[str, CleanAnswer],
        quality: float,
        factor: float,
        preprocessor: Preprocessor | None,
    ) -> Tried:
        """Encode, decode and judge one candidate."""
        payload, received = self.send(image, quality, factor, preprocessor)
        losses = {name: answers[name].loss(task, received) for name, task in self.panel.items()}
        return Tried(payload, 8 * len(payload) / (image.shape[1] * image.shape[2]), losses)

    @torch.no_grad()
    def send(
        self, image: Tensor, quality: float, factor: float, preprocessor: Preprocessor | None
    ) -> tuple[bytes, Tensor]:
        """Return the payload of one candidate, and what a member is shown of it, (1, 3, H', W') in [0, 1]."""
        size = (int(image.shape[1]), int(image.shape[2]))
        channel = Channel(self._transcoder, preprocessor)
        sent, whole = channel.preprocess([image], [quality])[0], factor * channel.resolution(quality)
        if sent.dtype != torch.uint8 or coded_size(size, whole) != size:
            floats = to_float(sent) if sent.dtype == torch.uint8 else sent.float()
            sent = to_uint8(downscale(floats[None], whole))[0].cpu()
        payload = self.codec.encode(sent, quality)
        return payload, self._shown(self.codec.decode(payload), size)

    def _shown(self, received: Tensor, size: tuple[int, int]) -> Tensor:
        """Return what members get of an 8-bit image whose source has a size: restored to it, and reduced."""
        target = size
        if self.panel_px is not None and max(size) > self.panel_px:
            target = coded_size(size, self.panel_px / max(size))
        if received.shape[1] < target[0] or received.shape[2] < target[1] or target == size:
            received = Channel(self._transcoder).receive([received], [size])[0]
        batch = received[None]
        if tuple(batch.shape[2:]) != target:  # without the way through the source's size: the result is the same
            batch = functional.interpolate(batch, target, mode="bilinear", antialias=True, align_corners=False)
        return to_float(batch)
