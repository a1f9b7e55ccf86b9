"""The contract of a data set, and safe loading of its samples."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor
from torch.utils.data import Dataset

from precomp_sdk.described import Described
from precomp_sdk.errors import ContractError, DatasetError, ImageError, naming
from precomp_sdk.images import check_image
from precomp_sdk.targets import Target
from precomp_sdk.types import Sample

__all__ = ["SkippedSample", "Subset", "TaskDataset", "load_samples"]


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


@dataclass(frozen=True, slots=True)
class SkippedSample:
    """An image that could not be read and was left out on request."""

    key: str
    reason: str


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
