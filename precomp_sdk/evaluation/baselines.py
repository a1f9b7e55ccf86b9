"""Trivial baselines: what anyone would try before training a network. Each is tuned before it is compared."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from precomp_sdk.channel import Channel
from precomp_sdk.data import TaskDataset
from precomp_sdk.errors import OptionError, UnknownNameError, nearest
from precomp_sdk.evaluation.curves import Measurer
from precomp_sdk.evaluation.rates.bjontegaard import TASK_LOSS, BDRate, bd_rate
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.transcode import Transcoder
from precomp_sdk.types import RateAccuracyCurve

__all__ = [
    "BLUR",
    "DOWNSCALE",
    "Baseline",
    "Downscale",
    "GaussianBlur",
    "TriedSetting",
    "TunedBaseline",
    "find_baselines",
    "tune",
]


class GaussianBlur(Preprocessor):
    """Blurs every image alike, whatever the strength.

    Args:
        sigma: standard deviation of the kernel, in pixels.

    Raises:
        OptionError: sigma is not positive.
    """

    name = "blur"
    source = "Gaussian kernel, cut off at 3 sigma; the border is repeated"

    def __init__(self, *, sigma: float) -> None:
        super().__init__()
        if not 0 < sigma < math.inf:
            raise OptionError(
                where="GaussianBlur", expected="a sigma above 0", got=repr(sigma), remedy="Take 0.5, say."
            )
        offsets = torch.arange(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1, dtype=torch.float32)
        kernel = torch.exp(-offsets.square() / (2 * sigma**2))
        self.register_buffer("kernel", kernel / kernel.sum(), persistent=False)

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        kernel = self.get_buffer("kernel").to(images)
        margin = len(kernel) // 2
        padded = functional.pad(images, (margin,) * 4, mode="replicate")
        across = functional.conv2d(padded, kernel.expand(3, 1, 1, -1), groups=3)
        return functional.conv2d(across, kernel[:, None].expand(3, 1, -1, 1), groups=3)


class Downscale(Preprocessor):
    """Codes every image at a lower resolution, whatever the strength: the codec has fewer pixels to spend bits on.

    Args:
        factor: of height and width, in (0, 1).

    Raises:
        OptionError: the factor is not in (0, 1).
    """

    name = "downscale"
    source = "bicubic both ways, antialiased on the way down"

    def __init__(self, *, factor: float) -> None:
        super().__init__()
        if not 0 < factor < 1:
            raise OptionError.number("Downscale", "factor", "a factor between 0 and 1", factor)
        self._factor = factor

    def resolution(self, strength: float) -> float:
        """Return the factor."""
        return self._factor

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return images


@dataclass(frozen=True, slots=True)
class Baseline:
    """A trivial way to save bits, with one setting to choose.

    Args:
        name: labels its curve.
        parameter: what the setting is called.
        values: the settings that are tried, the mildest first; more of them take longer.
        channel: makes the way to send images from a codec with its threads, and one setting.
    """

    name: str
    parameter: str
    values: tuple[float, ...]
    channel: Callable[[Transcoder, float], Channel]

    def __post_init__(self) -> None:
        if not self.values:
            raise OptionError(
                where=f"baseline {self.name!r}", expected="one setting or more", got="none", remedy="Give some values."
            )


def _blur(codec: Transcoder, sigma: float) -> Channel:
    return Channel(codec, GaussianBlur(sigma=sigma), settings={"sigma": sigma})


def _downscale(codec: Transcoder, factor: float) -> Channel:
    return Channel(codec, Downscale(factor=factor), settings={"factor": factor})


BLUR = Baseline("blur", "sigma", (0.4, 0.6, 0.85, 1.2), _blur)  #: sigma in pixels
DOWNSCALE = Baseline("downscale", "factor", (0.8, 0.65, 0.5, 0.35), _downscale)  #: of height and width


@dataclass(frozen=True, slots=True)
class TriedSetting:
    """One setting of a baseline, measured on the tuning images.

    Args:
        value: the setting.
        curve: its curve there.
        bd_rate: its rate difference to the anchor there, on the metric the baseline was tuned for.
        loss_bd_rate: likewise on the task loss.
    """

    value: float
    curve: RateAccuracyCurve
    bd_rate: BDRate
    loss_bd_rate: BDRate


@dataclass(frozen=True, slots=True)
class TunedBaseline:
    """How a baseline was tuned.

    Args:
        name: of the baseline.
        parameter: what its setting is called.
        value: the best setting.
        images: how many images each setting was measured on.
        tried: every setting.
    """

    name: str
    parameter: str
    value: float
    images: int
    tried: tuple[TriedSetting, ...]


def find_baselines(chosen: Iterable[str | Baseline]) -> tuple[Baseline, ...]:
    """Return baselines by name, or as given; one name alone is taken as it is meant.

    Raises:
        UnknownNameError: there is no baseline of that name.
    """
    known = {baseline.name: baseline for baseline in (BLUR, DOWNSCALE)}
    found: list[Baseline] = []
    for item in (chosen,) if isinstance(chosen, str) else chosen:
        if isinstance(item, str) and item not in known:
            raise UnknownNameError(
                where="baselines", expected="the name of a baseline", got=repr(item), remedy=nearest(item, known)
            )
        found.append(known[item] if isinstance(item, str) else item)
    return tuple(found)


def tune(
    measurer: Measurer,
    baseline: Baseline,
    dataset: TaskDataset,
    anchor: RateAccuracyCurve,
    metric: str,
    *,
    min_overlap: float = 0.25,
) -> TunedBaseline:
    """Measure every setting on the tuning images and choose the one with the lowest BD-rate.

    Settings without a BD-rate on the metric come after those with one, and are ordered by their BD-rate on the task
    loss; of equal ones the mildest wins. A setting is chosen even where none saves anything. Twice ``min_overlap`` is
    asked for, so that a setting that barely overlaps on a few images does not lose its BD-rate on all of them.

    Args:
        measurer: does the measuring.
        baseline: what to tune.
        dataset: the tuning images.
        anchor: the anchor's curve on them.
        metric: what to tune for.
        min_overlap: as for `bd_rate`.
    """
    tried: list[TriedSetting] = []
    images, min_overlap = 0, min(2 * min_overlap, 1.0)
    for value in baseline.values:
        measured = measurer.curve(dataset, baseline.channel(measurer.transcoder, value))
        curve, images = measured.curve(), len(measured)
        tried.append(
            TriedSetting(
                value=value,
                curve=curve,
                bd_rate=bd_rate(anchor, curve, metric, min_overlap=min_overlap),
                loss_bd_rate=bd_rate(anchor, curve, TASK_LOSS, min_overlap=min_overlap),
            )
        )

    def rank(setting: TriedSetting) -> tuple[float, float]:
        values = (setting.bd_rate.value_percent, setting.loss_bd_rate.value_percent)
        first, second = (math.inf if value is None else value for value in values)
        return first, second

    return TunedBaseline(
        name=baseline.name,
        parameter=baseline.parameter,
        value=min(tried, key=rank).value,
        images=images,
        tried=tuple(tried),
    )
