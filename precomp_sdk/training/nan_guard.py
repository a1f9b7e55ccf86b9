"""Where a number stopped being finite, said so that one can look there."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from precomp_sdk.errors import NonFiniteError

__all__ = ["NaNGuard"]


@dataclass(frozen=True, slots=True)
class NaNGuard:
    """Refuses NaN and infinity, and names the place.

    Args:
        where: the step, in words.
        folder: of the run's checkpoint, or None.
    """

    where: str
    folder: Path | None = None

    def check(self, term: str, value: float | Tensor) -> None:
        """Pass where every number of ``value`` is finite.

        Raises:
            NonFiniteError: one is not.
        """
        if isinstance(value, Tensor):
            if bool(torch.isfinite(value.detach()).all()):
                return
            got = "NaN" if bool(torch.isnan(value.detach()).any()) else "infinity"
        elif math.isfinite(value):
            return
        else:
            got = str(value)
        kept = f"The last checkpoint in {self.folder} is whole." if self.folder else "There was no folder to save in."
        raise NonFiniteError(
            where=f"{self.where}, term {term!r}",
            expected="a finite number",
            got=got,
            remedy=f"Lower learning_rate or clip_norm, or look at the images of this step. {kept}",
        )
