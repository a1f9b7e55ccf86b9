"""The record of a bulk job: a line for every file, that is there once its payload is."""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, Self

__all__ = ["RECORD_NAME", "FileRecord", "Journal", "read_records"]

RECORD_NAME = "compressed.jsonl"  #: the record of a bulk job, in its output folder: a line per file


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What became of one image.

    Args:
        source: its file.
        output: of its payload.
        status: ``"done"``, ``"failed"``, ``"skipped"`` (it was done before), or ``"planned"`` in a dry run.
        bytes_before: size of the source file.
        bytes_after: of the payload; 0 where there is none.
        height: of the source, in pixels; 0 where it was not read.
        width: likewise.
        quality: on the codec's scale; None where there is no payload.
        resolution: factor of height and width at which it was coded.
        encodes: how often it was encoded.
        seconds: of one worker's time, reading and writing included.
        error: in one line, where it failed.
        reason: why this quality was chosen, where it was.
        mtime_ns: when the source was last changed.
        sender: what made it: a digest of weights, codec, options and how the quality is chosen.
    """

    source: str
    output: str
    status: Literal["done", "failed", "skipped", "planned"]
    bytes_before: int = 0
    bytes_after: int = 0
    height: int = 0
    width: int = 0
    quality: float | None = None
    resolution: float = 1.0
    encodes: int = 0
    seconds: float = 0.0
    error: str = ""
    reason: str = ""
    mtime_ns: int = 0
    sender: str = ""


def read_records(path: Path) -> list[FileRecord]:
    """Return the last record of every payload in a file of records; a line that was cut off at a kill is left out."""
    if not path.exists():
        return []
    names = {item.name for item in fields(FileRecord)}
    found: dict[str, FileRecord] = {}
    for line in path.read_text(encoding="utf-8", errors="surrogateescape").split("\n"):
        try:
            values = json.loads(line)
            entry = FileRecord(**{name: value for name, value in values.items() if name in names})
        except (ValueError, TypeError, AttributeError, RecursionError):
            continue
        found[entry.output] = entry
    return list(found.values())


class Journal:
    """Appends records to a file, each as a line that is on disk before the next begins; or nowhere."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def __enter__(self) -> Self:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            content = self._path.read_bytes() if self._path.exists() else b""
            self._file = self._path.open("a", encoding="utf-8", errors="surrogateescape")  # names are any bytes
            if content and not content.endswith(b"\n"):  # a kill left half a line
                self._file.write("\n")
        return self

    def write(self, entry: FileRecord) -> None:
        if self._path is not None:
            self._file.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
            self._file.flush()

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            os.fsync(self._file.fileno())
            self._file.close()
