"""The work of `estimate_run`: a few steps of every part of a run, timed and looked at."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from precomp_sdk.chooser import QualityChooser
from precomp_sdk.config import Experiment
from precomp_sdk.data import Subset, TaskDataset
from precomp_sdk.evaluation import (
    Baseline,
    MeasuredCurve,
    MeasuredPoint,
    compare,
    evaluate,
    measure_curve,
    write_report,
)
from precomp_sdk.evaluation.baselines import find_baselines
from precomp_sdk.events import Notice
from precomp_sdk.observers import Observer, fan_out
from precomp_sdk.registry import Registry
from precomp_sdk.run._watching import WARM_UP, Clock, MemoryWatch, timed
from precomp_sdk.run.build import build, prepare
from precomp_sdk.run.choosers import training_chooser
from precomp_sdk.run.estimate import EstimateSettings, PartEstimate
from precomp_sdk.run.logs import open_logs
from precomp_sdk.training import FitProxySettings, Trainer, TrainSettings, fit_proxy, fit_task, score_task
from precomp_sdk.training.fabric import make_fabric

__all__ = ["Estimating"]

_COMPARED = 1000  # images whose bootstrap is timed; it grows in proportion beyond


class Estimating:
    """One estimate under way.

    Args:
        experiment: of the run.
        registry: of the names in it.
        settings: how much is measured.
        folder: an empty one, on the disk that the run will write to.
        notify: receives a `Notice` as each part begins.
    """

    def __init__(
        self,
        experiment: Experiment,
        registry: Registry,
        settings: EstimateSettings,
        folder: str,
        notify: Observer,
    ) -> None:
        self.parts: list[PartEstimate] = []
        self._experiment, self._settings, self._folder, self._notify = experiment, settings, Path(folder), notify
        self._fabric = make_fabric(experiment.train.precision)
        self.device = self._fabric.device
        self._memory = MemoryWatch(self.device)
        self._log_bytes = self._step_bytes = 0.0
        self._chooser: QualityChooser | None = None
        with self._watched("read the data"), timed() as took:
            self._components = build(experiment, registry)
        self._build_s = took.seconds

    def train(self) -> None:
        """Measure what `run_training` does."""
        self._add("fit-task" if self._experiment.task.fit else "train", "read the data", "time", 1, 1, self._build_s)
        self._fit_task()
        self._fit_proxy()
        if self._components.preprocessor.trainable:
            self._train()
        else:
            parts = self._components
            with self._watched("prepare"), timed() as took:
                prepare(self._experiment, parts, parts.train, self.device)
            self._add("train", "prepare", "time", 1, 1, took.seconds)

    def _fit_task(self) -> None:
        fit, parts = self._experiment.task.fit, self._components
        if fit is None:
            return
        parts.task.to(self.device)
        size = max(1, min(fit.batch_size, len(parts.task_train)))
        few = _some(parts.task_train, size * (self._settings.steps + WARM_UP))
        once = replace(fit, epochs=1)
        steps = fit.epochs * (len(parts.task_train) // size)
        clock = self._steps("fit the task", steps, lambda told: fit_task(parts.task, few, settings=once, observer=told))
        self._add("fit-task", "steps", "step", steps, clock.steps, clock.step_s)
        val = _some(parts.val, max(self._settings.images, fit.batch_size))
        with self._watched("score the task"), timed() as took:
            score_task(parts.task, val, batch_size=fit.batch_size, skip_unreadable=fit.skip_unreadable)
        self._add("fit-task", "score", "image", len(parts.val), len(val), took.seconds / len(val))

    def _fit_proxy(self) -> None:
        fit, proxy, train = self._experiment.proxy.fit, self._components.proxy, self._components.train
        if fit is None and bool(proxy.fitted):
            return
        fit = fit or FitProxySettings()
        fit = replace(fit, ladder=fit.ladder or self._experiment.train.ladder)
        few = replace(fit, steps=min(fit.steps, self._settings.steps + WARM_UP))
        proxy.to(self.device)
        steps = fit.steps
        clock = self._steps("fit the proxy", steps, lambda told: fit_proxy(proxy, train, settings=few, observer=told))
        self._add("fit-proxy", "steps", "step", steps, clock.steps, clock.step_s)

    def _train(self) -> None:
        parts, train, wanted = self._components, self._experiment.train, self._settings
        if self._experiment.chooser is not None:
            with self._watched("fit the chooser"), timed() as took:
                self._chooser = training_chooser(self._experiment, parts)
            self._add("train", "fit the chooser", "time", 1, 1, took.seconds)
        apart = parts.held_out is not None
        held = min(train.held_out_images, len(parts.held_out) if parts.held_out is not None else len(parts.train) // 5)
        calibrated = min(train.calibration_images, len(parts.train) - (0 if apart else held))
        steps = min(train.steps, wanted.steps + WARM_UP + 1)  # the last one measures the held-out objective, too
        few = replace(
            train,
            steps=steps,
            held_out_images=min(wanted.images, held),
            calibration_images=min(wanted.images, calibrated),
            held_out_every=steps,
            checkpoint_every=steps,
            lambdas=dict.fromkeys(parts.codec.quality_scale.ladder_of(train.ladder), 1.0),  # few images show no slope
        )
        self._trainer(replace(few, steps=1)).run(parts.train, held_out=parts.held_out)  # to warm up

        def run(told: Observer) -> object:
            return self._trainer(few, told).run(parts.train, held_out=parts.held_out, folder=self._folder)

        clock = self._steps("train", train.steps, run)
        anchor_images = few.held_out_images + few.calibration_images
        anchor_s = max(0.0, clock.start_s - clock.held_out_s) / anchor_images
        self._add("train", "calibrate", "image", calibrated + held, anchor_images, anchor_s)
        self._add("train", "steps", "step", train.steps, clock.steps, clock.step_s)
        times = 1 + -(-train.steps // train.held_out_every)
        each_s = clock.held_out_s / few.held_out_images
        self._add("train", "held-out objective", "image", times * held, few.held_out_images, each_s)
        self._add("train", "checkpoints", "file", -(-train.steps // train.checkpoint_every), 1, clock.checkpoint_s)

    def _trainer(self, settings: TrainSettings, observer: Observer | None = None) -> Trainer:
        parts = self._components
        return Trainer(
            codec=parts.codec,
            proxy=parts.proxy,
            preprocessor=parts.preprocessor,
            task=parts.task,
            settings=settings,
            select=parts.select,
            chooser=self._chooser,
            observer=observer,
            fabric=self._fabric,
        )

    def evaluate(self) -> None:
        """Measure what `run_evaluation` does."""
        parts, whole = self._components, self._experiment.evaluate
        modules: list[nn.Module] = [parts.preprocessor, parts.task, *parts.judges.values()]
        for module in modules:
            module.to(self.device)
        few, total = _some(parts.val, self._settings.images), len(parts.val)
        chosen = find_baselines(whole.baselines)
        tried = {item.name: len(item.values) for item in chosen if isinstance(item, Baseline)}
        once = tuple(replace(item, values=item.values[:1]) if isinstance(item, Baseline) else item for item in chosen)
        settings = replace(whole, baselines=once, tuning_images=len(few), replicates=0, cache=None)
        warm_up = replace(settings, baselines=(), gallery_images=0)
        evaluate(parts.codec, parts.task, _some(few, 1), settings=warm_up, observer=None)
        with self._watched("evaluate"):
            result = evaluate(
                parts.codec,
                parts.task,
                few,
                preprocessors=parts.preprocessor,
                judges=parts.judges,
                settings=settings,
                observer=None,
            )
            with timed() as report:
                write_report(result, self._folder / "report")
        larger = min(whole.batch_size, total) / min(whole.batch_size, len(few))
        self._add("evaluate", "read the data", "time", 1, 1, self._build_s)
        points, tuned_on = len(result.curves[0].points), min(whole.tuning_images, total)
        for name, seconds in result.timings.items():
            kind, _, label = name.partition(" ")
            if kind == "tuning":  # what a setting was tuned on need not be measured again
                count, name = tuned_on * tried[label] + total - tuned_on, f"{label}, tuned"
            elif kind in ("curve", "no") and label not in tried:
                count = total
            else:
                continue
            self._log_bytes += self._step_bytes * count * points / whole.batch_size
            self._add("evaluate", name, "image", count, len(few), seconds / len(few), larger)
        curves = 1 + len(chosen)
        compared_s = self._comparing((1 + curves) * (1 + len(parts.judges)) * points)
        self._add("evaluate", "intervals", "time", 1, 1, compared_s)
        rest_s = result.timings["harm and gallery"] + report.seconds
        self._add("evaluate", "gallery and report", "time", 1, 1, rest_s)

    def _comparing(self, points: int) -> float:
        """Return what the bootstrap of so many points takes, timed on two curves of two points.

        The few images that were measured stand in them many times: what is drawn does not matter to the time.
        """
        whole, parts = self._experiment.evaluate, self._components
        if not whole.replicates:
            return 0.0
        total, ladder = len(parts.val), parts.codec.quality_scale.ladder_of(whole.ladder)
        settings = replace(whole, ladder=(ladder[0], ladder[-1]), cache=None)
        images = _some(parts.val, min(4, self._settings.images))
        few = measure_curve(parts.codec, parts.task, images, settings=settings, observer=None)
        curve = _repeated(few, max(1, min(total, _COMPARED) // len(few)))
        with self._watched("compare"), timed() as took:
            compare(curve, [curve], replicates=whole.replicates, seed=whole.seed, min_overlap=0.0)
        return took.seconds * points / 4 * total / len(curve)

    @contextmanager
    def _watched(self, what: str) -> Iterator[None]:
        self._notify(Notice("estimate", what))
        with self._memory.watched():
            yield

    def _steps(self, what: str, count: int, run: Callable[[Observer], object]) -> Clock:
        """Run some steps of so many, under a clock and with the logs that the run will write."""
        folder = self._folder / what
        clock = Clock()
        logs = open_logs(self._experiment.output, folder, services=False)
        with self._watched(what), ExitStack() as stack:
            for log in logs:
                stack.enter_context(log)
            run(fan_out(clock, *logs))
        self._step_bytes = _size(folder) / max(1, clock.steps + WARM_UP)
        self._log_bytes += self._step_bytes * count
        shutil.rmtree(folder)
        return clock

    def _add(
        self, stage: str, name: str, unit: str, count: int, measured: int, each_s: float, larger: float = 1.0
    ) -> None:
        memory = self._memory.most(larger)
        self.parts.append(PartEstimate(stage, name, unit, count, measured, each_s, memory, self._memory.device_bytes))

    def disk_bytes(self) -> int:
        """Return what the run's files will take: those that were written here, and the logs of all steps."""
        sizes = [path.stat().st_size for path in self._folder.rglob("*") if path.is_file()]
        return sum(sizes) + max(sizes, default=0) + round(self._log_bytes)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _some(dataset: TaskDataset, count: int) -> TaskDataset:
    """Return a few images, evenly spread over a data set; all, where it has no more."""
    whole = len(dataset)
    if count >= whole:
        return dataset
    return Subset(dataset, np.linspace(0, whole - 1, count).round().astype(int).tolist())


def _repeated(curve: MeasuredCurve, times: int) -> MeasuredCurve:
    """Return a curve over the same images, each so many times."""
    points = [
        MeasuredPoint(point.quality, np.tile(point.bits, times), np.tile(point.losses, times), point.statistics * times)
        for point in curve.points
    ]
    return replace(
        curve,
        points=tuple(points),
        indices=tuple(range(times * len(curve))),
        keys=curve.keys * times,
        pixels=np.tile(curve.pixels, times),
        labels=curve.labels * times,
    )
