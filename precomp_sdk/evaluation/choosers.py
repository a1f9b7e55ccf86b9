"""Quality chosen per image, as a curve of its own beside the anchor."""

from collections.abc import Mapping
from dataclasses import dataclass

from precomp_sdk.channel import Channel
from precomp_sdk.chooser import ChoosingChannel, PriceCurve, QualityChooser
from precomp_sdk.chooser.quality import Search
from precomp_sdk.codec import Codec
from precomp_sdk.data import TaskDataset, load_samples, spread_places
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.task import TaskModel
from precomp_sdk.validation import check_whole_number

__all__ = ["ChooserSettings", "FitChooserSettings", "choosing_channels"]


@dataclass(frozen=True, slots=True)
class FitChooserSettings:
    """How a `QualityChooser` weighs its panel, and what it is fitted on.

    Args:
        trust: of an image's own losses.
        level: of the rest, the share of the average image's curve at this image's own level; what remains is that
            curve as it is.
        monotone: an image's losses are made to fall with its bits first.
        panel_px: the longer side that the panel is shown at most, in pixels; None: images as they are.
        fit_images: how many images the average curve is measured on, evenly spaced over the training set.
    """

    trust: float = 0.5
    level: float = 0.6
    monotone: bool = True
    panel_px: int | None = None
    fit_images: int = 32

    def __post_init__(self) -> None:
        where = "FitChooserSettings"
        object.__setattr__(self, "fit_images", check_whole_number(self.fit_images, where, "fit_images", 2))


@dataclass(frozen=True, slots=True)
class ChooserSettings(FitChooserSettings):
    """How quality is chosen per image; see `QualityChooser`.

    Args:
        resolutions: factors of height and width to choose from.
        search: ``"exact"`` encodes everything; ``"searched"`` has a budget.
        encodes: of a search.
    """

    resolutions: tuple[float, ...] = (1.0,)
    search: Search = "exact"
    encodes: int = 3

    def __post_init__(self) -> None:
        FitChooserSettings.__post_init__(self)  # super() does not know a class whose slots a dataclass made
        object.__setattr__(self, "resolutions", tuple(float(factor) for factor in self.resolutions))


def choosing_channels(
    codec: Codec,
    panel: Mapping[str, TaskModel],
    images: TaskDataset,
    settings: ChooserSettings,
    *,
    preprocessors: Mapping[str, Preprocessor] | None = None,
    ladder: tuple[float, ...] | None = None,
) -> list[Channel]:
    """Return channels that choose, for `evaluate`: ``"chosen"``, and one for each preprocessor, ``"NAME, chosen"``.

    Args:
        codec: the real codec, the same object as is evaluated.
        panel: members by name; networks that judge the result should not be among them.
        images: to measure the average curve on; not those that are scored.
        settings: every other choice.
        preprocessors: by label; they compose with the chooser.
        ladder: operating points, and the qualities to choose from; None: the codec's own.

    Raises:
        OptionError: the panel is empty or an option is out of range, or there are too few images.
        CalibrationError: no member's answers move where images are compressed.
    """
    samples, _ = load_samples(images, spread_places(len(images), settings.fit_images))
    curve: PriceCurve | None = None
    channels: list[Channel] = []
    for label, preprocessor in ((None, None), *(preprocessors or {}).items()):
        chooser = QualityChooser(
            codec,
            panel,
            preprocessor=preprocessor,
            ladder=ladder,
            resolutions=settings.resolutions,
            trust=settings.trust,
            level=settings.level,
            monotone=settings.monotone,
            panel_px=settings.panel_px,
            curve=curve,
        )
        curve = chooser.fit([sample.image for sample in samples]) if curve is None else curve
        name = "chosen" if label is None else f"{label}, chosen"
        channels.append(ChoosingChannel(chooser, search=settings.search, encodes=settings.encodes, label=name))
    return channels
