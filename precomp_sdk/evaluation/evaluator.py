"""The evaluator: every way to send the images, through the real codec, compared with the anchor."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

from precomp_sdk.channel import Channel
from precomp_sdk.codec import Codec
from precomp_sdk.data import Subset, TaskDataset
from precomp_sdk.ensemble import EnsembleTask
from precomp_sdk.errors import CurveError, OptionError
from precomp_sdk.evaluation.baselines import Baseline, Control, find_baselines
from precomp_sdk.evaluation.curves import Measurer
from precomp_sdk.evaluation.gallery import GalleryImage, collect_gallery
from precomp_sdk.evaluation.harm import Harm, harm_of
from precomp_sdk.evaluation.rates.bjontegaard import TASK_LOSS, BDRate
from precomp_sdk.evaluation.rates.comparison import compare
from precomp_sdk.evaluation.results import Evaluation, JudgeResult, OptionValue
from precomp_sdk.evaluation.settings import EvaluateSettings
from precomp_sdk.evaluation.statistics import MeasuredCurve, UncodedScore
from precomp_sdk.evaluation.tuning import TunedBaseline, evenly_spread, tune
from precomp_sdk.events import CurveDone, Notice, PointMeasured, RunFinished, RunStarted
from precomp_sdk.observers import Listener, Observer, listening
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.task import TaskModel
from precomp_sdk.transcode import Transcoder
from precomp_sdk.validation import check_instance
from precomp_sdk.versions import environment_versions

__all__ = ["check_ladders", "compare_measured", "evaluate"]

_STAGE = "evaluate"
_TASK = "task"  # the name of the task among the judges
_FEW_IMAGES = 100


def evaluate(
    codec: Codec,
    task: TaskModel,
    dataset: TaskDataset,
    *,
    preprocessors: Preprocessor | Mapping[str, Preprocessor] = MappingProxyType({}),
    channels: Sequence[Channel] = (),
    judges: Mapping[str, TaskModel] = MappingProxyType({}),
    tuning_dataset: TaskDataset | None = None,
    settings: EvaluateSettings | None = None,
    observer: Listener = "auto",
) -> Evaluation:
    """Measure the anchor, preprocessors and tuned baselines over a whole data set, and compare them.

    Args:
        codec: the real codec.
        task: the task network; like the judges and the preprocessors, it works where it is, in evaluation mode, and
            keeps its own mode.
        dataset: the held-out images, with targets that fit the task.
        preprocessors: one, or several by the labels of their curves.
        channels: other ways to send, of the same codec, such as a `ChoosingChannel`; their labels name their curves.
        judges: networks outside the loop, by label: what is sent for the task is shown to them too, at no further
            encoding, and whatever costs one of them bits is told in a `Notice`.
        tuning_dataset: images to choose the baselines' settings on. Default: some of the evaluated images, evenly
            spread, which favours the baselines.
        settings: every other choice.
        observer: receives the events of the run; see `precomp_sdk.observers.listening`.

    Returns:
        All curves, comparisons and settings.

    Raises:
        CurveError: a ladder has fewer than two qualities.
        DatasetError: there is no readable image, or one is unreadable and was not to be skipped.
        TargetError: the targets do not fit the task, or a judge that is scored against them.
        QualityError: a ladder leaves the scale.
        OptionError: a part is not an object of its contract, two curves or judges have one label, or a judge cannot be
            scored against its own answers.
        NonFiniteError: a task loss is not finite.
    """
    for name, part, contract in (("codec", codec, Codec), ("task", task, TaskModel), ("dataset", dataset, TaskDataset)):
        check_instance(part, contract, f"evaluate, {name}")
    settings = settings or EvaluateSettings()
    with listening(observer) as notify:
        run = _Run(codec, _panel(task, judges), dataset, settings, notify)
        with run.measurer:
            return _evaluated(run, _channels(run.measurer.transcoder, preprocessors), channels, tuning_dataset)


def _evaluated(
    run: "_Run", channels: Sequence[Channel], more: Sequence[Channel], tuning_dataset: TaskDataset | None
) -> Evaluation:
    """Measure everything, and compare: preprocessors, other ways to send, baselines and controls."""
    start = time.perf_counter()
    measurer, settings, dataset = run.measurer, run.settings, run.dataset
    chosen, methods = find_baselines(settings.baselines), (*channels, *more)
    _check_labels(["anchor", *(channel.label for channel in methods), *(baseline.name for baseline in chosen)])
    run.begin(len(channels), len(more), chosen, tuning_dataset)
    with run.timed("no codec"):
        clean, mildest = measurer.clean_members(dataset), measurer.mildest
        uncoded = [(channel.label, measurer.clean_members(dataset, channel)) for channel in channels]
    anchor = run.whole(None, measurer.anchor_ladder)
    run.tell_of_images(anchor)
    tests = [run.whole(channel) for channel in methods]
    tuned, best = run.baselines(chosen, anchor, tuning_dataset)
    others = [*tests, *best]
    with run.timed("comparisons"):
        compared = {
            label: compare_measured(anchor[label], [measured[label] for measured in others], settings)
            for label in run.panel.tasks
        }
        controlled = run.against_controls(chosen, tests, best)
    results = {
        label: JudgeResult(
            label=label,
            task=task.name,
            pseudo_labels=settings.pseudo_labels or label in run.own_answers,
            metrics=tuple(task.scorer.metrics),
            clean=clean[label],
            uncoded=tuple(UncodedScore(name, mildest, scores[label]) for name, scores in uncoded),
            curves=tuple(measured[label].curve() for measured in (anchor, *others)),
            comparisons=compared[label],
        )
        for label, task in run.panel.tasks.items()
    }
    main = results.pop(_TASK)
    judges = tuple(results.values())
    run.tell_of_comparisons(main.comparisons, judges, controlled)
    with run.timed("harm and gallery"):
        harms, gallery = _shown(run, channels, anchor[_TASK], [test[_TASK] for test in tests])
    seconds = time.perf_counter() - start
    run.notify(RunFinished(_STAGE, seconds))
    codec = measurer.codec
    return Evaluation(
        dataset=dataset.name,
        images=len(anchor[_TASK]),
        skipped=anchor[_TASK].skipped,
        task=main.task,
        codec=codec.name,
        codec_version=codec.version,
        codec_options={name: _option(value) for name, value in codec.options.items()},
        quality_name=codec.quality_scale.name,
        metrics=main.metrics,
        clean=main.clean,
        curves=main.curves,
        comparisons=main.comparisons,
        tuned=tuned,
        tuning_dataset=(tuning_dataset or dataset).name,
        environment=environment_versions(),
        seconds=seconds,
        uncoded=main.uncoded,
        judges=judges,
        controls=tuple(item.name for item in chosen if isinstance(item, Control)),
        against_controls=controlled,
        harm=harms,
        gallery=gallery,
        timings=run.timings,
    )


def _shown(
    run: "_Run", channels: Sequence[Channel], anchor: MeasuredCurve, tests: Sequence[MeasuredCurve]
) -> tuple[tuple[Harm, ...], tuple[GalleryImage, ...]]:
    """Return whom each preprocessor hurts, and images as the first one sent them."""
    dataset, count = run.dataset, run.settings.gallery_images
    harms = [harm_of(anchor, test, dataset.class_names) for test in tests]
    gallery = collect_gallery(dataset, channels[0], anchor, tests[0], count) if channels and count else ()
    return tuple(harm for harm in harms if harm is not None), gallery


class _Run:
    """One evaluation under way: who measures, on what, and who is told."""

    def __init__(
        self, codec: Codec, panel: EnsembleTask, dataset: TaskDataset, settings: EvaluateSettings, notify: Observer
    ) -> None:
        self.panel, self.dataset, self.settings, self.notify = panel, dataset, settings, notify
        self.timings: dict[str, float] = {}  #: seconds by part of the work
        judges = [label for label in panel.tasks if label != _TASK]
        self.own_answers = frozenset(judges if settings.judge_pseudo_labels else ())
        self.measurer = Measurer(codec, panel, settings, pseudo_labels=self.own_answers, observer=notify)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time of what is done inside to a part of the work."""
        start = time.perf_counter()
        yield
        self.timings[part] = self.timings.get(part, 0.0) + time.perf_counter() - start

    def begin(
        self,
        preprocessors: int,
        others: int,
        chosen: Sequence[Baseline | Control],
        tuning_dataset: TaskDataset | None,
    ) -> None:
        """Check everything that can be checked before work begins, count the steps, and tell that it begins."""
        measurer, images = self.measurer, len(self.dataset)
        check_ladders(measurer, "evaluate")
        measurer.check(self.dataset)
        if tuning_dataset is not None:
            measurer.check(tuning_dataset)
        tuned = [item for item in chosen if isinstance(item, Baseline)]
        points, tried = len(measurer.ladder), sum(len(baseline.values) for baseline in tuned)
        anchors = len(measurer.anchor_ladder)
        total = images * (1 + preprocessors + points * (preprocessors + others + len(tuned)))
        total += images * anchors * (1 + len(chosen) - len(tuned))
        if tuning_dataset is None:
            total += min(self.settings.tuning_images, images) * points * tried
        elif tuned:
            total += len(tuning_dataset) * (points * tried + anchors)
        measurer.total_steps = total
        names = {"codec": measurer.codec.name, "task": measurer.task.name, "dataset": self.dataset.name}
        self.notify(RunStarted(_STAGE, total, {**names, "ladder": measurer.ladder}))

    def whole(self, channel: Channel | None, ladder: Sequence[float] | None = None) -> dict[str, MeasuredCurve]:
        """Measure one way over the whole data set, for the task and all judges; the task's curve is told of."""
        with self.timed(f"curve {channel.label if channel else 'anchor'}"):
            measured = self.measurer.curves(self.dataset, channel, ladder)
        curve = measured[_TASK].curve()
        for point in curve.points:
            self.notify(PointMeasured(curve.label, point))
        self.notify(CurveDone(curve))
        return measured

    def baselines(
        self,
        chosen: Sequence[Baseline | Control],
        anchor: Mapping[str, MeasuredCurve],
        tuning_dataset: TaskDataset | None,
    ) -> tuple[tuple[TunedBaseline, ...], list[dict[str, MeasuredCurve]]]:
        """Tune every baseline for the task, and measure it at its best setting; measure every control."""
        tuned: list[TunedBaseline] = []
        best: list[dict[str, MeasuredCurve]] = []
        images, there = self.tuning(chosen, anchor, tuning_dataset)
        for item in chosen:
            if isinstance(item, Control):
                channel = item.channel(self.measurer.transcoder, anchor[_TASK].curve())
                best.append(self.whole(channel, self.measurer.anchor_ladder))
                continue
            with self.timed(f"tuning {item.name}"):
                tuned.append(tune(self.measurer, item, images, {_TASK: there})[_TASK])
            if len(item.values) > 1 and tuned[-1].value == item.values[-1]:
                self.notice(f"{item.name} did best at the last {item.parameter} tried: try more")
            best.append(self.whole(item.channel(self.measurer.transcoder, tuned[-1].value)))
        return tuple(tuned), best

    def tuning(
        self,
        chosen: Sequence[Baseline | Control],
        anchor: Mapping[str, MeasuredCurve],
        tuning_dataset: TaskDataset | None,
    ) -> tuple[TaskDataset, MeasuredCurve]:
        """Return the images that baselines are tuned on, and the anchor's curve there."""
        if tuning_dataset is None:
            spread = evenly_spread(anchor[_TASK], self.settings.tuning_images)
            return Subset(self.dataset, spread), anchor[_TASK].subset(spread)
        if not any(isinstance(item, Baseline) for item in chosen):
            return tuning_dataset, anchor[_TASK]
        return tuning_dataset, self.measurer.curves(tuning_dataset, None, self.measurer.anchor_ladder)[_TASK]

    def against_controls(
        self,
        chosen: Sequence[Baseline | Control],
        tests: Sequence[Mapping[str, MeasuredCurve]],
        best: Sequence[Mapping[str, MeasuredCurve]],
    ) -> tuple[BDRate, ...]:
        """Compare what was chosen or trained for with every control, by the task's main metric and its loss."""
        settings, found = self.settings, list[BDRate]()
        for item, measured in zip(chosen, best, strict=True):
            if isinstance(item, Control) and tests:
                found += compare(
                    measured[_TASK],
                    [test[_TASK] for test in tests],
                    metrics=(self.panel.tasks[_TASK].scorer.metrics[0], TASK_LOSS),
                    replicates=settings.replicates,
                    seed=settings.seed,
                    min_overlap=settings.min_overlap,
                )
        return tuple(found)

    def notice(self, message: str) -> None:
        self.notify(Notice(_STAGE, message))

    def tell_of_images(self, anchor: Mapping[str, MeasuredCurve]) -> None:
        """Name the images that were left out, and say where there are too few."""
        for skipped in anchor[_TASK].skipped:
            self.notice(f"skipped {skipped.key}: {skipped.reason}")
        if self.settings.replicates and len(anchor[_TASK]) < _FEW_IMAGES:
            self.notice(f"with {len(anchor[_TASK])} images, confidence intervals come out too narrow")

    def tell_of_comparisons(
        self, comparisons: Sequence[BDRate], judges: Sequence[JudgeResult], controlled: Sequence[BDRate]
    ) -> None:
        """Say what limits a comparison's meaning, what harms a judge, and what is no better than its control."""
        for item in comparisons:
            if item.reason or not item.monotone:
                self.notice(item.statement)
        for judge in judges:
            for item in judge.harmed:
                self.notice(f"{item.test} harms the judge {judge.label}: {item.statement}")
        for item in controlled:
            if not item.saves:
                self.notice(f"{item.test} does not beat its control {item.anchor}: {item.statement}")


