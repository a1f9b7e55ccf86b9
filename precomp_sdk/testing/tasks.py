"""The checks of a `TaskModel`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precomp_sdk.ensemble import EnsembleTask
from precomp_sdk.errors import ContractError, OptionError, TargetError
from precomp_sdk.images import stack_images
from precomp_sdk.scorer import Scorer
from precomp_sdk.targets import Boxes, Composite, Label, Mask, Target
from precomp_sdk.task import TaskModel
from precomp_sdk.testing._targets import made_targets, other_target, read_target, same_target, with_nan
from precomp_sdk.testing._tools import (
    copied,
    gradients,
    natural_batch,
    permuted,
    require_close,
    require_declared,
    require_refused,
    stray_tensors,
    without_cuda,
)
from precomp_sdk.testing.checks import Check, CheckFailedError, NotApplicableError, Numbered, numbered, require
from precomp_sdk.testing.images import extreme_images, natural_image

__all__ = ["TASK_CHECKS", "TaskSettings"]

_CLOSE = 1e-3  # of the largest loss: a batch may sum in another order
_PERFECT = 0.99  # of a score whose best is 1


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """How a task is checked.

    Args:
        size: height and width of the images, but for those of T5.
        sizes: heights and widths for T5.
        targets: returns the targets of some images, one per (height, width); None makes labels, boxes, masks or one of
            each for the members of an ensemble, whose classes are below ``classes``, and takes the task's pseudo-labels
            where its kind is its own.
        classes: number of classes; None takes the number of the task's class names, or 2.
        prediction: turns a target into the prediction that deserves the best score; None takes the task's pseudo-labels
            for its own predictions, see T9. A detector that was never fitted needs it: it sees nothing, or gives all
            boxes one score, and then T8 depends on the order of equal scores.
        make: returns a fresh task; the checks need none.
        moved: names of attributes whose tensors the task moves to the images' device by itself, for T14.
    """

    size: tuple[int, int] = (64, 80)
    sizes: tuple[tuple[int, int], ...] = ((64, 80), (96, 64), (33, 47), (70, 90))
    targets: Callable[[Sequence[tuple[int, int]]], Sequence[Target]] | None = None
    classes: int | None = None
    prediction: Callable[[Target], Any] | None = None
    make: Callable[[], TaskModel] | None = None
    moved: tuple[str, ...] = ()


_DEFAULT = TaskSettings()

TASK_CHECKS: list[Check] = []  #: what every task has to pass, in order
check: Numbered = numbered(TASK_CHECKS)


@check("T1", "It says its name in kebab-case, its source, the kind of its targets, its scorer and that one's metrics.")
def declares_itself(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    require_declared(task, ("target_kind", str), ("scorer", Scorer), ("class_names", tuple))
    metrics = getattr(task.scorer, "metrics", ())
    right = isinstance(metrics, tuple) and metrics and all(isinstance(metric, str) for metric in metrics)
    require(right, f"expected a scorer with a tuple of metrics; got {metrics!r}")
    require(all(isinstance(name, str) for name in task.class_names), "expected class names as strings; got others")
    task.check_dataset(task.class_names)


@check("T2", "There is one finite loss per image, for extreme images too.")
def losses(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    images = stack_images([natural_image(*settings.size), *extreme_images(*settings.size).values()])
    losses = copied(task).losses(images, _targets(task, settings, [settings.size] * len(images)))
    require(bool(torch.isfinite(losses).all()), f"expected finite losses; got {losses.tolist()}")


@check("T3", "Losses have a finite gradient to every image, that is not zero.")
def gradient(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    images, targets = _images(task, settings, 3)
    images.requires_grad_()
    gradients("losses", copied(task).losses(images, targets).sum(), images)


@check("T4", "In evaluation mode, an image's loss does not depend on its place in the batch, nor on the others.")
def order(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    images, targets = _images(task, settings, 4)
    model = copied(task)
    losses = model.losses(images, targets)
    order = permuted(len(targets))
    _require_alike("in another order", model.losses(images[order], [targets[i] for i in order]), losses[order])
    alone = torch.cat([model.losses(images[i : i + 1], [targets[i]]) for i in range(len(targets))])
    _require_alike("alone", alone, losses)


@check("T5", "Images of unequal sizes get what they get alone, in order.")
def unequal_sizes(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    images = [stack_images([natural_image(*size, seed=i)])[0] for i, size in enumerate(settings.sizes)]
    targets = _targets(task, settings, settings.sizes)
    model = copied(task)
    losses = model.losses(images, targets)
    alone = torch.cat([model.losses([image], [target]) for image, target in zip(images, targets, strict=True)])
    _require_alike("alone", losses, alone)
    require(len(model.predict(images)) == len(images), "expected one prediction per image; got another number")


@check("T6", "``predict_with_losses`` returns what ``losses`` and ``predict`` return: equal losses, equal scores.")
def judge(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    images, targets = _images(task, settings, 3)
    model = copied(task)
    judged, losses = model.predict_with_losses(images, targets)
    _require_alike("judged", losses, model.losses(images, targets))
    answers = model.predict(images)
    for scored in (targets, _mixed(task, settings, 3)[1]):
        once, again = (_statistics(model, predictions, scored) for predictions in (answers, judged))
        same = all(np.allclose(one, other, equal_nan=True) for one, other in zip(once, again, strict=True))
        require(same, "expected predictions of one worth; those of predict_with_losses and predict score differently")


@check("T7", "The scorer reads every prediction, and gives each of its metrics a number in [0, 1].")
def predictions_are_read_by_the_scorer(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    images, targets = _images(task, settings, 3)
    statistics = _statistics(task, copied(task).predict(images), targets)
    scores = task.scorer.combine(statistics, np.ones(len(statistics)))
    require(set(scores) == set(task.scorer.metrics), f"expected {task.scorer.metrics}; got {tuple(scores)}")
    right = all(0.0 <= value <= 1.0 for value in scores.values())  # False for NaN
    require(right, f"expected scores in [0, 1]; got {scores}")


@check("T8", "Counting an image twice scores like having it twice, and scoring many multisets like scoring each.")
def scorer_counts(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    predictions, targets = _mixed(task, settings, 4)
    if settings.prediction is not None:
        right = _targets(task, settings, [settings.size] * 4)
        predictions = [settings.prediction(target) for target in right]
        targets = _right_and_wrong(right, task, settings)
    scorer, statistics = task.scorer, _statistics(task, predictions, targets)
    counts = np.array([[2.0, 1.0, 0.0, 3.0], [1.0, 1.0, 1.0, 1.0], [0.0, 4.0, 1.0, 0.0]])
    many = scorer.combine_many(statistics, counts)
    for row, times in enumerate(counts):
        counted = scorer.combine(statistics, times)
        repeated_statistics = [item for item, count in zip(statistics, times, strict=True) for _ in range(int(count))]
        repeated = scorer.combine(repeated_statistics, np.ones(len(repeated_statistics)))
        for metric in scorer.metrics:
            values = (counted[metric], repeated[metric], float(many[metric][row]))
            require(
                np.allclose(values, values[0], equal_nan=True),
                f"{metric}, counts {times.tolist()}: counted {values[0]:.4g}, repeated {values[1]:.4g}, "
                f"among many {values[2]:.4g}",
            )


@check("T9", "What the model itself answers scores 1 against its own predictions, and less against other targets.")
def perfect_predictions_score_best(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    """The answers are its pseudo-labels, or are read off predictions of a known form."""
    predictions, targets = _perfect(task, settings)
    ones = np.ones(len(targets))
    best = task.scorer.combine(_statistics(task, predictions, targets), ones)
    others = _others(targets, task, settings)
    worse = task.scorer.combine(_statistics(task, predictions, others), ones)
    first = task.scorer.metrics[0]
    require(best[first] >= _PERFECT, f"expected {first} of 1 for perfect predictions; got {best[first]:.4g}")
    require(worse[first] < best[first], f"expected a lower {first} for other targets; got {worse[first]:.4g}")


@check("T10", "Pseudo-labels, where it offers them, are targets of its kind that it can be trained on.")
def pseudo_labels(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    model = copied(task)
    images, _ = _images(task, settings, 3)
    own = _pseudo_labels(model, images)
    if own is None:
        raise NotApplicableError("it offers no targets of its own")
    kinds = {target.kind for target in own}
    allowed = {task.target_kind, Composite.kind} if isinstance(task, EnsembleTask) else {task.target_kind}
    require(kinds <= allowed, f"expected targets of kind {task.target_kind}; got {kinds}")
    losses = model.losses(images, own)
    require(bool(torch.isfinite(losses).all()), f"expected finite losses against them; got {losses.tolist()}")


@check("T11", "Targets of another kind, or not one per image, raise `TargetError`.")
def refuses_other_targets(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    images, targets = _images(task, settings, 2)
    model = copied(task)
    other = Mask.kind if task.target_kind == Label.kind else Label.kind
    wrong = made_targets(other, [settings.size] * 2, 2) or []
    require_refused(f"targets of kind {other}", TargetError, lambda: model.losses(images, wrong))
    require_refused("one target for two images", TargetError, lambda: model.losses(images, targets[:1]))


@check("T12", "In evaluation mode, the same images give the same losses, whatever came between.")
def deterministic(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    images, targets = _images(task, settings, 2)
    model = copied(task)
    first = model.losses(images, targets)
    model.predict(natural_batch(3, settings.size, first_seed=5))
    require(torch.equal(model.losses(images, targets), first), "expected the same losses; the second differ")


@check("T13", "Neither the images nor the targets are changed in place.")
def leaves_its_input_alone(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    images, targets = _images(task, settings, 2)
    before, again = images.clone(), _targets(task, settings, [settings.size] * 2)
    model = copied(task)
    model.losses(images, targets)
    model.predict_with_losses(images, targets)
    require(torch.equal(images, before), "expected the images as they were; got some that were changed in place")
    same = all(same_target(one, other) for one, other in zip(targets, again, strict=True))
    require(same, "expected the targets as they were; got some that were changed in place")


@check("T14", "It moves between devices: all tensors are parameters or buffers; a GPU, if any, gives the same losses.")
def moves(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    """Without a GPU, the former is all that is checked."""
    stray = [name for name in stray_tensors(task) if name.rpartition(".")[2] not in settings.moved]
    require(not stray, f"expected tensors in parameters and buffers only; got {stray}")
    if without_cuda():
        return
    images, targets = _images(task, settings, 2)
    moved = copied(task).cuda().losses(images.cuda(), targets)
    require(moved.is_cuda, "expected losses on the images' device; got others")
    _require_alike("on the GPU", moved, copied(task).losses(images, targets))


@check("T15", "Features, where it offers them, are maps (N, C, H, W) with a gradient to every image.")
def features(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    images, _ = _images(task, settings, 2)
    images.requires_grad_()
    try:
        maps = copied(task).features(images)
    except OptionError as error:
        raise NotApplicableError("it offers no features") from error
    wrong = [tuple(item.shape) for item in maps if item.ndim != 4 or len(item) != len(images)]
    require(maps and not wrong, f"expected maps (2, C, H, W); got {wrong or 'none'}")
    gradients("features", torch.stack([item.square().mean() for item in maps]).sum(), images)


@check("T16", "The scorer refuses a prediction of NaN: what compares with nothing is never right.")
def scorer_refuses_nan(task: TaskModel, settings: TaskSettings = _DEFAULT) -> None:
    images, targets = _images(task, settings, 2)
    predictions = copied(task).predict(images)
    if settings.prediction is not None:
        predictions = [settings.prediction(target) for target in targets]
    for prediction, target in zip(predictions, targets, strict=True):
        broken = with_nan(prediction)
        require_refused("NaN", ContractError, lambda: task.scorer.measure(broken, target))  # noqa: B023  # called at once


def _images(task: TaskModel, settings: TaskSettings, count: int) -> tuple[Tensor, list[Target]]:
    """Return images of one size as a batch, and targets for them."""
    return natural_batch(count, settings.size), _targets(task, settings, [settings.size] * count)


def _targets(task: TaskModel, settings: TaskSettings, sizes: Sequence[tuple[int, int]]) -> list[Target]:
    """Return targets: the settings', made ones of a kind that the kit knows, or the task's own answers."""
    if settings.targets is not None:
        return list(settings.targets(sizes))
    if isinstance(task, EnsembleTask) and task.target_kind == Composite.kind:
        own = replace(settings, targets=None)
        parts = [_targets(member, own, sizes) for member in task.members.values() if isinstance(member, TaskModel)]
        return [Composite(targets) for targets in zip(*parts, strict=True)]
    made = made_targets(task.target_kind, sizes, _classes(task, settings))
    if made is None:
        images = [stack_images([natural_image(*size, seed=index)])[0] for index, size in enumerate(sizes)]
        made = _pseudo_labels(copied(task), images)
    if made is None:
        raise CheckFailedError(
            f"the kit cannot make targets of kind {task.target_kind!r}: give it TaskSettings(targets=...), or let the "
            "task offer pseudo-labels"
        )
    return made


def _classes(task: TaskModel, settings: TaskSettings) -> int:
    return settings.classes or len(task.class_names) or 2


def _statistics(task: TaskModel, predictions: Sequence[Any], targets: Sequence[Target]) -> list[NDArray[np.float64]]:
    statistics = [
        task.scorer.measure(prediction, target) for prediction, target in zip(predictions, targets, strict=True)
    ]
    wrong = [type(item).__name__ for item in statistics if not isinstance(item, np.ndarray)]
    require(not wrong, f"expected arrays of statistics; got {wrong}")
    return statistics


def _perfect(task: TaskModel, settings: TaskSettings) -> tuple[list[Any], list[Target]]:
    """Return predictions and the targets that they are perfect for."""
    if settings.prediction is not None:
        targets = _targets(task, settings, [settings.size] * 3)
        return [settings.prediction(target) for target in targets], targets
    model = copied(task)
    images, _ = _images(task, settings, 3)
    predictions = model.predict(images)
    return predictions, _answers(model, images, predictions)


def _mixed(task: TaskModel, settings: TaskSettings, count: int) -> tuple[list[Any], list[Target]]:
    """Return predictions, and targets that are right and wrong in turn, so far as the kit can tell right from wrong."""
    images, targets = _images(task, settings, count)
    model = copied(task)
    predictions = model.predict(images)
    try:
        right = _answers(model, images, predictions)
    except NotApplicableError:
        return predictions, targets
    return predictions, _right_and_wrong(right, task, settings)


def _right_and_wrong(right: Sequence[Target], task: TaskModel, settings: TaskSettings) -> list[Target]:
    """Return targets of which every second one is changed."""
    others = _others(right, task, settings)
    return [others[i] if i % 2 else item for i, item in enumerate(right)]


def _others(targets: Sequence[Target], task: TaskModel, settings: TaskSettings) -> list[Target]:
    """Return targets that say something else: changed ones, or those of the other images for a kind of its own."""
    changed = [other_target(target, _classes(task, settings)) for target in targets]
    others = [target for target in changed if target is not None]
    if len(others) == len(targets):
        return others
    others = [*targets[1:], targets[0]]
    if any(same_target(one, other) for one, other in zip(targets, others, strict=True)):
        raise NotApplicableError("it gives equal answers to all images; give the kit targets that differ")
    return others


def _answers(model: TaskModel, images: Tensor, predictions: Sequence[Any]) -> list[Target]:
    """Return what the model's predictions say, as targets."""
    own = _pseudo_labels(model, images)
    if own is None:
        own = [read_target(prediction, model.target_kind) for prediction in predictions]
    if any(isinstance(target, Boxes) and len(target.boxes) == 0 for target in own):
        raise NotApplicableError("it sees no object in the kit's images; give the kit a prediction per target")
    return own


def _pseudo_labels(model: TaskModel, images: Tensor | Sequence[Tensor]) -> list[Target] | None:
    try:
        return model.pseudo_labels(images)
    except OptionError:
        return None


def _require_alike(what: str, got: Tensor, expected: Tensor) -> None:
    allowed = _CLOSE * max(1.0, float(expected.detach().abs().max()))
    require_close(f"losses {what}", got, expected, mean=allowed, largest=allowed)
