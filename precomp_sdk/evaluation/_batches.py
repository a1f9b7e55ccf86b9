"""Images loaded ahead, in batches."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from precomp_sdk.data import SkippedSample, TaskDataset, load_samples
from precomp_sdk.types import Sample

__all__ = ["LoadedBatch", "load_batches"]


@dataclass(frozen=True, slots=True)
class LoadedBatch:
    """Images that are held together, and their places in the data set."""

    indices: list[int]
    samples: list[Sample]
    skipped: list[SkippedSample]

    @property
    def count(self) -> int:
        """Images of the data set that the batch stands for."""
        return len(self.samples) + len(self.skipped)


def load_batches(
    dataset: TaskDataset, batch_size: int, max_pixels: int, *, skip_unreadable: bool
) -> Iterator[LoadedBatch]:
    """Load a data set in batches, in order; the next batch is loaded in a thread while this one is worked on.

    Args:
        dataset: where from.
        batch_size: images per batch at most, those left out included.
        max_pixels: pixels per batch at most, unless one image has more.
        skip_unreadable: leave out images that cannot be read.

    Raises:
        DatasetError: an image cannot be read and is not to be skipped.
    """
    batches = _batches(dataset, batch_size, max_pixels, skip_unreadable)
    with ThreadPoolExecutor(1, thread_name_prefix="precomp-load") as pool:
        following = pool.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, batches, None)
            yield batch


def _batches(dataset: TaskDataset, batch_size: int, max_pixels: int, skip_unreadable: bool) -> Iterator[LoadedBatch]:
    batch, pixels = LoadedBatch([], [], []), 0
    for index in range(len(dataset)):
        loaded, left_out = load_samples(dataset, [index], skip_unreadable=skip_unreadable)
        more = sum(sample.image.shape[1] * sample.image.shape[2] for sample in loaded)
        if batch.count and (batch.count == batch_size or pixels + more > max_pixels):
            yield batch
            batch, pixels = LoadedBatch([], [], []), 0
        batch.indices.extend([index] * len(loaded))
        batch.samples.extend(loaded)
        batch.skipped.extend(left_out)
        pixels += more
    if batch.count:
        yield batch
