"""Where progress is drawn: a terminal's bar, a notebook's, or lines alone."""

from collections import deque
from html import escape
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from precomp_sdk.errors import printable

__all__ = ["Bar", "NotebookBar", "TerminalBar"]


class Bar(Protocol):
    """A bar for one stage after another, and lines beside it."""

    @property
    def shown(self) -> bool:
        """Whether a bar can be seen; otherwise there are lines alone."""

    def start(self, stage: str, total_steps: int) -> None:
        """Begin a stage; 0 steps where their number is unknown."""

    def update(self, step: int, state: str) -> None:
        """Show how far the stage is."""

    def say(self, line: str) -> None:
        """Write a line that stays."""

    def stop(self) -> None:
        """End the stage."""


class TerminalBar:
    """A bar by rich; lines alone where there is no terminal.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task = TaskID(0)

    @property
    def shown(self) -> bool:
        """Whether this is a terminal."""
        return self._console.is_terminal

    def start(self, stage: str, total_steps: int) -> None:
        """Draw an empty bar."""
        name, state = (TextColumn(f"{{task.{field}}}", markup=False) for field in ("description", "fields[state]"))
        self._progress = Progress(name, BarColumn(), state, console=self._console, refresh_per_second=4, transient=True)
        self._task = self._progress.add_task(printable(stage), total=total_steps or None, state="starts")
        self._progress.start()

    def update(self, step: int, state: str) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.update(self._task, completed=step, state=printable(state))

    def say(self, line: str) -> None:
        """Print the line above the bar."""
        self._console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class NotebookBar:
    """One output of a notebook's cell, rewritten in place: HTML, without the widgets that tqdm and rich need there.

    Args:
        lines: how many of the latest lines stand below the bar.
    """

    shown = True

    def __init__(self, lines: int) -> None:
        self._lines: deque[str] = deque(maxlen=lines)
        self._bar = ""
        self._stage, self._total = "", 0
        self._output: Any = None

    def start(self, stage: str, total_steps: int) -> None:
        """Begin with an empty bar."""
        self._stage, self._total = stage, total_steps
        self.update(0, "starts")

    def update(self, step: int, state: str) -> None:
        """Move the bar."""
        done = f' value="{step}" max="{self._total}"' if self._total else ""
        self._bar = f"{escape(printable(self._stage))} <progress{done}></progress> {escape(printable(state))}"
        self._draw()

    def say(self, line: str) -> None:
        """Write the line below the bar."""
        self._lines.append(printable(line))
        self._draw()

    def stop(self) -> None:
        """Take the bar away; the lines stay."""
        if self._bar:
            self._bar = ""
            self._draw()

    def _draw(self) -> None:
        from IPython.display import HTML, display  # it is there: a notebook watches

        lines = escape("\n".join(self._lines))
        page = HTML(f'<div>{self._bar}</div><pre style="margin: 0">{lines}</pre>')
        if self._output is None:
            self._output = display(page, display_id=True)
        else:
            self._output.update(page)
