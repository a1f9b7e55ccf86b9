"""Reads one annotation of PASCAL VOC, and says where it is wrong."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from precomp_data._findings import Findings, clip_box, read_bytes
from precomp_sdk import DatasetError, nearest

__all__ = ["VocObject", "read_voc"]


_YES, _NO = ("1", "true", "yes", "1.0"), ("", "0", "false", "no", "0.0", "unspecified")
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*encoding\s*=\s*["']([A-Za-z0-9._-]+)["'][^>]*\?>""")


@dataclass(frozen=True, slots=True)
class VocObject:
    """One object: x1 y1 x2 y2 in pixels, its label, and whether VOC leaves it out of scores."""

    box: tuple[float, float, float, float]
    label: int
    difficult: bool


def read_voc(path: Path, labels: Mapping[str, int], findings: Findings) -> tuple[tuple[int, int], list[VocObject]]:
    """Read an annotation file.

    Args:
        path: the file.
        labels: the label of every class.
        findings: hears of unknown classes and of wrong boxes.

    Returns:
        The image's (width, height), and its objects.

    Raises:
        DatasetError: it is no XML of that structure, or a finding and they are strict.
    """
    tree = _parsed(path)
    size = int(_number(path, tree, "size/width", 1)), int(_number(path, tree, "size/height", 1))
    objects: list[VocObject] = []
    for index, item in enumerate(tree.iterfind("object"), 1):
        where = f"{path}, object {index}"
        name = (item.findtext("name") or "").strip()
        if not name:
            raise _wrong(f"{where}, name", "a class", "nothing")
        if name not in labels:
            findings.add(path.stem, where, "a known class", f"{name!r} ({nearest(name, labels)})")
            continue
        left, top, right, bottom = (_number(where, item, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
        box = clip_box((left - 1, top - 1, right, bottom), size, findings, path.stem, where)
        if box is not None:
            difficult = _flag(item.findtext("difficult"), path.stem, f"{where}, difficult", findings)
            objects.append(VocObject(box, labels[name], difficult))
    return size, objects


def _parsed(path: Path) -> ElementTree.Element:
    """Parse a file in the encoding that its first line declares, or its byte order mark, or UTF-8."""
    content = read_bytes(path)
    try:
        try:
            return ElementTree.fromstring(content)
        except (ValueError, LookupError):  # expat reads encodings of one byte a character, UTF-8 and UTF-16
            declared = _DECLARED.match(content)
            if declared is None:
                raise
            text = content.decode(declared[1].decode("ascii"))
            return ElementTree.fromstring(text[text.index("?>") + 2 :])
    except ElementTree.ParseError as error:
        line, column = error.position
        raise _wrong(f"{path}, line {line}, column {column + 1}", "XML", str(error)) from error
    except (ValueError, LookupError) as error:  # also text that is not in the encoding it declares
        raise _wrong(str(path), "XML in the encoding that its first line declares", str(error)) from error


def _flag(text: str | None, key: str, where: str, findings: Findings) -> bool:
    """Return a yes or no, which tools write in several ways; what is neither counts as no, and is told."""
    value = (text or "").strip().lower()
    if value in _YES:
        return True
    if value not in _NO:
        findings.add(key, where, "0 or 1", repr((text or "").strip()))
    return False


def _number(where: object, element: ElementTree.Element, tag: str, least: float | None = None) -> float:
    text = element.findtext(tag)
    try:
        value = float(text or "")
    except ValueError as error:
        raise _wrong(f"{where}, {tag}", "a number", "nothing" if text is None else repr(text)) from error
    if not math.isfinite(value) or (least is not None and value < least):
        expected = "a finite number" if least is None else f"a finite number, at least {least:g}"
        raise _wrong(f"{where}, {tag}", expected, repr(text))
    return value


def _wrong(where: str, expected: str, got: str) -> DatasetError:
    return DatasetError(where=where, expected=expected, got=got, remedy="Repair the file.")
