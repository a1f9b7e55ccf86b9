"""Time and memory of what is done, for `estimate_run`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from threading import Event as Flag, Thread

import psutil
import torch

from precomp_sdk.events import CheckpointSaved, Event, Notice, StepDone

__all__ = ["WARM_UP", "Clock", "MemoryWatch", "Took", "timed"]

WARM_UP = 2  #: steps before those that count: threads, caches and memory pools come to rest
_LOOK_EVERY_S = 0.02


class Clock:
    """Times one stage by its events: what comes before the first step, steps, held-out measurements, checkpoints."""

    def __init__(self) -> None:
        self.start_s = self.checkpoint_s = 0.0
        self._steps_s: list[float] = []
        self._held_out_s: list[float] = []
        self._last = time.perf_counter()

    def __call__(self, event: Event) -> None:
        now = time.perf_counter()
        took = now - self._last
        match event:
            case StepDone(step=0):
                self.start_s = took
            case StepDone(scalars=scalars) if any(name.startswith("relative/") for name in scalars):
                self._held_out_s.append(took)
            case StepDone():
                self._steps_s.append(took)
            case CheckpointSaved():
                self.checkpoint_s = took
            case Notice():
                return  # comes in between
        self._last = now

    @property
    def steps(self) -> int:
        """How many steps count."""
        return len(self._steps_s[WARM_UP:])

    @property
    def step_s(self) -> float:
        """A step's usual duration."""
        return median(self._steps_s[WARM_UP:] or self._steps_s or self._held_out_s)

    @property
    def held_out_s(self) -> float:
        """Duration of a measurement of the held-out objective."""
        return max(0.0, median(self._held_out_s) - self.step_s)


class MemoryWatch:
    """The most memory of this process, and of the GPU, while something is done."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self._before = self._most = self.device_bytes = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look often while the work inside goes on."""
        self._before = self._most = self._process.memory_info().rss
        done = Flag()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        watcher = Thread(target=self._watch, args=(done,), daemon=True, name="precomp-memory")
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            if self._device.type == "cuda":
                self.device_bytes = torch.cuda.max_memory_reserved(self._device)

    def _watch(self, done: Flag) -> None:
        while not done.wait(_LOOK_EVERY_S):
            self._most = max(self._most, self._process.memory_info().rss)

    def most(self, times: float) -> int:
        """Return it, with what was added meanwhile taken so many times."""
        return self._before + round(times * max(0, self._most - self._before))


@dataclass(slots=True)
class Took:
    """How long something took, known at its end."""

    seconds: float = 0.0


@contextmanager
def timed() -> Iterator[Took]:
    """Time what is done inside."""
    took, start = Took(), time.perf_counter()
    yield took
    took.seconds = time.perf_counter() - start
