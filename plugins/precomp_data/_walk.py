"""The image files below a folder."""

import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from precomp_sdk import SkippedSample
from precomp_sdk.image_io import is_image_name, reason_not_read

__all__ = ["FoundImages", "find_images"]


@dataclass(frozen=True, slots=True)
class FoundImages:
    """What lies below a folder.

    Args:
        files: sorted paths below it, with forward slashes.
        left_out: files that look like images and are not read, and folders that cannot be looked into.
    """

    files: tuple[str, ...]
    left_out: tuple[SkippedSample, ...]


def find_images(folder: Path, *, below: bool = True, apart: Iterable[Path] = ()) -> FoundImages:
    """Return the images in a folder and, unless told otherwise, in all folders below it.

    Links are followed, each folder once: a link to a folder above it ends there. Hidden folders are not looked into.

    Args:
        folder: where to look.
        below: look into its folders, too.
        apart: other folders, whose images are not among these: a link to one is left out.
    """
    files: list[str] = []
    left_out: list[SkippedSample] = []
    seen: set[tuple[int, int]] = set()
    others = {(state.st_dev, state.st_ino) for state in map(Path.stat, apart)}
    folders, links = deque([(folder, "")]), deque[tuple[Path, str]]()
    while folders or links:  # links last, so that images keep the names they have without
        here, name = folders.popleft() if folders else links.popleft()
        try:
            state = here.stat()
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            left_out.append(SkippedSample(f"{name.rstrip('/')}", f"a folder that cannot be read ({error.strerror})"))
            continue
        if (state.st_dev, state.st_ino) in others:
            left_out.append(SkippedSample(name.rstrip("/"), "a link to a folder of other images"))
            continue
        if (state.st_dev, state.st_ino) in seen:
            continue
        seen.add((state.st_dev, state.st_ino))
        for entry in entries:
            key = f"{name}{entry.name}"
            if entry.is_dir():
                if entry.name.startswith("."):
                    left_out += _hidden(Path(entry.path), key)
                elif below:
                    (links if entry.is_symlink() else folders).append((Path(entry.path), f"{key}/"))
            elif entry.is_symlink() and not Path(entry.path).exists():
                if is_image_name(entry.name):
                    left_out.append(SkippedSample(key, "a link to nothing"))
            elif is_image_name(entry.name) and entry.is_file():
                files.append(key)
            elif is_image_name(entry.name):
                left_out.append(SkippedSample(key, "a pipe, a socket or a device"))
            elif reason := reason_not_read(entry.name):
                left_out.append(SkippedSample(key, reason))
    return FoundImages(tuple(sorted(files)), tuple(left_out))


def _hidden(folder: Path, key: str) -> list[SkippedSample]:
    """Name a hidden folder that holds images; others hold what is not meant for us."""
    try:
        holds = any(is_image_name(name) for name in os.listdir(folder))
    except OSError:
        return []
    return [SkippedSample(key, "a hidden folder")] if holds else []
