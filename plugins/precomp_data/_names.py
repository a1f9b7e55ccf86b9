"""Names of classes as options give them."""

from collections.abc import Sequence

from precomp_sdk import OptionError

__all__ = ["chosen_names"]


def chosen_names(dataset: str, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the option ``classes`` as a tuple.

    Raises:
        OptionError: it is not a list of different names.
    """
    names = tuple(classes)
    if isinstance(classes, str) or not names or len(set(names)) != len(names):
        raise OptionError(
            where=f"data set {dataset!r}, classes",
            expected="names of classes, each once",
            got=repr(classes),
            remedy="Give a list of names, or leave the option out.",
        )
    return names
