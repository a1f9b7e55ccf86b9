"""Fitting a task network to a data set: any network, any kind of target."""

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from precomp_sdk.data import SkippedSample, TaskDataset
from precomp_sdk.errors import NonFiniteError, OptionError
from precomp_sdk.events import Notice, RunFinished, RunStarted, StepDone
from precomp_sdk.images import stack_images, to_float
from precomp_sdk.modules import device_of, evaluation_mode, to_device
from precomp_sdk.observers import Listener, listening
from precomp_sdk.targets import Target
from precomp_sdk.task import TaskModel
from precomp_sdk.training.chance import Chance
from precomp_sdk.training.loading import Batches, left_out
from precomp_sdk.training.settings import FitTaskSettings
from precomp_sdk.types import Sample

__all__ = ["FitTaskResult", "fit_task", "score_task"]

_STAGE = "fit-task"
_WARM_UP = 0.1  # share of the steps in which the learning rate rises


@dataclass(frozen=True, slots=True)
class FitTaskResult:
    """What came of fitting a task network.

    Args:
        loss: mean over the images of the last epoch's steps, as they were met in training.
        scores: the task's metrics on the validation set, as fractions; empty without one.
        steps: how many the optimizer took.
        seconds: wall time.
        skipped: images that could not be read.
    """

    loss: float
    scores: Mapping[str, float]
    steps: int
    seconds: float
    skipped: tuple[SkippedSample, ...] = ()


def fit_task(
    task: TaskModel,
    dataset: TaskDataset,
    *,
    settings: FitTaskSettings,
    validation: TaskDataset | None = None,
    observer: Listener = "auto",
) -> FitTaskResult:
    """Train a task network on images as they are, without any codec.

    AdamW with a learning rate that rises for a tenth of the steps and falls along a cosine to zero; weights of
    dimension 1 (biases, normalization) do not decay. Images of one size go in as a batch, others as a list. The
    network stays on its device, keeps its choice of ``requires_grad``, and is in evaluation mode afterwards. Two calls
    on equal networks give equal results; the caller's random state does not move.

    Args:
        task: trained in place.
        dataset: with targets of the task's kind.
        settings: every choice; the number of epochs has no default.
        validation: data set to score the fitted network on.
        observer: receives every event, with stage ``"fit-task"``; see `precomp_sdk.observers.listening`.

    Raises:
        TargetError: a data set does not fit the task.
        OptionError: the network has nothing to train.
        DatasetError: an image cannot be read.
        NonFiniteError: the loss or the gradient is not finite; the parameters are as they were before that step.
    """
    begin = time.perf_counter()
    names = ("epochs", "batch_size", "learning_rate", "clip_norm", "seed")
    options = {name: getattr(settings, name) for name in names}
    task.fitted_classes = ()  # what it was fitted to before no longer counts
    task.check_targets(dataset, "fit_task")
    task.fitted_classes = dataset.class_names
    if validation is not None:
        task.check_targets(validation, "fit_task, validation")
    optimizer, parameters = _optimizer(task, settings)
    device = parameters[0].device
    size = max(1, min(settings.batch_size, len(dataset)))
    with listening(observer) as notify:
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            Batches(
                dataset,
                batch_size=size,
                seed=settings.seed,
                stop=(settings.epochs, 0),
                skip_unreadable=settings.skip_unreadable,
                workers=settings.workers,
            ) as batches,
        ):
            torch.manual_seed(settings.seed)
            steps = settings.epochs * batches.per_epoch
            notify(RunStarted(stage=_STAGE, total_steps=steps, settings={**options, "task": task.name}))
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate_factor(step, steps))
            recent: deque[list[float]] = deque(maxlen=batches.per_epoch)
            step = 0
            task.train()
            try:
                for step, samples in enumerate(batches, start=1):
                    scalars = {"learning_rate": float(schedule.get_last_lr()[0])}
                    recent.append(_step(task, samples, optimizer, parameters, settings.clip_norm, step, scalars))
                    schedule.step()
                    notify(StepDone(stage=_STAGE, step=step, total_steps=steps, scalars=scalars))
            finally:
                task.eval()
                optimizer.zero_grad(set_to_none=True)
            skipped = batches.skipped
        scores: Mapping[str, float] = {}
        if validation is not None:
            chance = Chance()
            size, skip = settings.batch_size, settings.skip_unreadable
            scores, more = _score(task, validation, size, skip, settings.workers, chance)
            skipped += more
            if told := chance.verdict(scores):
                notify(Notice(_STAGE, told))
        if skipped:
            notify(left_out(_STAGE, skipped))
        seconds = time.perf_counter() - begin
        notify(RunFinished(stage=_STAGE, seconds=seconds))
    return FitTaskResult(
        loss=float(np.mean([loss for losses in recent for loss in losses])),
        scores=MappingProxyType(dict(scores)),
        steps=step,
        seconds=seconds,
        skipped=skipped,
    )


