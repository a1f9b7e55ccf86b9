"""What a sender needs before it begins: memory, by the size of the image."""

import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from precomp_sdk.allocator import KEPT_BYTES
from precomp_sdk.errors import ResourceError
from precomp_sdk.modules import device_of, evaluation_mode
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.tiles import TILE_PX

__all__ = ["bytes_per_pixel", "check_memory", "memory_needed"]

_PROBE_PX = (768, 192)  # of the image that the memory of a pixel is measured on: high, as some work by strips of rows
_ALLOCATOR = 1.05  # times what tensors take: what the allocator keeps
_BLOCK = 16  # channels
# of a pixel, whatever the tiles: as Pillow decodes it (4), as samples (3), what the codec gets (3), what its encoder
# keeps of it: 12.2 to 13.9 measured from 24 to 100 megapixels (benchmarks/sender.py, JPEG with optimized tables)
_WHOLE_BYTES = 14
_KEPT_FREE = 0.1  # share of the available memory that is left to everything else


def bytes_per_pixel(preprocessor: Preprocessor) -> float:
    """Return how much memory the preprocessor takes at its peak, in bytes per pixel of a whole image.

    Measured: the largest sum of living tensors while it processes an image of 192 x 768; a convolution counts with a
    copy of what goes in and what comes out, in blocks of 16 channels, as oneDNN lays them out anew.
    """
    height, width = (-(-side // preprocessor.multiple) * preprocessor.multiple for side in _PROBE_PX)
    images = torch.zeros(1, 3, height, width, device=device_of(preprocessor))
    with torch.no_grad(), evaluation_mode(preprocessor), _LivingTensors() as living:
        preprocessor(images, 0.5)
    return float(_ALLOCATOR * living.peak_bytes / (height * width))


def memory_needed(preprocessor: Preprocessor, size: tuple[int, int], *, tile_px: int | None = TILE_PX) -> int:
    """Return the bytes that sending one image takes at most over an idle process.

    Source, network, what the codec gets, what its library makes of it, and what the allocator may keep of memory that
    the network has freed (`precomp_sdk.allocator.keep_freed_memory`): as much again as it took, up to 134 MB.

    Args:
        preprocessor: at the sender.
        size: height and width of the image, in pixels.
        tile_px: side of the tiles, where the preprocessor works in tiles; None: whole.
    """
    pixels = size[0] * size[1]
    at_a_time = pixels
    if preprocessor.tiling is not None and tile_px is not None:
        at_a_time = min(pixels, (tile_px + 2 * preprocessor.tiling.overlap_px) ** 2)
    working = bytes_per_pixel(preprocessor) * at_a_time
    return int(working + min(working, KEPT_BYTES) + _WHOLE_BYTES * pixels)


def check_memory(preprocessor: Preprocessor, size: tuple[int, int], *, tile_px: int | None = TILE_PX) -> None:
    """Refuse an image that the machine has no memory for, before the work.

    Raises:
        ResourceError: less is available than `memory_needed`.
    """
    needed = memory_needed(preprocessor, size, tile_px=tile_px)
    available = int((1.0 - _KEPT_FREE) * psutil.virtual_memory().available)
    if needed <= available:
        return
    megapixels = size[0] * size[1] / 1e6
    fits = megapixels * available / needed
    smaller = f"Downscale it to {fits:.0f} megapixels, or take a machine with more memory."
    remedy = smaller if preprocessor.tiling is not None else f"Take a preprocessor that works in tiles. Or: {smaller}"
    raise ResourceError(
        where=f"preprocessor {preprocessor.name!r}, an image of {size[1]} x {size[0]}",
        expected=f"{needed / 1e9:.1f} GB of free memory, {needed / (1e6 * megapixels):.0f} bytes a pixel",
        got=f"{available / 1e9:.1f} GB",
        remedy=remedy,
    )


def _blocked_bytes(images: Tensor) -> int:
    """Return the size of a batch (N, C, ...) in the layout oneDNN works in: channels in blocks of 16."""
    channels = images.shape[1]
    return images.numel() // channels * (-(-channels // _BLOCK) * _BLOCK) * images.element_size()


class _LivingTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's has no types
    """Counts the bytes of the tensors that live, and their peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.peak_bytes = 0
        self._living = 0
        self._holders: Counter[int] = Counter()  # tensors by the address of their storage

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in tree_leaves(result):
            if isinstance(item, Tensor):
                self._hold(item)
        if func.overloadpacket is torch.ops.aten.convolution:
            self.peak_bytes = max(self.peak_bytes, self._living + _blocked_bytes(args[0]) + _blocked_bytes(result))
        return result

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if not self._holders[address]:
            self._living += size
            self.peak_bytes = max(self.peak_bytes, self._living)
        self._holders[address] += 1
        weakref.finalize(tensor, self._let_go, address, size)

    def _let_go(self, address: int, size: int) -> None:
        self._holders[address] -= 1
        if not self._holders[address]:
            self._living -= size
