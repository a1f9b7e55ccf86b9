"""A look at masks before anything is trained on them: what no single mask can tell."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from precomp_sdk import DatasetError, PrecompError

__all__ = ["survey_masks"]

_BUDGET_PX = 64_000_000  # looked at, about a second's work
_LARGE_SHARE = 0.25  # of all pixels
_MANY_VALUES = 32
_TRIES = 100  # masks that cannot be read, before the first is taken as what they all are
_LARGEST_LABEL = 65_535


def survey_masks(
    read: Callable[[int], Tensor],
    count: int,
    *,
    where: str,
    class_names: Sequence[str],
    ignore_index: int,
    chosen: bool,
) -> tuple[str, ...]:
    """Look at masks, all of them or as many as a second allows, and return what the user should know.

    Masks that cannot be read are passed over, as reading the sample tells of them, unless none can be read.

    Args:
        read: returns the labels (H, W) of a mask by its place.
        count: number of masks.
        where: the set, for messages.
        class_names: of labels 0, 1, ...; may be empty.
        ignore_index: the label that counts for nothing.
        chosen: the user, or a file of the set, has said so.

    Raises:
        DatasetError: one class is left after the ignored label is taken away, although nobody chose to ignore it: masks
            of 0 and 255, where 255 is the object.
            Or no mask that was looked at can be read, such as JPEG files.
    """
    counts = torch.zeros(_LARGEST_LABEL + 1, dtype=torch.int64)
    looked, trouble = 0, None
    for place in _spread(read, count):
        try:
            labels = read(place).flatten()
        except PrecompError as error:
            trouble = trouble or error
            continue
        counts += torch.bincount(labels.clamp(0, _LARGEST_LABEL), minlength=len(counts))
        looked += 1
    total = int(counts.sum())
    if total == 0 and trouble is not None:
        raise DatasetError(
            where=trouble.where, expected=trouble.expected, got=trouble.got, remedy=trouble.remedy
        ) from trouble
    if total == 0:
        return ()
    ignored = int(counts[ignore_index]) / total if ignore_index < len(counts) else 0.0
    values = [value for value in counts.nonzero().flatten().tolist() if value != ignore_index]
    whole = f"the {looked} masks" if looked == count else f"the {looked} masks looked at, of {count},"
    if not chosen and ignored > 0 and len(values) <= 1 and len(class_names) != 1:
        raise DatasetError(
            where=where,
            expected=f"masks of at least two classes beside {ignore_index}, which counts for nothing",
            got=f"{values} and {ignore_index} in {whole}; {ignore_index} covers {_percent(ignored)} of all pixels",
            remedy=f"Where {ignore_index} is the object, write 1 instead; where it counts for nothing, say "
            f"ignore_index = {ignore_index}.",
        )
    notes = []
    if ignored >= _LARGE_SHARE:
        notes.append(f"label {ignore_index} counts for nothing and covers {_percent(ignored)} of the pixels of {whole}")
    absent = [name for label, name in enumerate(class_names) if label not in values]
    if absent:
        shown = ", ".join(map(repr, absent[:8])) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
        notes.append(f"no pixel of {whole} is of class {shown}")
    if not class_names and len(values) > _MANY_VALUES:
        notes.append(
            f"{whole} hold {len(values)} different labels from {values[0]} to {values[-1]} and no classes are named: "
            "masks that went through a lossy format look like this"
        )
    return tuple(notes)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.2%}"


def _spread(read: Callable[[int], Tensor], count: int) -> list[int]:
    """Return evenly spread places, as many as the budget allows by the first mask that can be read."""
    for place in range(min(count, _TRIES)):
        try:
            size = read(place).numel()
        except PrecompError:
            continue
        most = max(1, min(count, _BUDGET_PX // max(size, 1)))
        return [number * count // most for number in range(most)]
    return list(range(min(count, 1)))
