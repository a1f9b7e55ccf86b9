"""A codec's own quality knob, and the strength a preprocessor is conditioned on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from precomp_sdk.errors import QualityError

__all__ = ["QualityScale"]

_ROUNDING = 2.0**-23  # of a number in 32 bits, as tensors hold qualities: 0.7 is 0.699999988 there


@dataclass(frozen=True, slots=True)
class QualityScale:
    """The knob of one codec: JPEG's ``quality`` 1..100, BPG's ``QP`` 0..51.

    Args:
        name: what the codec's users call the knob.
        minimum: smallest value of the knob.
        maximum: largest value of the knob.
        higher_is_better: True where a larger value means more bits and a better image.
        ladder: the qualities an experiment uses unless told otherwise.
        integer: True where the codec takes whole numbers only.

    Raises:
        QualityError: the ladder is empty, leaves the scale or repeats itself, or the scale is empty.

    Example:
        >>> scale = QualityScale("quality", 1, 100, higher_is_better=True, ladder=(5, 10, 20))
        >>> scale.strength(100), scale.strength(1)
        (0.0, 1.0)
    """

    name: str
    minimum: float
    maximum: float
    higher_is_better: bool
    ladder: tuple[float, ...]
    integer: bool = True

    def __post_init__(self) -> None:
        if not self.minimum < self.maximum:
            raise QualityError(
                where=f"QualityScale {self.name!r}",
                expected="minimum below maximum",
                got=f"{self.minimum} and {self.maximum}",
                remedy="Swap or mend them.",
            )
        if not self.ladder or len(set(self.ladder)) != len(self.ladder):
            raise QualityError(
                where=f"QualityScale {self.name!r}",
                expected="a ladder of one or more different qualities",
                got=repr(self.ladder),
                remedy="List the qualities an experiment should use by default.",
            )
        for quality in self.ladder:
            self.check(quality)

    def check(self, quality: float) -> float:
        """Return ``quality`` as a float if it lies on the scale; an end that went through 32 bits is the end.

        Raises:
            QualityError: it is not a number, lies outside the scale, or is a fraction on a scale of whole numbers.
        """
        try:
            # text and truth values, NumPy's and PyTorch's too, would pass as numbers
            kind = str(getattr(quality, "dtype", ""))
            no_number = isinstance(quality, str | bytes | bytearray | bool) or "bool" in kind
            value = math.nan if no_number else float(quality)
        except (TypeError, ValueError):
            value = math.nan
        for end in (self.minimum, self.maximum):
            if math.isclose(value, end, rel_tol=_ROUNDING):
                value = float(end)
        on_scale = self.minimum <= value <= self.maximum  # False for NaN
        if not on_scale or (self.integer and value != round(value)):
            raise QualityError(
                where=f"{self.name}",
                expected=f"a {'whole number' if self.integer else 'number'} from {self.minimum:g} to {self.maximum:g}",
                got=repr(quality),
                remedy="Give a quality on the codec's own scale.",
            )
        return value

    def strength(self, quality: float) -> float:
        """Map a quality to a compression strength: 0 is the mildest compression, 1 the strongest.

        Raises:
            QualityError: the quality is off the scale.
        """
        position = (self.check(quality) - self.minimum) / (self.maximum - self.minimum)
        return 1.0 - position if self.higher_is_better else position

    def quality(self, strength: float) -> float:
        """Map a strength back to the quality it came from, to 6 digits; on a scale of whole numbers, the nearest one.

        Raises:
            QualityError: the strength is not in [0, 1].

        Example:
            >>> scale = QualityScale("quality", 1, 100, higher_is_better=True, ladder=(5, 10, 20))
            >>> scale.quality(scale.strength(10))
            10.0
        """
        if not 0.0 <= strength <= 1.0:
            raise QualityError(
                where=f"{self.name}",
                expected="a strength from 0 (mildest) to 1 (strongest)",
                got=repr(strength),
                remedy="Take it from QualityScale.strength.",
            )
        position = 1.0 - strength if self.higher_is_better else strength
        value = self.minimum + position * (self.maximum - self.minimum)
        rounded = float(round(value)) if self.integer else float(f"{value:.6g}")
        return min(max(rounded, self.minimum), self.maximum)

    def ladder_of(self, qualities: Sequence[float] | None) -> tuple[float, ...]:
        """Return the qualities to work at: those given, each once, or the scale's own ladder for None.

        Raises:
            QualityError: the list is empty, or a quality is off the scale.

        Example:
            >>> scale = QualityScale("quality", 1, 100, higher_is_better=True, ladder=(5, 10, 20))
            >>> scale.ladder_of(None), scale.ladder_of([30, 30, 40])
            ((5.0, 10.0, 20.0), (30.0, 40.0))
        """
        chosen = self.ladder if qualities is None else qualities
        if not len(chosen):
            raise QualityError(
                where=f"{self.name}, ladder",
                expected="one or more qualities",
                got="none",
                remedy="List them, or leave the ladder out for the codec's own.",
            )
        return tuple(dict.fromkeys(self.check(quality) for quality in chosen))

    def from_mild_to_strong(self, ladder: tuple[float, ...] | None = None) -> tuple[float, ...]:
        """Return the ladder (or the given qualities) sorted from the mildest compression to the strongest."""
        return tuple(sorted(self.ladder_of(ladder), key=self.strength))
