"""The checks of a `TaskDataset`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from precomp_sdk.data import TaskDataset
from precomp_sdk.testing._tools import in_threads, not_applicable, require_declared, require_refused
from precomp_sdk.testing.checks import Check, numbered, require
from precomp_sdk.types import Boxes, Composite, Label, Mask, Sample, Target, TargetKind

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
check = numbered(DATASET_CHECKS)


@check("D1", "It says its name in kebab-case, its source, the kind of its targets (or None), and its classes' names.")
def declares_itself(dataset: TaskDataset, settings: DatasetSettings = _DEFAULT) -> None:
    require_declared(dataset, ("class_names", tuple))
    kind = getattr(dataset, "target_kind", "nothing")
    require(kind is None or isinstance(kind, TargetKind), f"expected a target_kind or None; got {kind!r}")
    names = dataset.class_names
    require(all(isinstance(name, str) for name in names), f"expected class names as strings; got {names!r}")
    require(len(set(names)) == len(names), "expected class names that differ; got some twice")


@check("D2", "It has one sample or more, and an index below 0 or from its length on raises `IndexError`.")
def length(dataset: TaskDataset, settings: DatasetSettings = _DEFAULT) -> None:
    count = len(dataset)
    require(count > 0, f"expected one sample or more; got {count}")
    for index in (count, count + 7, -1):
        require_refused(f"index {index} of {count}", IndexError, lambda index=index: dataset[index])  # type: ignore[misc]


@check("D3", "Samples are 8-bit images with a target of the declared kind, in the types that it has.")
def samples(dataset: TaskDataset, settings: DatasetSettings = _DEFAULT) -> None:
    for index in _indices(dataset, settings):
        target = dataset[index].target  # `__getitem__` checks image and kind
        wrong = "" if target is None else _types(target)
        require(not wrong, f"sample {index}: {wrong}")


@check("D4", "Classes are 0 or more, and below the number of class names where there are any.")
def classes(dataset: TaskDataset, settings: DatasetSettings = _DEFAULT) -> None:
    not_applicable(dataset.target_kind is not None, "it has no targets")
    count = len(dataset.class_names) or None
    for index in _indices(dataset, settings):
        classes = _classes(dataset[index].target)
        right = all(value >= 0 and (count is None or value < count) for value in classes)
        require(right, f"sample {index}: expected classes from 0 to {count or 'any'} - 1; got {sorted(set(classes))}")


@check("D5", "Boxes have an area and lie inside their image; a mask has its image's size.")
def geometry(dataset: TaskDataset, settings: DatasetSettings = _DEFAULT) -> None:
    not_applicable(dataset.target_kind in (TargetKind.BOXES, TargetKind.MASK), "its targets have no place")
    for index in _indices(dataset, settings):
        sample = dataset[index]
        height, width = sample.image.shape[1:]
        match sample.target:
            case Boxes(boxes=boxes):
                left, top, right, bottom = boxes.unbind(dim=1)
                inside = (left >= 0) & (top >= 0) & (right <= width) & (bottom <= height)
                wrong = boxes[~(inside & (right > left) & (bottom > top))].tolist()
                require(not wrong, f"sample {index}, {width} x {height} pixels: got boxes {wrong[:3]}")
            case Mask(labels=labels):
                got = tuple(labels.shape)
                require(got == (height, width), f"sample {index}: expected a mask {(height, width)}; got {got}")


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


def _types(target: Target) -> str:
    """Say what is wrong with the types of a target, or nothing."""
    match target:
        case Label(index=index):
            return "" if isinstance(index, int) else f"expected a label as an int; got {type(index).__name__}"
        case Boxes():
            count = len(target.labels)
            if target.boxes.shape != (count, 4) or target.boxes.dtype != torch.float32:
                return f"expected boxes (M, 4) float32; got {tuple(target.boxes.shape)} {target.boxes.dtype}"
            if target.labels.shape != (count,) or target.labels.dtype != torch.int64:
                return f"expected labels (M,) int64; got {tuple(target.labels.shape)} {target.labels.dtype}"
            if target.crowd is not None and (target.crowd.shape != (count,) or target.crowd.dtype != torch.bool):
                return f"expected crowd (M,) bool; got {tuple(target.crowd.shape)} {target.crowd.dtype}"
            return ""
        case Mask(labels=labels):
            right = labels.ndim == 2 and labels.dtype == torch.int64
            return "" if right else f"expected a mask (H, W) int64; got {tuple(labels.shape)} {labels.dtype}"
        case Composite(targets=parts):
            return next((wrong for wrong in map(_types, parts) if wrong), "")


def _classes(target: Target | None) -> list[int]:
    match target:
        case Label(index=index):
            return [index]
        case Boxes(labels=labels):
            return [int(value) for value in labels.tolist()]
        case Mask(labels=labels, ignore_index=ignored):
            return [int(value) for value in torch.unique(labels).tolist() if value != ignored]
        case Composite(targets=parts):
            return [value for part in parts for value in _classes(part)]
    return []


def _tensors(sample: Sample) -> Iterator[object]:
    yield sample.image
    yield sample.key
    if sample.target is not None:
        yield from _values(sample.target)


def _values(target: Target) -> Iterator[object]:
    for part in target.targets if isinstance(target, Composite) else (target,):
        yield type(part)
        if isinstance(part, Composite):
            yield from _values(part)
        else:
            yield from (getattr(part, field.name) for field in fields(part))


def _same(one: Sample, other: Sample) -> bool:
    return type(one.target) is type(other.target) and all(
        torch.equal(mine, its) if isinstance(mine, Tensor) and isinstance(its, Tensor) else mine == its
        for mine, its in zip(_tensors(one), _tensors(other), strict=True)
    )


def _copy(sample: Sample) -> Sample:
    """Return the sample with an image of its own."""
    return Sample(image=sample.image.clone(), target=sample.target, key=sample.key)
