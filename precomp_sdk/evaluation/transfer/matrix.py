"""The transfer matrix: every preprocessor on every backbone and codec, inside its training loop and outside."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from precomp_sdk.channel import Channel
from precomp_sdk.codec import Codec
from precomp_sdk.data import Subset, TaskDataset
from precomp_sdk.ensemble import EnsembleTask
from precomp_sdk.errors import OptionError, nearest
from precomp_sdk.evaluation.baselines import EQUAL_BITS, Baseline, Control, find_baselines
from precomp_sdk.evaluation.curves import Measurer
from precomp_sdk.evaluation.evaluator import check_ladders, compare_measured
from precomp_sdk.evaluation.settings import EvaluateSettings
from precomp_sdk.evaluation.statistics import MeasuredCurve
from precomp_sdk.evaluation.transfer.records import TrainedWith, TransferCell, TransferMatrix
from precomp_sdk.evaluation.tuning import evenly_spread, tune
from precomp_sdk.events import Notice, RunFinished, RunStarted
from precomp_sdk.observers import Listener, Observer, listening
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.task import TaskModel
from precomp_sdk.versions import environment_versions

__all__ = ["transfer_matrix"]

_STAGE = "transfer"


def transfer_matrix(
    preprocessors: Mapping[str, Preprocessor],
    codecs: Mapping[str, Codec],
    tasks: Mapping[str, TaskModel],
    dataset: TaskDataset,
    *,
    trained_with: Mapping[str, TrainedWith] = MappingProxyType({}),
    settings: EvaluateSettings | Mapping[str, EvaluateSettings] | None = None,
    observer: Listener = "auto",
) -> TransferMatrix:
    """Score every preprocessor on every backbone and codec.

    Each image goes through a preprocessor and a codec once per quality, and what is decoded is shown to every
    backbone: neither a slow codec nor a slow preprocessor costs more for a further backbone.

    Args:
        preprocessors: by label.
        codecs: by label.
        tasks: backbones by label, of one kind of target and one set of metrics; they work where they are.
        dataset: the held-out images, with targets that fit every backbone.
        trained_with: what each preprocessor was trained with, by its label; missing ones: with nothing here.
        settings: every other choice, for all codecs or by the codec's label (a ladder is of one codec). Baselines and
            controls are rows of their own, tuned for each codec and backbone; the default is ``"equal-bits"`` alone.
        observer: receives the events of the run; see `precomp_sdk.observers.listening`.

    Raises:
        OptionError: something to compare is missing, the backbones do not belong together, or a loop or the settings
            name a label that is not there.
        CurveError: a ladder has fewer than two qualities.
        PrecompError: as `evaluate` raises it.
    """
    start = time.perf_counter()
    default = EvaluateSettings(baselines=(EQUAL_BITS,))
    by_codec = settings if isinstance(settings, Mapping) else dict.fromkeys(codecs, settings or default)
    by_codec = {**dict.fromkeys(codecs, default), **by_codec}
    baselines = _check(preprocessors, codecs, tasks, trained_with, by_codec)
    # named by place: a label may hold a dot, the name of a member may not
    panel = EnsembleTask(members={str(place): task for place, task in enumerate(tasks.values())})
    with listening(observer) as notify:
        matrix = _Matrix(tuple(tasks), dataset, trained_with, notify)
        names = {"codecs": list(codecs), "tasks": list(tasks), "preprocessors": list(preprocessors)}
        notify(RunStarted(_STAGE, 0, names))
        for label, codec in codecs.items():
            with Measurer(codec, panel, by_codec[label], observer=notify) as measurer:
                matrix.measure(label, measurer, preprocessors, baselines)
        seconds = time.perf_counter() - start
        notify(RunFinished(_STAGE, seconds))
    rows = (*preprocessors, *(baseline.name for baseline in baselines))
    return TransferMatrix(
        dataset=dataset.name,
        images=matrix.images,
        metrics=tuple(next(iter(tasks.values())).scorer.metrics),
        preprocessors=rows,
        codecs=tuple(codecs),
        tasks=tuple(tasks),
        cells=tuple(matrix.cells[row, c, t] for row in rows for c in codecs for t in tasks),
        environment=environment_versions(),
        seconds=seconds,
        codec_versions={label: codec.version for label, codec in codecs.items()},
    )


@dataclass(slots=True)
class _Matrix:
    """A matrix under way, filled codec by codec."""

    tasks: tuple[str, ...]
    dataset: TaskDataset
    trained_with: Mapping[str, TrainedWith]
    notify: Observer
    images: int = 0
    cells: dict[tuple[str, str, str], TransferCell] = field(default_factory=dict)

    def measure(
        self,
        codec: str,
        measurer: Measurer,
        preprocessors: Mapping[str, Preprocessor],
        baselines: Sequence[Baseline | Control],
    ) -> None:
        """Fill the cells of one codec."""
        check_ladders(measurer, f"transfer, {codec!r}")
        measurer.check(self.dataset)
        anchors = measurer.curves(self.dataset, None, measurer.anchor_ladder)
        self.images = len(next(iter(anchors.values())))
        for label, preprocessor in preprocessors.items():
            measured = measurer.curves(self.dataset, Channel(measurer.transcoder, preprocessor, label=label))
            self._add(label, codec, anchors, measured, measurer.settings)
        for baseline in baselines:
            measured = self._baseline(measurer, baseline, anchors)
            self._add(baseline.name, codec, anchors, measured, measurer.settings)

    def _baseline(
        self, measurer: Measurer, baseline: Baseline | Control, anchors: Mapping[str, MeasuredCurve]
    ) -> dict[str, MeasuredCurve]:
        """Return a baseline's curves at the setting that is best for each backbone, or a control's."""
        first = next(iter(anchors.values()))
        if isinstance(baseline, Control):
            channel = baseline.channel(measurer.transcoder, first.curve())  # budgets are bits: of all backbones alike
            return measurer.curves(self.dataset, channel, measurer.anchor_ladder)
        spread = evenly_spread(first, measurer.settings.tuning_images)
        there = {judge: anchor.subset(spread) for judge, anchor in anchors.items()}
        tuned = tune(measurer, baseline, Subset(self.dataset, spread), there)
        curves = {
            value: measurer.curves(self.dataset, baseline.channel(measurer.transcoder, value))
            for value in {item.value for item in tuned.values()}
        }
        return {judge: curves[item.value][judge] for judge, item in tuned.items()}

    def _add(
        self,
        label: str,
        codec: str,
        anchors: Mapping[str, MeasuredCurve],
        tests: Mapping[str, MeasuredCurve],
        settings: EvaluateSettings,
    ) -> None:
        """Add one row's cells for one codec: a cell for each backbone."""
        loop = self.trained_with.get(label, TrainedWith())
        for task, judge in zip(self.tasks, anchors, strict=True):
            cell = TransferCell(
                preprocessor=label,
                codec=codec,
                task=task,
                codec_in_loop=codec in loop.codecs,
                task_in_loop=task in loop.tasks,
                comparisons=compare_measured(anchors[judge], [tests[judge]], settings),
                anchor=anchors[judge].curve(),
                curve=tests[judge].curve(),
            )
            self.cells[label, codec, task] = cell
            self.notify(Notice(_STAGE, f"{codec}, {task}: {cell.main.statement}"))


