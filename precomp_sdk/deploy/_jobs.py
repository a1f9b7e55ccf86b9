"""Which images a bulk job is about, and where each payload goes."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from precomp_sdk.atomic_io import remove_leftovers
from precomp_sdk.errors import DatasetError, OptionError
from precomp_sdk.image_io import is_image_name

__all__ = ["Job", "check_outputs", "clear_leftovers", "find_jobs"]


@dataclass(frozen=True, slots=True)
class Job:
    """One image to be compressed.

    Args:
        source: its file.
        output: where its payload goes.
    """

    source: Path
    output: Path


def find_jobs(inputs: Sequence[Path], output: Path, suffix: str) -> list[Job]:
    """Return the images of files and folders, each with where its payload goes: the tree is mirrored.

    A payload has the source's name with the codec's ending. Where two sources of one folder would share it (``a.png``
    and ``a.jpg``), both keep their own ending before the codec's. Hidden files and folders are left out; linked folders
    are followed, each once. Where an input is not there by name, it is a pattern, such as ``photos/**/*.png``, of files
    and folders; the tree from its first wildcard on is mirrored.

    Args:
        inputs: image files, folders of images at any depth, and patterns of either.
        output: the folder to write to; not looked into where it lies below an input.
        suffix: ending of the codec's files, with its dot.

    Raises:
        DatasetError: an input is not there, or there is no image.
        OptionError: an input is the output.
    """
    found: list[tuple[Path, Path]] = []  # a source, and its place below the output
    for given in inputs:
        for place, root in _matched(given, output):
            if place.is_dir() and place.resolve() == output.resolve():
                raise OptionError(
                    where="bulk job",
                    expected="an output folder other than the inputs",
                    got=str(output),
                    remedy="Choose another folder; it may lie inside an input.",
                )
            if place.is_dir():
                found += [(path, path.relative_to(root or place)) for path in _images_below(place, output)]
            elif place.is_file() and (root is None or is_image_name(place.name)):
                found.append((place, place.relative_to(root or place.parent)))
    found = list(dict.fromkeys(found))  # an image that was given twice is one
    if not found:
        raise DatasetError(
            where=", ".join(map(str, inputs)), expected="images", got="none", remedy="Look at the folder."
        )
    names = [relative.with_suffix(suffix) for _, relative in found]
    shared = {name for name, count in Counter(names).items() if count > 1}
    return [
        Job(path, output / (relative.with_name(relative.name + suffix) if name in shared else name))
        for (path, relative), name in zip(found, names, strict=True)
    ]


def check_outputs(jobs: Sequence[Job]) -> None:
    """Refuse a job that would write a file twice, or over a source.

    Raises:
        OptionError: it would.
    """
    twice = [path for path, count in Counter(job.output for job in jobs).items() if count > 1]
    if twice:
        both = " and ".join(str(job.source) for job in jobs if job.output == twice[0])
        raise OptionError(
            where="bulk job",
            expected="an output of its own for every image",
            got=f"{twice[0]} for {both}",
            remedy="Compress them one by one, each into a folder of its own.",
        )
    sources = {job.source.resolve() for job in jobs}
    over = [job.output for job in jobs if job.output.resolve() in sources]
    if over:
        raise OptionError(
            where="bulk job",
            expected="outputs beside the sources",
            got=f"{over[0]}, which is a source",
            remedy="Choose another output folder: sources are never overwritten.",
        )


def clear_leftovers(jobs: Sequence[Job]) -> None:
    """Remove what these jobs had begun to write when they were killed."""
    names: dict[Path, set[str]] = {}
    for job in jobs:
        names.setdefault(job.output.parent, set()).add(job.output.name)
    for folder, there in names.items():
        if folder.is_dir():
            remove_leftovers(folder, there)


def _matched(given: Path, output: Path) -> list[tuple[Path, Path | None]]:
    """Return what an input stands for: itself, or what a pattern matches, with the folder before its first wildcard.

    A pattern matches nothing that is hidden, and nothing in the output.
    """
    if given.exists():
        return [(given, None)]
    parts = given.parts
    wild = next((place for place, part in enumerate(parts) if set(part) & set("*?[")), len(parts))
    root = Path(*parts[:wild])
    matches = sorted(root.glob(str(Path(*parts[wild:])))) if wild < len(parts) and root.is_dir() else []
    found = [
        path
        for path in matches
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
        and output.resolve() not in (path.resolve(), *path.resolve().parents)
    ]
    if not found:
        raise DatasetError(
            where=str(given),
            expected="an image file, a folder, or a pattern of them",
            got="nothing there",
            remedy="Look at the path.",
        )
    return [(path, root) for path in found]


def _images_below(root: Path, output: Path) -> Iterator[Path]:
    """Yield image files below a folder in the order of their names, hidden ones and the output left out."""
    seen: set[Path] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        here = Path(folder).resolve()
        if here in seen or here == output.resolve():
            folders.clear()
            continue
        seen.add(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith(".") and is_image_name(name))
