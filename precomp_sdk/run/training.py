"""An experiment's training run: fit what needs fitting, train, and write down how."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from precomp_sdk._trust import refuse_acting
from precomp_sdk.atomic_io import write_whole
from precomp_sdk.config import EXPERIMENT_FILE, ComponentTable, Experiment, dump_experiment, load_experiment
from precomp_sdk.deploy import Compressor
from precomp_sdk.errors import CheckpointError
from precomp_sdk.events import Event, Notice
from precomp_sdk.registry import Registry
from precomp_sdk.run.build import build, located, prepare
from precomp_sdk.run.choosers import training_chooser
from precomp_sdk.run.components import TrainingComponents
from precomp_sdk.run.datasets import reports_of, tell_reports
from precomp_sdk.run.proxy_fit import fit_and_save_proxy, fit_and_save_task
from precomp_sdk.run.record import RECORD_FILE, record
from precomp_sdk.run.recorded_options import with_codec_options
from precomp_sdk.training import (
    FREE_SETTINGS,
    PROXY_FILE,
    STATE_FILE,
    TASK_FILE,
    WEIGHTS_FILE,
    FitProxyResult,
    FitProxySettings,
    FitTaskResult,
    Trainer,
    TrainResult,
    as_recorded,
    check_unused,
    load_module,
    load_proxy,
    locked,
    read_module,
)
from precomp_sdk.training.fabric import make_fabric

if TYPE_CHECKING:
    from lightning_fabric import Fabric  # takes a second to import, and a sender does not train

__all__ = ["PROXY_FILE", "TASK_FILE", "TrainingOutcome", "check_task", "prepare_task", "run_training"]

#: tables that a resumed run must not change
_FIXED = ("codec", "proxy", "preprocessor", "task", "data", "select", "chooser")


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """What a training run gave.

    Args:
        folder: where everything is.
        components: the objects; the preprocessor is trained.
        result: of the trainer; None where the preprocessor has nothing to train.
        task_fit: of the task, where it was fitted in this run.
        proxy_fit: of the proxy, likewise.
    """

    folder: Path
    components: TrainingComponents
    result: TrainResult | None
    task_fit: FitTaskResult | None = None
    proxy_fit: FitProxyResult | None = None


def run_training(
    experiment: Experiment,
    registry: Registry,
    *,
    resume: bool = False,
    overwrite: bool = False,
    trust: bool = True,
    observer: Callable[[Event], None] | None = None,
    command: str = "",
) -> TrainingOutcome:
    """Carry out the training of an experiment, in its output folder.

    The task is fitted where the experiment says so, the proxy where it says so or needs it; their weights, those of the
    preprocessor, the experiment with every default and the record of the run are left in the folder. A preprocessor
    that has nothing to train is prepared on the training images, for `precomp compress`.

    Args:
        experiment: what to do.
        registry: of the names in it.
        resume: go on with an interrupted run in the folder; the numbers are those of an uninterrupted one.
        overwrite: put a new run in the place of an older one.
        trust: run programs and import modules that the experiment names; else it is refused for naming one. What a run
            to resume has recorded beyond the experiment never names one.
        observer: called with every event.
        command: to be recorded.

    Raises:
        CheckpointError: the folder holds a run and neither ``resume`` nor ``overwrite`` is set, or holds another run
            than the one to resume; or another training works in it.
        PrecompError: as `build`, `fit_task`, `fit_proxy` and `Trainer.run` raise it.
    """
    folder = experiment.output.folder
    if resume:
        experiment = _with_recorded_codec(experiment, folder, registry)
    with located(f"{experiment.origin}, train.precision", instead=True):
        fabric = make_fabric(experiment.train.precision)
    with locked(folder) if fabric.is_global_zero else nullcontext():
        return _run(experiment, registry, fabric, resume, overwrite, trust, observer, command)


def _run(
    experiment: Experiment,
    registry: Registry,
    fabric: "Fabric",
    resume: bool,
    overwrite: bool,
    trust: bool,
    observer: Callable[[Event], None] | None,
    command: str,
) -> TrainingOutcome:
    folder = experiment.output.folder
    if fabric.is_global_zero:
        _check_folder(folder, experiment, resume=resume, overwrite=overwrite)
    components = build(experiment, registry, trust=trust)
    experiment = _resolved(experiment, components)
    if fabric.is_global_zero:
        if not resume:
            _clear(folder)
        write_whole(folder / EXPERIMENT_FILE, dump_experiment(experiment))
    fabric.launch()
    notify = observer if fabric.is_global_zero else None
    tell_reports(components.datasets(), notify)
    task_fit = prepare_task(experiment, components, fabric, notify, resume=resume)
    proxy_fit = _fit_proxy(experiment, components, fabric, notify, resume=resume)
    result: TrainResult | None = None
    if components.preprocessor.trainable:
        trainer = Trainer(
            codec=components.codec,
            proxy=components.proxy,
            preprocessor=components.preprocessor,
            task=components.task,
            settings=experiment.train,
            select=components.select,
            chooser=training_chooser(experiment, components),
            observer=observer,
            fabric=fabric,
        )
        result = trainer.run(
            components.train, held_out=components.held_out, folder=folder, resume=resume, overwrite=overwrite
        )
    elif fabric.is_global_zero:
        _tell_unused(experiment, components, notify)
        prepare(experiment, components, components.train, fabric.device)
        sender = Compressor(components.codec, components.preprocessor, ladder=experiment.evaluate.ladder)
        sender.save(folder / WEIGHTS_FILE)
    if fabric.is_global_zero:
        record(
            folder,
            "training",
            experiment=experiment,
            codec=components.codec,
            registry=registry,
            command=command,
            results={
                "data": reports_of(components.datasets()),
                "class_names": components.val.class_names,
                "task_fit": task_fit,
                "proxy_fit": proxy_fit,
                "training": result,
            },
        )
    return TrainingOutcome(folder, components, result, task_fit, proxy_fit)


def _tell_unused(
    experiment: Experiment, components: TrainingComponents, notify: Callable[[Event], None] | None
) -> None:
    """Tell what the experiment asks for and a preprocessor that learns nothing has no use for."""
    unused = [f"[{name}]" for name in ("select", "chooser") if getattr(experiment, name) is not None]
    if unused and notify is not None:
        name = components.preprocessor.name
        told = f"{' and '.join(unused)} left aside: the preprocessor {name!r} has nothing to train"
        notify(Notice("train", told))


def _check_folder(folder: Path, experiment: Experiment, *, resume: bool, overwrite: bool) -> None:
    """Refuse to destroy an older run, or to go on with another one."""
    if not (resume or overwrite):
        remedy = "Go on with it (--resume), replace it (--overwrite), or choose another folder (--output)."
        check_unused(folder, (STATE_FILE, WEIGHTS_FILE, TASK_FILE, PROXY_FILE), remedy)
    if resume:
        check_task(experiment)
    if resume and (folder / EXPERIMENT_FILE).exists():
        ours, theirs = experiment.model_dump(), load_experiment(folder / EXPERIMENT_FILE).model_dump()
        if theirs["proxy"]["name"] and not ours["proxy"]["name"]:  # what was chosen then is written down there
            ours["proxy"]["name"] = theirs["proxy"]["name"]
        begun = (*_FIXED, "train") if (folder / STATE_FILE).exists() else _FIXED
        for key, our, their in (item for table in begun for item in _differences(ours[table], theirs[table], table)):
            if key not in {f"train.{free}" for free in FREE_SETTINGS}:
                raise CheckpointError(
                    where=f"{experiment.origin}, {key}",
                    expected=f"none, as in {folder / EXPERIMENT_FILE}"
                    if their is None
                    else f"what {folder / EXPERIMENT_FILE} says: {their!r}",
                    got="none" if our is None else repr(our),
                    remedy="Resume with the experiment the run was started with, or choose another folder.",
                )


def _differences(ours: Any, theirs: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the keys at which two trees of tables differ, with both values."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for name in {**ours, **theirs}:
            yield from _differences(ours.get(name), theirs.get(name), f"{key}.{name}")
    elif ours != theirs:
        yield key, ours, theirs


def check_task(experiment: Experiment) -> None:
    """Refuse a task in the experiment's folder that was fitted with other settings.

    Raises:
        CheckpointError: it was, or it cannot be read.
    """
    fit, path = experiment.task.fit, experiment.output.folder / TASK_FILE
    if fit is None or not path.exists():
        return
    asked, done = as_recorded(asdict(fit)), read_module(path).facts.get("fit")
    if done not in (None, asked):  # files of before this was recorded have none
        raise CheckpointError(
            where=f"{experiment.origin}, task.fit",
            expected=f"the settings that {path} was fitted with: {done}",
            got=str(asked),
            remedy="Fit the task with those, remove the file, or choose another folder.",
        )


def _clear(folder: Path) -> None:
    """Remove what a later --resume would take for its own."""
    for name in (STATE_FILE, WEIGHTS_FILE, TASK_FILE, PROXY_FILE, RECORD_FILE):
        (folder / name).unlink(missing_ok=True)


def _resolved(experiment: Experiment, components: TrainingComponents) -> Experiment:
    """Return the experiment with the proxy's name, which the file may leave open, and with all the codec's options."""
    proxy = experiment.proxy.model_copy(update={"name": experiment.proxy.name or components.proxy.name})
    return with_codec_options(experiment, components.codec).model_copy(update={"proxy": proxy})


def _with_recorded_codec(experiment: Experiment, folder: Path, registry: Registry) -> Experiment:
    """Return the experiment with the codec's options of the run to resume where it does not name them itself."""
    file = folder / EXPERIMENT_FILE
    if not file.exists():
        return experiment
    recorded = load_experiment(file).codec
    if recorded.name != experiment.codec.name:
        return experiment
    options = {name: value for name, value in recorded.options.items() if name not in experiment.codec.options}
    if recorded.name in registry.codecs:
        refuse_acting(registry.codecs[recorded.name], options, f"{file}, codec")
    options |= experiment.codec.options
    return experiment.model_copy(update={"codec": ComponentTable(name=recorded.name, **options)})


