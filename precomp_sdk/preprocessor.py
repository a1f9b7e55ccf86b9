"""The contract of a preprocessor."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from precomp_sdk.data import TaskDataset
from precomp_sdk.described import Described
from precomp_sdk.errors import ContractError
from precomp_sdk.images import check_batch, pad_to_multiple

__all__ = ["Identity", "Preprocessor", "Tiling", "Window"]


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a preprocessor works in tiles.

    Args:
        overlap_px: a sample of the result depends on samples at most this far away, and on what `Preprocessor.look`
            returns of the whole image.
        reduced_px: side of the square to which the whole image is reduced for `Preprocessor.look`.
    """

    overlap_px: int
    reduced_px: int


@dataclass(frozen=True, slots=True)
class Window:
    """Where a tile lies in its image, in pixels of the image padded to the preprocessor's multiple.

    Args:
        top: first row; a multiple of the preprocessor's.
        left: first column; likewise.
        height: rows.
        width: columns.
        size: height and width of the whole padded image.
    """

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]

    @classmethod
    def around(cls, top: int, left: int, side: int, margin: int, size: tuple[int, int]) -> Self:
        """Return the window of a tile and a margin around it, as far as there is an image."""
        first_row, first_column = max(0, top - margin), max(0, left - margin)
        last_row, last_column = min(size[0], top + side + margin), min(size[1], left + side + margin)
        return cls(first_row, first_column, last_row - first_row, last_column - first_column, size)


