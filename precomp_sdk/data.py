"""The contract of a data set, and safe loading of its samples."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, ClassVar, Protocol, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from precomp_sdk.described import Described
from precomp_sdk.errors import ContractError, DatasetError, ImageError, TargetError, naming
from precomp_sdk.image_io import as_image
from precomp_sdk.images import check_image
from precomp_sdk.targets import Boxes, Label, Mask, Target
from precomp_sdk.types import Sample

__all__ = ["DatasetReport", "SkippedSample", "Subset", "TaskDataset", "load_samples", "spread_places"]


class Rows(Protocol):
    """Anything with a length and rows by their place."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, index: int, /) -> Any:
        """Return one row."""


class TaskDataset(Described, Dataset[Sample], ABC):
    """Images with targets of one declared kind.

    Write ``__len__`` and ``_sample``. Options are keyword-only arguments of ``__init__``; a set that has parts takes
    ``split="train"`` or ``"val"``. Samples are loaded from several threads at a time. A set that draws random
    crops or flips uses ``set_epoch`` and the index as its seed, so that a resumed run sees the same images.

    Shapes and units:
        image: (3, H, W) uint8, sRGB; sizes may differ.
    """

    name: ClassVar[str]  #: unique, kebab-case
    source: ClassVar[str]  #: where the images come from
    target_kind: str | None  #: the `Target.kind` of its targets; None for unlabelled images
    class_names: tuple[str, ...] = ()  #: empty where the classes have no names
    origin: str = ""  #: the file or folder that numbers the classes, for messages

    @staticmethod
    def of(
        items: Rows,
        read: Callable[[Any], Any] | None = None,
        *,
        class_names: Sequence[str] = (),
        key: Callable[[Any], str] | None = None,
        name: str = "rows",
    ) -> "TaskDataset":
        """Return a data set of anything with a length and rows: a list, a torch data set, one of Hugging Face's.

        An image is whatever `precomp_sdk.image_io.as_image` takes: a path, the bytes of a file, a Pillow image, an
        array or a tensor. A target is a whole number (a class), a `Target`, a label map (H, W) of integers, a mapping
        with boxes x1 y1 x2 y2 as ``"boxes"`` and ``"labels"``, or None. All are of one kind; the first row says which.

        Args:
            items: has ``len(items)`` and ``items[index]``; rows are read from several threads at a time.
            read: of a row: image and target, or an image alone; default: the row is that already.
            class_names: where the classes have names.
            key: of a row: a name for its image; default: the path, where the image is one, else its place.
            name: of the data set, for messages.

        Raises:
            DatasetError: there are no rows, or the first one cannot be read.

        Example:
            >>> rows = [{"image": np.full((4, 6, 3), 9 * index, np.uint8), "label": index} for index in range(3)]
            >>> dataset = TaskDataset.of(rows, lambda row: (row["image"], row["label"]))
            >>> len(dataset), dataset.target_kind, dataset[2].target
            (3, 'label', Label(index=2, probabilities=None))
        """
        return _RowDataset(items, read, tuple(class_names), key, name)

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def _sample(self, index: int) -> tuple[Tensor, Target | None]:
        """Return one image and its target; raise `DatasetError` where it cannot be read."""

    def key(self, index: int) -> str:
        """Return a name for one image, for messages and result files."""
        return str(index)

    def set_epoch(self, epoch: int) -> None:
        """Tell a set that draws at random which epoch starts. The default draws nothing."""

    def report(self) -> "DatasetReport":
        """Return what was read and what was left out when the set was opened; the default left nothing out."""
        return DatasetReport(images=len(self))

    @final
    def __getitem__(self, index: int) -> Sample:
        """Return one sample.

        Raises:
            IndexError: there is no such sample.
            DatasetError: the image or its annotation cannot be read; the message names the sample, as all do.
            TargetError: the target is not of its types, or does not fit its image or the classes; see `Target.check`.
            ContractError: ``_sample`` returned something else than an image and a target of the declared kind.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: index {index} of {len(self)}")
        key = self.key(index)
        where = f"data set {self.name!r}, sample {key!r}"
        with naming(where, unless=None if key.isdigit() else key):
            try:
                image, target = self._sample(index)
            except ImageError as error:
                raise DatasetError(
                    where=error.where, expected=error.expected, got=error.got, remedy=error.remedy
                ) from error
        check_image(image, where)
        kind = None if target is None else getattr(target, "kind", type(target).__name__)
        if kind != self.target_kind:
            raise ContractError(
                where=f"{type(self).__name__}._sample({index})",
                expected=f"a target of kind {self.target_kind!r}",
                got=repr(kind),
                remedy="Return targets of the declared target_kind.",
            )
        if target is not None:
            size = (int(image.shape[1]), int(image.shape[2]))
            target.check(where, size=size, num_classes=len(self.class_names) or None)
        return Sample(image=image, target=target, key=key)


class _RowDataset(TaskDataset):
    """What `TaskDataset.of` returns."""

    name = "rows"
    source = "rows that a program holds"

    def __init__(
        self,
        items: Rows,
        read: Callable[[Any], Any] | None,
        class_names: tuple[str, ...],
        key: Callable[[Any], str] | None,
        name: str,
    ) -> None:
        self._items, self._read, self._key = items, read, key
        self.name = name  # type: ignore[misc]  # of the instance: it has no class of its own
        self.class_names: tuple[str, ...] = class_names
        try:
            count = len(items)
        except TypeError as error:
            raise _rows_error(name, "rows with a length", type(items).__name__, "Give a list of them.") from error
        if not count:
            raise _rows_error(name, "one row or more", "none", "Look at where they come from.")
        with naming(f"data set {name!r}, row 0"):
            image, given = self._row(0)
            target = _as_target(given, "target")
        self._paths = isinstance(image, str | PathLike)
        self.target_kind: str | None = None if target is None else target.kind

    def __repr__(self) -> str:
        return f"TaskDataset.of({len(self)} rows, name={self.name!r})"

    def __len__(self) -> int:
        return len(self._items)

    def _sample(self, index: int) -> tuple[Tensor, Target | None]:
        image, target = self._row(index)
        samples = as_image(image, where=str(image) if self._paths else f"row {index}")
        return samples.clone() if samples is image else samples, _as_target(target, "target")

    def key(self, index: int) -> str:
        """Return what the option ``key`` says, else the image's path or the row's place."""
        if self._key is not None:
            return self._key(self._items[index])
        return str(self._row(index)[0]) if self._paths else str(index)

    def _row(self, index: int) -> tuple[Any, Any]:
        row = self._items[index]
        row = row if self._read is None else self._read(row)
        if isinstance(row, tuple | list):
            if len(row) != 2:
                got = f"{len(row)} values"
                raise _rows_error(self.name, "image and target, or an image", got, "Give read=lambda row: ...")
            return row[0], row[1]
        if isinstance(row, Mapping):
            got = f"a mapping with {', '.join(map(str, row))}"
            raise _rows_error(self.name, "image and target", got, 'Give read=lambda row: (row["image"], row["label"]).')
        return row, None


def _as_target(given: Any, where: str) -> Target | None:
    """Return what a row gives as a target."""
    if given is None or isinstance(given, Target):
        return given
    array = None
    if isinstance(given, Mapping) and {"boxes", "labels"} <= given.keys():
        boxes = _tensor(given["boxes"]).float().reshape(-1, 4)
        return Boxes(boxes, _tensor(given["labels"]).long().reshape(-1))
    if not isinstance(given, bool | str | bytes | Mapping):
        array = _tensor(given)
    whole = array is not None and not array.is_floating_point() and not array.is_complex() and array.dtype != torch.bool
    if array is not None and whole and array.ndim == 0:
        return Label(int(array))
    if array is not None and whole and array.ndim == 2:
        return Mask(array.long())
    raise TargetError(
        where=where,
        expected="a whole number, a Target, a label map (H, W), a mapping with 'boxes' and 'labels', or None",
        got=f"{' '.join(repr(given).split()):.80}",
        remedy="Convert it in read, or give a Target of your own.",
    )


def _tensor(values: Any) -> Tensor:
    return values.detach().cpu() if isinstance(values, Tensor) else torch.as_tensor(np.array(values))


def _rows_error(name: str, expected: str, got: str, remedy: str) -> DatasetError:
    return DatasetError(where=f"data set {name!r}", expected=expected, got=got, remedy=remedy)


class Subset(TaskDataset):
    """Some images of another data set, in the given order.

    Args:
        dataset: the whole set.
        indices: which of its images.

    Raises:
        DatasetError: an index is out of range.
    """

    name = "subset"
    source = "another data set"

    def __init__(self, dataset: TaskDataset, indices: Iterable[int]) -> None:
        self._dataset = dataset
        self._indices = tuple(indices)
        if any(not 0 <= index < len(dataset) for index in self._indices):
            raise DatasetError(
                where=f"subset of {dataset.name!r}",
                expected=f"indices from 0 to {len(dataset) - 1}",
                got=f"{min(self._indices)} to {max(self._indices)}",
                remedy="Choose fewer or other images.",
            )
        self.target_kind: str | None = dataset.target_kind
        self.class_names: tuple[str, ...] = dataset.class_names
        self.origin: str = dataset.origin

    def __repr__(self) -> str:
        return f"Subset({self._dataset!r}, {len(self)} images)"

    def __len__(self) -> int:
        return len(self._indices)

    def _sample(self, index: int) -> tuple[Tensor, Target | None]:
        sample = self._dataset[self._indices[index]]
        return sample.image, sample.target

    def key(self, index: int) -> str:
        """Return the whole set's name for the image."""
        return self._dataset.key(self._indices[index])

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on."""
        self._dataset.set_epoch(epoch)

    def report(self) -> "DatasetReport":
        """Return the whole set's report, with the number of images here."""
        return replace(self._dataset.report(), images=len(self))


