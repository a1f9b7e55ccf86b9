"""What a training run gave."""

from dataclasses import dataclass, field
from pathlib import Path

from precomp_sdk.data import SkippedSample
from precomp_sdk.training.objective import Calibration

__all__ = ["TrainResult"]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run gave.

    Args:
        steps: optimizer steps done, counted over all parts of a resumed run.
        calibration: the anchor and lambda at every quality.
        relative: the objective relative to the anchor on the held-out batch, by quality, at the end.
        skipped: images that could not be read and were left out.
        seconds: wall time of this part of the run.
        folder: where the weights and the checkpoint are, or None.

    Attributes:
        mean_relative: mean of ``relative`` over the qualities: below 1 is a gain, above 1 is worse than the anchor.
        worse: whether the run ended worse than the anchor.
    """

    steps: int
    calibration: Calibration
    relative: dict[float, float]
    skipped: tuple[SkippedSample, ...]
    seconds: float
    folder: Path | None
    mean_relative: float = field(init=False)
    worse: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean_relative", sum(self.relative.values()) / len(self.relative))
        object.__setattr__(self, "worse", not self.mean_relative <= 1.0)  # NaN is worse, too

    @property
    def statement(self) -> str:
        """How the run ended against the anchor, in words."""
        if self.worse:
            return f"worse than the anchor, relative objective {self.mean_relative:.4f} (above 1)"
        return f"at relative objective {self.mean_relative:.4f} (1 is the anchor)"
