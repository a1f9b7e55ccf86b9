"""Who is told of a run's events: the one place where an observer is chosen, called and outlived."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from precomp_sdk.errors import printable, reason_of
from precomp_sdk.events import Event, Notice

__all__ = ["Listener", "Observer", "fan_out", "in_a_notebook", "listening"]

Observer: TypeAlias = Callable[[Event], None]  #: is called with every event of a run
Listener: TypeAlias = Observer | Literal["auto"] | None  #: ``"auto"`` shows progress to people, None is silence


@contextmanager
def listening(observer: Listener) -> Iterator[Observer]:
    """Offer the function to tell of events: the observer's, a progress bar of this run's own, or one that does nothing.

    An observer that raises is not called again and the run goes on; it is said once, as a warning.

    Args:
        observer: any; ``"auto"`` is a `ProgressObserver` where standard error is a terminal or a notebook watches, and
            silence elsewhere. None is silence.
    """
    if observer != "auto":
        yield fan_out() if observer is None else fan_out(observer)
    elif sys.stderr is not None and (sys.stderr.isatty() or in_a_notebook()):
        from precomp_sdk.observers.progress import ProgressObserver  # takes long to import

        with ProgressObserver() as progress:
            yield fan_out(progress)
    else:
        yield fan_out()


def fan_out(*observers: Observer) -> Observer:
    """Return an observer that passes every event to all of these, in order.

    One that raises is not called again, and the run goes on. The others are told by a `Notice`; where there is no
    other, it is a `RuntimeWarning`. What is no `Exception`, such as `KeyboardInterrupt`, passes.
    """
    working = list(observers)

    def observe(event: Event) -> None:
        for observer in tuple(working):
            if observer not in working:  # it failed over a notice, just now
                continue
            try:
                observer(event)
            except Exception as error:  # whatever a stranger's logger raises must not cost the run
                working.remove(observer)
                told = f"the observer {_name(observer)} failed and is left out from here on: {reason_of(error)}"
                if working:
                    observe(Notice("observers", told))
                else:
                    warnings.warn(told, RuntimeWarning, stacklevel=2)

    return observe


def in_a_notebook() -> bool:
    """Tell whether this program is the kernel of a notebook, which shows what is displayed."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")


def _name(observer: Observer) -> str:
    named = observer if hasattr(observer, "__qualname__") else type(observer)
    return printable(f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', '')}")
