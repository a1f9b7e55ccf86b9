"""Quality, and resolution, chosen for each image by what a panel of networks loses."""

import math
from collections.abc import Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precomp_sdk.chooser.answers import CleanAnswer
from precomp_sdk.chooser.chosen import ChosenQuality
from precomp_sdk.chooser.curve import PriceCurve, PricePoint, prices_of
from precomp_sdk.chooser.trial import Trials, Tried
from precomp_sdk.codec import Codec
from precomp_sdk.errors import CalibrationError, NotFittedError, OptionError
from precomp_sdk.images import check_image
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.task import TaskModel

__all__ = ["QualityChooser", "Search"]

Search = Literal["exact", "searched"]

_WHERE: Final = "QualityChooser"
_LEAST: Final = 1e-9  # of a loss: below it a member does not notice compression
_MIN_IMAGES: Final = 2  # one image has no average
_LEAST_PANEL_PX: Final = 16


class QualityChooser:
    """Chooses the quality with the least bits + lambda * what a panel of networks loses, image by image.

    A constant quality is a weak way to spend bits on a set of images: some keep their answers at a tenth of the bits,
    others lose them first. The chooser encodes an image at several qualities, asks each member of the panel how far its
    answer has moved from the one it gave on the clean image, and takes the quality with the least

        bits per pixel + price * mean over the panel of loss / unit

    No label is needed and no gradient: a member is any `TaskModel`, also one around a black box. Members are made
    comparable by ``units``: what each loses behind the codec alone, on average, measured once by `fit`. An operating
    point is named by a quality: its ``price`` is the slope of the anchor's own curve there.

    How a member's loss is measured: by `TaskModel.losses` on its own clean answer, less what it loses on the clean
    image itself, where it offers `TaskModel.pseudo_labels`; otherwise by `answers_apart` on its predictions.

    What one panel asks for carries over to other networks only in part. Two or more different members carry over far
    better than one, and an image's own curve is noisy: it is made monotone, and weighed with the average image's curve,
    as it is and at this image's own level, which is how much more the panel loses on it than on the average one:

        trust * own + (1 - trust) * (level * own total / average total + 1 - level) * average

    docs/carry-over.md says what was measured.

    Shapes and units:
        images: (3, H, W) uint8, sRGB, any size.
        loss: in units of the panel, so 1 is what the codec alone costs on average over the ladder.

    Args:
        codec: the real codec.
        panel: members by name.
        preprocessor: composes with the chooser: each candidate is what it makes of the image at that quality.
        ladder: the qualities to choose from; default: the codec's own.
        resolutions: factors of height and width to choose from, besides what the preprocessor itself asks for.
        trust: of an image's own losses, above 0 and up to 1. At 1 the panel rules alone, which is best for the panel
            itself.
        level: of the rest, from 0 to 1, what is the average image's curve at this image's own level.
        monotone: an image's losses are made to fall with its bits first.
        panel_px: the longer side that the panel is shown at most, in pixels, so that its cost does not grow with the
            image; None shows images as they are.
        curve: of an earlier `fit`.

    Raises:
        OptionError: the panel is empty, an option is out of range, or the curve is of another panel or ladder.
        QualityError: a quality is off the codec's scale.

    Example:
        >>> from precomp_sdk.testing import FakeCodec, FakeTask
        >>> images = [torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8) for _ in range(3)]
        >>> chooser = QualityChooser(FakeCodec(), {"one": FakeTask()}, ladder=(10, 50, 90))
        >>> curve = chooser.fit(images)
        >>> chooser.choose(images[0], 50).quality in (10, 50, 90)
        True

    Source: rate-distortion optimization by machines' own answers, after FP-RDO, arXiv 2504.02216; the normalization,
    sharing with the average curve and the search are this project's.
    """

    def __init__(
        self,
        codec: Codec,
        panel: Mapping[str, TaskModel],
        *,
        preprocessor: Preprocessor | None = None,
        ladder: Sequence[float] | None = None,
        resolutions: Sequence[float] = (1.0,),
        trust: float = 0.5,
        level: float = 0.6,
        monotone: bool = True,
        panel_px: int | None = None,
        curve: PriceCurve | None = None,
    ) -> None:
        if not panel:
            raise OptionError.value(
                _WHERE, "panel", "one task model or more, by name", panel, "Give two or more different networks."
            )
        if not 0.0 < trust <= 1.0:
            raise OptionError.number(_WHERE, "trust", "a number above 0 and up to 1", trust)
        if not 0.0 <= level <= 1.0:
            raise OptionError.number(_WHERE, "level", "a number from 0 to 1", level)
        if not resolutions or any(not 0.0 < factor <= 1.0 for factor in resolutions):
            raise OptionError.value(
                _WHERE,
                "resolutions",
                "factors above 0 and up to 1",
                tuple(resolutions),
                "Leave it out for full size alone.",
            )
        if panel_px is not None and panel_px < _LEAST_PANEL_PX:
            raise OptionError.number(_WHERE, "panel_px", f"a whole number from {_LEAST_PANEL_PX}, or None", panel_px)
        scale = codec.quality_scale
        given = tuple(scale.check(quality) for quality in (scale.ladder if ladder is None else ladder))
        if len(set(given)) < 2:  # one quality leaves nothing to choose
            raise OptionError.value(
                _WHERE, "ladder", "two different qualities or more", given, "Leave it out for the codec's own."
            )
        self.codec = codec
        self.panel: dict[str, TaskModel] = dict(panel)
        self.panel_px: int | None = panel_px
        self._trials = Trials(codec, self.panel, panel_px)
        self.preprocessor = preprocessor
        self.ladder: tuple[float, ...] = scale.from_mild_to_strong(tuple(dict.fromkeys(given)))
        self.resolutions: tuple[float, ...] = tuple(dict.fromkeys(float(factor) for factor in resolutions))
        self.trust: float = float(trust)
        self.level: float = float(level)
        self.monotone: bool = bool(monotone)
        self._curve = None if curve is None else self._checked(curve)

    @property
    def curve(self) -> PriceCurve:
        """What `fit` measured.

        Raises:
            NotFittedError: nothing was measured.
        """
        if self._curve is None:
            raise NotFittedError(
                where="QualityChooser",
                expected="the anchor's curve",
                got="a chooser that was never fitted",
                remedy="Call fit with some images like those to be sent, or pass the curve of an earlier fit.",
            )
        return self._curve

    def at_full_size(self) -> "QualityChooser":
        """Return a chooser of the same parts and the same curve that takes no pixel away: quality alone is chosen.

        For a receiver that needs every pixel, a segmenter of thin things, say. A preprocessor's own resolutions stay.
        """
        found = copy(self)  # parts are shared: nothing of them depends on the resolutions
        found.resolutions = (1.0,)
        return found

    def fit(self, images: Sequence[Tensor]) -> PriceCurve:
        """Measure the codec alone on images, without the preprocessor: units, and the price of every quality.

        Lower resolutions are measured too, for the search and for the average image's part in a choice. Some tens of
        images suffice; they need no labels, and should not be those that are scored.

        Args:
            images: two or more, (3, H, W) uint8.

        Raises:
            OptionError: there are too few images.
            CalibrationError: no member's loss depends on the quality.
        """
        if len(images) < _MIN_IMAGES:
            raise OptionError.value(
                _WHERE,
                "images",
                f"{_MIN_IMAGES} images or more",
                len(images),
                "Some tens, like those to be sent, suffice.",
            )
        factors = tuple(dict.fromkeys((1.0, *self.resolutions)))  # full size first: the anchor
        rates = np.zeros((len(factors), len(images), len(self.ladder)))
        losses = {name: np.zeros_like(rates) for name in self.panel}
        for row, image in enumerate(images):
            answers = self._clean(check_image(image, "QualityChooser.fit"))
            for place, factor in enumerate(factors):
                for column, quality in enumerate(self.ladder):
                    tried = self._try(image, answers, quality, factor, None)
                    rates[place, row, column] = tried.bpp
                    for name, loss in tried.losses.items():
                        losses[name][place, row, column] = loss
        units = {name: float(table[0].mean()) for name, table in losses.items()}
        silent = [name for name, unit in units.items() if not unit > _LEAST]
        if silent:
            raise CalibrationError(
                where="QualityChooser.fit",
                expected="answers that move where images are compressed",
                got=f"none of {', '.join(silent)} on {len(images)} images at qualities {self.ladder}",
                remedy="Give the ladder stronger qualities, or leave these members out.",
            )
        mean_rates = rates.mean(axis=1)
        mean_losses = np.mean([table.mean(axis=1) / units[name] for name, table in losses.items()], axis=0)
        prices = prices_of(mean_rates[0], mean_losses[0])
        points = tuple(
            PricePoint(quality, float(rate), float(loss), float(price))
            for quality, rate, loss, price in zip(self.ladder, mean_rates[0], mean_losses[0], prices, strict=True)
        )
        reduced = {
            factor: tuple(zip(mean_rates[place].tolist(), mean_losses[place].tolist(), strict=True))
            for place, factor in enumerate(factors)
            if factor != 1.0
        }
        self._curve = PriceCurve(points, units, len(images), reduced)
        return self._curve

    def price(self, quality: float) -> float:
        """Return lambda at an operating point: bits per pixel for a unit of loss; between the ladder, interpolated.

        Raises:
            NotFittedError: the chooser was not fitted.
            QualityError: the quality is off the scale.
            OptionError: it lies outside the ladder.
        """
        scale = self.codec.quality_scale
        strengths = [scale.strength(point.quality) for point in self.curve.points]
        wanted = scale.strength(quality)
        if not strengths[0] <= wanted <= strengths[-1]:
            raise OptionError(
                where="QualityChooser.price",
                expected=f"a quality from {self.ladder[0]:g} to {self.ladder[-1]:g}, the ends of the ladder",
                got=repr(quality),
                remedy="Choose an operating point between them, or a wider ladder.",
            )
        logs = [math.log(point.price) for point in self.curve.points]
        return math.exp(float(np.interp(wanted, strengths, logs)))

    @torch.no_grad()
    def choose(
        self,
        image: Tensor,
        quality: float | None = None,
        *,
        price: float | None = None,
        search: Search = "exact",
        encodes: int = 3,
    ) -> ChosenQuality:
        """Choose for one image.

        Args:
            image: (3, H, W) uint8.
            quality: names the operating point, see `price`; or
            price: bits per pixel for a unit of loss.
            search: ``"exact"`` encodes the whole ladder at every resolution. ``"searched"`` encodes first where the
                average image would be, then where the average image's curves, moved and scaled to what was found, have
                their best point, until that was encoded or ``encodes`` is spent.
            encodes: the budget of a search, two or more.

        Raises:
            ImageError: the image is not ``uint8 (3, H, W)``.
            OptionError: not exactly one of quality and price is given, or an option is out of range.
            NotFittedError: the chooser was not fitted.
        """
        check_image(image, "QualityChooser.choose")
        if (quality is None) == (price is None):
            raise OptionError.value(
                _WHERE, "quality", "it or a price", (quality, price), "Name the operating point by one of them."
            )
        value = self.price(quality) if quality is not None else float(price or 0.0)
        if not 0.0 < value < math.inf:
            raise OptionError.number(_WHERE, "price", "a finite number above 0", price)
        if search not in get_args(Search):
            raise OptionError.choice(_WHERE, "search", get_args(Search), search)
        if encodes < 2:  # one encode is a constant quality
            raise OptionError.number(_WHERE, "encodes", "a whole number from 2", encodes)
        answers = self._clean(image)
        tried: dict[tuple[int, float], Tried] = {}
        if search == "exact":
            wanted = [(column, factor) for factor in self.resolutions for column in range(len(self.ladder))]
            for key in wanted:
                tried[key] = self._try(image, answers, self.ladder[key[0]], key[1], self.preprocessor)
        else:
            self._search(image, answers, value, encodes, tried)
        return self._best(tried, value)

    def choose_many(
        self, images: Sequence[Tensor], quality: float, *, search: Search = "exact", encodes: int = 3
    ) -> list[ChosenQuality]:
        """Choose for images of any sizes at one operating point; see `choose`."""
        return [self.choose(image, quality, search=search, encodes=encodes) for image in images]

    def _search(
        self,
        image: Tensor,
        answers: Mapping[str, CleanAnswer],
        price: float,
        encodes: int,
        tried: dict[tuple[int, float], Tried],
    ) -> None:
        """Fill ``tried``: the average image's curves say where to look first, what is found there where next."""
        tables = [self.curve.table(factor) for factor in self.resolutions]
        rates, losses = (np.array([table[part] for table in tables]) for part in (0, 1))  # (resolutions, qualities)
        row, column = _least(rates + price * losses)
        while len(tried) < encodes and (column, self.resolutions[row]) not in tried:
            key = (column, self.resolutions[row])
            tried[key] = self._try(image, answers, self.ladder[column], key[1], self.preprocessor)
            columns, rows = [at for at, _ in tried], [self.resolutions.index(factor) for _, factor in tried]
            found = list(tried.values())
            moved = math.exp(float(np.mean(np.log([item.bpp for item in found] / rates[rows, columns]))))
            own = np.array([self._mean(item.losses) for item in found])
            own_part = self.trust + (1 - self.trust) * self.level  # what is not known yet lies at the image's level
            foretold = losses * (own_part * _level(own, losses[rows, columns]) + 1 - own_part)
            row, column = _least(rates * moved + price * foretold)

    def _best(self, tried: Mapping[tuple[int, float], Tried], price: float) -> ChosenQuality:
        keys = list(tried)
        bpps = np.array([tried[key].bpp for key in keys])
        own = np.array([self._mean(tried[key].losses) for key in keys])
        if self.monotone:
            from scipy.optimize import isotonic_regression  # half a second, and most senders choose nothing

            order = np.argsort(bpps, kind="stable")
            own[order] = isotonic_regression(own[order], increasing=False).x
        average = np.array([self.curve.table(factor)[1][column] for column, factor in keys])
        at_level = average * (self.level * _level(own, average) + 1 - self.level)
        shared = self.trust * own + (1 - self.trust) * at_level
        objectives = bpps + price * shared
        place = int(objectives.argmin())
        column, factor = keys[place]
        best = tried[keys[place]]
        return ChosenQuality(
            quality=self.ladder[column],
            resolution=factor * self._asked(self.ladder[column]),
            payload=best.payload,
            bits=8 * len(best.payload),
            bpp=best.bpp,
            loss=float(shared[place]),
            losses=MappingProxyType(dict(best.losses)),
            price=price,
            objective=float(objectives[place]),
            encodes=len(tried),
        )

    def _mean(self, losses: Mapping[str, float]) -> float:
        units = self.curve.units
        return sum(loss / units[name] for name, loss in losses.items()) / len(losses)

    def _asked(self, quality: float) -> float:
        if self.preprocessor is None:
            return 1.0
        return self.preprocessor.resolution(self.codec.quality_scale.strength(quality))

    def _clean(self, image: Tensor) -> dict[str, CleanAnswer]:
        return self._trials.clean(image)

    def _try(
        self,
        image: Tensor,
        answers: Mapping[str, CleanAnswer],
        quality: float,
        factor: float,
        preprocessor: Preprocessor | None,
    ) -> Tried:
        return self._trials.attempt(image, answers, quality, factor, preprocessor)

    def _checked(self, curve: PriceCurve) -> PriceCurve:
        qualities = tuple(point.quality for point in curve.points)
        unknown = set(self.resolutions) - {1.0, *curve.reduced}
        if set(curve.units) != set(self.panel) or qualities != self.ladder or unknown:
            raise OptionError(
                where=f"{_WHERE}, option 'curve'",
                expected=f"a curve of the panel {sorted(self.panel)} over the ladder {self.ladder}, "
                f"at resolutions {self.resolutions}",
                got=f"one of {sorted(curve.units)} over {qualities}, at {(1.0, *curve.reduced)}",
                remedy="Fit the chooser again, or give the panel, ladder and resolutions of the earlier fit.",
            )
        return curve


def _level(own: NDArray[np.float64], average: NDArray[np.float64]) -> float:
    """Return how much more an image loses than the average one, over the same candidates."""
    return float((own.sum() + _LEAST) / (average.sum() + _LEAST))


def _least(objectives: NDArray[np.float64]) -> tuple[int, int]:
    """Return row and column of the least one."""
    row, column = np.unravel_index(int(objectives.argmin()), objectives.shape)
    return int(row), int(column)
