"""The anchor's own rate-task-loss curve, and lambda as its slope."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precomp_sdk.channel import Channel
from precomp_sdk.data import TaskDataset
from precomp_sdk.errors import CalibrationError, OptionError
from precomp_sdk.events import Event
from precomp_sdk.images import stack_images
from precomp_sdk.targets import Target
from precomp_sdk.task import TaskModel
from precomp_sdk.training.grouping import samples_by_size
from precomp_sdk.training.loading import left_out, load_all
from precomp_sdk.training.objective import AnchorPoint, feature_distances
from precomp_sdk.transcode import Transcoder
from precomp_sdk.types import Sample

__all__ = ["calibrate", "measure_anchor", "slopes", "targets_for"]

_SAME_RATE = 1e-6  # rates closer than this share of theirs are one: a bit in a megabit


@torch.no_grad()
def calibrate(
    transcoder: Transcoder,
    task: TaskModel,
    dataset: TaskDataset,
    ladder: Sequence[float],
    *,
    targets: Literal["dataset", "pseudo-labels"] = "pseudo-labels",
    features: bool = False,
    clean: bool = False,
    lambdas: Literal["auto"] | Mapping[float, float] = "auto",
    lambda_scale: float = 1.0,
    batch_size: int = 16,
    skip_unreadable: bool = False,
    device: torch.device | None = None,
    observer: Callable[[Event], None] | None = None,
) -> tuple[AnchorPoint, ...]:
    """Measure the anchor at every quality and read lambda off its curve.

    lambda(q) is minus the slope of bpp over task loss: at that price the anchor is indifferent, so every gain
    against it is the preprocessor's. Measure on images the task network has not memorised.

    Args:
        transcoder: the codec.
        task: the downstream network, in evaluation mode.
        dataset: the calibration images, all of them are used.
        ladder: the qualities.
        targets: as in `TrainSettings`.
        features: measure the feature distance too.
        clean: measure the task loss without a codec too.
        lambdas: a table from quality to lambda instead of the slopes.
        lambda_scale: factor on every lambda.
        batch_size: images per batch.
        skip_unreadable: as in `TrainSettings`.
        device: where the task network is.
        observer: receives a notice that names the images that were left out.

    Returns:
        One point per quality, in the order of the ladder.

    Raises:
        CalibrationError: the task loss does not fall as the rate grows, so no slope exists.
        DatasetError: no image can be read.
        QualityError: the ladder is empty, or a quality is off the scale.
    """
    ladder = transcoder.codec.quality_scale.ladder_of(ladder)
    samples, skipped = load_all(dataset, "calibration images", skip_unreadable=skip_unreadable)
    if skipped and observer is not None:
        observer(left_out("train", skipped, "calibration"))
    bpps, task_losses, feature_losses = measure_anchor(
        transcoder, task, samples, ladder, targets=targets, features=features, batch_size=batch_size, device=device
    )
    clean_loss = _clean_loss(task, samples, targets, batch_size, device) if clean else 0.0
    trade_offs = lambda_scale * (slopes(bpps, task_losses) if lambdas == "auto" else _from_table(lambdas, ladder))
    return tuple(
        AnchorPoint(float(quality), float(bpp), float(loss), float(feature), float(trade_off), clean_loss)
        for quality, bpp, loss, feature, trade_off in zip(
            ladder, bpps, task_losses, feature_losses, trade_offs, strict=True
        )
    )


@torch.no_grad()
def measure_anchor(
    transcoder: Transcoder,
    task: TaskModel,
    samples: Sequence[Sample],
    ladder: Sequence[float],
    *,
    targets: Literal["dataset", "pseudo-labels"],
    features: bool = False,
    factor: float = 1.0,
    batch_size: int = 16,
    device: torch.device | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return bits per pixel, task loss and feature distance of the codec without a preprocessor, (K,) each.

    Args:
        transcoder: the codec.
        task: the downstream network, in evaluation mode.
        samples: the images.
        ladder: K qualities.
        targets: as in `TrainSettings`.
        features: measure the feature distance too; otherwise it is 0.
        factor: of height and width at which the images are coded.
        batch_size: images per batch.
        device: where the task network is.
    """
    channel = Channel(transcoder)
    totals = np.zeros((len(ladder), 3))  # bits, task loss, feature loss
    pixels = sum(sample.image.shape[1] * sample.image.shape[2] for sample in samples)
    for group in samples_by_size(samples, batch_size):
        clean = stack_images([sample.image for sample in group]).to(device)
        group_targets = targets_for(task, group, clean, targets)
        clean_features = task.features(clean) if features else []
        keys = [sample.key for sample in group]
        sent = [channel.submit(clean, [quality] * len(group), [factor] * len(group)) for quality in ladder]
        for row, transmission in enumerate(sent):
            received, bits = transmission.tensors()
            totals[row, 0] += float(bits.sum())
            totals[row, 1] += float(task.losses(received, group_targets, keys=keys).sum())
            if features:
                totals[row, 2] += float(
                    feature_distances(task.features(received), clean_features, task.feature_weights()).sum()
                )
    return totals[:, 0] / pixels, totals[:, 1] / len(samples), totals[:, 2] / len(samples)


