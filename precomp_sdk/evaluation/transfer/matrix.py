"""The transfer matrix: every preprocessor on every backbone and codec, inside its training loop and outside."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import MappingProxyType

import torch

from precomp_sdk.channel import Channel
from precomp_sdk.codec import Codec
from precomp_sdk.data import TaskDataset
from precomp_sdk.errors import CurveError, OptionError, nearest
from precomp_sdk.evaluation._panel import Panel, split
from precomp_sdk.evaluation.curves import Measurer
from precomp_sdk.evaluation.evaluator import environment_versions, ignore
from precomp_sdk.evaluation.rates.bjontegaard import TASK_LOSS, BDRate, bd_rate
from precomp_sdk.evaluation.rates.bootstrap import bootstrap_interval, resample
from precomp_sdk.evaluation.statistics import MeasuredCurve
from precomp_sdk.evaluation.transfer.records import TrainedWith, TransferCell, TransferMatrix
from precomp_sdk.events import Event, Notice, RunFinished, RunStarted
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.task import TaskModel

__all__ = ["transfer_matrix"]

_STAGE = "transfer"


def transfer_matrix(
    preprocessors: Mapping[str, Preprocessor],
    codecs: Mapping[str, Codec],
    tasks: Mapping[str, TaskModel],
    dataset: TaskDataset,
    *,
    trained_with: Mapping[str, TrainedWith] = MappingProxyType({}),
    ladders: Mapping[str, Sequence[float]] = MappingProxyType({}),
    anchor_ladders: Mapping[str, Sequence[float]] = MappingProxyType({}),
    replicates: int = 2000,
    seed: int = 0,
    min_overlap: float = 0.25,
    batch_size: int = 32,
    workers: int | None = None,
    device: torch.device | str | None = None,
    skip_unreadable: bool = False,
    dataset_name: str | None = None,
    observer: Callable[[Event], None] | None = None,
) -> TransferMatrix:
    """Score every preprocessor on every backbone and codec.

    Each image goes through a preprocessor and a codec once per quality, and what is decoded is shown to every
    backbone: neither a slow codec nor a slow preprocessor costs more for a further backbone.

    Args:
        preprocessors: by label.
        codecs: by label.
        tasks: backbones by label, of one kind of target and one set of metrics.
        dataset: the held-out images, with targets that fit every backbone.
        trained_with: what each preprocessor was trained with, by its label; a missing one: with nothing here.
        ladders: qualities by the codec's label; default: its scale's ladder.
        anchor_ladders: other qualities for the anchor, where it needs more bits to reach the same scores.
        replicates: as for `evaluate`, like all that follow.
        seed: of the drawing.
        min_overlap: curves that share less of their score range have no BD-rate.
        batch_size: images that are held at a time.
        workers: threads of the codec.
        device: where the networks work.
        skip_unreadable: leave out images that cannot be read.
        dataset_name: what results call the data set.
        observer: receives the events of the run.

    Raises:
        OptionError: something to compare is missing, the backbones do not belong together, or a loop or a ladder names
            a label that is not there.
        PrecompError: as `evaluate` raises it.
    """
    start = time.perf_counter()
    _check(
        preprocessors, codecs, tasks, trained_with, {"ladders": ladders, "anchor_ladders": anchor_ladders}, replicates
    )
    panel = Panel(tasks)
    tell: Callable[[Event], None] = observer or ignore
    tell(RunStarted(_STAGE, 0, {"codecs": list(codecs), "tasks": list(tasks), "preprocessors": list(preprocessors)}))
    cells: dict[tuple[str, str, str], TransferCell] = {}
    images = 0
    for codec_label, codec in codecs.items():
        with ExitStack() as stack:
            measurers = [
                stack.enter_context(
                    Measurer(
                        codec,
                        panel,
                        ladder=ladder,
                        batch_size=batch_size,
                        workers=workers,
                        device=device,
                        skip_unreadable=skip_unreadable,
                        observer=observer,
                    )
                )
                for ladder in (anchor_ladders.get(codec_label, ladders.get(codec_label)), ladders.get(codec_label))
            ]
            for measurer, times in zip(measurers, (1, len(preprocessors)), strict=True):
                if len(measurer.ladder) < 2:
                    raise CurveError(
                        where=f"transfer, ladder of {codec_label!r}",
                        expected="two or more qualities",
                        got=repr(measurer.ladder),
                        remedy="A curve needs several points.",
                    )
                measurer.check(dataset)
                measurer.total_steps = len(dataset) * len(measurer.ladder) * times
            anchor = measurers[0].curve(dataset)
            images = len(anchor)
            for label, preprocessor in preprocessors.items():
                channel = Channel(measurers[1].transcoder, preprocessor, label=label)
                measured = measurers[1].curve(dataset, channel)
                loop = trained_with.get(label, TrainedWith())
                for task_label in tasks:
                    pair = (split(anchor, panel, task_label), split(measured, panel, task_label))
                    cell = TransferCell(
                        preprocessor=label,
                        codec=codec_label,
                        task=task_label,
                        codec_in_loop=codec_label in loop.codecs,
                        task_in_loop=task_label in loop.tasks,
                        comparisons=_compare(*pair, replicates=replicates, seed=seed, min_overlap=min_overlap),
                        anchor=pair[0].curve(),
                        curve=pair[1].curve(),
                    )
                    cells[label, codec_label, task_label] = cell
                    tell(Notice(_STAGE, f"{codec_label}, {task_label}: {cell.main.statement}"))
    seconds = time.perf_counter() - start
    tell(RunFinished(_STAGE, seconds))
    return TransferMatrix(
        dataset=dataset_name or dataset.name,
        images=images,
        metrics=tuple(next(iter(tasks.values())).scorer.metrics),
        preprocessors=tuple(preprocessors),
        codecs=tuple(codecs),
        tasks=tuple(tasks),
        cells=tuple(cells[p, c, t] for p in preprocessors for c in codecs for t in tasks),
        environment=environment_versions(),
        seconds=seconds,
        codec_versions={label: codec.version for label, codec in codecs.items()},
    )


def _compare(
    anchor: MeasuredCurve, other: MeasuredCurve, *, replicates: int, seed: int, min_overlap: float
) -> tuple[BDRate, ...]:
    drawn = [resample(curve, replicates=replicates, seed=seed) for curve in (anchor, other)] if replicates else []
    results = []
    for metric in (*anchor.scorer.metrics, TASK_LOSS):
        result = bd_rate(anchor.curve(), other.curve(), metric, min_overlap=min_overlap)
        if drawn and result.value_percent is not None:
            result = replace(result, interval=bootstrap_interval(drawn[0], drawn[1], metric))
        results.append(result)
    return tuple(results)


def _check(
    preprocessors: Mapping[str, Preprocessor],
    codecs: Mapping[str, Codec],
    tasks: Mapping[str, TaskModel],
    trained_with: Mapping[str, TrainedWith],
    ladders: Mapping[str, Mapping[str, Sequence[float]]],
    replicates: int,
) -> None:
    for what, given in (("preprocessors", preprocessors), ("codecs", codecs), ("tasks", tasks)):
        if not given:
            raise _wrong(what, "one or more", "none", "Name what is to be compared.")
    kinds = {(task.target_kind, tuple(task.scorer.metrics)) for task in tasks.values()}
    if len(kinds) > 1:
        got = "; ".join(f"{label}: {t.target_kind}, {t.scorer.metrics}" for label, t in tasks.items())
        raise _wrong("tasks", "backbones of one kind of target and with one set of metrics", got, "Make two matrices.")
    named: list[tuple[str, Collection[str], Collection[str]]] = [
        ("trained_with", trained_with, preprocessors),
        *((what, given, codecs) for what, given in ladders.items()),
        *((f"trained_with of {label!r}, codecs", loop.codecs, codecs) for label, loop in trained_with.items()),
        *((f"trained_with of {label!r}, tasks", loop.tasks, tasks) for label, loop in trained_with.items()),
    ]
    for what, given_labels, known in named:
        for label in given_labels:
            if label not in known:
                raise _wrong(what, "labels of the matrix", repr(label), nearest(label, known))
    if replicates < 0:
        raise _wrong("replicates", "0 or more", str(replicates), "Take 2000, say.")


def _wrong(what: str, expected: str, got: str, remedy: str) -> OptionError:
    return OptionError(where=f"transfer_matrix, {what}", expected=expected, got=got, remedy=remedy)
