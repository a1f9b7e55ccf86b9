"""The joint trainer: any codec, proxy, preprocessor, task and data set."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from precomp_sdk.atomic_io import check_target
from precomp_sdk.chooser import QualityChooser
from precomp_sdk.codec import Codec
from precomp_sdk.data import Subset, TaskDataset
from precomp_sdk.described import Assembled, options_of
from precomp_sdk.ensemble import EnsembleTask
from precomp_sdk.errors import DatasetError, OptionError
from precomp_sdk.events import Event, Notice, RunFinished, RunStarted
from precomp_sdk.modules import compiled, evaluation_mode, given_back
from precomp_sdk.observers import Listener, Observer, fan_out, listening
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.proxy import ProxyCodec, check_proxy_codec
from precomp_sdk.registry import Registry
from precomp_sdk.task import TaskModel
from precomp_sdk.training.calibration import calibrate
from precomp_sdk.training.checkpoints import as_recorded, save_module
from precomp_sdk.training.context import RunContext
from precomp_sdk.training.fabric import make_fabric
from precomp_sdk.training.held_out import HeldOutBatch
from precomp_sdk.training.loading import Batches, held_back, left_out, load_all, shuffled
from precomp_sdk.training.loop import TrainingLoop, read_checkpoint
from precomp_sdk.training.objective import AnchorPoint, Calibration
from precomp_sdk.training.proxy_files import load_proxy, save_proxy
from precomp_sdk.training.proxy_fitting import fit_proxy
from precomp_sdk.training.results import TrainResult
from precomp_sdk.training.run_folder import PROXY_FILE, STATE_FILE, TASK_FILE, WEIGHTS_FILE, check_unused, locked
from precomp_sdk.training.selection import make_selection
from precomp_sdk.training.settings import FitProxySettings, TrainSettings
from precomp_sdk.training.units import AnchorUnits, anchor_units
from precomp_sdk.transcode import Transcoder
from precomp_sdk.validation import check_instance

if TYPE_CHECKING:
    from lightning_fabric import Fabric  # takes a second to import, and a sender does not train

__all__ = ["Trainer"]

_WORSE_REMEDY = "do not use its weights; train longer or with a lower learning rate, or look at the task and the proxy"
_FLAT = 0.01  # a task loss that changes by less than this share over the ladder says nothing of the codec


class Trainer(Assembled):
    """Trains a preprocessor in front of a codec for a task.

    Takes objects; nothing is looked up by name. After `run` the preprocessor holds the averaged weights, in evaluation
    mode. Everything else about the three networks is as it came, also after an error: modes, what is frozen, memory
    layout; they stay on the device of the run.

    Args:
        codec: the real codec.
        proxy: its differentiable proxy; None takes the codec's own among the installed ones, else one that learns any
            codec, and fits it to the training images first where it is of no use without.
        preprocessor: what learns.
        task: the downstream network; frozen unless ``settings.train`` names it.
        settings: every choice of the run.
        select: a network that is not in the loop, which chooses the weights that are kept: those with the least
            objective for it on the held-out images, among the measurements every ``settings.held_out_every`` steps; its
            own clean answers are its targets. None keeps the last ones.
        chooser: trains each image at the quality that this takes for it, with the drawn quality as its operating point,
            by a search of three encodes: as a sender that chooses will send it. It was fitted, for the same codec and
            ladder, at full size. None trains at the drawn quality.
        observer: called with every event, in the first process only; see `precomp_sdk.observers.listening`.
        fabric: of Lightning, for devices, precision and processes; None makes one for one device of the kind there is,
            or for all processes that ``torchrun`` started.

    Raises:
        OptionError: a part is not an object of its contract, or is to learn and has no parameters; the proxy is of
            another codec or of other options of it; Fabric knows no such precision, or lacks a package for it.

    Example:
        >>> trainer = Trainer(codec=codec, proxy=proxy, preprocessor=network, task=task)  # doctest: +SKIP
        >>> result = trainer.run(dataset, folder=Path("runs/first"))  # doctest: +SKIP
    """

    _parts = ("codec", "proxy", "preprocessor", "task")

    def __init__(
        self,
        *,
        codec: Codec,
        proxy: ProxyCodec | None = None,
        preprocessor: Preprocessor,
        task: TaskModel,
        settings: TrainSettings | None = None,
        select: TaskModel | None = None,
        chooser: QualityChooser | None = None,
        observer: Listener = "auto",
        fabric: "Fabric | None" = None,
    ) -> None:
        for name, part, contract in (
            ("codec", codec, Codec), ("proxy", proxy, ProxyCodec), ("preprocessor", preprocessor, Preprocessor),
            ("task", task, TaskModel), ("settings", settings, TrainSettings), ("select", select, TaskModel),
        ):  # fmt: skip
            if part is not None or name not in ("settings", "proxy", "select"):
                check_instance(part, contract, f"Trainer, {name}")
        self.codec = codec
        self._chose_proxy = proxy is None
        self.proxy: ProxyCodec = Registry().proxy_for(codec) if proxy is None else proxy
        check_proxy_codec(self.proxy, codec, "Trainer")
        self.preprocessor = preprocessor
        self.task = task
        self.select = select
        self.settings: TrainSettings = settings or TrainSettings()
        self.ladder: tuple[float, ...] = codec.quality_scale.ladder_of(self.settings.ladder)
        self.chooser = chooser
        self._check_parameters()
        self._check_chooser()
        self._observer = observer
        self._tell: Observer = fan_out()
        self.fabric: Fabric = fabric or make_fabric(self.settings.precision)

    def run(
        self,
        dataset: TaskDataset,
        *,
        held_out: TaskDataset | None = None,
        folder: Path | str | None = None,
        resume: bool = False,
        overwrite: bool = False,
    ) -> TrainResult:
        """Calibrate, train, and save.

        Args:
            dataset: the training images; unlabelled ones need ``targets="pseudo-labels"``.
            held_out: images to log the relative objective on; None holds some of ``dataset`` back.
            folder: for the checkpoint and the weights, those of the task and the proxy too where they are trained;
                None writes nothing.
            resume: go on from the checkpoint in ``folder``, if any; the numbers are those of an uninterrupted run.
            overwrite: put this run in the place of an older one in ``folder``.

        Raises:
            TargetError: the targets do not fit the task.
            NonFiniteError: a term became NaN or infinite; the last checkpoint is untouched.
            CheckpointError: the checkpoint belongs to other settings; or ``folder`` holds a run, and neither ``resume``
                nor ``overwrite`` is set, or another training works in it.
            Interrupted: a signal asked for an end, inside `precomp_sdk.interrupts.signals_raise`; a checkpoint of the
                last step is saved then.
            OSError: the folder cannot be written to.
            DatasetError: an image cannot be read, or none of those held out or for calibration.
            CalibrationError: lambda cannot be read off the anchor's curve.
            ContractError: task or proxy have no gradient to learn from, found at the first step.
        """
        check_instance(dataset, TaskDataset, "Trainer.run, dataset")
        with listening(self._observer) as self._tell:
            if folder is None:
                return self._run(dataset, held_out, None, resume=False)
            folder = Path(folder)
            with locked(folder) if self.fabric.is_global_zero else nullcontext():
                self._check_folder(folder, resume=resume, overwrite=overwrite)
                return self._run(dataset, held_out, folder, resume=resume)

    def _run(
        self, dataset: TaskDataset, held_out: TaskDataset | None, folder: Path | None, *, resume: bool
    ) -> TrainResult:
        started = time.perf_counter()
        settings, fabric = self.settings, self.fabric
        self._check_targets(dataset)
        for drawn in filter(None, (dataset, held_out)):
            drawn.set_epoch(0)  # whatever was drawn before, so that a resumed run holds out the same images
        dataset, calibration_set, held_out = self._split(dataset, held_out)
        self._notify(RunStarted("train", settings.steps, {"codec": self.codec.name, **asdict(settings)}))
        fabric.launch()
        if self._chose_proxy and not bool(self.proxy.fitted):
            self._fit_proxy(dataset, folder, resume=resume)
        with (
            given_back(self.preprocessor, self.proxy, self.task, *filter(None, [self.select])),
            Transcoder(self.codec, workers=settings.codec_workers) as transcoder,
            compiled(*((self.preprocessor, self.task) if settings.compile else ())),
        ):
            self._prepare()
            context = RunContext(
                self.preprocessor, self.proxy, self.task, transcoder, settings, self.ladder, fabric, self._notify,
                self.chooser,
            )  # fmt: skip
            state = read_checkpoint(folder, context) if resume and folder is not None else None
            calibration = self._calibrate(transcoder, calibration_set, state)
            held, unreadable = load_all(held_out, "held-out images", skip_unreadable=settings.skip_unreadable)
            batch = HeldOutBatch(
                held, transcoder, self.task, calibration, settings, fabric.device, (state or {}).get("anchor")
            )
            selection = None
            if self.select is not None:
                known = (state or {}).get("selection")
                selection = make_selection(self.select, context, held_out, held, known)
            loop = TrainingLoop(context, calibration, batch, folder, state, selection)
            with Batches(
                dataset,
                batch_size=settings.batch_size,
                seed=settings.seed,
                start=loop.position,
                rank=fabric.global_rank,
                world_size=fabric.world_size,
                skip_unreadable=settings.skip_unreadable,
            ) as batches:
                relative = loop.run(batches)
                if folder is not None and fabric.is_global_zero:
                    self._save_others(folder, dataset.class_names)
                skipped = (*unreadable, *batches.skipped)
        if "preprocessor" in settings.train:
            self.preprocessor.eval()
        if skipped:
            self._notify(left_out("train", skipped))
        seconds = time.perf_counter() - started
        result = TrainResult(settings.steps, calibration, relative, skipped, seconds, folder)
        if result.worse:
            self._notify(Notice("train", f"the run ended {result.statement}: {_WORSE_REMEDY}"))
        self._notify(RunFinished("train", seconds))
        return result

    def _fit_proxy(self, dataset: TaskDataset, folder: Path | None, *, resume: bool) -> None:
        """Fit the proxy that was chosen here, alike in every process; a resumed run takes the one it began with."""
        path = None if folder is None else folder / PROXY_FILE
        if path is not None and resume and path.exists():
            load_proxy(path, self.proxy)
            return
        settings = self.settings
        fitting = FitProxySettings(ladder=self.ladder, seed=settings.seed, skip_unreadable=settings.skip_unreadable)
        fit_proxy(self.proxy, dataset, settings=fitting, observer=self._notify)
        if path is not None and self.fabric.is_global_zero:
            save_proxy(path, self.proxy)

    def _save_others(self, folder: Path, class_names: tuple[str, ...]) -> None:
        """Write what was trained beside the preprocessor."""
        facts: dict[str, Any] = {"steps": self.settings.steps}
        if "task" in self.settings.train:
            if self.settings.targets == "dataset":
                self.task.fitted_classes = class_names
            told = {**facts, "class_names": list(self.task.fitted_classes)}
            options = as_recorded(options_of(self.task))
            save_module(folder / TASK_FILE, self.task, name=self.task.name, options=options, facts=told)
        if "proxy" in self.settings.train:
            save_proxy(folder / PROXY_FILE, self.proxy, facts=facts)

    def _check_parameters(self) -> None:
        """Refuse to train what has nothing to learn."""
        for name in self.settings.train:
            module: Preprocessor | TaskModel | ProxyCodec = getattr(self, name)
            if next(module.parameters(), None) is None:
                raise OptionError(
                    where="Trainer, setting 'train'",
                    expected=f"a {name} with parameters to learn",
                    got=f"{module.name!r}, which has none",
                    remedy="Use it as it is, or choose another one.",
                )

    def _check_chooser(self) -> None:
        """Refuse a chooser whose choice could not be trained at."""
        chooser = self.chooser
        if chooser is None:
            return
        check_instance(chooser, QualityChooser, "Trainer, chooser")
        codec, theirs = self.codec, chooser.codec
        for expected, ours, found in (
            ("a chooser for the codec that is trained for", (codec.name, dict(codec.coding_options)),
             (theirs.name, dict(theirs.coding_options))),
            ("a chooser of the ladder that is trained for", sorted(self.ladder), sorted(chooser.ladder)),
            ("a chooser at full size alone", (1.0,), chooser.resolutions),
        ):  # fmt: skip
            if ours != found:
                raise OptionError(
                    where="Trainer, chooser",
                    expected=f"{expected}: {ours}",
                    got=str(found),
                    remedy="Construct and fit one with these.",
                )
        _ = chooser.curve  # refused where it was not fitted

    def _check_targets(self, dataset: TaskDataset) -> None:
        if self.settings.targets == "pseudo-labels":
            return
        self.task.check_targets(dataset, remedy='Choose a data set of that kind, or targets="pseudo-labels".')

    def _check_folder(self, folder: Path, *, resume: bool, overwrite: bool) -> None:
        """Refuse, in every process, to destroy an older run; find out before the work whether a new one can be kept.

        The first process removes what is to be replaced.
        """
        names = (STATE_FILE, WEIGHTS_FILE)
        if not (resume or overwrite):
            check_unused(folder, names, "Go on with it (resume), replace it (overwrite), or choose another folder.")
        begun = resume and (folder / STATE_FILE).exists()
        if not begun and self.fabric.is_global_zero:
            check_target(folder / STATE_FILE)
            for name in names:  # or a later resume would go on with the older run
                (folder / name).unlink(missing_ok=True)

    def _split(
        self, dataset: TaskDataset, held_out: TaskDataset | None
    ) -> tuple[TaskDataset, TaskDataset, TaskDataset]:
        """Return training, calibration and held-out images; the held-out ones are never trained on."""
        order = shuffled(dataset, self.settings.seed)
        if held_out is not None:
            chosen = shuffled(held_out, self.settings.seed)[: self.settings.held_out_images]
            return dataset, Subset(dataset, order[: self.settings.calibration_images]), Subset(held_out, chosen)
        kept = held_back(len(order), self.settings)
        if kept == 0:
            raise DatasetError(
                where=f"data set {dataset.name!r}",
                expected="at least 5 images, to hold some back",
                got=str(len(order)),
                remedy="Use more images, or pass held_out.",
            )
        calibration_set = Subset(dataset, order[kept : kept + self.settings.calibration_images])
        return Subset(dataset, sorted(order[kept:])), calibration_set, Subset(dataset, order[:kept])

    def _prepare(self) -> None:
        torch.manual_seed(self.settings.seed)
        modules: dict[str, nn.Module] = {"preprocessor": self.preprocessor, "task": self.task, "proxy": self.proxy}
        for name, module in modules.items():
            learns = name in self.settings.train
            module.to(self.fabric.device).requires_grad_(learns)
            module.train(learns)
            if self.settings.channels_last and name != "proxy":
                module.to(memory_format=torch.channels_last)

    def _calibrate(self, transcoder: Transcoder, dataset: TaskDataset, state: dict[str, Any] | None) -> Calibration:
        settings = self.settings
        if isinstance(self.task, EnsembleTask) and self.task.normalize:
            self._set_units(self.task, transcoder, dataset, (state or {}).get("units"))
        if state is not None:
            points = tuple(AnchorPoint(**point) for point in state["calibration"])
        else:
            with evaluation_mode(self.task):
                points = calibrate(
                    transcoder,
                    self.task,
                    dataset,
                    self.ladder,
                    targets=settings.targets,
                    features=settings.feature_weight > 0,
                    clean=settings.clean_weight > 0,
                    lambdas=settings.lambdas,
                    lambda_scale=settings.lambda_scale,
                    batch_size=settings.batch_size,
                    skip_unreadable=settings.skip_unreadable,
                    device=self.fabric.device,
                    observer=self._notify,
                )
            points = self.fabric.broadcast(points)
            losses = [point.task_loss for point in points]
            if settings.lambdas == "auto" and len(points) > 1 and max(losses) - min(losses) < _FLAT * max(losses):
                message = (
                    f"the task's loss hardly depends on the codec, {min(losses):.4g} to {max(losses):.4g}, so lambda "
                    "is read off noise: is the task trained, and does the ladder reach where it suffers?"
                )
                self._notify(Notice("train", message))
        return Calibration(points, settings.task_weight, settings.feature_weight, settings.beta, settings.clean_weight)

    def _set_units(
        self, task: EnsembleTask, transcoder: Transcoder, dataset: TaskDataset, known: Mapping[str, Any] | None
    ) -> None:
        """Measure what the anchor costs the members, or take it from a checkpoint."""
        settings = self.settings
        if known:
            units = AnchorUnits(**known)
        else:
            with evaluation_mode(task):
                units = anchor_units(
                    transcoder,
                    task,
                    dataset,
                    self.ladder,
                    targets=settings.targets,
                    features=settings.feature_weight > 0,
                    batch_size=settings.batch_size,
                    skip_unreadable=settings.skip_unreadable,
                    device=self.fabric.device,
                )
        units = self.fabric.broadcast(units)
        task.set_units(units.losses, units.layers)

    def _notify(self, event: Event) -> None:
        if self.fabric.is_global_zero:
            self._tell(event)
