"""Engines: every item has an outcome, whatever happens to it or to its worker."""

import os
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from precomp_sdk import MissingDependencyError, OptionError
from precomp_sdk.engines import Engine, ProcessEngine, SerialEngine, local, make_engine


class Squares:
    """Work that fails at 3 and, where it may, kills its process at 5."""

    def __init__(self, deadly: bool = False) -> None:
        self._deadly = deadly

    def __call__(self, item: int) -> int:
        if item == 3:
            raise ValueError("three\nis wrong")
        if item == 5 and self._deadly:
            os._exit(9)
        return item * item


class Noted:
    """Work that notes its process in a folder when it is made."""

    def __init__(self, folder: Path) -> None:
        (folder / str(os.getpid())).touch()

    def __call__(self, item: int) -> int:
        return item


class First:
    """Work that returns an item's first byte."""

    def __call__(self, item: bytes) -> int:
        return item[0]


class Broken:
    """Work that cannot be made."""

    def __init__(self) -> None:
        raise RuntimeError("no such network")


def outcomes(engine: Engine, work: object, items: Iterator[int] | range) -> dict[int, tuple[int | None, str]]:
    return {one.item: (one.result, one.error) for one in engine.run(work, items)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "engine", [SerialEngine(), pytest.param(ProcessEngine(2), marks=pytest.mark.slow)], ids=["serial", "processes"]
)
def test_every_item_has_an_outcome_and_a_failure_is_its_own(engine: Engine) -> None:
    found = outcomes(engine, Squares, range(7))
    assert found.pop(3) == (None, "three is wrong")
    assert found == {item: (item * item, "") for item in (0, 1, 2, 4, 5, 6)}


@pytest.mark.slow
def test_a_worker_that_dies_takes_no_other_item_along() -> None:
    found = outcomes(ProcessEngine(2), partial(Squares, deadly=True), range(12))
    assert found.pop(3) == (None, "three is wrong")
    assert found.pop(5)[0] is None
    assert found == {item: (item * item, "") for item in (0, 1, 2, 4, 6, 7, 8, 9, 10, 11)}


@pytest.mark.slow
def test_all_workers_are_ready_before_the_first_item(tmp_path: Path) -> None:
    def items() -> Iterator[int]:
        assert len(list(tmp_path.iterdir())) == 2
        yield from range(3)

    assert outcomes(ProcessEngine(2), partial(Noted, tmp_path), items()) == {item: (item, "") for item in range(3)}


@pytest.mark.slow
def test_items_are_taken_as_they_are_needed() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    for done, _ in enumerate(ProcessEngine(1).run(Squares, items()), start=1):
        assert len(taken) - done < 3 * 16  # two batches at a time, and the one whose outcomes these are


@pytest.mark.slow
@pytest.mark.parametrize(("padding", "shared"), [(0, True), (1 << 16, False)])
def test_quick_items_share_a_batch_and_large_ones_do_not(padding: int, shared: bool, monkeypatch: Any) -> None:
    batches: list[int] = []
    submit = ProcessPoolExecutor.submit

    def noted(pool: ProcessPoolExecutor, function: Any, *given: Any) -> Any:
        if len(given) == 2:
            batches.append(len(given[1]))
        return submit(pool, function, *given)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", noted)
    items = [bytes([place]) + bytes(padding) for place in range(60)]
    assert sorted(one.result for one in ProcessEngine(1).run(First, items)) == list(range(60))
    assert (max(batches) > 1) is shared
    assert max(batches) <= 16


@pytest.mark.slow
def test_a_worker_that_dies_between_two_runs_costs_nothing() -> None:
    with ProcessEngine(2) as engine:
        assert len(outcomes(engine, Squares, range(3))) == 3
        assert engine._pool is not None
        for process in list(engine._pool._processes.values()):
            process.kill()
            process.join()
        assert set(outcomes(engine, Squares, range(40))) == set(range(40))


class BreaksAtSubmit:
    """A pool whose workers die between two hand-overs."""

    def __init__(self, left: int) -> None:
        self._left = left

    def submit(self, function: Any, packed: Any, rows: list[bytes]) -> Future[bytes]:
        self._left -= 1
        if self._left < 0:
            raise BrokenProcessPool
        done: Future[bytes] = Future()
        done.set_result(pickle.dumps((0.0, [(pickle.loads(row), "") for row in rows])))
        return done


def test_nothing_is_lost_where_a_hand_over_finds_the_workers_dead() -> None:
    items = iter(range(100))
    stream = local._pooled(BreaksAtSubmit(3), (0, Path()), items, ahead=2)  # type: ignore[arg-type]
    done = []
    while True:
        try:
            done.append(next(stream).item)
        except StopIteration as end:
            left, unbegun = end.value
            break
    assert sorted([*done, *left, *unbegun, *items]) == list(range(100))
    assert unbegun


@pytest.mark.parametrize(
    "engine", [SerialEngine(), pytest.param(ProcessEngine(2), marks=pytest.mark.slow)], ids=["serial", "processes"]
)
def test_work_that_cannot_be_made_is_an_error(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="no such network"):
        list(engine.run(Broken, range(3)))


def test_engines_are_named() -> None:
    assert isinstance(make_engine(), SerialEngine)
    assert isinstance(make_engine(workers=2), ProcessEngine)
    assert make_engine(workers=0).workers == (os.cpu_count() or 1)
    with pytest.raises(OptionError, match="'local' or 'ray'"):
        make_engine("raay")
    with pytest.raises(OptionError, match="Take engine ray"):
        make_engine(address="auto")
    with pytest.raises(OptionError, match="a whole number from 1"):
        ProcessEngine(0)


def test_ray_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"precomp-sdk\[ray\]"):
        make_engine("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Engine]:
    """A local Ray of two workers, which find this module; skipped where there is no Ray."""
    ray = pytest.importorskip("ray")
    folder = str(Path(__file__).resolve().parent)
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}},
    )
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # what a worker does is defined here
    yield make_engine("ray", 2)
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.interop
def test_on_ray_every_item_has_an_outcome(cluster: Engine) -> None:
    found = outcomes(cluster, Squares, range(7))
    assert found.pop(3) == (None, "three is wrong")
    assert found == {item: (item * item, "") for item in (0, 1, 2, 4, 5, 6)}


@pytest.mark.slow
@pytest.mark.interop
def test_on_ray_a_worker_that_is_killed_is_replaced(cluster: Engine, tmp_path: Path) -> None:
    found = outcomes(cluster, partial(DiesOnce, tmp_path / "died"), range(8))
    assert found == {item: (item, "") for item in range(8)}


@pytest.mark.slow
@pytest.mark.interop
def test_on_ray_one_that_always_dies_is_an_outcome(cluster: Engine) -> None:
    """What waited behind it at the same worker is done all the same."""
    found = outcomes(cluster, partial(Squares, deadly=True), range(4, 24))
    assert found.pop(5) == (None, "its worker was lost, twice where it was alone")
    assert found == {item: (item * item, "") for item in range(4, 24) if item != 5}


class DiesOnce:
    """Work whose process dies in the middle, once."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __call__(self, item: int) -> int:
        if item == 4 and not self._mark.exists():
            self._mark.touch()
            os._exit(9)
        return item
