"""An engine on a Ray cluster, which may be this machine alone."""

import itertools
import os
from collections.abc import Generator, Iterable, Iterator
from importlib import import_module
from typing import Any

from precomp_sdk.allocator import keep_freed_memory
from precomp_sdk.engines.base import Engine, Outcome, Work, attempted
from precomp_sdk.errors import MissingDependencyError, OptionError, ResourceError

__all__ = ["RayEngine"]

_AHEAD = 4  # items per worker that are under way
_DIED = "its worker was lost, twice where it was alone"
_numbers = itertools.count(1)


class RayEngine(Engine):
    """Does items on a Ray cluster: actors that load the networks once; another takes the place of one that dies.

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
        # in a list, a reference stays one: an actor fetches the work once, not with every item
        call = next(_numbers), [self._ray.put(work)]
        try:
            self._start(call)
            left = yield from self._pass(call, items, _AHEAD)
            for _ in range(2):  # actors have died: whose fault it was shows when each of these is alone with one
                left = yield from self._pass(call, left, 1)
            yield from (Outcome(item, None, _DIED) for item in left)
        finally:
            if not self._kept:
                self._end()

    def _pass(
        self, call: tuple[int, list[Any]], items: Iterable[Any], ahead: int
    ) -> Generator[Outcome[Any, Any], None, list[Any]]:
        """Yield outcomes, with so many items an actor under way; return the items whose actor died."""
        waiting = iter(items)
        lost = []
        pending: dict[Any, tuple[Any, int, Any]] = {}  # by reference: the item, its actor's place, and the actor

        def submit(place: int) -> None:
            for item in itertools.islice(waiting, 1):
                actor = self._actors[place]
                pending[actor.do.remote(*call, item)] = (item, place, actor)

        for place in list(range(self.workers)) * ahead:
            submit(place)
        while pending:
            (done,), _ = self._ray.wait(list(pending), num_returns=1)
            item, place, actor = pending.pop(done)
            try:
                found = self._ray.get(done)
            except self._ray.exceptions.RayError:
                lost.append(item)
                if actor is self._actors[place]:  # the first of its items to tell
                    self._ray.kill(actor)
                    self._actors[place] = self._actor()
                submit(place)
            else:
                submit(place)
                yield Outcome(item, *found)
        return lost

    def _actor(self) -> Any:
        return self._ray.remote(num_cpus=1)(_Worker).remote()

    def _start(self, call: tuple[int, list[Any]]) -> None:
        """Have the actors, each with the work made.

        Raises:
            ResourceError: one died of that.
            Exception: what the work raises.
        """
        ray = self._ray
        for last in (False, True):  # actors that were kept may have died since
            self._actors = self._actors or [self._actor() for _ in range(self.workers)]
            try:
                ray.get([one.make.remote(*call) for one in self._actors])
            except ray.exceptions.RayTaskError:
                raise
            except ray.exceptions.RayError as error:
                self._end()
                if last:
                    raise ResourceError(
                        where="RayEngine",
                        expected=f"{self.workers} workers that load the networks",
                        got=f"one that was lost at it: {type(error).__name__}",
                        remedy="Take fewer workers, or look at the cluster: ray status.",
                    ) from error
            else:
                return

    def _end(self) -> None:
        for one in self._actors:
            self._ray.kill(one)
        self._actors = []


class _Worker:
    """What an actor is."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        keep_freed_memory()
        self._number = 0
        self._function: Any = None

    def make(self, number: int, packed: list[Any]) -> None:
        if number != self._number:
            self._function = None  # the memory of what was before is free first
            self._function, self._number = import_module("ray").get(packed[0])(), number

    def do(self, number: int, packed: list[Any], item: Any) -> tuple[Any, str]:
        self.make(number, packed)  # one that took another's place has not made it
        return attempted(self._function, item)
