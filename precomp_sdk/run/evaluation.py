"""An experiment's evaluation: the trained preprocessor against the anchor and the baselines."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from precomp_sdk.atomic_io import write_whole
from precomp_sdk.channel import Channel
from precomp_sdk.config import EXPERIMENT_FILE, Experiment, dump_experiment
from precomp_sdk.errors import CheckpointError, TargetError
from precomp_sdk.evaluation import Evaluation, choosing_channels, evaluate, write_report
from precomp_sdk.events import Event, Notice
from precomp_sdk.registry import Registry
from precomp_sdk.run.build import Builder, build_evaluation, located, prepare
from precomp_sdk.run.components import EvaluationComponents
from precomp_sdk.run.compression import load_fitted
from precomp_sdk.run.datasets import reports_of, tell_reports
from precomp_sdk.run.record import read_record, record
from precomp_sdk.run.recorded_options import check_recorded_options, with_codec_options, without_start
from precomp_sdk.training import WEIGHTS_FILE, load_module
from precomp_sdk.training.fabric import make_fabric

__all__ = ["run_evaluation"]


def run_evaluation(
    experiment: Experiment,
    registry: Registry,
    *,
    folder: Path | None = None,
    weights: Path | None = None,
    output: Path | None = None,
    unfinished: bool = False,
    trust: bool = False,
    observer: Callable[[Event], None] | None = None,
    command: str = "",
) -> Evaluation:
    """Carry out the evaluation of an experiment with the weights that its training left behind.

    A preprocessor that has nothing to train is prepared on the training images instead; its run needs no training,
    unless that is to fit the task or the proxy.

    Args:
        experiment: what to do.
        registry: of the names in it.
        folder: of the training run; default: the experiment's output folder.
        weights: of the preprocessor; default: those in the folder.
        output: where results, plots and the record go; default: the folder.
        unfinished: measure the weights of a run that has not come to its last step.
        trust: run programs and import modules that the experiment names; else it is refused for naming one.
        observer: called with every event.
        command: to be recorded.

    Raises:
        CheckpointError: weights are missing, are of an unfinished run, or belong to something else.
        PrecompError: as `build_evaluation` and `evaluate` raise it.
    """
    folder = experiment.output.folder if folder is None else folder
    output = folder if output is None else output
    weights = folder / WEIGHTS_FILE if weights is None else weights
    parts = build_evaluation(without_start(experiment), registry, trust=trust)
    device = torch.device("cpu") if experiment.evaluate.distributed else make_fabric().device
    tell_reports({"data.val": parts.val}, observer)
    steps = _load(experiment, parts, folder, weights, unfinished, observer)
    if not experiment.evaluate.pseudo_labels:  # the weights say what their task was fitted to
        with located(f"{experiment.origin}, data.val"):
            parts.task.check_classes(parts.val.class_names)
            _check_recorded_classes(experiment, parts, folder, observer)
    builder = Builder(registry, experiment.origin, experiment.train.seed, trust=trust)
    if not parts.preprocessor.trainable:
        prepare(experiment, parts, builder.make("dataset", experiment.data.train, "data.train"), device)
    parts.preprocessor.to(device)
    for task in (parts.task, *parts.judges.values()):
        task.to(device)
    with ExitStack() as stack:
        channels = [stack.enter_context(channel) for channel in _choosing(experiment, parts, builder)]
        evaluation = evaluate(
            parts.codec,
            parts.task,
            parts.val,
            preprocessors=parts.preprocessor,
            channels=channels,
            judges=parts.judges,
            settings=experiment.evaluate,
            observer=observer,
        )
    write_report(evaluation, output)
    experiment = with_codec_options(experiment, parts.codec)
    if not (output / EXPERIMENT_FILE).exists():
        write_whole(output / EXPERIMENT_FILE, dump_experiment(experiment))
    record(
        output,
        "evaluation",
        experiment=experiment,
        codec=parts.codec,
        registry=registry,
        command=command,
        results={
            "data": reports_of({"data.val": parts.val}),
            "weights": weights if parts.preprocessor.trainable else None,
            "weights_step": steps,
            "statements": [item.statement for item in evaluation.comparisons],
            "seconds": evaluation.seconds,
        },
    )
    return evaluation


def _choosing(experiment: Experiment, parts: EvaluationComponents, builder: Builder) -> list[Channel]:
    """Return the channels that choose quality per image, fitted on training images."""
    settings = experiment.evaluate.chooser
    if settings is None:
        return []
    images = builder.make("dataset", experiment.data.train, "data.train")
    for task in parts.panel.values():
        task.eval()
    with located(f"{experiment.origin}, evaluate.chooser"):
        return choosing_channels(
            parts.codec,
            parts.panel,
            images,
            settings,
            preprocessors={parts.preprocessor.name: parts.preprocessor.eval()},
            ladder=experiment.evaluate.ladder,
        )


def _check_recorded_classes(
    experiment: Experiment, parts: EvaluationComponents, folder: Path, observer: Callable[[Event], None] | None
) -> None:
    """Hold the classes against those that the run was trained and judged with, where its task is the same.

    Where another data set is measured than the record names, and neither weights nor record say the classes, as runs
    of before they were recorded do not, a notice says that nothing was compared.

    Raises:
        TargetError: they are others, or in another order.
    """
    val = parts.val
    try:
        training = read_record(folder)["training"]
        names = tuple(map(str, training["results"].get("class_names", ())))
        task, data = training["experiment"]["task"], training["experiment"]["data"]["val"]
        same_task = type(experiment.task).model_validate(task) == experiment.task  # older ones lack newer keys
        same_data = type(experiment.data.val).model_validate(data) == experiment.data.val
    except (CheckpointError, KeyError, TypeError, AttributeError, ValueError):  # no record of ours
        return
    if not same_task or not val.class_names:
        return
    if not names and not same_data and not parts.task.fitted_classes and observer is not None:
        message = (
            f"the run in {folder} was recorded without class names: whether {val.name!r} numbers its classes as the "
            "data of that run did cannot be told"
        )
        observer(Notice("evaluate", message))
    if names and val.class_names != names:
        raise TargetError(
            where=f"class names of {val.name!r}",
            expected=f"the classes of the run in {folder}, in this order: {', '.join(names)}",
            got=", ".join(val.class_names),
            remedy="Labels are places in these lists: number the data set alike, or give it the option classes.",
        )


def _load(
    experiment: Experiment,
    parts: EvaluationComponents,
    folder: Path,
    weights: Path,
    unfinished: bool,
    observer: Callable[[Event], None] | None,
) -> int | None:
    """Load the weights of the preprocessor and of what training fitted beside it; return the step they are of."""
    load_fitted(experiment, parts.task, parts.proxy, folder)
    if not parts.preprocessor.trainable:
        return None
    saved = load_module(weights, parts.preprocessor, name=parts.preprocessor.name)
    check_recorded_options(saved, parts.preprocessor, weights, f"{experiment.origin}, preprocessor")
    steps = saved.facts.get("steps", experiment.train.steps)
    if weights == folder / WEIGHTS_FILE and steps < experiment.train.steps and not unfinished:
        raise CheckpointError(
            where=str(weights),
            expected=f"the weights of a finished run of {experiment.train.steps} steps",
            got=f"those of step {steps}",
            remedy="Wait for the training, go on with it (precomp train --resume), or measure them as they are "
            "(--unfinished).",
        )
    trained_for = saved.facts.get("codec")
    if observer is not None and trained_for != parts.codec.name:
        message = f"the preprocessor was trained for codec {trained_for!r} and is measured with {parts.codec.name!r}"
        observer(Notice("evaluate", message))
    return int(steps)
