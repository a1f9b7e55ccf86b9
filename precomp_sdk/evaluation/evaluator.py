"""The evaluator: every way to send the images, through the real codec, compared with the anchor."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch

from precomp_sdk.channel import Channel
from precomp_sdk.codec import Codec
from precomp_sdk.data import Subset, TaskDataset
from precomp_sdk.errors import CurveError, OptionError
from precomp_sdk.evaluation.baselines import Baseline, TunedBaseline, find_baselines, tune
from precomp_sdk.evaluation.curves import MAX_BATCH_PIXELS, Measurer
from precomp_sdk.evaluation.rates.bjontegaard import TASK_LOSS, BDRate, bd_rate
from precomp_sdk.evaluation.rates.bootstrap import bootstrap_interval, resample
from precomp_sdk.evaluation.results import Evaluation, OptionValue
from precomp_sdk.evaluation.statistics import MeasuredCurve, UncodedScore
from precomp_sdk.events import CurveDone, Event, Notice, PointMeasured, RunFinished, RunStarted
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.task import TaskModel
from precomp_sdk.validation import check_instance

__all__ = ["environment_versions", "evaluate", "ignore"]

_STAGE = "evaluate"
_FEW_IMAGES = 100


def evaluate(
    codec: Codec,
    task: TaskModel,
    dataset: TaskDataset,
    *,
    preprocessor: Preprocessor | Mapping[str, Preprocessor] | None = None,
    ladder: Sequence[float] | None = None,
    baselines: Sequence[str | Baseline] = ("blur", "downscale"),
    tuning_dataset: TaskDataset | None = None,
    tuning_images: int = 200,
    replicates: int = 2000,
    seed: int = 0,
    min_overlap: float = 0.25,
    batch_size: int = 32,
    max_batch_pixels: int = MAX_BATCH_PIXELS,
    workers: int | None = None,
    device: torch.device | str | None = None,
    pseudo_labels: bool = False,
    skip_unreadable: bool = False,
    dataset_name: str | None = None,
    task_name: str | None = None,
    observer: Callable[[Event], None] | None = None,
) -> Evaluation:
    """Measure the anchor, preprocessors and tuned baselines over a whole data set, and compare them.

    Args:
        codec: the real codec.
        task: the task network; it and the preprocessors run in evaluation mode and keep their own mode.
        dataset: the held-out images, with targets that fit the task.
        preprocessor: one, or several by the labels of their curves, or None.
        ladder: two or more qualities on the codec's scale; default: the scale's ladder.
        baselines: names (``"blur"``, ``"downscale"``) or `Baseline` objects, for instance with fewer settings.
        tuning_dataset: images to choose the baselines' settings on. Default: some of the evaluated images, evenly
            spread, which favours the baselines.
        tuning_images: how many of them; what tuning costs is proportional to it.
        replicates: how often the images are drawn again for the confidence intervals; 0 for no intervals.
        seed: of the drawing.
        min_overlap: curves that share less of their score range have no BD-rate.
        batch_size: as for `Measurer`, like the next four.
        max_batch_pixels: bounds the memory for large images.
        workers: threads of the codec; default: one per core.
        device: where the networks work; default: where they are.
        pseudo_labels: score against the task's own answers on the clean images.
        skip_unreadable: leave out images that cannot be read and name them.
        dataset_name: what results call the data set; default: its class's name.
        task_name: what results call the task; default: its class's name.
        observer: receives the events of the run.

    Returns:
        All curves, comparisons and settings.

    Raises:
        CurveError: the ladder has fewer than two qualities.
        DatasetError: there is no readable image, or one is unreadable and was not to be skipped.
        TargetError: the targets do not fit the task.
        QualityError: the ladder leaves the scale.
        OptionError: a part is not an object of its contract, two curves have one label, or a number is out of its
            range.
        UnknownNameError: there is no such baseline.
        NonFiniteError: a task loss is not finite.
    """
    start = time.perf_counter()
    for name, part, contract in (("codec", codec, Codec), ("task", task, TaskModel), ("dataset", dataset, TaskDataset)):
        check_instance(part, contract, f"evaluate, {name}")
    tell: Callable[[Event], None] = observer or ignore
    preprocessors = _labelled(preprocessor)
    chosen = find_baselines(baselines)
    _check_labels(["anchor", *preprocessors, *(baseline.name for baseline in chosen)])
    if replicates < 0 or tuning_images < 1:
        raise OptionError(
            where="evaluate",
            expected="replicates of 0 or more and tuning_images of 1 or more",
            got=f"{replicates} and {tuning_images}",
            remedy="Leave them out for the defaults.",
        )
    with Measurer(
        codec,
        task,
        ladder=ladder,
        batch_size=batch_size,
        max_batch_pixels=max_batch_pixels,
        workers=workers,
        device=device,
        pseudo_labels=pseudo_labels,
        skip_unreadable=skip_unreadable,
        observer=observer,
    ) as measurer:
        if len(measurer.ladder) < 2:
            raise CurveError(
                where="evaluate",
                expected="two or more qualities",
                got=repr(measurer.ladder),
                remedy="A curve needs several points; four or more make a good one.",
            )
        measurer.check(dataset)
        if tuning_dataset is not None:
            measurer.check(tuning_dataset)
        points, tried = len(measurer.ladder), sum(len(baseline.values) for baseline in chosen)
        measurer.total_steps = len(dataset) * (1 + len(preprocessors) + points * (1 + len(preprocessors) + len(chosen)))
        if tuning_dataset is None:
            measurer.total_steps += min(tuning_images, len(dataset)) * points * tried
        elif chosen:
            measurer.total_steps += len(tuning_dataset) * points * (tried + 1)
        tell(
            RunStarted(
                _STAGE,
                measurer.total_steps,
                {"codec": codec.name, "task": task.name, "dataset": dataset.name, "ladder": measurer.ladder},
            )
        )

        def whole(channel: Channel) -> MeasuredCurve:
            measured = measurer.curve(dataset, channel)
            curve = measured.curve()
            for point in curve.points:
                tell(PointMeasured(curve.label, point))
            tell(CurveDone(curve))
            return measured

        clean = measurer.clean(dataset)
        mildest = measurer.mildest
        codec_threads = measurer.transcoder
        channels = [Channel(codec_threads, item, label=label) for label, item in preprocessors.items()]
        uncoded = tuple(UncodedScore(one.label, mildest, measurer.clean(dataset, one)) for one in channels)
        anchor = whole(Channel(codec_threads))
        for skipped in anchor.skipped:
            tell(Notice(_STAGE, f"skipped {skipped.key}: {skipped.reason}"))
        if replicates and len(anchor) < _FEW_IMAGES:
            tell(Notice(_STAGE, f"with {len(anchor)} images, confidence intervals come out too narrow"))
        others = [whole(channel) for channel in channels]
        tuned: list[TunedBaseline] = []
        if chosen:
            if tuning_dataset is None:
                readable = np.array(anchor.indices)
                spread = np.linspace(0, len(readable) - 1, min(tuning_images, len(readable))).round().astype(int)
                tuning: TaskDataset = Subset(dataset, readable[spread].tolist())
                anchor_there = anchor.subset(readable[spread].tolist()).curve()
            else:
                tuning = tuning_dataset
                anchor_there = measurer.curve(tuning).curve()
            metric = task.scorer.metrics[0]
            for baseline in chosen:
                tuned.append(tune(measurer, baseline, tuning, anchor_there, metric, min_overlap=min_overlap))
                if len(baseline.values) > 1 and tuned[-1].value == baseline.values[-1]:
                    tell(Notice(_STAGE, f"{baseline.name} did best at the last {baseline.parameter} tried: try more"))
                others.append(whole(baseline.channel(codec_threads, tuned[-1].value)))
        comparisons = _compare(anchor, others, replicates=replicates, seed=seed, min_overlap=min_overlap)
    for item in comparisons:
        if item.reason or not item.monotone:
            tell(Notice(_STAGE, item.statement))
    seconds = time.perf_counter() - start
    tell(RunFinished(_STAGE, seconds))
    return Evaluation(
        dataset=dataset_name or dataset.name,
        images=len(anchor),
        skipped=anchor.skipped,
        task=task_name or task.name,
        codec=codec.name,
        codec_version=codec.version,
        codec_options={name: _option(value) for name, value in codec.coding_options.items()},
        quality_name=codec.quality_scale.name,
        metrics=tuple(task.scorer.metrics),
        clean=clean,
        curves=tuple(measured.curve() for measured in (anchor, *others)),
        comparisons=comparisons,
        tuned=tuple(tuned),
        tuning_dataset=(dataset_name or dataset.name) if tuning_dataset is None else tuning_dataset.name,
        environment=environment_versions(),
        seconds=seconds,
        uncoded=uncoded,
    )


def ignore(event: Event) -> None:
    """Observe nothing."""


def _labelled(preprocessor: Preprocessor | Mapping[str, Preprocessor] | None) -> dict[str, Preprocessor]:
    if preprocessor is None:
        return {}
    if not isinstance(preprocessor, Mapping):
        check_instance(preprocessor, Preprocessor, "evaluate, preprocessor")
        return {preprocessor.name: preprocessor}
    for label, item in preprocessor.items():
        check_instance(item, Preprocessor, f"evaluate, preprocessor {label!r}")
    return dict(preprocessor)


def _check_labels(labels: Sequence[str]) -> None:
    if len(set(labels)) != len(labels):
        raise OptionError(
            where="evaluate",
            expected="a label of its own for each curve",
            got=repr(list(labels)),
            remedy="Pass preprocessors as a mapping from labels of your choice.",
        )


def _compare(
    measured: MeasuredCurve, others: Sequence[MeasuredCurve], *, replicates: int, seed: int, min_overlap: float
) -> tuple[BDRate, ...]:
    """Compare every curve with the anchor on every metric; each is drawn again once, with the same draws."""
    anchor = measured.curve()
    anchor_drawn = resample(measured, replicates=replicates, seed=seed) if replicates and others else None
    comparisons: list[BDRate] = []
    for other in others:
        drawn = None if anchor_drawn is None else resample(other, replicates=replicates, seed=seed)
        for metric in (*measured.scorer.metrics, TASK_LOSS):
            result = bd_rate(anchor, other.curve(), metric, min_overlap=min_overlap)
            if anchor_drawn is not None and drawn is not None and result.value_percent is not None:
                result = replace(result, interval=bootstrap_interval(anchor_drawn, drawn, metric))
            comparisons.append(result)
    return tuple(comparisons)


def _option(value: object) -> OptionValue:
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)


def environment_versions() -> dict[str, str]:
    """Return the versions that a result depends on, by name."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("precomp-sdk", "torch", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # a checkout on the path, not installed
            versions[package] = "unknown"
    return versions
