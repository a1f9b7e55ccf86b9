"""What holds for the data sets of a run together: one numbering of classes, and what was left out."""

from collections.abc import Callable, Mapping
from itertools import combinations

from precomp_sdk.data import DatasetReport, TaskDataset
from precomp_sdk.errors import TargetError
from precomp_sdk.events import Event, Notice

__all__ = ["check_same_classes", "reports_of", "tell_reports"]

_SHOWN = 6


def check_same_classes(datasets: Mapping[str, TaskDataset], origin: str) -> None:
    """Refuse data sets that number their classes differently: a car would be 0 in one and 1 in another.

    Sets whose classes have no names cannot be compared.

    Args:
        datasets: those whose labels are used, by their key in the file.
        origin: the file.

    Raises:
        TargetError: two of them have other classes, or the same in another order.
    """
    named = {key: item for key, item in datasets.items() if item.class_names}
    for (first, ours), (second, theirs) in combinations(named.items(), 2):
        if ours.class_names != theirs.class_names:
            raise TargetError(
                where=f"{origin}, {second}{_from(theirs)}",
                expected=f"the classes of {first}{_from(ours)}, in the same order: {_some(ours.class_names)}",
                got=_some(theirs.class_names),
                remedy="Labels are places in these lists: number both sets alike, or give both the option classes.",
            )


def reports_of(datasets: Mapping[str, TaskDataset]) -> dict[str, DatasetReport]:
    """Return what each data set read and left out, by its key in the file; a set with two keys counts once."""
    seen: dict[int, str] = {}
    return {key: item.report() for key, item in datasets.items() if seen.setdefault(id(item), key) == key}


def tell_reports(datasets: Mapping[str, TaskDataset], notify: Callable[[Event], None] | None) -> None:
    """Send a notice of whatever a data set left out or should be known of it."""
    for key, report in reports_of(datasets).items():
        for message in report.messages() if notify else ():
            assert notify is not None
            notify(Notice("data", f"{key} ({datasets[key].name}): {message}"))


def _from(dataset: TaskDataset) -> str:
    return f" ({dataset.origin})" if dataset.origin else ""


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
