"""Signals that ask a program to end, answered at a moment when nothing is lost."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "deferred", "signals_raise"]

_asked: list[int] = []  # the signal that waits for a safe moment; there is one main thread, and signals are its own
_safe_moments = 0  # how many `deferred` are open


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to end.

    Args:
        number: of the signal.
        told: what was kept, for the user.
    """

    def __init__(self, number: int, told: str = "") -> None:
        super().__init__(told)
        self.number = number
        self.told = told

    @property
    def status(self) -> int:
        """What shells expect as exit status: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
        return 128 + self.number


@contextmanager
def signals_raise() -> Iterator[None]:
    """Raise `Interrupted` on Ctrl-C, SIGTERM and SIGHUP, so that what is open is closed; batch systems send them.

    A signal that the program was started to ignore (``nohup``, a job in the background) stays ignored. Outside the main
    thread, which alone may handle signals, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler not in (signal.SIG_IGN, None):
            signal.signal(number, _handle)
    try:
        yield
    finally:
        _asked.clear()
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[Callable[[], int | None]]:
    """Let a signal wait until the work inside asks for it; a second one does not wait.

    Yields:
        A function that returns the signal that came, or None; the caller saves its work and raises `Interrupted`.
    """
    global _safe_moments
    _safe_moments += 1
    try:
        yield lambda: _asked[0] if _asked else None
    finally:
        _safe_moments -= 1
        _asked.clear()


def _handle(number: int, _frame: FrameType | None) -> None:
    if _safe_moments and not _asked:
        _asked.append(number)
        return
    raise Interrupted(number)
