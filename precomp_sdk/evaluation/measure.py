"""Measures one rate-accuracy curve."""

from collections.abc import Callable, Mapping, Sequence

import torch

from precomp_sdk.channel import Channel
from precomp_sdk.codec import Codec
from precomp_sdk.data import TaskDataset
from precomp_sdk.evaluation.curves import MAX_BATCH_PIXELS, Measurer
from precomp_sdk.evaluation.statistics import MeasuredCurve
from precomp_sdk.events import Event
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.task import TaskModel

__all__ = ["measure_curve"]


def measure_curve(
    codec: Codec,
    task: TaskModel,
    dataset: TaskDataset,
    *,
    preprocessor: Preprocessor | None = None,
    label: str | None = None,
    settings: Mapping[str, float] | None = None,
    ladder: Sequence[float] | None = None,
    batch_size: int = 32,
    max_batch_pixels: int = MAX_BATCH_PIXELS,
    workers: int | None = None,
    device: torch.device | str | None = None,
    pseudo_labels: bool = False,
    skip_unreadable: bool = False,
    observer: Callable[[Event], None] | None = None,
) -> MeasuredCurve:
    """Measure one curve: the anchor, or the codec behind a preprocessor.

    Args:
        codec: the real codec.
        task: the task network.
        dataset: images with targets that fit the task.
        preprocessor: None for the anchor.
        label: names the curve; default: ``"anchor"`` or the preprocessor's name.
        settings: what was chosen for this curve, as results record it.
        ladder: qualities on the codec's scale; default: the scale's ladder.
        batch_size: as for `Measurer`, like all that follow.
        max_batch_pixels: bounds the memory for large images.
        workers: threads of the codec.
        device: where the networks are moved to.
        pseudo_labels: score against the task's own answers on the clean images.
        skip_unreadable: leave out images that cannot be read and name them.
        observer: receives a `StepDone` per batch and quality; steps are images times qualities.

    Returns:
        The measurement, image by image.

    Raises:
        DatasetError: there is no readable image, or one is unreadable and was not to be skipped.
        TargetError: the targets do not fit the task.
        QualityError: the ladder is empty or leaves the scale.
        NonFiniteError: a loss is not finite.
    """
    with Measurer(
        codec,
        task,
        ladder=ladder,
        batch_size=batch_size,
        max_batch_pixels=max_batch_pixels,
        workers=workers,
        device=device,
        pseudo_labels=pseudo_labels,
        skip_unreadable=skip_unreadable,
        observer=observer,
    ) as measurer:
        measurer.check(dataset)
        measurer.total_steps = len(dataset) * len(measurer.ladder)
        channel = Channel(measurer.transcoder, preprocessor, label=label, settings=settings)
        return measurer.curve(dataset, channel)
