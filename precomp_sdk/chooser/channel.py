"""A channel that chooses."""

from collections.abc import Sequence

from torch import Tensor

from precomp_sdk.channel import Channel, Coding
from precomp_sdk.chooser.quality import QualityChooser, Search
from precomp_sdk.images import to_uint8

__all__ = ["ChoosingChannel"]


class ChoosingChannel(Channel):
    """Codes each image as a chooser says; qualities name its operating points.

    It goes wherever a channel goes, so evaluation and the sender choose by the same road. The image is encoded once
    more at what was chosen.

    Args:
        chooser: fitted; its codec and its preprocessor are the channel's.
        search: as `QualityChooser.choose` has it.
        encodes: likewise.
        label: names the channel in plots and tables.
    """

    def __init__(
        self, chooser: QualityChooser, *, search: Search = "exact", encodes: int = 3, label: str = "chosen"
    ) -> None:
        super().__init__(chooser.codec, chooser.preprocessor, label=label)
        self.chooser: QualityChooser = chooser
        self._search, self._encodes = search, encodes

    def choose(self, images: Tensor | Sequence[Tensor], qualities: Sequence[float]) -> list[Coding]:
        """Return the quality and the resolution that the chooser takes for each image at its operating point."""
        chosen = [
            self.chooser.choose(
                to_uint8(image).cpu() if image.is_floating_point() else image,
                quality,
                search=self._search,
                encodes=self._encodes,
            )
            for image, quality in zip(images, qualities, strict=True)
        ]
        return [Coding(item.quality, item.resolution) for item in chosen]