def _clean_loss(
    task: TaskModel,
    samples: Sequence[Sample],
    targets: Literal["dataset", "pseudo-labels"],
    batch_size: int,
    device: torch.device | None,
) -> float:
    """Return the mean task loss of images that no codec has touched."""
    total = 0.0
    for group in samples_by_size(samples, batch_size):
        images = stack_images([sample.image for sample in group]).to(device)
        wanted, keys = targets_for(task, group, images, targets), [sample.key for sample in group]
        total += float(task.losses(images, wanted, keys=keys).sum())
    return total / len(samples)


def slopes(bpps: NDArray[np.float64], task_losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return minus d bpp / d task loss at every point of a rate-loss curve.

    Points of one rate are one point, at the mean of their losses: a step of the quality that costs no bit has no
    price. The curve is made monotone next (isotonic regression of the loss over the rate), points that then share one
    loss are one segment, and a point's slope is the geometric mean of the segments on both sides.

    Shapes and units:
        bpps: (K,) bits per pixel, in any order; task_losses: (K,). Returns (K,), bpp per unit of loss, all > 0.

    Raises:
        CalibrationError: there are fewer than two different rates, a value is not finite, or the loss does not fall
            anywhere.

    Example:
        >>> slopes(np.array([1.0, 2.0, 4.0]), np.array([3.0, 2.0, 1.0])).round(3).tolist()
        [1.0, 1.414, 2.0]
    """
    if not (np.isfinite(bpps).all() and np.isfinite(task_losses).all()):
        raise _no_slope("finite rates and losses", bpps, task_losses)
    order = np.argsort(bpps, kind="stable")
    steps = np.diff(bpps[order]) > _SAME_RATE * bpps[order][1:]
    places = np.empty(len(bpps), dtype=np.int64)  # of each point among the different rates
    places[order] = np.r_[0, np.cumsum(steps)] if len(bpps) else []
    counts = np.bincount(places)
    rates, means = (np.bincount(places, weights=values) / counts for values in (bpps, task_losses))
    from scipy.optimize import isotonic_regression  # half a second, which a sender need not wait

    losses = isotonic_regression(means, weights=counts, increasing=False).x if len(means) else means
    segments = []  # (first point, last point, slope), neighbours share a point
    for first, last in pairwise(np.flatnonzero(np.r_[True, np.diff(losses) < 0]).tolist()):
        segments.append((first, last, (rates[last] - rates[first]) / (losses[first] - losses[last])))
    if not segments:
        raise _no_slope("a task loss that falls as the rate grows", bpps, task_losses)
    result = np.empty_like(rates)
    for index in range(len(rates)):
        touching = [slope for first, last, slope in segments if first <= index <= last]
        result[index] = np.exp(np.mean(np.log(touching))) if touching else segments[-1][2]
    return result[places]


def _no_slope(expected: str, bpps: NDArray[np.float64], task_losses: NDArray[np.float64]) -> CalibrationError:
    return CalibrationError(
        where="calibrate",
        expected=expected,
        got=f"losses {np.round(task_losses, 4).tolist()} at {np.round(bpps, 4).tolist()} bpp",
        remedy="Give lambda as a table, use more images, or a ladder that hurts the task.",
    )


def _listed(qualities: Sequence[float]) -> str:
    return ", ".join(f"{quality:g}" for quality in qualities)


def _from_table(table: Mapping[float, float], ladder: Sequence[float]) -> NDArray[np.float64]:
    by_quality = {float(quality): float(value) for quality, value in table.items()}
    wrong = [quality for quality in ladder if not 0.0 < by_quality.get(float(quality), 0.0) < np.inf]
    if wrong:
        raise OptionError(
            where="TrainSettings, option 'lambdas'",
            expected=f"a finite lambda above 0 for every quality of {_listed(ladder)}",
            got=f"none for {_listed(wrong)}",
            remedy='Complete the table, or take lambdas="auto".',
        )
    return np.array([by_quality[float(quality)] for quality in ladder])


def targets_for(
    task: TaskModel, samples: Sequence[Sample], clean: Tensor, source: Literal["dataset", "pseudo-labels"]
) -> list[Target]:
    """Return the data set's targets, or the task model's own answer on the clean images.

    Raises:
        OptionError: the data set's targets are asked for and it has none.
    """
    if source == "pseudo-labels":
        return task.pseudo_labels(clean)
    targets = [sample.target for sample in samples if sample.target is not None]
    if len(targets) != len(samples):
        raise OptionError(
            where="TrainSettings, option 'targets'",
            expected="a data set with targets",
            got="images without any",
            remedy='Take targets="pseudo-labels": the task model\'s own answer on the clean image.',
        )
    return targets
