"""Trivial baselines and controls: what anyone would try before training a network. Baselines are tuned first."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from precomp_sdk.channel import Channel
from precomp_sdk.errors import OptionError, UnknownNameError, nearest
from precomp_sdk.evaluation.equal_bits import EqualBits
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.transcode import Transcoder
from precomp_sdk.types import RateAccuracyCurve

__all__ = ["BLUR", "DOWNSCALE", "EQUAL_BITS", "Baseline", "Control", "Downscale", "GaussianBlur", "find_baselines"]


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


@dataclass(frozen=True, slots=True)
class Control:
    """A way to spend the anchor's bits otherwise, with nothing to choose: what a method has to be better than.

    Args:
        name: labels its curve.
        channel: makes the way to send images from a codec with its threads, and the anchor's curve.
    """

    name: str
    channel: Callable[[Transcoder, RateAccuracyCurve], Channel]


def _blur(codec: Transcoder, sigma: float) -> Channel:
    return Channel(codec, GaussianBlur(sigma=sigma), settings={"sigma": sigma})


def _downscale(codec: Transcoder, factor: float) -> Channel:
    return Channel(codec, Downscale(factor=factor), settings={"factor": factor})


BLUR = Baseline("blur", "sigma", (0.4, 0.6, 0.85, 1.2), _blur)  #: sigma in pixels
DOWNSCALE = Baseline("downscale", "factor", (0.8, 0.65, 0.5, 0.35), _downscale)  #: of height and width
EQUAL_BITS = Control("equal-bits", EqualBits)  #: every image at the bits per pixel that the anchor takes on average


def find_baselines(
    chosen: Iterable[str | Baseline | Control], where: str = "baselines"
) -> tuple[Baseline | Control, ...]:
    """Return baselines and controls by name, or as given; one name alone is taken as it is meant.

    Raises:
        UnknownNameError: there is no baseline of that name.
    """
    known: dict[str, Baseline | Control] = {item.name: item for item in (BLUR, DOWNSCALE, EQUAL_BITS)}
    found: list[Baseline | Control] = []
    for item in (chosen,) if isinstance(chosen, str) else chosen:
        if isinstance(item, str) and item not in known:
            raise UnknownNameError(
                where=where, expected="the name of a baseline", got=repr(item), remedy=nearest(item, known)
            )
        found.append(known[item] if isinstance(item, str) else item)
    return tuple(found)
