"""The choice of a classifier's classes among a network's outputs."""

import json
from collections.abc import Sequence
from pathlib import Path

from precomp_sdk import OptionError

__all__ = ["read_classes"]


def read_classes(classes: Sequence[int] | str | Path, outputs: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return a subset of a network's outputs, and the classes' names where they come from a file.

    Args:
        classes: indices, or a JSON file that maps class (folder) name to index; its classes are sorted by name, as
            the folders of a data set are.
        outputs: how many outputs the network has.

    Raises:
        OptionError: the file cannot be read, or the indices are not distinct outputs of the network.
    """
    names: tuple[str, ...] = ()
    indices: tuple[object, ...]
    if isinstance(classes, str | Path):
        try:
            mapping = json.loads(Path(classes).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise _classes_error("a readable JSON file", f"{classes}: {error}") from error
        if not isinstance(mapping, dict):
            raise _classes_error("a JSON object that maps names to indices", f"{classes}: {type(mapping).__name__}")
        names = tuple(sorted(mapping))
        indices = tuple(mapping[name] for name in names)
    else:
        indices = tuple(classes)
    whole = [index for index in indices if isinstance(index, int) and 0 <= index < outputs]
    if not indices or len(set(whole)) != len(indices):
        raise _classes_error(f"distinct whole numbers from 0 to {outputs - 1}", repr(list(indices)))
    return tuple(whole), names


def _classes_error(expected: str, got: str) -> OptionError:
    remedy = 'Give a list of output indices, or a file like {"tench": 0, "church": 497}.'
    return OptionError(where="option 'classes'", expected=expected, got=got[:300], remedy=remedy)
