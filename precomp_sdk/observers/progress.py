"""Progress for people: a bar on a terminal or in a notebook, now and then a line elsewhere.

The bar on a terminal is rich's; the time left is not, see `_pace`.
"""

import time
from collections.abc import Callable, Mapping

from rich.console import Console

from precomp_sdk.closing import Closing
from precomp_sdk.events import (
    CheckpointSaved,
    CurveDone,
    Event,
    Notice,
    PointMeasured,
    RunFinished,
    RunStarted,
    StepDone,
)
from precomp_sdk.observers._bars import Bar, NotebookBar, TerminalBar
from precomp_sdk.observers._pace import Pace, duration
from precomp_sdk.observers.listeners import in_a_notebook

__all__ = ["ProgressObserver"]

_LINES = 12  # that a notebook keeps below its bar
_RELATIVE = "relative/"  # scalars of the held-out objective
_SHOWN = ("objective", "loss", "bpp", "psnr_db", "images_per_s", "megapixels_per_s")


class ProgressObserver(Closing):
    """Shows how far a run is and when it will be done.

    The time left comes from the recent steps of the stage; pauses (held-out measurements, checkpoints) are timed apart
    and added as often as they lie ahead. On a terminal there is a bar; in a notebook there is one for all stages, with
    the latest lines below it; elsewhere a line every so many seconds. The relative objective, finished curves and
    notices get a line of their own. Use it as a context manager, or call ``close``.

    Args:
        console: where to; default: the notebook that watches, else standard error.
        line_every_s: how often there is a line where there is no terminal.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        line_every_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bar: Bar
        if console is None and in_a_notebook():
            self._bar = NotebookBar(_LINES)
        else:
            self._bar = TerminalBar(Console(stderr=True) if console is None else console)
        self._line_every_s = line_every_s
        self._clock = clock
        self._pace = Pace(0, {})
        self._last_line_s = clock()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case RunStarted(stage, total_steps, settings):
                self._start(stage, total_steps, settings)
            case StepDone():
                self._step(event)
            case CheckpointSaved():
                self._pace.checkpoint(self._clock())
            case PointMeasured():
                pass  # its curve follows
            case CurveDone(curve):
                bpps = [point.bpp for point in curve.points]
                self._say(f"{curve.label}: {len(bpps)} points, {bpps[0]:.3f} to {bpps[-1]:.3f} bpp")
            case Notice(stage, message):
                self._say(f"{stage}: {message}")
            case RunFinished(stage, seconds):
                self._bar.stop()
                self._say(f"{stage}: done in {duration(seconds)}")

    def close(self) -> None:
        """Take the bar off the terminal."""
        self._bar.stop()

    def _start(self, stage: str, total_steps: int, settings: Mapping[str, object]) -> None:
        self._pace = Pace(total_steps, settings)
        self._last_line_s = self._clock()
        self._bar.stop()
        if self._bar.shown:
            self._bar.start(stage, total_steps)
        else:
            self._say(f"{stage}: {total_steps} steps" if total_steps else f"{stage}: starts")

    def _step(self, event: StepDone) -> None:
        now_s = self._clock()
        relative = {name: value for name, value in event.scalars.items() if name.startswith(_RELATIVE)}
        self._pace.step(event.step, now_s, measured=bool(relative))
        if relative:
            self._say(f"{event.stage}: step {event.step}, {_objective(relative)}")
        state = self._state(event)
        if self._bar.shown:
            self._bar.update(event.step, state)
        elif now_s - self._last_line_s >= self._line_every_s:
            self._last_line_s = now_s
            self._say(f"{event.stage}: {state}")

    def _state(self, event: StepDone) -> str:
        parts = [f"{event.step}/{event.total_steps}" if event.total_steps else str(event.step)]
        parts += [_scalar(name, event.scalars[name]) for name in _SHOWN if name in event.scalars]
        if (step_s := self._pace.step_s) is not None:
            parts.append(f"{step_s:.2g} s per step")
        if (remaining := self._pace.remaining()) is not None:
            parts.append(str(remaining))
        return ", ".join(parts)

    def _say(self, line: str) -> None:
        self._bar.say(line)


def _scalar(name: str, value: float) -> str:
    unit = name.removesuffix("_per_s")
    return f"{name} {value:.3g}" if unit == name else f"{value:.3g} {unit}/s"


def _objective(relative: Mapping[str, float]) -> str:
    """Return the relative objective for people; 1 is the anchor's."""
    mean = relative.get(f"{_RELATIVE}mean")
    each = [
        f"{name.removeprefix(_RELATIVE).replace('_', ' ')}: {value:.3f}"
        for name, value in relative.items()
        if name != f"{_RELATIVE}mean"
    ]
    return "relative objective " + (f"{mean:.3f}" if mean is not None else "") + f" ({', '.join(each)})"
