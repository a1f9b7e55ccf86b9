"""Engines on this machine: one process, or several."""

import multiprocessing
import os
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

from precomp_sdk.engines.base import Engine, Outcome, Work, attempted
from precomp_sdk.errors import OptionError

__all__ = ["ProcessEngine", "SerialEngine"]

_AHEAD = 4  # items per worker that are under way: enough that none waits
_DIED = "the worker process died at it: too little memory, or a codec library that crashes"


class SerialEngine(Engine):
    """Does one item after the other, in this process."""

    workers = 1

    def run(self, work: Work[Any, Any], items: Iterable[Any]) -> Iterator[Outcome[Any, Any]]:
        """Yield an outcome for every item, in order."""
        function = work()
        for item in items:
            yield attempted(function, item)


class ProcessEngine(Engine):
    """Does items in several processes of one thread each.

    Processes are started anew, not forked: PyTorch's threads do not survive a fork. Each works with one thread, since
    several that share the cores wait for each other.

    Args:
        workers: number of processes; None: one per core.

    Raises:
        OptionError: there is not one worker.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = (os.cpu_count() or 1) if workers is None else workers
        if self.workers < 1:
            raise OptionError.number("ProcessEngine", "workers", "a whole number from 1", workers)

    def run(self, work: Work[Any, Any], items: Iterable[Any]) -> Iterator[Outcome[Any, Any]]:
        """Yield an outcome for every item, in the order in which they are done."""
        waiting = iter(items)
        left = yield from self._pooled(work, waiting, self.workers)
        while left:  # a worker has died: whose fault it was shows when each of these is alone
            suspects, left = left, []
            for suspect in suspects:
                died = yield from self._pooled(work, iter([suspect]), 1)
                if died:
                    yield Outcome(suspect, None, _DIED)
            left = yield from self._pooled(work, waiting, self.workers)

    def _pooled(
        self, work: Work[Any, Any], items: Iterator[Any], workers: int
    ) -> Generator[Outcome[Any, Any], None, list[Any]]:
        """Yield outcomes from one pool; return the items that were under way when a worker of it died."""
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(work,))
        pending: dict[Future[Outcome[Any, Any]], Any] = {}
        try:
            while True:
                for item in islice(items, _AHEAD * workers - len(pending)):
                    pending[pool.submit(_do, item)] = item
                if not pending:
                    return []
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    outcome = future.result()
                    del pending[future]
                    yield outcome
        except BrokenProcessPool:
            finished = [future for future in pending if future.done() and future.exception() is None]
            for future in finished:
                del pending[future]
                yield future.result()
            return list(pending.values())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_function: Any = None  # of this worker process
_failure: Exception | None = None


def _begin(work: Work[Any, Any]) -> None:
    """Prepare a worker process."""
    global _function, _failure
    import torch

    torch.set_num_threads(1)
    try:
        _function = work()
    except Exception as error:  # told by the first item: what an initializer raises is lost
        _failure = error


def _do(item: Any) -> Outcome[Any, Any]:
    if _failure is not None:
        raise _failure
    return attempted(_function, item)
