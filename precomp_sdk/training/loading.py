"""Batches of samples, loaded ahead of their use by threads, in an order that can be resumed."""

import os
import random
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import numpy as np
from numpy.typing import NDArray

from precomp_sdk.closing import Closing
from precomp_sdk.data import SkippedSample, TaskDataset, load_samples
from precomp_sdk.errors import DatasetError, OptionError
from precomp_sdk.events import Notice
from precomp_sdk.training.settings import TrainSettings
from precomp_sdk.types import Sample

__all__ = ["Batches", "held_back", "left_out", "load_all", "shuffled"]


class Batches(Closing, Iterator[list[Sample]]):
    """Iterates over a data set in batches, epoch after epoch, while threads load the next ones.

    The order of an epoch is a function of ``seed`` and the epoch alone. The data set is told of an epoch after the last
    sample of the one before is loaded and before the first of its own is. Use it as a context manager, or call
    ``close``. A data set whose ``set_epoch`` matters can serve only one of these at a time.

    Args:
        dataset: where from.
        batch_size: samples per batch (and per process).
        seed: of the order.
        shuffle: draw a new order for each epoch; otherwise the data set's own.
        drop_last: leave out the rest of an epoch that does not fill a batch in every process, so that all processes get
            equally many. Otherwise the last batch is shorter, and a process may get one batch less than another.
        start: (epoch, batch) to begin with; see `state`.
        stop: (epoch, batch) to end before: ``(epochs, 0)`` for whole epochs; default: never.
        rank: which of the processes this is.
        world_size: number of processes; each gets its own share of the samples.
        skip_unreadable: leave out samples that raise `DatasetError` (the batch is then shorter, and an empty one is
            passed over) and list them in `skipped`; otherwise the error passes.
        workers: number of threads; default: one per core, 8 at most.
        prefetch: how many batches are loaded ahead.

    Raises:
        OptionError: an option is out of its range.
        DatasetError: there are too few samples for one batch.

    Example:
        >>> with Batches(dataset, batch_size=8, seed=1, stop=(3, 0)) as batches:  # doctest: +SKIP
        ...     for samples in batches:
        ...         ...
    """

    def __init__(
        self,
        dataset: TaskDataset,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        start: tuple[int, int] = (0, 0),
        stop: tuple[int, int] | None = None,
        rank: int = 0,
        world_size: int = 1,
        skip_unreadable: bool = False,
        workers: int | None = None,
        prefetch: int = 4,
    ) -> None:
        threads = min(os.cpu_count() or 1, 8) if workers is None else workers
        for option, value, minimum in (
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("world_size", world_size, 1),
            ("rank", rank, 0),
            ("workers", threads, 1),
            ("prefetch", prefetch, 1),
        ):
            if value < minimum:
                raise OptionError.number("Batches", option, f"a whole number of {minimum} or more", value)
        if rank >= world_size:
            raise OptionError.number("Batches", "rank", f"a whole number below world_size, {world_size}", rank)
        self._dataset = dataset
        self._batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        self._share = (rank, world_size)
        self._skip_unreadable = skip_unreadable
        self._prefetch = prefetch
        samples = len(dataset) // world_size if drop_last else len(range(rank, len(dataset), world_size))
        self._per_epoch = samples // batch_size if drop_last else -(-samples // batch_size)
        if self._per_epoch == 0:
            raise DatasetError(
                where=f"data set {dataset.name!r}",
                expected=f"at least {batch_size * world_size if drop_last else world_size} images for one batch",
                got=str(len(dataset)),
                remedy="Use a larger set or a smaller batch.",
            )
        for option, position in (("start", start), ("stop", stop or start)):
            if position[0] < 0 or not 0 <= position[1] <= self._per_epoch:
                expected = f"an epoch and one of its {self._per_epoch} batches"
                raise OptionError.number("Batches", option, expected, position)
        self._state = self._following(start[0], start[1] - 1)
        self._stop = stop
        self._ahead = self._state  # the next batch to give to the threads
        self._epoch: int | None = None  # what the data set was told last
        self._order: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._skipped: dict[str, SkippedSample] = {}
        self._empty_in_a_row = 0
        self._loading: deque[Future[tuple[list[Sample], list[SkippedSample]]]] = deque()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="precomp-load")

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch, for this process."""
        return self._per_epoch

    @property
    def state(self) -> tuple[int, int]:
        """(epoch, batch) of the next batch: give it as ``start`` to go on from here."""
        return self._state

    @property
    def skipped(self) -> tuple[SkippedSample, ...]:
        """What was left out so far, each sample once, in the order it was met."""
        return tuple(self._skipped.values())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[Sample]:
        """Return the next batch; wait for it where it is not loaded yet.

        Raises:
            StopIteration: ``stop`` is reached.
            DatasetError: a sample cannot be read, or with ``skip_unreadable`` not one of a whole epoch.
        """
        while self._stop is None or self._state < self._stop:
            self._fill()
            samples, skipped = self._loading[0].result()
            self._loading.popleft()  # only now: a batch that failed fails again
            self._state = self._following(*self._state)
            for item in skipped:
                self._skipped.setdefault(item.key, item)
            self._fill()  # the threads work while the caller does
            if samples:
                self._empty_in_a_row = 0
                return samples
            self._empty_in_a_row += 1
            if self._empty_in_a_row >= self._per_epoch:
                raise DatasetError(
                    where=f"data set {self._dataset.name!r}",
                    expected="at least one readable image in an epoch",
                    got=f"{len(self._skipped)} unreadable ones, first: {self.skipped[0].reason}",
                    remedy="Repair the files.",
                )
        raise StopIteration

    def close(self) -> None:
        """Stop the threads; what was loaded ahead is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._loading.clear()

    def _fill(self) -> None:
        """Give batches to the threads, as far ahead as may be."""
        while len(self._loading) < self._prefetch and (self._stop is None or self._ahead < self._stop):
            epoch, batch = self._ahead
            if epoch != self._epoch:
                if not all(future.done() for future in self._loading):
                    return  # the data set must not hear of an epoch while samples of the last one are being loaded
                self._dataset.set_epoch(epoch)
                self._epoch = epoch
                self._order = self._share_of(epoch)
            indices = self._order[batch * self._batch_size : (batch + 1) * self._batch_size].tolist()
            load = self._pool.submit(load_samples, self._dataset, indices, skip_unreadable=self._skip_unreadable)
            self._loading.append(load)
            self._ahead = self._following(epoch, batch)

    def _share_of(self, epoch: int) -> NDArray[np.int64]:
        """Return the indices of this process in an epoch, in order."""
        count = len(self._dataset)
        order = np.random.default_rng((self._seed, epoch)).permutation(count) if self._shuffle else np.arange(count)
        rank, world_size = self._share
        return order[rank::world_size]

    def _following(self, epoch: int, batch: int) -> tuple[int, int]:
        return (epoch + 1, 0) if batch + 1 >= self._per_epoch else (epoch, batch + 1)


