"""The options of a refinement, checked."""

import math
from dataclasses import dataclass

from precomp_sdk import OptionError

__all__ = ["NOTHING", "WHERE", "Settings"]

WHERE = "'refine'"  #: whose options these are, for messages

NOTHING = ("untouched", "refine")  #: what may be done with an image in which the task networks find nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to refine; see `Refiner` for what each means."""

    steps: int
    step_levels: float
    task_weight: float
    feature_weight: float
    max_change: int | None
    min_psnr_db: float | None
    shift_px: int
    scale: float
    flip: bool
    check_every: int
    patience: int
    budget_ms: float | None
    when_nothing: str
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        for option in ("steps", "check_every", "patience", "batch_size"):
            _require(option, getattr(self, option) >= 1, "1 or more", getattr(self, option))
        for option in ("step_levels", "budget_ms", "min_psnr_db", "max_change"):
            value = getattr(self, option)
            _require(option, value is None or (math.isfinite(value) and value > 0), "a number above 0", value)
        weights = (self.task_weight, self.feature_weight)
        _require(
            "feature_weight",
            all(math.isfinite(weight) and weight >= 0 for weight in weights) and sum(weights) > 0,
            "task_weight and feature_weight of 0 or more, one of them above 0",
            weights,
        )
        _require("shift_px", self.shift_px >= 0, "0 or more", self.shift_px)
        _require("scale", 0.0 <= self.scale < 1.0, "0 to below 1", self.scale)
        if self.when_nothing not in NOTHING:
            raise OptionError.choice(WHERE, "when_nothing", NOTHING, self.when_nothing)

    @property
    def transforms(self) -> bool:
        """Whether decoded images are transformed at random before the task networks see them."""
        return self.shift_px > 0 or self.scale > 0.0 or self.flip


def _require(option: str, right: bool, expected: str, got: object) -> None:
    if not right:
        raise OptionError.number(WHERE, option, expected, got)
