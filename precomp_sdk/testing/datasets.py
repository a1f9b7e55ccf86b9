"""The checks of a `TaskDataset`."""

from collections.abc import Callable
from dataclasses import dataclass

from precomp_sdk.data import TaskDataset
from precomp_sdk.errors import TargetError
from precomp_sdk.targets import Boxes
from precomp_sdk.testing._targets import same_target
from precomp_sdk.testing._tools import in_threads, not_applicable, require_declared, require_refused
from precomp_sdk.testing.checks import Check, NotApplicableError, Numbered, numbered, require
from precomp_sdk.types import Sample

__all__ = ["DATASET_CHECKS", "DatasetSettings"]


@dataclass(frozen=True, slots=True)
class DatasetSettings:
    """How a data set is checked.

    Args:
        samples: how many samples are looked at, spread over the set.
        threads: for D6.
        make: returns a fresh data set with the same options, for D8.
    """

    samples: int = 8
    threads: int = 4
    make: Callable[[], TaskDataset] | None = None


_DEFAULT = DatasetSettings()

DATASET_CHECKS: list[Check] = []  #: what every data set has to pass, in order
check: Numbered = numbered(DATASET_CHECKS)


@check("D1", "It says its name in kebab-case, its source, the kind of its targets (or None), and its classes' names.")
def declares_itself(dataset: TaskDataset, settings: DatasetSettings = _DEFAULT) -> None:
    require_declared(dataset, ("class_names", tuple))
    kind = getattr(dataset, "target_kind", "nothing")
    require(kind is None or (isinstance(kind, str) and kind), f"expected a target_kind or None; got {kind!r}")
    names = dataset.class_names
    require(all(isinstance(name, str) for name in names), f"expected class names as strings; got {names!r}")
    require(len(set(names)) == len(names), "expected class names that differ; got some twice")


@check("D2", "It has one sample or more, and an index below 0 or from its length on raises `IndexError`.")
def length(dataset: TaskDataset, settings: DatasetSettings = _DEFAULT) -> None:
    count = len(dataset)
    require(count > 0, f"expected one sample or more; got {count}")
    for index in (count, count + 7, -1):
        require_refused(f"index {index} of {count}", IndexError, lambda index=index: dataset[index])  # type: ignore[misc]


@check("D3", "Samples are 8-bit images with a target of the declared kind, in its types, that fits image and classes.")
def samples(dataset: TaskDataset, settings: DatasetSettings = _DEFAULT) -> None:
    """Reading a sample looks at all this, see `TaskDataset.__getitem__` and `Target.check`."""
    for index in _indices(dataset, settings):
        dataset[index]


