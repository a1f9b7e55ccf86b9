"""Evaluation by an engine's workers: the numbers of one process, to the last bit, whatever happens to a worker."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from precomp_sdk import MissingDependencyError, NonFiniteError, OptionError, StepDone
from precomp_sdk.engines import Outcome, SerialEngine, Work
from precomp_sdk.evaluation import BLUR, Baseline, EvaluateSettings, Evaluation, evaluate, measure_curve
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeTask

ONE_BLUR = Baseline("blur", "sigma", (0.4, 0.6), BLUR.channel)


class Reversed(SerialEngine):
    """An engine of this process, whose last item is done first."""

    def run(self, work: Work[Any, Any], items: Iterable[Any]) -> Iterator[Outcome[Any, Any]]:
        yield from reversed(list(super().run(work, items)))


class Losing(SerialEngine):
    """An engine that loses what it is given."""

    def run(self, work: Work[Any, Any], items: Iterable[Any]) -> Iterator[Outcome[Any, Any]]:
        yield from (Outcome(item, None, "it died") for item in items)


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def measured(observer: Any = None, **choices: Any) -> Evaluation:
    return evaluate(
        FakeCodec(level=5),
        FakeTask(),
        FakeDataset(count=20, sizes=[(24, 24), (20, 32)], unreadable=[7]),
        preprocessors=FakePreprocessor(gain=0.2),
        judges={"other": FakeTask(sharpness=10.0)},
        settings=EvaluateSettings(
            ladder=(5, 30),
            baselines=(ONE_BLUR, "equal-bits"),
            tuning_images=8,
            replicates=20,
            batch_size=4,
            skip_unreadable=True,
            **choices,
        ),
        observer=observer,
    )


def numbers(found: Evaluation) -> tuple[object, ...]:
    """Return everything that was measured and computed."""
    parts = [(item.curves, item.comparisons, item.clean, item.uncoded) for item in (found, *found.judges)]
    return (*parts, found.images, found.skipped, found.tuned, found.harm, [image.key for image in found.gallery])


@pytest.mark.usefixtures("one_thread")
def test_the_order_of_the_batches_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone = measured()
    monkeypatch.setattr("precomp_sdk.evaluation.curves._engine", lambda settings: Reversed())
    steps: list[int] = []
    by_workers = measured(lambda event: steps.append(event.step) if isinstance(event, StepDone) else None)
    assert numbers(by_workers) == numbers(alone)
    assert steps == sorted(steps)
    assert numbers(measured(cache=tmp_path)) == numbers(alone)
    monkeypatch.setattr("precomp_sdk.evaluation.curves._engine", lambda settings: Losing())
    assert numbers(measured(cache=tmp_path)) == numbers(alone)  # all is known: there is nothing to lose


def test_what_a_batch_raises_is_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    task = FakeTask()
    with torch.no_grad():
        task.filters[:] = float("nan")
    for engine, error, told in (
        (SerialEngine(), NonFiniteError, "a finite task loss"),
        (Losing(), MemoryError, "died"),
    ):
        monkeypatch.setattr("precomp_sdk.evaluation.curves._engine", lambda settings, engine=engine: engine)
        with pytest.raises(error, match=told):
            measure_curve(FakeCodec(), task, FakeDataset(count=3), settings=EvaluateSettings(ladder=(5, 30)))


def test_what_cannot_be_sent_to_a_worker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(FakeTask):
        """Of a class that nobody else can import."""

    monkeypatch.setattr("precomp_sdk.evaluation.curves._engine", lambda settings: SerialEngine())
    with pytest.raises(OptionError, match=r"that can be pickled; got .*Local"):
        measure_curve(FakeCodec(), Local(), FakeDataset(count=3), settings=EvaluateSettings(ladder=(5, 30)))


def test_the_settings_choose_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not EvaluateSettings(engine_workers=1).distributed
    assert EvaluateSettings(engine_workers=0).distributed
    with pytest.raises(OptionError, match="'local' or 'ray'"):
        EvaluateSettings(engine="raay")
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"precomp-sdk\[ray\]"):
        measured(engine="ray")


class Killer:
    """An observer that kills a worker in the middle of the first curve."""

    def __init__(self, *names: str) -> None:
        self._names, self.killed = names, 0

    def __call__(self, event: object) -> None:
        if self.killed or not isinstance(event, StepDone) or event.step < 50:
            return
        for process in psutil.Process(os.getpid()).children(recursive=True):
            if any(name in " ".join(process.cmdline()) for name in self._names):
                process.kill()
                self.killed = process.pid
                return


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_two_processes_one_of_which_is_killed_measure_what_one_does() -> None:
    killer = Killer("multiprocessing.spawn", "multiprocessing-fork")
    assert numbers(measured(killer, engine_workers=2)) == numbers(measured())
    assert killer.killed


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.usefixtures("one_thread")
def test_two_workers_on_ray_one_of_which_is_killed_measure_what_one_process_does() -> None:
    ray = pytest.importorskip("ray")
    killer = Killer("ray::_Worker")
    try:
        assert numbers(measured(killer, engine="ray", engine_workers=2)) == numbers(measured())
    finally:
        ray.shutdown()
    assert killer.killed
