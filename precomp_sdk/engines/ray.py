"""An engine on a Ray cluster, which may be this machine alone."""

import os
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import islice
from typing import Any

from precomp_sdk.engines.base import Engine, Outcome, Work, attempted
from precomp_sdk.errors import MissingDependencyError, OptionError

__all__ = ["RayEngine"]

_AHEAD = 4  # items per worker that are under way
_RETRIES = 2  # of an item whose worker died: once with others, once more


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
        self.workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))

    def run(self, work: Work[Any, Any], items: Iterable[Any]) -> Iterator[Outcome[Any, Any]]:
        """Yield an outcome for every item, in the order in which they are done."""
        ray = self._ray
        actor = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=_RETRIES)(_Worker)
        packed = ray.put(work)
        actors = [actor.remote(packed) for _ in range(self.workers)]
        ray.get([one.ready.remote() for one in actors])  # what the work raises passes here
        waiting = iter(items)
        pending: dict[Any, tuple[Any, Any]] = {}  # by reference: the item, and whose turn it was
        for one in actors * _AHEAD:
            for item in islice(waiting, 1):
                pending[one.do.remote(item)] = (item, one)
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            item, one = pending.pop(done)
            for following in islice(waiting, 1):
                pending[one.do.remote(following)] = (following, one)
            try:
                yield ray.get(done)
            except ray.exceptions.RayError as error:
                yield Outcome(item, None, f"its worker was lost: {type(error).__name__}")
        for one in actors:
            ray.kill(one)


class _Worker:
    """What an actor is."""

    def __init__(self, work: Work[Any, Any]) -> None:
        import torch

        torch.set_num_threads(1)
        self._function = work()

    def ready(self) -> bool:
        return True

    def do(self, item: Any) -> Outcome[Any, Any]:
        return attempted(self._function, item)