def load_all(
    dataset: TaskDataset, use: str, *, skip_unreadable: bool = False
) -> tuple[list[Sample], list[SkippedSample]]:
    """Load every sample of a data set, in order.

    Args:
        dataset: where from.
        use: what for, in words, for the message.
        skip_unreadable: as in `Batches`.

    Returns:
        The samples, at least one, and what was left out.

    Raises:
        DatasetError: a sample cannot be read, or with ``skip_unreadable`` not one can.
    """
    samples, skipped = load_samples(dataset, range(len(dataset)), skip_unreadable=skip_unreadable)
    if not samples:
        raise DatasetError(
            where=f"data set {dataset.name!r}, {use}",
            expected="at least one readable image",
            got=f"{len(skipped)} unreadable ones, first: {skipped[0].reason}" if skipped else "none",
            remedy="Repair the files, or take more images.",
        )
    return samples, skipped


def left_out(stage: str, skipped: Sequence[SkippedSample], use: str = "") -> Notice:
    """Return the notice that names images that could not be read: how many, the first three, and why the first.

    ``use`` says what for, where that is not the stage itself.
    """
    names = ", ".join(item.key for item in skipped[:3]) + (", ..." if len(skipped) > 3 else "")
    count = "1 image was" if len(skipped) == 1 else f"{len(skipped)} images were"
    told = f"for {use}, " if use else ""
    return Notice(stage, f"{told}{count} left out, unreadable: {names} ({skipped[0].reason})")


def held_back(count: int, settings: TrainSettings) -> int:
    """Return how many of ``count`` shuffled images are held out, the first ones; those after them calibrate."""
    return min(settings.held_out_images, count // 5)


def shuffled(dataset: TaskDataset, seed: int) -> list[int]:
    """Return all indices in a random order, so that the first ones of a folder sorted by class are of all classes."""
    order = list(range(len(dataset)))
    random.Random(seed).shuffle(order)
    return order