def compare_measured(
    anchor: MeasuredCurve, others: Sequence[MeasuredCurve], settings: EvaluateSettings
) -> tuple[BDRate, ...]:
    """Compare curves with their anchor on every metric, as the settings say."""
    return compare(anchor, others, replicates=settings.replicates, seed=settings.seed, min_overlap=settings.min_overlap)


def check_ladders(measurer: Measurer, where: str) -> None:
    """Refuse a ladder that makes no curve.

    Raises:
        CurveError: it has fewer than two qualities.
    """
    for name, ladder in (("ladder", measurer.ladder), ("anchor_ladder", measurer.anchor_ladder)):
        if len(ladder) < 2:
            raise CurveError(
                where=f"{where}, {name}",
                expected="two or more qualities",
                got=repr(ladder),
                remedy="A curve needs several points; four or more make a good one.",
            )


def _panel(task: TaskModel, judges: Mapping[str, TaskModel]) -> EnsembleTask:
    """Return the task and the judges as one task, that looks at every image that was sent."""
    for label, judge in judges.items():
        check_instance(judge, TaskModel, f"evaluate, judge {label!r}")
    if _TASK in judges:
        raise OptionError(
            where="evaluate, judges",
            expected=f"labels other than {_TASK!r}, which stands for the task",
            got=repr(list(judges)),
            remedy="Give the judge another label.",
        )
    return EnsembleTask(members={_TASK: task, **judges})


def _channels(codec: Transcoder, preprocessors: Preprocessor | Mapping[str, Preprocessor]) -> list[Channel]:
    if not isinstance(preprocessors, Mapping):
        check_instance(preprocessors, Preprocessor, "evaluate, preprocessor")
        return [Channel(codec, preprocessors)]
    for label, item in preprocessors.items():
        check_instance(item, Preprocessor, f"evaluate, preprocessor {label!r}")
    return [Channel(codec, item, label=label) for label, item in preprocessors.items()]


def _check_labels(labels: Sequence[str]) -> None:
    if len(set(labels)) != len(labels):
        raise OptionError(
            where="evaluate",
            expected="a label of its own for each curve",
            got=repr(list(labels)),
            remedy="Pass preprocessors as a mapping from labels of your choice.",
        )


def _option(value: object) -> OptionValue:
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)
