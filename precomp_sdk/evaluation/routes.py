"""The ways to send an image: what happens to it before the encoder and after the decoder."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from precomp_sdk.errors import OptionError
from precomp_sdk.images import downscale, to_float, to_uint8, upscale
from precomp_sdk.preprocessor import Preprocessor

__all__ = ["DownscaledRoute", "PreprocessedRoute", "Route"]


class Route:
    """Sends images as they are; subclasses change them on the sender's or on the receiver's side.

    Shapes and units:
        images: each (3, H, W) uint8, of any sizes.
        strength: 0 (mildest compression) .. 1 (strongest).

    Args:
        label: names the route in plots and tables.
        settings: what was chosen for it, by name.
    """

    def __init__(self, label: str = "anchor", settings: Mapping[str, float] | None = None) -> None:
        self.label = label
        self.settings = dict(settings or {})

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        """The networks of the route, to be put into evaluation mode."""
        return ()

    def send(self, images: Sequence[Tensor], strength: float) -> list[Tensor]:
        """Return what the encoder gets."""
        return list(images)

    def receive(self, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Return what the task network gets from the decoder's images; ``sizes`` are the sources' (H, W)."""
        return list(images)


class PreprocessedRoute(Route):
    """Runs a preprocessor before the encoder, at the resolution it asks for, and rounds its result to 8 bits.

    Args:
        preprocessor: the preprocessor, on its device.
        label: names the route; default: the preprocessor's name.
        settings: what was chosen for it.
    """

    def __init__(
        self, preprocessor: Preprocessor, label: str | None = None, settings: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(label or preprocessor.name, settings)
        self._preprocessor = preprocessor

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        """The preprocessor."""
        return (self._preprocessor,)

    def send(self, images: Sequence[Tensor], strength: float) -> list[Tensor]:
        """Return the preprocessed images, downscaled where the preprocessor codes at a lower resolution."""
        anchor = next(self._preprocessor.parameters(), None)
        device = torch.device("cpu") if anchor is None else anchor.device
        factor = self._preprocessor.resolution(strength)
        return _by_size(images, lambda batch: downscale(self._preprocessor(batch.to(device), strength), factor))

    def receive(self, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Return the images at their sources' sizes."""
        return _upscaled(images, sizes)


class DownscaledRoute(Route):
    """Codes a smaller image and upscales it again at the receiver; the codec has fewer pixels to spend bits on.

    Both ways bicubic, antialiased on the way down.

    Args:
        factor: of height and width, in (0, 1).

    Raises:
        OptionError: the factor is not in (0, 1).
    """

    def __init__(self, factor: float) -> None:
        if not 0 < factor < 1:
            raise OptionError(
                where="DownscaledRoute", expected="a factor between 0 and 1", got=repr(factor), remedy="Take 0.75, say."
            )
        super().__init__("downscale", {"factor": factor})
        self._factor = factor

    def send(self, images: Sequence[Tensor], strength: float) -> list[Tensor]:
        """Return the smaller images, 1x1 at least."""
        return _by_size(images, lambda batch: downscale(batch, self._factor))

    def receive(self, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Return the images at their sources' sizes."""
        return _upscaled(images, sizes)


def _upscaled(images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Return uint8 images at the sizes (H, W) they were downscaled from."""
    return [
        image if tuple(image.shape[1:]) == tuple(size) else to_uint8(upscale(to_float(image[None]), size))[0]
        for image, size in zip(images, sizes, strict=True)
    ]


def _by_size(images: Sequence[Tensor], function: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Apply a function of float batches to images of any sizes; return its results as uint8 images, in order."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(tuple(image.shape), []).append(index)
    results: dict[int, Tensor] = {}
    for indices in groups.values():
        batch = to_uint8(function(to_float(torch.stack([images[index] for index in indices])))).cpu()
        results.update(zip(indices, batch, strict=True))
    return [results[index] for index in range(len(images))]
