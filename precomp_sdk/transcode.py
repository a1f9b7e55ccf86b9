"""Real codecs over batches: in parallel, in order, while the network works."""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from precomp_sdk.closing import Closing
from precomp_sdk.codec import Codec
from precomp_sdk.errors import ContractError
from precomp_sdk.images import to_float, to_uint8
from precomp_sdk.types import Transcoded

__all__ = ["PendingBatch", "Transcoder"]


class PendingBatch:
    """Images on their way through the codec."""

    def __init__(self, futures: Sequence[Future[Transcoded]]) -> None:
        self._futures = futures

    def result(self) -> list[Transcoded]:
        """Wait for all images and return them in order; the first image's error passes."""
        return [future.result() for future in self._futures]

    def tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Wait; return the decoded batch (N, 3, H, W) in [0, 1] and the bits (N,), on the device of ``like``."""
        done = self.result()
        images = to_float(torch.stack([item.image for item in done]))
        bits = torch.tensor([item.bits for item in done], dtype=torch.float32)
        return images.to(like), bits.to(like.device)


class Transcoder(Closing):
    """Runs one codec in a pool of threads. Codec libraries release the GIL, so threads suffice.

    Use it as a context manager, or call ``close``.

    Args:
        codec: the codec.
        workers: number of threads; default: one per core.
    """

    def __init__(self, codec: Codec, *, workers: int | None = None) -> None:
        self.codec = codec
        self.workers = workers or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix=f"precomp-{codec.name}")

    def __reduce__(self) -> tuple[object, ...]:  # threads do not pickle: a copy has its own
        return partial(Transcoder, workers=self.workers), (self.codec,)

    def submit(self, images: Tensor | Sequence[Tensor], qualities: Sequence[float] | Tensor) -> PendingBatch:
        """Start to encode and decode images; return at once.

        Args:
            images: uint8 images (3, H, W) of any sizes, or a float batch (N, 3, H, W) in [0, 1], rounded here.
            qualities: one per image, on the codec's scale.

        Raises:
            ContractError: there is not one quality per image.
        """
        items = list(to_uint8(images).cpu()) if isinstance(images, Tensor) else list(images)
        values = qualities.tolist() if isinstance(qualities, Tensor) else list(qualities)
        if len(items) != len(values):
            raise ContractError(
                where="Transcoder",
                expected=f"one quality for each of {len(items)} images",
                got=str(len(values)),
                remedy="Repeat the quality for every image.",
            )
        return PendingBatch(
            [self._pool.submit(self.codec.transcode, item, value) for item, value in zip(items, values, strict=True)]
        )

    def transcode(self, images: Tensor | Sequence[Tensor], qualities: Sequence[float] | Tensor) -> list[Transcoded]:
        """Encode and decode images and wait for them; see `submit`."""
        return self.submit(images, qualities).result()

    def close(self) -> None:
        """Stop the threads; images not yet started are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