@dataclass(frozen=True, slots=True)
class SkippedSample:
    """An image that was left out, or one of its annotations."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """What a data set holds, and what it does not: `run_training` and `run_evaluation` tell it once and record it.

    Args:
        images: how many there are.
        left_out: images that are not among them, and why.
        mended: single annotations that were left out or corrected; their images are among them.
        notes: what else the user should know of the set as a whole.
    """

    images: int
    left_out: tuple[SkippedSample, ...] = ()
    mended: tuple[SkippedSample, ...] = ()
    notes: tuple[str, ...] = ()

    def messages(self) -> list[str]:
        """Return what is worth telling, in a sentence each.

        Example:
            >>> left_out = tuple(SkippedSample(f"{number}.heic", "pillow-heif is not installed") for number in range(8))
            >>> DatasetReport(images=1, left_out=left_out).messages()
            ['8 of 9 images were left out (pillow-heif is not installed): 0.heic, 1.heic, 2.heic and 5 more']
        """
        total = self.images + len(self.left_out)
        told = [
            f"{len(keys)} of {total} images {'was' if len(keys) == 1 else 'were'} left out ({reason}): {_some(keys)}"
            for reason, keys in _by_reason(self.left_out).items()
        ]
        if self.mended:
            count = f"{len(self.mended)} annotation{'' if len(self.mended) == 1 else 's'}"
            told.append(f"{count} left out or corrected, the first: {self.mended[0].reason}")
        return [*told, *self.notes]


_SHOWN = 3  # keys in a sentence
_REASONS = 6  # told one by one


def _by_reason(skipped: Iterable[SkippedSample]) -> dict[str, list[str]]:
    """Group images by why they were left out; those whose reasons differ in places only are one group."""
    groups: dict[str, list[str]] = {}
    for item in skipped:
        groups.setdefault(item.reason.rpartition(": expected ")[2], []).append(item.key)
    if len(groups) > _REASONS:  # each for a reason of its own
        (first, _), *_ = groups.items()
        return {f"the first: {first}": [key for keys in groups.values() for key in keys]}
    return groups


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


def load_samples(
    dataset: TaskDataset, indices: Iterable[int], *, skip_unreadable: bool = False
) -> tuple[list[Sample], list[SkippedSample]]:
    """Load samples in order.

    Args:
        dataset: where from.
        indices: which.
        skip_unreadable: leave out images that raise `DatasetError` and name them; otherwise the error passes.

    Returns:
        The samples, and what was left out.
    """
    samples: list[Sample] = []
    skipped: list[SkippedSample] = []
    for index in indices:
        try:
            samples.append(dataset[index])
        except DatasetError as error:
            if not skip_unreadable:
                raise
            skipped.append(SkippedSample(key=dataset.key(index), reason=str(error)))
    return samples, skipped


def spread_places(length: int, count: int) -> list[int]:
    """Return the places of so many samples, evenly spaced over a set of a length; of all, where it has no more."""
    count = min(count, length)
    return [place * length // count for place in range(count)]
