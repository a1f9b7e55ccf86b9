"""Reads a file in COCO's annotation format, and says where it is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from precomp_data._findings import Findings, clip_box, read_json
from precomp_sdk import DatasetError

__all__ = ["CocoFile", "CocoImage", "CocoObject", "read_coco"]

_LARGE = 2**31  # no coordinate is


class _Said(str):
    """Words of ours, which are no value to be shown in quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


_NOTHING = _Said("nothing")


@dataclass(frozen=True, slots=True)
class CocoObject:
    """One annotation: x1 y1 x2 y2 in pixels, the category's id, and whether it is a region of many objects."""

    box: tuple[float, float, float, float]
    category: int
    crowd: bool


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One image: its id and size, its file below the folder of images, and its objects, maybe none."""

    id: int
    file: str
    size: tuple[int, int]  # width, height
    objects: list[CocoObject] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CocoFile:
    """The images in the file's order, and the categories' names by id, sorted by id."""

    images: tuple[CocoImage, ...]
    categories: dict[int, str]


def read_coco(path: Path, findings: Findings) -> CocoFile:
    """Read an annotation file.

    Args:
        path: the file.
        findings: hears of annotations with a wrong box, an unknown image or an unknown category; the file's own
            structure must be right.

    Raises:
        DatasetError: it is no JSON of that structure, an id or a category's name occurs twice, or a finding and they
            are strict.
    """
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise _wrong(str(path), "an object with images, annotations and categories", content)
    categories = _categories(path, content)
    images: dict[int, CocoImage] = {}
    files: set[str] = set()
    for where, entry in _entries(path, content, "images"):
        image = CocoImage(
            id=_whole(where, entry, "id"),
            file=_text(where, entry, "file_name"),
            size=(_whole(where, entry, "width", 1), _whole(where, entry, "height", 1)),
        )
        if image.id in images:
            raise _wrong(f"{where}.id", "an id of its own for each image", image.id)
        if image.file in files:
            raise _wrong(f"{where}.file_name", "one entry for each file", image.file)
        images[image.id] = image
        files.add(image.file)
    for where, entry in _entries(path, content, "annotations"):
        _add_object(where, entry, images, categories, findings)
    return CocoFile(images=tuple(images.values()), categories=categories)


def _categories(path: Path, content: Mapping[str, Any]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for where, entry in _entries(path, content, "categories"):
        number, name = _whole(where, entry, "id"), _text(where, entry, "name")
        if number in categories or name in categories.values():
            raise _wrong(where, "an id and a name of its own for each category", _Said(f"{number} {name!r} again"))
        categories[number] = name
    if not categories:
        raise _wrong(f"{path}, categories", "one category or more", [])
    return dict(sorted(categories.items()))


def _add_object(
    where: str,
    entry: Mapping[str, Any],
    images: Mapping[int, CocoImage],
    categories: Mapping[int, str],
    findings: Findings,
) -> None:
    image = images.get(_whole(where, entry, "image_id"))
    category = _whole(where, entry, "category_id")
    if image is None:
        findings.add(str(entry["image_id"]), f"{where}.image_id", "the id of an image", repr(entry["image_id"]))
        return
    if category not in categories:
        expected = f"the id of a category ({_few(list(categories))})"
        findings.add(image.file, f"{where}.category_id", expected, str(category))
        return
    numbers = entry.get("bbox")
    if numbers is None or numbers == []:
        got = "nothing" if numbers is None else "an empty list"
        findings.add(image.file, f"{where}.bbox", "a box with an area", got)
        return
    if not isinstance(numbers, Sequence) or len(numbers) != 4 or not all(_is_number(number) for number in numbers):
        raise _wrong(f"{where}.bbox", "[x, y, width, height] in pixels", numbers)
    crowd = entry.get("iscrowd", 0)
    if not isinstance(crowd, int | float) or crowd not in (0, 1):
        raise _wrong(f"{where}.iscrowd", "0 or 1", crowd)
    x, y, width, height = numbers
    box = clip_box((x, y, x + width, y + height), image.size, findings, image.file, f"{where}.bbox")
    if box is not None:
        image.objects.append(CocoObject(box, category, bool(crowd)))


def _entries(path: Path, content: Mapping[str, Any], key: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the objects of a list, each with its place."""
    found = content.get(key)
    if not isinstance(found, list):
        raise _wrong(f"{path}, {key}", "a list", _NOTHING if found is None else found)
    for index, entry in enumerate(found):
        if not isinstance(entry, Mapping):
            raise _wrong(f"{path}, {key}[{index}]", "an object", entry)
    return [(f"{path}, {key}[{index}]", entry) for index, entry in enumerate(found)]


def _whole(where: str, entry: Mapping[str, Any], key: str, least: int | None = None) -> int:
    value = entry.get(key)
    if isinstance(value, float) and value.is_integer():  # pandas writes 1.0
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and not least <= value < _LARGE):
        expected = "a whole number" if least is None else f"a whole number from {least} on"
        raise _wrong(f"{where}.{key}", expected, _NOTHING if value is None else value)
    return value


def _text(where: str, entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise _wrong(f"{where}.{key}", "a text", _NOTHING if value is None else value)
    return value


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < _LARGE


def _few(items: Sequence[object]) -> str:
    return ", ".join(map(str, items[:8])) + (" ..." if len(items) > 8 else "")


def _wrong(where: str, expected: str, got: object) -> DatasetError:
    return DatasetError(
        where=where,
        expected=expected,
        got=repr(got)[:80],  # text in quotes: '1' is not 1
        remedy="Repair the annotations: see 'Data format' on cocodataset.org.",
    )
