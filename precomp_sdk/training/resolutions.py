"""At which resolution a codec is best used, quality by quality."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from precomp_sdk.data import TaskDataset
from precomp_sdk.errors import OptionError
from precomp_sdk.events import Event
from precomp_sdk.task import TaskModel
from precomp_sdk.training.calibration import calibrate, measure_anchor
from precomp_sdk.training.loading import load_all
from precomp_sdk.transcode import Transcoder

__all__ = ["FACTORS", "ResolutionChoice", "TriedResolution", "choose_resolutions", "resolution_points"]

FACTORS = (1.0, 0.9, 0.8, 0.65, 0.5, 0.35)  #: of height and width; what is tried where nothing else is said
_LEAST = 1e-12  # guards a division


@dataclass(frozen=True, slots=True)
class TriedResolution:
    """The codec alone at one quality and one resolution.

    Args:
        factor: of height and width.
        bpp: total bits over the sources' total pixels.
        task_loss: mean over images.
        objective: ``bpp + lambda * task_loss`` over its value at full resolution.
    """

    factor: float
    bpp: float
    task_loss: float
    objective: float


@dataclass(frozen=True, slots=True)
class ResolutionChoice:
    """The best resolution at one quality.

    Args:
        quality: on the codec's scale.
        strength: the same from 0 (mildest compression) to 1.
        factor: of height and width, with the lowest objective.
        tried: every factor.
    """

    quality: float
    strength: float
    factor: float
    tried: tuple[TriedResolution, ...]


def choose_resolutions(
    transcoder: Transcoder,
    task: TaskModel,
    dataset: TaskDataset,
    ladder: Sequence[float],
    *,
    factors: Sequence[float] = FACTORS,
    targets: Literal["dataset", "pseudo-labels"] = "pseudo-labels",
    lambdas: Literal["auto"] | Mapping[float, float] = "auto",
    lambda_scale: float = 1.0,
    batch_size: int = 16,
    skip_unreadable: bool = False,
    device: torch.device | None = None,
    observer: Callable[[Event], None] | None = None,
) -> tuple[ResolutionChoice, ...]:
    """Choose at every quality the resolution with the lowest ``bpp + lambda * task loss``, without a preprocessor.

    Every image is downscaled, coded, decoded, upscaled (`precomp_sdk.images.downscale`, `upscale`) and judged at every
    factor and quality; lambda is the slope of the full-resolution curve, see `calibrate`. Of equal ones the highest
    resolution wins.

    Args:
        transcoder: the codec.
        task: the downstream network, in evaluation mode.
        dataset: images to measure on, all of them; not those that are to be scored.
        ladder: the qualities.
        factors: of height and width, above 0 and up to 1; full resolution is always tried.
        targets: as in `TrainSettings`; so are ``lambdas``, ``lambda_scale`` and ``skip_unreadable``.
        lambdas: see above.
        lambda_scale: see above; below 1 favours fewer bits.
        batch_size: images per batch.
        skip_unreadable: see above.
        device: where the task network is.
        observer: receives a notice that names the images that were left out.

    Returns:
        One choice per quality, in the order of the ladder.

    Raises:
        OptionError: a factor is out of range.
        CalibrationError: the task loss does not fall as the rate grows, so no lambda exists.
        DatasetError: no image can be read.
    """
    wrong = [factor for factor in factors if not 0 < factor <= 1]
    if wrong:
        raise OptionError(
            where="choose_resolutions, option 'factors'",
            expected="factors of height and width, above 0 and up to 1",
            got=repr(wrong),
            remedy="Take 0.5, say.",
        )
    factors = [round(factor, 4) for factor in factors]  # as `ResolutionCurve` gives them
    points = calibrate(
        transcoder,
        task,
        dataset,
        ladder,
        targets=targets,
        lambdas=lambdas,
        lambda_scale=lambda_scale,
        batch_size=batch_size,
        skip_unreadable=skip_unreadable,
        device=device,
        observer=observer,
    )
    samples, _ = load_all(dataset, "images to choose resolutions on", skip_unreadable=skip_unreadable)
    tried: list[list[TriedResolution]] = [[TriedResolution(1.0, p.bpp, p.task_loss, 1.0)] for p in points]
    for factor in sorted(set(factors) - {1.0}, reverse=True):
        bpps, task_losses, _ = measure_anchor(
            transcoder, task, samples, ladder, targets=targets, factor=factor, batch_size=batch_size, device=device
        )
        for row, point in enumerate(points):
            bpp, loss = float(bpps[row]), float(task_losses[row])
            anchor = point.bpp + point.trade_off * point.task_loss
            objective = (bpp + point.trade_off * loss) / max(anchor, _LEAST)
            tried[row].append(TriedResolution(factor, bpp, loss, objective))
    scale = transcoder.codec.quality_scale
    return tuple(
        ResolutionChoice(
            float(quality), scale.strength(quality), min(items, key=lambda item: item.objective).factor, tuple(items)
        )
        for quality, items in zip(ladder, tried, strict=True)
    )


def resolution_points(choices: Sequence[ResolutionChoice]) -> list[list[float]]:
    """Return the choices as the option ``resolutions`` of a preprocessor takes them.

    The resolution never rises with the strength: what measured otherwise on few images is levelled to the factor of
    the milder quality.
    """
    points, lowest = [], math.inf
    for choice in sorted(choices, key=lambda choice: choice.strength):
        lowest = min(lowest, choice.factor)
        points.append([choice.strength, lowest])
    return points
