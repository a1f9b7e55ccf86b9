"""Free to change any sample, guided by a small frozen network of its own, in tiles: for senders of any image."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from precomp_qacnn._overview import CELL_PX, Overview, PlaceNorm
from precomp_qacnn.gain import StrengthGain
from precomp_qacnn.light import SMOOTHING_REACH_PX, LightQACNN
from precomp_sdk import Tiling, Window

__all__ = ["FreeQACNN"]

_MIXER_REACH_PX = 2 * CELL_PX  # of one 5x5 convolution of cells


class FreeQACNN(LightQACNN):
    r"""`LightQACNN` with a guide of its own instead of averages over the image, so that any image goes in tiles.

    ::

        image ─┬─▶ reduced, 224 x 224 ─▶ guide, frozen ─▶ 1x1 conv ─▶ mixers ─▶ map (C, 27, 27) ─▶ 1x1 conv ─▶(+)
               └─▶ 8x8 unshuffle ▶ 1x1 conv ▶ (C, H/8, W/8) ─────────────────────────────────────────────────▶(+)
                                                                        local mixers, then as in LightQACNN ◀──┘

    `SmoothQACNN` removes whole cells of 8 x 8 pixels and can add nothing; this one decides about every sample, so that
    it can flatten what lies beside an edge and keep the edge. What may write may also write an answer: train it by a
    panel of networks, and let one that is not among them choose the checkpoint.

    Shapes and units:
        images: (N, 3, H, W) in [0, 1]; padded to multiples of 8 inside. strengths: (N,) in [0, 1].

    Args:
        width: channels C between the blocks, as `LightQACNN` has it.
        depth: number of mixers on the image's cells; each sees 16 pixels further.
        map_depth: number of mixers on the map.
        guide: look through the first layers of the SqueezeNet that ships, frozen (1.4 MB, in no weights file);
            without it the reduced image is looked at directly.
        reduced_px: side of the reduced image.
        residual_scale: factor on the correction.
        resolutions: at what share of height and width images are coded.
        fade: up to which strength the image is left alone, and from which on it gets the whole change.

    Raises:
        OptionError: an option is out of its range.

    Source: `LightQACNN` and `SmoothQACNN`, this project; gains of arXiv 2206.05650.
    """

    name = "qa-free"
    source = "this project; gains of arXiv 2206.05650"

    def __init__(
        self,
        *,
        width: int = 96,
        depth: int = 4,
        map_depth: int = 2,
        guide: bool = True,
        reduced_px: int = 224,
        residual_scale: float = 0.05,
        resolutions: Sequence[Sequence[float]] = (),
        fade: Sequence[float] | None = None,
    ) -> None:
        super().__init__(width=width, depth=depth, residual_scale=residual_scale, resolutions=resolutions, fade=fade)
        self._options = {**self._options, "map_depth": map_depth, "guide": bool(guide), "reduced_px": reduced_px}
        self.overview = Overview(
            self.name, width=width, depth=map_depth, guide=guide, reduced_px=reduced_px, depth_option="map_depth"
        )
        width, depth = self.overview.width, len(self.mixers)
        self.from_map = nn.Conv2d(width, width, 1)
        self.mixers = nn.ModuleList(_LocalMixer(width) for _ in range(depth))
        self.norm = PlaceNorm(width)

    @property
    def tiling(self) -> Tiling:
        """What the mixers and the widest Gaussian reach around a tile, and the guide's reduced image."""
        reach_px = len(self.mixers) * _MIXER_REACH_PX + CELL_PX + SMOOTHING_REACH_PX
        return Tiling(overlap_px=reach_px, reduced_px=self.overview.reduced_px)

    def look(self, reduced: Tensor) -> Tensor:
        """Return the map (N, C, h, w) of what lies where in whole images, reduced to (N, 3, S, S)."""
        found: Tensor = self.overview(reduced)
        return found

    def guide_map(self, images: Tensor, strength: float) -> Tensor | None:
        """Return how strong the guide's last features are; None without a guide."""
        return self.overview.strength_of(images)

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return self._guided(images, self.overview.of_images(images), strengths)

    def _process_tile(self, tiles: Tensor, seen: Tensor, window: Window, strengths: Tensor) -> Tensor:
        return self._guided(tiles, self.overview.of_window(seen, window), strengths)

    def _guided(self, images: Tensor, seen: Tensor, strengths: Tensor) -> Tensor:
        """Change images (N, 3, H, W), or tiles of them, by the map of their cells (N, C, H/8, W/8)."""
        return self._changed(images, self._embed(images) + self.from_map(seen), strengths)


class _LocalMixer(nn.Module):
    """Depthwise 5x5 convolution, a perceptron and a strength gain, as a residual; no average over what it is given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = PlaceNorm(width)
        self.widen, self.narrow = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)
        self.gain = StrengthGain(width)

    def forward(self, features: Tensor, strengths: Tensor) -> Tensor:
        widened = functional.gelu(self.widen(self.norm(self.spatial(features))))
        result: Tensor = features + self.gain(self.narrow(widened), strengths)
        return result
