"""Measures rate and accuracy, with the real codec, over whole data sets."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precomp_sdk.channel import Channel
from precomp_sdk.codec import Codec
from precomp_sdk.data import SkippedSample, TaskDataset
from precomp_sdk.errors import DatasetError, NonFiniteError, OptionError, TargetError
from precomp_sdk.evaluation._batches import LoadedBatch, evaluating, load_batches
from precomp_sdk.evaluation.statistics import CleanScore, MeasuredCurve, MeasuredPoint
from precomp_sdk.events import Event, StepDone
from precomp_sdk.images import to_float
from precomp_sdk.targets import Target
from precomp_sdk.task import TaskModel
from precomp_sdk.transcode import Transcoder
from precomp_sdk.transmission import Transmission
from precomp_sdk.validation import find_device

__all__ = ["MAX_BATCH_PIXELS", "Measurer"]

MAX_BATCH_PIXELS = 2**23  #: default: 32 images of 512 x 512, or one of 3840 x 2160
_BATCHES_IN_FLIGHT = 2  # at least: one in the codec's threads while the task network works on the other


@dataclass(frozen=True, slots=True)
class _Rows:
    """What was measured at one quality so far."""

    quality: float
    bits: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    statistics: list[NDArray[np.float64]] = field(default_factory=list)

    def point(self) -> MeasuredPoint:
        return MeasuredPoint(
            quality=self.quality,
            bits=np.array(self.bits),
            losses=np.array(self.losses),
            statistics=tuple(self.statistics),
        )


@dataclass(frozen=True, slots=True)
class _Job:
    """A batch on its way through the codec, at one quality."""

    rows: _Rows
    batch: LoadedBatch
    targets: list[Target]
    transmission: Transmission


class Measurer:
    """Measures curves of one codec and one task; the codec's threads and the settings are shared by all of them.

    Each image is loaded once per curve: a batch is held while it goes through all qualities, and the codec works in
    threads while the task network works on the batch before. Networks run in evaluation mode and return to the mode
    they were in. Use it as a context manager, or call ``close``.

    Args:
        codec: the real codec.
        task: the task network.
        ladder: qualities on the codec's scale; default: the scale's ladder.
        batch_size: images per batch at most; those of one size go through a network together.
        max_batch_pixels: pixels per batch at most, unless one image has more: memory grows with the largest image,
            not with their number. A few batches are held at a time, so that the codec's threads have work.
        workers: threads of the codec; default: one per core.
        device: where the task network and the preprocessors are moved to; default: they stay where they are.
        pseudo_labels: take the task's own answers on the clean images as targets, for images without labels.
        skip_unreadable: leave out images that cannot be read and name them in the result; otherwise they are errors.
        observer: receives a `StepDone` per batch and quality; steps are images times qualities.

    Raises:
        QualityError: the ladder is empty or leaves the scale.
        OptionError: a batch size is not positive.
    """

    def __init__(
        self,
        codec: Codec,
        task: TaskModel,
        *,
        ladder: Sequence[float] | None = None,
        batch_size: int = 32,
        max_batch_pixels: int = MAX_BATCH_PIXELS,
        workers: int | None = None,
        device: torch.device | str | None = None,
        pseudo_labels: bool = False,
        skip_unreadable: bool = False,
        observer: Callable[[Event], None] | None = None,
    ) -> None:
        for name, size in (("batch_size", batch_size), ("max_batch_pixels", max_batch_pixels)):
            if size < 1:
                raise OptionError(where=name, expected="1 or more", got=str(size), remedy="Leave it out.")
        self.codec, self.task = codec, task
        self._batch_size, self._max_batch_pixels = batch_size, max_batch_pixels
        self.ladder = codec.quality_scale.ladder_of(ladder)
        self.total_steps = 0  #: what events give as the total; 0 where it is unknown
        self._device = None if device is None else find_device(device, "evaluation")
        self._pseudo_labels, self._skip_unreadable = pseudo_labels, skip_unreadable
        self._observer, self._step = observer, 0
        self.transcoder = Transcoder(codec, workers=workers)  #: the codec and its threads, for channels

    @property
    def mildest(self) -> float:
        """The ladder's quality of the mildest compression."""
        return min(self.ladder, key=self.codec.quality_scale.strength)

    def check(self, dataset: TaskDataset) -> None:
        """Check that a data set can be evaluated at all.

        Raises:
            DatasetError: it is empty.
            TargetError: its targets do not fit the task.
        """
        if not len(dataset):
            raise _empty(dataset, "none")
        if self._pseudo_labels:
            return
        if dataset.target_kind != self.task.target_kind:
            raise TargetError(
                where=f"evaluation of {self.task.name!r} on {dataset.name!r}",
                expected=f"targets of kind {self.task.target_kind!r}",
                got=f"targets of kind {dataset.target_kind!r}" if dataset.target_kind else "no targets",
                remedy="Choose a data set that fits, or pseudo_labels=True.",
            )
        self.task.check_classes(dataset.class_names)

    def clean(self, dataset: TaskDataset, channel: Channel | None = None, quality: float | None = None) -> CleanScore:
        """Score 8-bit images that no codec touches: untouched, or as a channel sends and receives them.

        Args:
            dataset: the images.
            channel: what is done to them; None: nothing.
            quality: what the channel is told; None: the ladder's mildest.

        Raises:
            DatasetError: there is no readable image, or one is unreadable and was not to be skipped.
            QualityError: the quality is off the scale.
            NonFiniteError: a loss is not finite.
        """
        channel = channel or Channel(self.transcoder, label="the clean images")
        quality = self.mildest if quality is None else self.codec.quality_scale.check(quality)
        rows = _Rows(0.0)
        with evaluating(self.task, *channel.modules, device=self._device):
            for batch in self._load(dataset):
                if batch.samples:
                    sources = [sample.image for sample in batch.samples]
                    sizes = [(image.shape[1], image.shape[2]) for image in sources]
                    images = channel.receive(channel.send(sources, [quality] * len(sources)), sizes)
                    self._judge(rows, batch, self._targets(batch), images, f"{channel.label!r} without a codec")
                self._advance(batch.count)
        if not rows.statistics:
            raise _empty(dataset, "none that can be read")
        scores = self.task.scorer.combine(rows.statistics, np.ones(len(rows.statistics)))
        return CleanScore(scores=scores, task_loss=float(np.mean(rows.losses)))

    def curve(self, dataset: TaskDataset, channel: Channel | None = None) -> MeasuredCurve:
        """Measure one way to send images, at every quality of the ladder.

        Args:
            dataset: the images.
            channel: of this codec, such as ``Channel(measurer.transcoder, preprocessor)``; None: the anchor.

        Raises:
            OptionError: the channel is of another codec.
            DatasetError: there is no readable image, or one is unreadable and was not to be skipped.
            NonFiniteError: a loss is not finite.
        """
        channel, scale = channel or Channel(self.transcoder), self.codec.quality_scale
        self._check(channel)
        all_rows = [_Rows(quality) for quality in self.ladder]
        indices: list[int] = []
        keys: list[str] = []
        pixels: list[float] = []
        skipped: list[SkippedSample] = []
        jobs: deque[_Job] = deque()

        def enough() -> bool:
            """Say whether the batches behind the oldest keep all the codec's threads at work."""
            behind = sum(len(job.batch.samples) for job in jobs) - len(jobs[0].batch.samples)
            return len(jobs) >= _BATCHES_IN_FLIGHT and behind >= self.transcoder.workers

        def finish(job: _Job) -> None:
            received = job.transmission.result()
            job.rows.bits.extend(received.bits.tolist())
            where = f"{channel.label!r} at {scale.name} {job.rows.quality:g}"
            self._judge(job.rows, job.batch, job.targets, received.images, where)
            self._advance(job.batch.count)

        with evaluating(self.task, *channel.modules, device=self._device):
            for batch in self._load(dataset):
                skipped.extend(batch.skipped)
                if not batch.samples:
                    self._advance(batch.count * len(all_rows))
                    continue
                indices.extend(batch.indices)
                keys.extend(sample.key for sample in batch.samples)
                pixels.extend(sample.image.shape[1] * sample.image.shape[2] for sample in batch.samples)
                sources = [sample.image for sample in batch.samples]
                targets = self._targets(batch)
                for rows in all_rows:
                    jobs.append(_Job(rows, batch, targets, channel.start(sources, [rows.quality] * len(sources))))
                    while enough():
                        finish(jobs.popleft())
            while jobs:
                finish(jobs.popleft())
        if not keys:
            raise _empty(dataset, "none that can be read")
        return MeasuredCurve(
            label=channel.label,
            settings=channel.settings,
            scorer=self.task.scorer,
            points=tuple(rows.point() for rows in all_rows),
            indices=tuple(indices),
            keys=tuple(keys),
            pixels=np.array(pixels, dtype=np.float64),
            skipped=tuple(skipped),
        )

    def close(self) -> None:
        """Stop the threads."""
        self.transcoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, channel: Channel) -> None:
        if channel.codec is not self.codec:
            raise OptionError(
                where=f"evaluation, channel {channel.label!r}",
                expected=f"one of the codec that is measured, {self.codec.name!r}",
                got=f"one of another object, {channel.codec.name!r}",
                remedy="Construct it with the measurer's transcoder.",
            )

    def _targets(self, batch: LoadedBatch) -> list[Target]:
        if self._pseudo_labels:
            return self.task.pseudo_labels([self._to_task(sample.image) for sample in batch.samples])
        return [sample.target for sample in batch.samples if sample.target is not None]

    def _judge(
        self, rows: _Rows, batch: LoadedBatch, targets: Sequence[Target], images: Sequence[Tensor], where: str
    ) -> None:
        """Add what the task network makes of uint8 images to ``rows``."""
        floats = [self._to_task(image) for image in images]
        predictions, task_losses = self.task.predict_with_losses(floats, targets)
        losses = task_losses.cpu().double().tolist()  # not every device has float64
        for sample, loss in zip(batch.samples, losses, strict=True):
            if not np.isfinite(loss):
                raise NonFiniteError(
                    where=f"evaluation of {where}, image {sample.key!r}",
                    expected="a finite task loss",
                    got=str(loss),
                    remedy="Look at the weights of the task network and at the image's target.",
                )
        rows.losses.extend(losses)
        for prediction, target in zip(predictions, targets, strict=True):
            rows.statistics.append(self.task.scorer.measure(prediction, target))

    def _load(self, dataset: TaskDataset) -> Iterator[LoadedBatch]:
        return load_batches(dataset, self._batch_size, self._max_batch_pixels, skip_unreadable=self._skip_unreadable)

    def _advance(self, images: int) -> None:
        self._step += images
        if self._observer is not None:
            self._observer(StepDone("evaluate", self._step, self.total_steps, {}))

    def _to_task(self, image: Tensor) -> Tensor:
        anchor = next(self.task.parameters(), None)
        device = (self._device or torch.device("cpu")) if anchor is None else anchor.device
        return to_float(image.to(device))


def _empty(dataset: TaskDataset, got: str) -> DatasetError:
    return DatasetError(
        where=f"evaluation on {dataset.name!r}",
        expected="one image or more",
        got=got,
        remedy="Look at the data set's folder and options.",
    )
