"""What annotations get wrong: an error at once, or a list of what was left out."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from precomp_sdk import DatasetError, DatasetReport, SkippedSample
from precomp_sdk.validation import LFS_POINTER

__all__ = ["Findings", "absent_classes", "clip_box", "read_bytes", "read_json", "read_text"]

_LEAST_SIDE_PX = 0.01  # of a box: less is lost where coordinates become 32 bits and images are resized
_TOLERANCE_PX = 1.0  # boxes of rounded or halved coordinates stick out by less


class Findings:
    """Collects what is wrong with single entries of an annotation.

    Args:
        strict: raise at the first one.
    """

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self._mended: list[SkippedSample] = []
        self._left_out: list[SkippedSample] = []

    def report(self, images: int, left_out: Iterable[SkippedSample] = (), notes: Iterable[str] = ()) -> DatasetReport:
        """Return what was found, with what the caller has found beside."""
        return DatasetReport(
            images=images, left_out=(*self._left_out, *left_out), mended=tuple(self._mended), notes=tuple(notes)
        )

    def add(self, key: str, where: str, expected: str, got: str, *, image: bool = False) -> None:
        """Note an entry that is left out or mended.

        Args:
            key: of the image.
            where: the entry.
            expected: what would have been right.
            got: what came instead.
            image: the whole image is left out, not an object of it.

        Raises:
            DatasetError: always, where strict.
        """
        if self.strict:
            raise DatasetError(
                where=where,
                expected=expected,
                got=got,
                remedy="Correct it, or set the option strict to false to leave such entries out.",
            )
        found = self._left_out if image else self._mended
        found.append(SkippedSample(key=key, reason=f"{where}: expected {expected}; got {got}"))


def absent_classes(names: Sequence[str]) -> list[str]:
    """Return a note of the classes that occur in no annotation, or none."""
    shown = ", ".join(map(repr, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return [f"no object is of class {shown}"] if names else []


def clip_box(
    box: tuple[float, float, float, float], size: tuple[int, int], findings: Findings, key: str, where: str
) -> tuple[float, float, float, float] | None:
    """Return a box inside its image, or None where nothing of it is.

    Less than a pixel outside is clipped in silence: coordinates are rounded.

    Args:
        box: x1 y1 x2 y2 in pixels, x2 and y2 exclusive.
        size: (width, height) of the image.
        findings: hears of boxes that stick out, lie outside or have no area.
        key: the image.
        where: the box, for messages.

    Raises:
        DatasetError: the box is wrong and the findings are strict.
    """
    width, height = size
    x1, y1, x2, y2 = box
    clipped = max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2)
    with np.errstate(over="ignore"):  # where a coordinate is beyond all images
        left, top, right, bottom = np.asarray(clipped, dtype=np.float32).tolist()  # what the network will get
    text = f"x1 y1 x2 y2 = {x1:.9g} {y1:.9g} {x2:.9g} {y2:.9g}"
    sides = x2 - x1, y2 - y1
    if not all(_LEAST_SIDE_PX <= side < math.inf for side in sides):  # also where one is not a number
        findings.add(key, where, f"a box with an area, {_LEAST_SIDE_PX:g} pixels wide and high or more", text)
        return None
    if not (right - left >= _LEAST_SIDE_PX / 2 and bottom - top >= _LEAST_SIDE_PX / 2):
        findings.add(key, where, f"a box in its image of {width} x {height}", f"{text}, all of it outside")
        return None
    if max(abs(ours - theirs) for ours, theirs in zip(clipped, box, strict=True)) > _TOLERANCE_PX:
        findings.add(key, where, f"a box in its image of {width} x {height}", f"{text}, which sticks out")
    return left, top, right, bottom


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        DatasetError: there is none, or a pointer of git-lfs in its place.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DatasetError(
            where=str(path), expected="a file that can be read", got=reason, remedy="Check the path."
        ) from error
    if content.startswith(LFS_POINTER):
        raise DatasetError(
            where=str(path),
            expected="the file itself",
            got="a pointer of git-lfs: it was not downloaded",
            remedy="Run `git lfs pull`.",
        )
    return content


def read_text(path: Path) -> str:
    """Return a text file's content.

    Raises:
        DatasetError: there is none, or it is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(
            where=f"{path}, byte {error.start}", expected="UTF-8 text", got=error.reason, remedy="Save it as UTF-8."
        ) from error


def read_json(path: Path) -> Any:
    """Return a JSON file's content.

    Raises:
        DatasetError: there is none, or it is not JSON; says the line.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and values nested too deeply
        place = f", line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DatasetError(
            where=f"{path}{place}", expected="JSON", got=f"something else: {error}", remedy="Repair the file."
        ) from error