def _check(
    preprocessors: Mapping[str, Preprocessor],
    codecs: Mapping[str, Codec],
    tasks: Mapping[str, TaskModel],
    trained_with: Mapping[str, TrainedWith],
    settings: Mapping[str, EvaluateSettings],
) -> tuple[Baseline | Control, ...]:
    """Refuse what cannot be compared; return the baselines, which are the same for all codecs."""
    for what, given in (("preprocessors", preprocessors), ("codecs", codecs), ("tasks", tasks)):
        if not given:
            raise _wrong(what, "one or more", "none", "Name what is to be compared.")
    kinds = {(task.target_kind, tuple(task.scorer.metrics)) for task in tasks.values()}
    if len(kinds) > 1:
        got = "; ".join(f"{label}: {t.target_kind}, {t.scorer.metrics}" for label, t in tasks.items())
        raise _wrong("tasks", "backbones of one kind of target and with one set of metrics", got, "Make two matrices.")
    named: list[tuple[str, Collection[str], Collection[str]]] = [
        ("trained_with", trained_with, preprocessors),
        ("settings", settings, codecs),
        *((f"trained_with of {label!r}, codecs", loop.codecs, codecs) for label, loop in trained_with.items()),
        *((f"trained_with of {label!r}, tasks", loop.tasks, tasks) for label, loop in trained_with.items()),
    ]
    for what, given_labels, known in named:
        for label in given_labels:
            if label not in known:
                raise _wrong(what, "labels of the matrix", repr(label), nearest(label, known))

    choices = {item.baselines for item in settings.values()}
    if len(choices) > 1:
        raise _wrong("settings", "the same baselines for all codecs", str(choices), "Make two matrices.")
    baselines = find_baselines(choices.pop())
    labels = [*preprocessors, *(baseline.name for baseline in baselines)]
    if len(set(labels)) < len(labels):
        raise _wrong("preprocessors", "labels that are no baseline's", str(labels), "Give them other labels.")
    return baselines


def _wrong(what: str, expected: str, got: str, remedy: str) -> OptionError:
    return OptionError(where=f"transfer_matrix, {what}", expected=expected, got=got, remedy=remedy)
