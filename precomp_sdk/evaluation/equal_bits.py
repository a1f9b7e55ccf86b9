"""The control that spends the same on every image: what a constant quality wastes, before anyone looks at a task."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from precomp_sdk.channel import Channel, Coding
from precomp_sdk.images import to_uint8
from precomp_sdk.quality import QualityScale
from precomp_sdk.transcode import Transcoder
from precomp_sdk.types import RateAccuracyCurve

__all__ = ["EqualBits"]

_NEAR = 0.005  # of the budget, in log bits: on a scale of fractions, this near is there
_FIRST_STEP = 0.08  # of the scale, where the budget is not between two qualities yet
_MOST_PROBES = 16  # per image and budget; a scale of 100 whole numbers takes three or four


class EqualBits(Channel):
    """Codes every image at the quality at which it takes the bits per pixel that the anchor takes on average.

    A constant quality gives most bits to the images that are dearest, not to those that need them. Whatever chooses
    qualities image by image has to be better than this, which knows nothing but the rate. Qualities are found by
    encoding: the nearest to the budget, in log bits.

    Args:
        codec: the codec with its threads.
        anchor: its points say the budget, in bits per pixel, at each quality of the ladder.
    """

    def __init__(self, codec: Transcoder, anchor: RateAccuracyCurve) -> None:
        super().__init__(codec, label="equal-bits")
        self.budgets_bpp: dict[float, float] = {point.quality: point.bpp for point in anchor.points}  #: by quality
        self._probed = _Probed()

    def choose(self, images: Tensor | Sequence[Tensor], qualities: Sequence[float]) -> list[Coding]:
        """Return the quality at which each image takes the budget of the given one, as near as the scale allows."""
        sources = [to_uint8(image) if image.is_floating_point() else image for image in images]
        searches = [
            _Search(
                budget_bits=self.budgets_bpp[quality] * image.shape[-1] * image.shape[-2],
                start=quality,
                scale=self.codec.quality_scale,
                bits=self._probed.of(image),
            )
            for image, quality in zip(sources, qualities, strict=True)
        ]
        self._probed.forget_all_but(sources)
        probes = dict(enumerate(qualities))
        while probes:
            places = [place for place, quality in probes.items() if quality not in searches[place].bits]
            bits = self.transcoder.sizes([sources[place] for place in places], [probes[place] for place in places])
            for place, size in zip(places, bits, strict=True):
                searches[place].bits[probes[place]] = size
            following = {place: searches[place].next_probe() for place in probes}
            probes = {place: quality for place, quality in following.items() if quality is not None}
        return [Coding(search.best()) for search in searches]


@dataclass(slots=True)
class _Search:
    """Where one image's budget lies on the scale; ``bits`` by quality is shared by the budgets of an image."""

    budget_bits: float
    start: float
    scale: QualityScale
    bits: dict[float, float]
    probes: int = 0

    def next_probe(self) -> float | None:
        """Return the quality to encode at next, or None where the nearest is known. Bits are taken to be monotone."""
        self.probes += 1
        mildness = {quality: 1.0 - self.scale.strength(quality) for quality in self.bits}
        below = max((q for q in self.bits if self.bits[q] <= self.budget_bits), key=mildness.__getitem__, default=None)
        above = min((q for q in self.bits if self.bits[q] > self.budget_bits), key=mildness.__getitem__, default=None)
        if self.probes >= _MOST_PROBES or (not self.scale.integer and self._gap(self.best()) < _NEAR):
            return None
        if below is None or above is None:  # further and further from the start, up to the end of the scale
            start = 1.0 - self.scale.strength(self.start)
            end = mildness[above] if above is not None else mildness[below] if below is not None else start
            step = max(_FIRST_STEP, 2.0 * abs(end - start))
            quality = self.scale.quality(1.0 - (max(0.0, start - step) if below is None else min(1.0, start + step)))
            return None if quality in self.bits else quality
        low, high = mildness[below], mildness[above]
        logs = [math.log(bits) for bits in (self.bits[below], self.bits[above], self.budget_bits)]
        share = min(0.9, max(0.1, (logs[2] - logs[0]) / (logs[1] - logs[0])))
        candidates = [self.scale.quality(1.0 - (low + share * (high - low)))]
        if self.scale.integer and abs(above - below) > 1:  # rounding may have come to an end: then to its neighbour
            inwards = 1.0 if above > below else -1.0
            candidates += [below + inwards, above - inwards]
        return next((quality for quality in candidates if quality not in self.bits), None)

    def best(self) -> float:
        """Return the quality whose bits are nearest to the budget; of equally near ones, the one with fewer bits."""
        return min(self.bits, key=lambda quality: (self._gap(quality), self.bits[quality]))

    def _gap(self, quality: float) -> float:
        return abs(math.log(self.bits[quality] / self.budget_bits))


@dataclass(slots=True)
class _Probed:
    """Bits by quality of the images at hand: the budgets of one ladder share their encodes."""

    known: dict[int, tuple[Tensor, dict[float, float]]] = field(default_factory=dict)

    def of(self, image: Tensor) -> dict[float, float]:
        return self.known.setdefault(id(image), (image, {}))[1]  # the image is held, so that no other gets its id

    def forget_all_but(self, images: Sequence[Tensor]) -> None:
        kept = {id(image) for image in images}
        self.known = {key: value for key, value in self.known.items() if key in kept}

    def __fingerprint__(self) -> tuple[object, ...]:
        """Say nothing: what is remembered changes no result."""
        return ()
