"""How long a stage will still take, from what its recent steps took.

Ours, because the estimates of rich and tqdm divide what is left by the mean step: they do not know the pauses that lie
ahead (held-out measurements, checkpoints), count calibration as a step, and promise too little for most of a run.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Pace", "Remaining", "duration"]

_RECENT = 50  # steps that are averaged
_PAUSES = {"held-out": "held_out_every", "checkpoint": "checkpoint_every"}  # and the settings with their periods


@dataclass(frozen=True, slots=True)
class Remaining:
    """An estimate.

    Args:
        seconds: until the last step is done.
        complete: False where pauses lie ahead of a kind whose length is not known yet: it takes longer then.
    """

    seconds: float
    complete: bool

    def __str__(self) -> str:
        return f"{'' if self.complete else 'more than '}{duration(self.seconds)} left"


class Pace:
    """Estimates the time a stage still takes.

    Steps are averaged over the recent ones. Pauses between them (the held-out objective is measured, a checkpoint is
    written) come at known periods; they are timed apart, and those that lie ahead are added. What happens before the
    first event of a step (calibration, the first batches) counts for neither.

    Args:
        total_steps: of the stage, or 0 where it is unknown.
        settings: of the stage, with the periods of its pauses where it has any.
    """

    def __init__(self, total_steps: int, settings: Mapping[str, object]) -> None:
        self._total = total_steps
        self._steps_s: deque[float] = deque(maxlen=_RECENT)
        self._pauses_s: dict[str, float] = {}  # the last of each kind
        self._step: int | None = None
        self._since_s = 0.0
        periods = {kind: settings.get(setting) for kind, setting in _PAUSES.items()}
        self._periods = {kind: period for kind, period in periods.items() if isinstance(period, int) and period > 1}

    @property
    def step_s(self) -> float | None:
        """Mean duration of a recent step, without pauses; None before there is one."""
        return sum(self._steps_s) / len(self._steps_s) if self._steps_s else None

    def step(self, step: int, now_s: float, *, measured: bool) -> None:
        """Take note of a step.

        Args:
            step: number of steps done.
            now_s: the time.
            measured: the held-out objective was measured after it, too.
        """
        if self._step is not None and step > self._step:
            took_s = (now_s - self._since_s) / (step - self._step)
            usual_s = self.step_s
            if not measured or "held-out" not in self._periods:
                self._steps_s.append(took_s)
            elif usual_s is not None:
                self._pauses_s["held-out"] = max(0.0, now_s - self._since_s - usual_s)
        self._step, self._since_s = step, now_s

    def checkpoint(self, now_s: float) -> None:
        """Take note that a checkpoint was written since the last step."""
        self._pauses_s["checkpoint"] = now_s - self._since_s
        self._since_s = now_s

    def remaining(self) -> Remaining | None:
        """Return the estimate, or None before there is a step to go by."""
        usual_s = self.step_s
        if usual_s is None or self._step is None or not self._total:
            return None
        seconds = (self._total - self._step) * usual_s
        complete = True
        for kind, period in self._periods.items():
            ahead = -(-self._total // period) - self._step // period  # the last step always has one
            if self._step >= self._total:
                ahead = 0
            seconds += ahead * self._pauses_s.get(kind, 0.0)
            complete = complete and (ahead == 0 or kind in self._pauses_s)
        return Remaining(seconds, complete)


def duration(seconds: float) -> str:
    """Return a duration for people.

    Example:
        >>> duration(7.2), duration(200), duration(3725)
        ('0:07', '3:20', '1:02:05')
    """
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
