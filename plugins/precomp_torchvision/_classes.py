"""Which of a network's outputs are a task's classes, and whether a data set has the same."""

from collections.abc import Sequence

from precomp_sdk import OptionError, TargetError, nearest

__all__ = ["check_names", "choose_classes", "without_background"]

_NO_CLASS = "N/A"  # torchvision's name for numbers that COCO left out


def without_background(names: Sequence[str], outputs: int) -> dict[int, str]:
    """Return the names of a detection network's outputs, without the background and numbers that stand for nothing.

    Args:
        names: of all outputs; empty where they have none.
        outputs: how many there are.
    """
    known = {number: names[number] if names else "" for number in range(1, outputs)}
    return {number: name for number, name in known.items() if name != _NO_CLASS}


def choose_classes(
    classes: Sequence[str] | Sequence[int] | None, known: dict[int, str]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the network's output number of each class of the task, and the classes' names where they have any.

    Args:
        classes: names, or places among the network's classes; None for all of them.
        known: the network's classes: output number to name, which may be empty.

    Raises:
        OptionError: a class is unknown, there are none, or one is chosen twice.
    """
    numbers = list(known)
    if classes is None:
        chosen = numbers
    elif isinstance(classes, str) or not classes:
        raise _wrong(repr(classes), "Leave it out for all classes.")
    else:
        by_name = {name: number for number, name in known.items() if name}
        chosen = []
        for item in classes:
            if isinstance(item, str):
                if item not in by_name:
                    raise _wrong(repr(item), nearest(item, by_name))
                chosen.append(by_name[item])
            elif isinstance(item, bool) or not 0 <= item < len(numbers):
                raise _wrong(repr(item), f"Numbers go from 0 to {len(numbers) - 1}.")
            else:
                chosen.append(numbers[item])
        if len(set(chosen)) != len(chosen):
            raise _wrong(repr(list(classes)), "Name each class once.")
    names = tuple(known[number] for number in chosen)
    return tuple(chosen), names if all(names) else ()


def check_names(task: str, own: Sequence[str], count: int, theirs: Sequence[str]) -> None:
    """Raise `TargetError` if a data set has another number of classes, or other ones where both are named.

    A data set without class names is accepted; ``"__background__"`` and ``"background"`` are one name.
    """
    if not theirs:
        return
    if len(theirs) != count:
        raise TargetError(
            where=f"task {task!r}",
            expected=f"a data set of {count} classes",
            got=f"{len(theirs)}: {_some(theirs)}",
            remedy="Set num_classes (a new network or head) or classes (some of the network's) to fit.",
        )
    for place, (ours, name) in enumerate(zip(own, theirs, strict=False)):
        if ours.strip("_").lower() != name.strip("_").lower():
            raise TargetError(
                where=f"task {task!r}",
                expected=f"class {place} to be {ours!r}",
                got=f"{name!r} of {_some(theirs)}",
                remedy="Set classes to the network's names for the data set's classes, in the data set's order.",
            )


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"


def _wrong(got: str, remedy: str) -> OptionError:
    return OptionError(
        where="option 'classes'",
        expected="a list of the network's classes, by name or number",
        got=got,
        remedy=remedy,
    )