class Preprocessor(Described, nn.Module, ABC):
    """Maps an image and a compression strength to an image of the same shape.

    Write ``_process``; validation, padding, cropping and clipping are done here. Start as the identity, so that
    training never begins by destroying the image. Options are keyword-only arguments of ``__init__``; a class that
    works with the codec, its proxy or the task network names them in ``requires`` and takes them before, by position.

    Shapes and units:
        images: (N, 3, H, W) float in [0, 1]; any H, W >= 1.
        strengths: (N,) float, 0 (mildest compression) .. 1 (strongest), from `QualityScale.strength`.
    """

    name: ClassVar[str]  #: unique, kebab-case
    source: ClassVar[str]  #: the paper or commit this follows
    requires: ClassVar[
        tuple[str, ...]
    ] = ()  #: of ``"codec"``, ``"proxy"``, ``"task"``: construction takes these objects first
    trainable: ClassVar[bool] = True  #: False where there is nothing to train: it is used as constructed and prepared
    multiple: ClassVar[int] = 1  #: ``_process`` sees sizes divisible by this; the border is repeated to get there

    @abstractmethod
    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        """Process a batch; the result has the shape of ``images`` and may leave [0, 1] (it is clipped)."""

    def resolution(self, strength: float) -> float:
        """Return the factor of height and width at which images are coded, above 0 and up to 1, the default.

        Below 1, the sender downscales the processed image before the codec and the receiver upscales the decoded one
        (`precomp_sdk.images.downscale`, `upscale`); trainer, evaluator and `Compressor` do. ``_process`` works at full
        size either way, and learns through the downscaling. `ResolutionCurve` makes an option of it.

        Args:
            strength: 0 (mildest compression) .. 1 (strongest).
        """
        return 1.0

    @property
    def tiling(self) -> Tiling | None:
        """How it works in tiles; None, the default: its statistics are those of the whole image at full size.

        One with a tiling writes `look` and ``_process_tile`` beside ``_process``, which does the same on whole images.
        """
        return None

    def look(self, reduced: Tensor) -> Tensor:
        """Return all that ``_process_tile`` has to know of the whole image; the default is for one without a tiling.

        Shapes and units:
            reduced: (N, 3, S, S) in [0, 1], the whole image reduced to a square of ``tiling.reduced_px``. Returns
            anything of N rows whose size does not depend on the image's.
        """
        raise NotImplementedError(f"{type(self).__name__} has no tiling")

    def _process_tile(self, tiles: Tensor, seen: Tensor, window: Window, strengths: Tensor) -> Tensor:
        """Process tiles (N, 3, h, w) that lie at one window of their images; ``seen`` is what `look` returned."""
        raise NotImplementedError(f"{type(self).__name__} has no tiling")

    @final
    def process_tile(self, tiles: Tensor, seen: Tensor, window: Window, strengths: Tensor) -> Tensor:
        """Process tiles of images, see `precomp_sdk.tiles`.

        Shapes and units:
            tiles: (N, 3, h, w) float in [0, 1], the window's height and width. strengths: (N,). Returns (N, 3, h, w)
            in [0, 1].

        Raises:
            ContractError: ``_process_tile`` changed the shape.
        """
        processed = self._process_tile(check_batch(tiles, f"preprocessor {self.name!r}"), seen, window, strengths)
        if processed.shape != tiles.shape:
            raise ContractError(
                where=f"{type(self).__name__}._process_tile",
                expected=f"shape {tuple(tiles.shape)}",
                got=str(tuple(processed.shape)),
                remedy="Return tiles of the shape that came in.",
            )
        return processed.to(tiles.dtype).clamp(0.0, 1.0)

    def guide_map(self, images: Tensor, strength: float) -> Tensor | None:
        """Return where it looks, for `precomp_sdk.deploy.explain`; None, the default: at no place in particular.

        Shapes and units:
            images: (N, 3, H, W) in [0, 1]. Returns (N, h, w) that cover the image, larger where it keeps more; on any
            scale.
        """
        return None

    def prepare(self, images: TaskDataset, ladder: Sequence[float] | None = None) -> None:
        """Measure what has to be known before the first image is sent; the default needs nothing.

        Called for a preprocessor that is not ``trainable``, with the training images and the ladder that it is
        evaluated on (None for the codec's own): by an experiment's evaluation, and instead of its training, which
        writes the weights file for the sender. What was measured belongs in the state dict: in buffers, or, where its
        size is not known before, in a tensor of ``get_extra_state`` (PyTorch's `nn.Module`).
        """

    @property
    def options(self) -> Mapping[str, Any]:
        """The options this preprocessor was constructed with, as plain JSON values: weights files record them."""
        return {}

    @final  # type: ignore[misc]  # nn.Module declares forward as an attribute
    def forward(self, images: Tensor, strengths: Tensor | Sequence[float] | float) -> Tensor:
        """Process a batch.

        Returns:
            (N, 3, H, W) in [0, 1], of the type of ``images`` under mixed precision too.

        Raises:
            ImageError: the images are not a float batch (N, 3, H, W).
            ContractError: the strengths are not one per image in [0, 1], or ``_process`` changed the shape.
        """
        check_batch(images, f"preprocessor {self.name!r}")
        values = torch.as_tensor(strengths, dtype=images.dtype, device=images.device).flatten()
        if values.numel() == 1:
            values = values.expand(len(images))
        if len(values) != len(images) or not bool(((values >= 0) & (values <= 1)).all()):
            raise ContractError(
                where=f"preprocessor {self.name!r}",
                expected=f"one strength in [0, 1] for each of {len(images)} images",
                got=str(values.tolist()),
                remedy="Map qualities with QualityScale.strength.",
            )
        height, width = images.shape[-2:]
        padded = pad_to_multiple(images, self.multiple)
        processed = self._process(padded, values)
        if processed.shape != padded.shape:
            raise ContractError(
                where=f"{type(self).__name__}._process",
                expected=f"shape {tuple(padded.shape)}",
                got=str(tuple(processed.shape)),
                remedy="Return an image of the shape that came in.",
            )
        return processed.to(images.dtype)[..., :height, :width].clamp(0.0, 1.0)


class Identity(Preprocessor):
    """Leaves every image as it is: the codec alone, where a preprocessor is asked for, as before a quality chooser.

    Example:
        >>> Identity()(torch.full((1, 3, 2, 2), 0.5), 0.3).unique()
        tensor([0.5000])
    """

    name = "identity"
    source = "nothing is changed"
    trainable = False

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return images
