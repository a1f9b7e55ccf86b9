"""A log of a run: one JSON object per line."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from precomp_sdk.closing import Closing
from precomp_sdk.events import Event
from precomp_sdk.observers.plain import plain

__all__ = ["JSONLObserver"]


class JSONLObserver(Closing):
    """Writes every event as one line of JSON and flushes it; numbers are written exactly.

    A line has the class of the event as ``event``, seconds since 1970 as ``time_s``, and the event's own fields. The
    file is opened at the first event. After a resumed run a step may occur twice: its last line counts.

    Args:
        path: of the file; its folder is made where it does not exist.
        append: go on with the file that is there, instead of starting anew.
        clock: for ``time_s``.

    Raises:
        OSError: (at the first event) the file cannot be written.
    """

    def __init__(self, path: Path | str, *, append: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._path = Path(path)
        self._append = append
        self._clock = clock
        self._file: TextIO | None = None

    def __call__(self, event: Event) -> None:
        """Write one event."""
        if self._file is None:
            self._file = self._open()
        fields = plain(event)
        assert isinstance(fields, dict)  # an event is a record
        line = {"event": type(event).__name__, "time_s": self._clock(), **fields}
        self._file.write(json.dumps(line, allow_nan=False, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> TextIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a" if self._append else "w", encoding="utf-8")
        if file.tell() and not self._ends_a_line():  # an interruption cut the last line
            file.write("\n")
        self._append = True  # a closed observer that is called again goes on
        return file

    def _ends_a_line(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"
