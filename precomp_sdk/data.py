"""The contract of a data set, and safe loading of its samples."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, final

from torch import Tensor
from torch.utils.data import Dataset

from precomp_sdk.described import Described
from precomp_sdk.errors import ContractError, DatasetError, ImageError, naming
from precomp_sdk.images import check_image
from precomp_sdk.targets import Target
from precomp_sdk.types import Sample

__all__ = ["DatasetReport", "SkippedSample", "Subset", "TaskDataset", "load_samples"]


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
        with naming(where, unless=key):
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
        self.target_kind = dataset.target_kind
        self.class_names = dataset.class_names
        self.origin = dataset.origin

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
