"""Real codecs over batches: in parallel, in order, while the network works."""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from precomp_sdk.closing import Closing
from precomp_sdk.codec import Codec
from precomp_sdk.errors import ContractError
from precomp_sdk.images import to_float, to_uint8
from precomp_sdk.modules import to_device
from precomp_sdk.types import Transcoded

__all__ = ["PendingBatch", "Transcoder"]

_REMEMBERED_BYTES = 2**26  # of payloads


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
        return to_device(images, like.device).to(like.dtype), to_device(bits, like.device)


class Transcoder(Closing):
    """Runs one codec in a pool of threads. Codec libraries release the GIL, so threads suffice.

    Use it as a context manager, or call ``close``.

    Args:
        codec: the codec.
        workers: number of threads; default: one per core.
        remember: keep every size and the recent payloads: what comes again at a quality is not encoded again.
    """

    def __init__(self, codec: Codec, *, workers: int | None = None, remember: bool = False) -> None:
        self.codec = codec
        self.workers: int = workers or os.cpu_count() or 1
        self._memory = _Memory() if remember else None
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix=f"precomp-{codec.name}")

    def __reduce__(self) -> tuple[object, ...]:  # threads do not pickle: a copy has its own
        return partial(Transcoder, workers=self.workers, remember=self._memory is not None), (self.codec,)

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
            [self._pool.submit(self._transcode, item, value) for item, value in zip(items, values, strict=True)]
        )

    def transcode(self, images: Tensor | Sequence[Tensor], qualities: Sequence[float] | Tensor) -> list[Transcoded]:
        """Encode and decode images and wait for them; see `submit`."""
        return self.submit(images, qualities).result()

    def sizes(self, images: Sequence[Tensor], qualities: Sequence[float]) -> list[int]:
        """Encode 8-bit images, and decode none; return the bits of each payload."""
        return list(self._pool.map(self._bits, images, qualities))

    def close(self) -> None:
        """Stop the threads; images not yet started are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _transcode(self, image: Tensor, quality: float) -> Transcoded:
        if self._memory is None:
            return self.codec.transcode(image, quality)
        key = self._memory.key(image, quality)
        payload = self._memory.payload(key)
        if payload is None:
            payload = self.codec.encode(image, quality)
            self._memory.keep(key, payload)
        return self.codec.transcode(image, quality, payload)

    def _bits(self, image: Tensor, quality: float) -> int:
        if self._memory is None:
            return 8 * len(self.codec.encode(image, quality))
        key = self._memory.key(image, quality)
        bits = self._memory.bits.get(key)
        if bits is None:
            payload = self.codec.encode(image, quality)
            self._memory.keep(key, payload)
            bits = 8 * len(payload)
        return bits


class _Memory:
    """Sizes of payloads by image and quality, and the payloads that were used last. Threads may share it."""

    def __init__(self) -> None:
        self.bits: dict[bytes, int] = {}
        self._payloads: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def key(self, image: Tensor, quality: float) -> bytes:
        """Return what stands for an image at a quality."""
        digest = hashlib.blake2b(repr((tuple(image.shape), float(quality))).encode(), digest_size=16)
        digest.update(image.contiguous().numpy().data)
        return digest.digest()

    def payload(self, key: bytes) -> bytes | None:
        """Return a payload that is still there."""
        with self._lock:
            if key in self._payloads:
                self._payloads.move_to_end(key)
            return self._payloads.get(key)

    def keep(self, key: bytes, payload: bytes) -> None:
        """Keep a payload, and of older ones as many as there is room for."""
        with self._lock:
            self.bits[key] = 8 * len(payload)
            if key not in self._payloads:
                self._payloads[key] = payload
                self._bytes += len(payload)
            while self._bytes > _REMEMBERED_BYTES and len(self._payloads) > 1:
                _, dropped = self._payloads.popitem(last=False)
                self._bytes -= len(dropped)
