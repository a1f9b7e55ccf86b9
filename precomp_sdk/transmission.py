"""Images between sender and receiver: in the codec's threads, with the proxy's gradient where one is given."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, overload

import torch
from torch import Tensor

from precomp_sdk.errors import ContractError
from precomp_sdk.images import round_to_8_bit, to_float, to_uint8
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.transcode import PendingBatch, Transcoder
from precomp_sdk.types import ProxyOutput

__all__ = [
    "CodedBatch",
    "Transmission",
    "Transmitted",
    "straight_through_bits",
    "straight_through_images",
]

Item = TypeVar("Item")


class Receive(Protocol):
    """What `Channel.receive` is."""

    @overload
    def __call__(self, decoded: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor: ...
    @overload
    def __call__(self, decoded: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]: ...


@dataclass(frozen=True, slots=True)
class Transmitted:
    """What the receiver has.

    Shapes and units:
        images: N images (3, H, W) at their sources' sizes, what the judge gets: 8 bits; where the channel has a proxy,
            float in [0, 1] of the same values, with gradient.
        bits: (N,) size of each payload: int64; where the channel has a proxy, float32 with gradient.
    """

    images: list[Tensor]
    bits: Tensor


class CodedBatch:
    """Images of one source size that are coded at one size.

    Args:
        places: in the call that sent them.
        qualities: one per image.
        size: height and width of their sources.
        images: (N', 3, H', W') as they are coded: 8 bits, or float in [0, 1], not rounded yet.
        transcoder: the codec and its threads.
    """

    def __init__(
        self,
        places: list[int],
        qualities: list[float],
        size: tuple[int, int],
        images: Tensor,
        transcoder: Transcoder,
    ) -> None:
        self.places = places
        self.qualities = qualities
        self.size = size
        self._images = images
        self._transcoder = transcoder
        self._pending: PendingBatch | None = None

    def to_encoder(self) -> Tensor:
        """Return what the encoder gets: (N', 3, H', W') uint8, on the CPU."""
        return (self._images if self._images.dtype == torch.uint8 else to_uint8(self._images)).cpu()

    def to_proxy(self) -> Tensor:
        """Return the same as float in [0, 1], with gradient straight through the rounding."""
        return to_float(self._images) if self._images.dtype == torch.uint8 else round_to_8_bit(self._images)

    def start(self) -> PendingBatch:
        """Let the codec begin, once; a second call returns what is under way."""
        if self._pending is None:
            self._pending = self._transcoder.submit(list(self.to_encoder()), self.qualities)
        return self._pending

    def decoded(self) -> tuple[Tensor, Tensor]:
        """Wait; return the real codec's images, (N', 3, H', W') float in [0, 1], and their bits, (N',) float32."""
        like = self._images.detach()
        return self.start().tensors(like.to(torch.float32) if like.dtype == torch.uint8 else like)


class Transmission:
    """Images on their way: `Channel.submit` and `Channel.start` return it.

    Args:
        coded: the images, by source size and coded size.
        receive: the receiver's side, `Channel.receive`.
        proxy: gives the gradient, or None.
        forward: ``"codec"`` or ``"proxy"``: where values come from.
    """

    def __init__(
        self,
        coded: Sequence[CodedBatch],
        receive: Receive,
        proxy: ProxyCodec | None,
        forward: Literal["codec", "proxy"],
    ) -> None:
        self.coded: tuple[CodedBatch, ...] = tuple(coded)  #: the images as they are coded, to fit a proxy to
        self._receive = receive
        self._proxy = proxy
        self._forward = forward

    def result(self) -> Transmitted:
        """Wait; return what the receiver has. The first image's error passes.

        Raises:
            CodecError: the codec's library failed.
        """
        if self._proxy is not None:
            images, bits = zip(*(self._differentiable(batch) for batch in self.coded), strict=True)
            return Transmitted(in_order(self.coded, images), torch.stack(in_order(self.coded, bits)))
        done = in_order(self.coded, [batch.start().result() for batch in self.coded])
        sizes = in_order(self.coded, [[batch.size] * len(batch.places) for batch in self.coded])
        return Transmitted(
            self._receive([item.image for item in done], sizes), torch.tensor([item.bits for item in done])
        )

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Wait; return what the receiver has of images of one source size, as a batch for networks.

        Returns:
            What the judge gets, (N, 3, H, W) float in [0, 1], and (N,) float32 bits, on the images' device; with
            gradient where the channel has a proxy.

        Raises:
            ContractError: the sources have several sizes.
            CodecError: the codec's library failed.
        """
        images, bits = zip(*(self._differentiable(batch) for batch in self.coded), strict=True)
        return self._joined(images), self._joined(bits)

    def uncoded(self) -> Tensor:
        """Return what the judge would get of images of one source size if the codec lost nothing, as a float batch."""
        return self._joined([self._restored(batch, batch.to_proxy()) for batch in self.coded])

    def _differentiable(self, batch: CodedBatch) -> tuple[Tensor, Tensor]:
        """Return what the judge gets of a batch and its bits: the codec's values, the proxy's gradient."""
        proxy, sent = self._proxy, batch.to_proxy()
        predicted: ProxyOutput | None = None
        if proxy is not None and (self._forward == "proxy" or _needs_gradient(sent, proxy)):
            predicted = proxy(sent, batch.qualities)  # while the codec's threads work
            if self._forward == "proxy":
                return self._restored(batch, predicted.images), predicted.bits
        images, bits = batch.decoded()
        if predicted is not None:
            images = straight_through_images(images, predicted.images)
            bits = straight_through_bits(bits, predicted.bits)
        return self._restored(batch, images), bits

    def _restored(self, batch: CodedBatch, images: Tensor) -> Tensor:
        return self._receive(images, [batch.size] * len(batch.places))

    def _joined(self, rows: Sequence[Tensor]) -> Tensor:
        """Return the rows of all batches as one, in the order in which the images came."""
        sizes = {batch.size for batch in self.coded}
        if len(sizes) != 1:
            raise ContractError(
                where="Transmission",
                expected="images of one size, to make a batch of",
                got=f"sizes {sorted(sizes)}",
                remedy="Take result(), or send the images size by size.",
            )
        if len(rows) == 1:
            return rows[0]
        places = torch.tensor([place for batch in self.coded for place in batch.places], device=rows[0].device)
        return torch.cat(list(rows))[places.argsort()]


def straight_through_images(real: Tensor, predicted: Tensor) -> Tensor:
    """Return the real codec's images with the proxy's gradient.

    Shapes and units:
        both (N, 3, H, W) in [0, 1].

    Source: straight-through estimation as in arXiv 2206.05650's released code.
    """
    return real + (predicted - predicted.detach())


def straight_through_bits(real_bits: Tensor, predicted_bits: Tensor) -> Tensor:
    """Return the real codec's bits with the proxy's relative gradient, d log(bits).

    Shapes and units:
        both (N,) bits.
    """
    predicted = predicted_bits.detach()
    return real_bits + real_bits / predicted.clamp_min(1.0) * (predicted_bits - predicted)


def in_order(coded: Sequence[CodedBatch], rows: Sequence[Iterable[Item]]) -> list[Item]:
    """Return what belongs to the images of several batches in the order in which the images came."""
    pairs = zip(coded, rows, strict=True)
    found = {place: row for batch, items in pairs for place, row in zip(batch.places, items, strict=True)}
    return [found[place] for place in range(len(found))]


def _needs_gradient(sent: Tensor, proxy: ProxyCodec) -> bool:
    learns = sent.requires_grad or any(parameter.requires_grad for parameter in proxy.parameters())
    return torch.is_grad_enabled() and learns