@check("D4", "A target that is resized, cropped or flipped with its image fits it; flipped twice, it is as before.")
def moves(dataset: TaskDataset, settings: DatasetSettings = _DEFAULT) -> None:
    not_applicable(dataset.target_kind is not None, "it has no targets")
    for index in _indices(dataset, settings):
        sample = dataset[index]
        target, (height, width) = sample.target, sample.image.shape[1:]
        assert target is not None
        half = max(1, height // 2), max(1, width // 2)
        try:
            again = target.flipped(width).flipped(width)
            moved = {
                "resized": (target.resized((height, width), (2 * height, width + 3)), (2 * height, width + 3)),
                "cropped": (target.cropped(height - half[0], width - half[1], *half), half),
                "flipped": (target.flipped(width), (height, width)),
            }
        except TargetError as error:
            raise NotApplicableError(str(error)) from error
        require(
            same_target(again, target, tolerance=1e-3), f"sample {index}: flipped twice, expected {target}; got {again}"
        )
        for name, (result, size) in moved.items():
            result.check(f"sample {index}, {name}", size=size, num_classes=len(dataset.class_names) or None)


@check("D5", "Boxes lie inside their image.")
def geometry(dataset: TaskDataset, settings: DatasetSettings = _DEFAULT) -> None:
    not_applicable(dataset.target_kind == Boxes.kind, "its targets are no boxes")
    for index in _indices(dataset, settings):
        sample = dataset[index]
        height, width = sample.image.shape[1:]
        assert isinstance(sample.target, Boxes)
        left, top, right, bottom = sample.target.boxes.unbind(dim=1)
        outside = (left < 0) | (top < 0) | (right > width) | (bottom > height)
        wrong = sample.target.boxes[outside].tolist()
        require(not wrong, f"sample {index}, {width} x {height} pixels: got boxes {wrong[:3]}")


@check("D6", "Several threads at a time get the samples that one gets.")
def threads(dataset: TaskDataset, settings: DatasetSettings = _DEFAULT) -> None:
    indices = _indices(dataset, settings) * 2
    alone = [dataset[index] for index in indices]
    together = in_threads(settings.threads, [lambda index=index: dataset[index] for index in indices])  # type: ignore[misc]
    wrong = [index for index, one, other in zip(indices, alone, together, strict=True) if not _same(one, other)]
    require(not wrong, f"expected the same samples in threads; got others for {wrong}")


@check("D7", "Within an epoch an index gives the same sample, in any order, even after an image was written to.")
def repeats_itself(dataset: TaskDataset, settings: DatasetSettings = _DEFAULT) -> None:
    indices = _indices(dataset, settings)
    first = [_copy(dataset[index]) for index in indices]
    written = [dataset[index].image for index in reversed(indices)]
    for image in written:
        image.zero_()
    wrong = [index for index, sample in zip(indices, first, strict=True) if not _same(dataset[index], sample)]
    for image, sample in zip(written, reversed(first), strict=True):
        image.copy_(sample.image)  # a set that keeps it fails once, not in every check that follows
    require(not wrong, f"expected the same samples again; got others for {wrong}")


@check("D8", "An epoch that comes again, in another process too, brings the same samples.")
def epochs(dataset: TaskDataset, settings: DatasetSettings = _DEFAULT) -> None:
    """A resumed run sees no others."""
    indices = _indices(dataset, settings)
    told = "expected the samples of the first time"
    try:
        dataset.set_epoch(3)
        third = [_copy(dataset[index]) for index in indices]
        dataset.set_epoch(4)
        for index in indices:
            dataset[index]
        dataset.set_epoch(3)
        wrong = [index for index, one in zip(indices, third, strict=True) if not _same(dataset[index], one)]
        require(not wrong, f"epoch 3 again: {told}; got others for {wrong}")
        if settings.make is not None:
            fresh = settings.make()
            fresh.set_epoch(3)
            wrong = [index for index, one in zip(indices, third, strict=True) if not _same(fresh[index], one)]
            require(not wrong, f"epoch 3 of a fresh instance: {told}; got others for {wrong}")
    finally:
        dataset.set_epoch(0)


@check("D9", "Every sample has a key of its own, a text with something in it, the same in every epoch.")
def keys(dataset: TaskDataset, settings: DatasetSettings = _DEFAULT) -> None:
    keys = [dataset.key(index) for index in range(len(dataset))]
    wrong = [key for key in keys if not isinstance(key, str) or not key]
    require(not wrong, f"expected keys as texts; got {wrong[:3]}")
    require(len(set(keys)) == len(keys), f"expected {len(keys)} different keys; got {len(set(keys))}")


def _indices(dataset: TaskDataset, settings: DatasetSettings) -> list[int]:
    """Return indices spread over the whole set, its first and last among them."""
    last = len(dataset) - 1
    count = min(settings.samples, last + 1)
    return sorted({round(step * last / max(1, count - 1)) for step in range(count)})


def _same(one: Sample, other: Sample) -> bool:
    return same_target(one, other)


def _copy(sample: Sample) -> Sample:
    """Return the sample with an image of its own."""
    return Sample(image=sample.image.clone(), target=sample.target, key=sample.key)