def score_task(
    task: TaskModel,
    dataset: TaskDataset,
    *,
    batch_size: int = 32,
    skip_unreadable: bool = False,
    workers: int | None = None,
) -> dict[str, float]:
    """Return the task's metrics, as fractions, on images as they are; the network runs in evaluation mode.

    Raises:
        TargetError: the data set does not fit the task.
        DatasetError: an image cannot be read.
    """
    task.check_targets(dataset, "score_task")
    return _score(task, dataset, batch_size, skip_unreadable, workers)[0]


def _step(
    task: TaskModel,
    samples: Sequence[Sample],
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    clip_norm: float,
    step: int,
    scalars: dict[str, float],
) -> list[float]:
    """Train on one batch, add to ``scalars``, and return the loss of each image."""
    keys = [sample.key for sample in samples]
    losses = task.losses(_images(samples, parameters[0].device), _targets(samples), keys=keys)
    values: list[float] = losses.detach().float().cpu().tolist()
    broken = [sample.key for sample, value in zip(samples, values, strict=True) if not math.isfinite(value)]
    if broken:
        raise _non_finite(step, "loss", f"{np.mean(values)} (images {', '.join(broken[:5])})")
    optimizer.zero_grad(set_to_none=True)
    losses.mean().backward()  # type: ignore[no-untyped-call]
    norm = float(clip_grad_norm_(parameters, clip_norm))
    if not math.isfinite(norm):
        raise _non_finite(step, "gradient norm", str(norm))
    optimizer.step()
    scalars |= {"loss": float(np.mean(values)), "gradient_norm": norm}
    return values


def _score(
    task: TaskModel,
    dataset: TaskDataset,
    batch_size: int,
    skip_unreadable: bool,
    workers: int | None,
    chance: Chance | None = None,
) -> tuple[dict[str, float], tuple[SkippedSample, ...]]:
    device = device_of(task)
    statistics = []
    with (
        evaluation_mode(task),
        Batches(
            dataset,
            batch_size=batch_size,
            shuffle=False,
            drop_last=False,
            stop=(1, 0),
            skip_unreadable=skip_unreadable,
            workers=workers,
        ) as batches,
    ):
        for samples in batches:
            predictions = task.predict(_images(samples, device))
            targets = _targets(samples)
            statistics += [
                task.scorer.measure(prediction, target) for prediction, target in zip(predictions, targets, strict=True)
            ]
            if chance is not None:
                chance.add(targets)
        return task.scorer.combine(statistics, np.ones(len(statistics))), batches.skipped


def _images(samples: Sequence[Sample], device: torch.device) -> Tensor | list[Tensor]:
    if len({sample.image.shape for sample in samples}) == 1:
        return to_device(stack_images([sample.image for sample in samples]), device)
    return [to_device(to_float(sample.image), device) for sample in samples]


def _targets(samples: Sequence[Sample]) -> list[Target]:
    return [sample.target for sample in samples if sample.target is not None]


def _optimizer(task: TaskModel, settings: FitTaskSettings) -> tuple[torch.optim.Optimizer, list[nn.Parameter]]:
    parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
    if not parameters:
        raise OptionError(
            where=f"fit_task, task {task.name!r}",
            expected="parameters to train",
            got="none",
            remedy="Set requires_grad on some of them.",
        )
    groups = [
        {"params": [item for item in parameters if item.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [item for item in parameters if item.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.learning_rate)
    return optimizer, parameters


def _rate_factor(step: int, steps: int) -> float:
    """Return the share of the peak learning rate after ``step`` of ``steps``."""
    rise = max(1, round(_WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _non_finite(step: int, term: str, got: str) -> NonFiniteError:
    return NonFiniteError(
        where=f"{_STAGE}, step {step}",
        expected=f"a finite {term}",
        got=got,
        remedy="Lower the learning rate, and look at the images and their targets.",
    )
