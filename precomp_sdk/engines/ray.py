"""An engine on a Ray cluster, which may be this machine alone."""

import itertools
import os
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from precomp_sdk.engines.base import Engine, Outcome, Work, attempted
from precomp_sdk.errors import MissingDependencyError, OptionError, ResourceError

__all__ = ["RayEngine"]

_AHEAD = 4  # items per worker that are under way
_RETRIES = 2  # of an item whose worker died: once with others, once more
_numbers = itertools.count(1)


class RayEngine(Engine):
    """Does items on a Ray cluster: actors that load the networks once and are started again where one dies.

    Args:
        address: of a running cluster, such as ``"auto"`` or ``"ray://head:10001"``; None starts one on this machine.
        workers: number of actors, of one core each; None: one per core of the cluster.

    Raises:
        MissingDependencyError: Ray is not installed.
        OptionError: there is not one worker.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        try:
            ray: Any = import_module("ray")  # by name: type checkers need not have it
        except ImportError as error:
            raise MissingDependencyError(
                where="RayEngine",
                expected="Ray",
                got=str(error),
                remedy='Install it: pip install "precomp-sdk[ray]".',
            ) from error
        if workers is not None and workers < 1:
            raise OptionError.number("RayEngine", "workers", "a whole number from 1", workers)
        self._ray = ray
        if not ray.is_initialized():
            local: dict[str, Any] = {}
            if address is None:
                local = {"num_cpus": workers or os.cpu_count(), "include_dashboard": False}
            ray.init(address=address, log_to_driver=False, configure_logging=False, **local)
        self.workers: int = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._actors: list[Any] = []

    def run(self, work: Work[Any, Any], items: Iterable[Any]) -> Iterator[Outcome[Any, Any]]:
        """Yield an outcome for every item, in the order in which they are done."""
        ray = self._ray
        # in a list, a reference stays one: an actor fetches the work once, not with every item
        call = next(_numbers), [ray.put(work)]
        try:
            actors = self._started(call)
            waiting = iter(items)
            pending: dict[Any, tuple[Any, Any]] = {}  # by reference: the item, and whose turn it was
            for one in actors * _AHEAD:
                for item in itertools.islice(waiting, 1):
                    pending[one.do.remote(*call, item)] = (item, one)
            while pending:
                (done,), _ = ray.wait(list(pending), num_returns=1)
                item, one = pending.pop(done)
                for following in itertools.islice(waiting, 1):
                    pending[one.do.remote(*call, following)] = (following, one)
                try:
                    yield Outcome(item, *ray.get(done))
                except ray.exceptions.RayError as error:
                    yield Outcome(item, None, f"its worker was lost: {type(error).__name__}")
        finally:
            if not self._kept:
                self._end()

    def _started(self, call: tuple[int, list[Any]]) -> list[Any]:
        """Return the actors, each with the work made.

        Raises:
            ResourceError: one died of that.
            Exception: what the work raises.
        """
        ray = self._ray
        if not self._actors:
            actor = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=_RETRIES)(_Worker)
            self._actors = [actor.remote() for _ in range(self.workers)]
        try:
            ray.get([one.make.remote(*call) for one in self._actors])
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            raise ResourceError(
                where="RayEngine",
                expected=f"{self.workers} workers that load the networks",
                got=f"one that was lost at it: {type(error).__name__}",
                remedy="Take fewer workers, or look at the cluster: ray status.",
            ) from error
        return self._actors

    def _end(self) -> None:
        for one in self._actors:
            self._ray.kill(one)
        self._actors = []


class _Worker:
    """What an actor is."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self._number = 0
        self._function: Any = None

    def make(self, number: int, packed: list[Any]) -> None:
        if number != self._number:
            self._function = None  # the memory of what was before is free first
            self._function, self._number = import_module("ray").get(packed[0])(), number

    def do(self, number: int, packed: list[Any], item: Any) -> tuple[Any, str]:
        self.make(number, packed)  # one that was started again has not made it
        return attempted(self._function, item)