def prepare_task(
    experiment: Experiment,
    components: TrainingComponents,
    fabric: "Fabric",
    notify: Callable[[Event], None] | None,
    *,
    resume: bool,
) -> FitTaskResult | None:
    """Fit the task where the experiment says so, in the first process; all of them load the file."""
    fit, path = experiment.task.fit, experiment.output.folder / TASK_FILE
    if fit is None:
        return None
    result = None
    if fabric.is_global_zero and not (resume and path.exists()):
        result = fit_and_save_task(
            components.task,
            experiment.task,
            fit,
            components.task_train,
            components.val,
            path,
            fabric.device,
            notify,
        )
    fabric.barrier()
    load_module(path, components.task, name=components.task.name)
    for key, dataset in components.labelled(experiment).items():
        with located(f"{experiment.origin}, {key}"):
            components.task.check_classes(dataset.class_names)
    return result


def _fit_proxy(
    experiment: Experiment,
    components: TrainingComponents,
    fabric: "Fabric",
    notify: Callable[[Event], None] | None,
    *,
    resume: bool,
) -> FitProxyResult | None:
    """Fit the proxy where it is to be fitted or of no use without, in the first process; all of them load the file."""
    fit, path = experiment.proxy.fit, experiment.output.folder / PROXY_FILE
    if fit is None and bool(components.proxy.fitted):
        if notify and components.proxy.fitted_to not in ("", components.codec.version):
            message = (
                f"{components.proxy.name!r} was fitted to {components.proxy.fitted_to}, "
                f"and {components.codec.version} is installed: "
                "`precomp evaluate-proxy` tells how well it still fits, and a table [proxy.fit] fits it again"
            )
            notify(Notice("fit-proxy", message))
        return None
    settings = FitProxySettings() if fit is None else fit
    if settings.ladder is None:
        settings = replace(settings, ladder=experiment.train.ladder)
    result = None
    if fabric.is_global_zero and not (resume and path.exists()):
        result = fit_and_save_proxy(components.proxy, components.train, settings, path, fabric.device, notify)
    fabric.barrier()
    load_proxy(path, components.proxy)
    components.proxy.eval().requires_grad_(False)
    return result
