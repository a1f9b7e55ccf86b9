"""Engines on this machine: one process, or several."""

import itertools
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeAlias

from precomp_sdk.allocator import keep_freed_memory
from precomp_sdk.engines.base import Engine, Outcome, Work, attempted
from precomp_sdk.errors import OptionError, ResourceError

__all__ = ["ProcessEngine", "SerialEngine"]

_AHEAD = 2  # batches per worker that are under way: enough that none waits
_BATCH_S = 0.2  # items that take less go to a worker several at a time: a handover costs this process 2 ms
_BATCH_ITEMS = 16
_BATCH_BYTES = 1 << 16  # as they are pickled: names of files share a batch, images do not
_END: Any = object()
_DIED = "the worker process died at it: too little memory, or a codec library that crashes"

_Packed: TypeAlias = tuple[int, Path]  # a piece of work: its number, and the file it is pickled in
_numbers = itertools.count(1)


class SerialEngine(Engine):
    """Does one item after the other, in this process."""

    workers = 1

    def run(self, work: Work[Any, Any], items: Iterable[Any]) -> Iterator[Outcome[Any, Any]]:
        """Yield an outcome for every item, in order."""
        function = work()
        for item in items:
            yield Outcome(item, *attempted(function, item))


class ProcessEngine(Engine):
    """Does items in several processes of one thread each.

    Processes are started anew, not forked: PyTorch's threads do not survive a fork. Each works with one thread, since
    several that share the cores wait for each other. They end with this process, however it ends.

    Args:
        workers: number of processes; None: one per core.

    Raises:
        OptionError: there is not one worker.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers: int = (os.cpu_count() or 1) if workers is None else workers
        if self.workers < 1:
            raise OptionError.number("ProcessEngine", "workers", "a whole number from 1", workers)
        self._pool: ProcessPoolExecutor | None = None

    def run(self, work: Work[Any, Any], items: Iterable[Any]) -> Iterator[Outcome[Any, Any]]:
        """Yield an outcome for every item, in the order in which they are done."""
        waiting = iter(items)
        try:
            with tempfile.TemporaryDirectory(prefix="precomp-work-") as folder:
                packed = next(_numbers), Path(folder) / "work.pickle"
                packed[1].write_bytes(pickle.dumps(work))
                left = yield from self._shared(packed, waiting)
                while left:  # a worker has died: whose fault it was shows when each of these is alone
                    yield from _one_by_one(packed, left)
                    left = yield from self._shared(packed, waiting)
        finally:
            if not self._kept:
                self._end()

    def _shared(self, packed: _Packed, items: Iterator[Any]) -> Generator[Outcome[Any, Any], None, list[Any]]:
        """Yield outcomes of all workers; return the items that were under way when one of them died."""
        if self._pool is None:
            self._pool = _started(self.workers, packed)
        left, unbegun = yield from _pooled(self._pool, packed, items, _AHEAD * self.workers)
        if left or unbegun:
            self._end()
        return [*left, *unbegun]

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _one_by_one(packed: _Packed, suspects: list[Any]) -> Iterator[Outcome[Any, Any]]:
    """Yield the outcome of every item, each alone in a process; the next one has the same process where it lives on."""
    waiting = iter(suspects)
    more = True
    while more:
        with _started(1, packed) as pool:
            left, unbegun = yield from _pooled(pool, packed, waiting, 1, most=1)
            yield from (Outcome(item, None, _DIED) for item in left)
        waiting = itertools.chain(unbegun, waiting)
        more = bool(left or unbegun)


def _pooled(
    pool: ProcessPoolExecutor, packed: _Packed, items: Iterator[Any], ahead: int, most: int = _BATCH_ITEMS
) -> Generator[Outcome[Any, Any], None, tuple[list[Any], list[Any]]]:
    """Yield outcomes from one pool; return the items that were under way when a worker died, and those not begun.

    Args:
        pool: the workers.
        packed: the work.
        items: taken as they are needed.
        ahead: batches under way at a time.
        most: items of a batch.
    """
    pending: dict[Future[bytes], list[Any]] = {}
    batch: list[Any] = []  # taken, and not with a worker yet
    size = 1
    try:
        while True:
            while len(pending) < ahead:
                # pickled here: the pool's own way would put tensors into shared memory, and keep a file open for each
                rows: list[bytes] = []
                while (
                    len(rows) < size and sum(map(len, rows)) < _BATCH_BYTES and (item := next(items, _END)) is not _END
                ):
                    batch.append(item)
                    rows.append(pickle.dumps(item))
                if not rows:
                    break
                pending[pool.submit(_do, packed, rows)] = batch
                batch = []
            if not pending:
                return [], []
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                seconds, found = pickle.loads(future.result())
                finished = pending.pop(future)
                size = max(1, min(most, 2 * size, int(_BATCH_S * len(finished) / max(seconds, 1e-6))))
                yield from _outcomes(finished, found)
    except BrokenProcessPool:
        for future in [future for future in pending if future.done() and future.exception() is None]:
            yield from _outcomes(pending.pop(future), pickle.loads(future.result())[1])
        return [item for lost in pending.values() for item in lost], batch
    finally:
        for future in pending:
            future.cancel()


def _outcomes(batch: Iterable[Any], found: Iterable[tuple[Any, str]]) -> Iterator[Outcome[Any, Any]]:
    return (Outcome(item, *result) for item, result in zip(batch, found, strict=True))


def _started(workers: int, packed: _Packed) -> ProcessPoolExecutor:
    """Return a pool whose workers have made the work; they start side by side.

    Raises:
        ResourceError: one died of that.
        Exception: what the work raises.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(context.Barrier(workers),))
    try:
        for ready in [pool.submit(_ready, packed) for _ in range(workers)]:
            ready.result()
    except BaseException as error:
        pool.shutdown(wait=True, cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise ResourceError(
                where="ProcessEngine",
                expected=f"{workers} worker processes that load the networks",
                got="one that died of it, most likely for its memory",
                remedy="Take fewer workers. A script starts them below: if __name__ == '__main__'.",
            ) from error
        raise
    return pool


_number = 0  # of the work that this worker process has made
_function: Any = None
_all_here: Any = None  # a barrier for all workers of the pool


def _begin(all_here: Any) -> None:
    """Prepare a worker process."""
    import torch

    global _all_here
    _all_here = all_here
    torch.set_num_threads(1)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process decides
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process where the one that started it was killed: nobody else would tell it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _ready(packed: _Packed) -> None:
    """Make the work once every worker has a call of this: none has two, and none has to begin later."""
    _all_here.wait()
    _make(packed)


def _make(packed: _Packed) -> None:
    global _number, _function
    number, path = packed
    if number != _number:
        _function = None  # the memory of what was before is free first
        _function, _number = pickle.loads(path.read_bytes())(), number


def _do(packed: _Packed, batch: list[bytes]) -> bytes:
    """Return the seconds that a batch took, and what became of each item."""
    _make(packed)
    begin = time.monotonic()
    found = [attempted(_function, pickle.loads(item)) for item in batch]
    return pickle.dumps((time.monotonic() - begin, found))
