"""Measures curves: rate and accuracy, with the real codec, over whole data sets."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from precomp_sdk.channel import Channel
from precomp_sdk.closing import Closing
from precomp_sdk.codec import Codec
from precomp_sdk.data import SkippedSample, TaskDataset
from precomp_sdk.engines import Engine, make_engine
from precomp_sdk.ensemble import EnsembleTask
from precomp_sdk.errors import DatasetError, OptionError, TargetError
from precomp_sdk.evaluation._batches import load_batches
from precomp_sdk.evaluation._cache import KnownRows, RowCache
from precomp_sdk.evaluation._fingerprint import UnknownContentError, image_fingerprint
from precomp_sdk.evaluation._judging import Judges
from precomp_sdk.evaluation._roads import Batch, Road, travel
from precomp_sdk.evaluation.settings import EvaluateSettings
from precomp_sdk.evaluation.statistics import CleanScore, ImageRow, MeasuredCurve, MeasuredPoint
from precomp_sdk.events import Notice, StepDone
from precomp_sdk.observers import Listener, Observer, listening
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.targets import Composite, Label
from precomp_sdk.task import TaskModel
from precomp_sdk.transcode import Transcoder
from precomp_sdk.types import Sample

__all__ = ["Measurer", "measure_curve"]


@dataclass(slots=True)
class _Measured:
    """What is measured of a data set on one road: image by image, and the rows of each quality."""

    rows: dict[float, list[ImageRow]]
    indices: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    labels: list[int | None] = field(default_factory=list)
    pixels: list[float] = field(default_factory=list)
    skipped: list[SkippedSample] = field(default_factory=list)


class Measurer(Closing):
    """Measures curves of one codec and one task; the codec's threads and the settings are shared by all of them.

    Each image is loaded once per curve: a batch is held while it goes through all qualities, and the codec works in
    threads while the task network works on the batch before. Networks work where they are, in evaluation mode, and
    return to the mode they were in. Use it as a context manager, or call ``close``.

    What was measured of an image is not measured again as long as image, codec, networks and code are the same: tuning
    on some images of a data set is not paid for twice, and with ``settings.cache`` neither is a run like one before.

    An `EnsembleTask` is scored as a whole by `clean` and `curve`; `clean_members` and `curves` give what each member
    makes of the same received images, so that neither a slow codec nor a slow preprocessor costs more for a further
    network.

    Args:
        codec: the real codec.
        task: the task network.
        settings: ladder, sizes of the batches, threads, the cache, and what to do without labels and with unreadable
            images.
        pseudo_labels: members of an ensemble that are scored against their own answers on the clean images, while
            the others take the data set's targets; with ``settings.pseudo_labels`` all are.
        observer: receives a `StepDone` per batch and quality; steps are images times qualities.

    Raises:
        QualityError: a ladder leaves the scale.
        OptionError: ``pseudo_labels`` names what is no member.
    """

    def __init__(
        self,
        codec: Codec,
        task: TaskModel,
        settings: EvaluateSettings | None = None,
        *,
        pseudo_labels: Collection[str] = (),
        observer: Observer | None = None,
    ) -> None:
        self.codec: Codec = codec
        self.task: TaskModel = task
        self.settings: EvaluateSettings = settings or EvaluateSettings()
        self.ladder: tuple[float, ...] = self._on_scale(self.settings.ladder)
        self.anchor_ladder: tuple[float, ...] = self._on_scale(self.settings.anchor_ladder or self.ladder)
        self.total_steps = 0  #: what events give as the total; 0 where it is unknown
        self._pseudo_labels = frozenset(pseudo_labels)
        self._cache = RowCache(self.settings.cache)
        self._observer, self._step = observer, 0
        self._engine = _engine(self.settings)
        threads = self.settings.workers if self._engine is None else 1  # each of its workers has its own
        #: the codec and its threads, for channels
        self.transcoder: Transcoder = Transcoder(codec, workers=threads, remember=True)

    def _judges(self, *, split: bool) -> Judges:
        own = True if self.settings.pseudo_labels else self._pseudo_labels
        return Judges(self.task, split=split, pseudo_labels=own)

    def _on_scale(self, ladder: Sequence[float] | None) -> tuple[float, ...]:
        return tuple(dict.fromkeys(self.codec.quality_scale.ladder_of(ladder)))

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
        if self.settings.pseudo_labels:
            return
        for task in self._labelled(dataset):
            if dataset.target_kind != task.target_kind:
                raise TargetError(
                    where=f"evaluation of {task.name!r} on {dataset.name!r}",
                    expected=f"targets of kind {task.target_kind!r}",
                    got=f"targets of kind {dataset.target_kind!r}" if dataset.target_kind else "no targets",
                    remedy="Choose a data set that fits, or pseudo_labels=True.",
                )
            task.check_classes(dataset.class_names)

    def _labelled(self, dataset: TaskDataset) -> list[TaskModel]:
        """Return who is scored against the data set's targets."""
        if isinstance(self.task, EnsembleTask) and dataset.target_kind != Composite.kind:
            return [task for name, task in self.task.tasks.items() if name not in self._pseudo_labels]
        return [self.task]

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
        return self._clean(dataset, channel, quality, self._judges(split=False))[""]

    def clean_members(
        self, dataset: TaskDataset, channel: Channel | None = None, quality: float | None = None
    ) -> dict[str, CleanScore]:
        """Return what `clean` does, by member of the ensemble."""
        return self._clean(dataset, channel, quality, self._judges(split=True))

    def curve(
        self, dataset: TaskDataset, channel: Channel | None = None, ladder: Sequence[float] | None = None
    ) -> MeasuredCurve:
        """Measure one way to send images, at every quality of a ladder.

        Args:
            dataset: the images.
            channel: of this codec, such as ``Channel(measurer.transcoder, preprocessor)``; None: the anchor.
            ladder: the qualities; None takes the settings' ladder.

        Raises:
            OptionError: the channel is of another codec.
            DatasetError: there is no readable image, or one is unreadable and was not to be skipped.
            QualityError: a quality is off the scale.
            NonFiniteError: a loss is not finite.
        """
        return self._curves(dataset, channel, ladder, self._judges(split=False))[""]

    def curves(
        self, dataset: TaskDataset, channel: Channel | None = None, ladder: Sequence[float] | None = None
    ) -> dict[str, MeasuredCurve]:
        """Return what `curve` does, by member of the ensemble; every image is sent once for all of them."""
        return self._curves(dataset, channel, ladder, self._judges(split=True))

    def _clean(
        self, dataset: TaskDataset, channel: Channel | None, quality: float | None, judges: Judges
    ) -> dict[str, CleanScore]:
        channel = channel or Channel(self.transcoder, label="the clean images")
        quality = self.mildest if quality is None else self.codec.quality_scale.check(quality)
        rows = self._measured(dataset, Road(channel, judges, coded=False), (quality,)).rows[quality]
        ones = np.ones(len(rows))
        return {
            name: CleanScore(
                scores=scorer.combine([row.statistics[name] for row in rows], ones),
                task_loss=float(np.mean([row.losses[name] for row in rows])),
            )
            for name, scorer in judges.scorers.items()
        }

    def _curves(
        self, dataset: TaskDataset, channel: Channel | None, ladder: Sequence[float] | None, judges: Judges
    ) -> dict[str, MeasuredCurve]:
        channel = channel or Channel(self.transcoder)
        qualities = self._on_scale(self.ladder if ladder is None else ladder)
        found = self._measured(dataset, Road(channel, judges), qualities)
        return {
            name: MeasuredCurve(
                label=channel.label,
                settings=channel.settings,
                scorer=scorer,
                points=tuple(MeasuredPoint.of(quality, rows, name) for quality, rows in found.rows.items()),
                indices=tuple(found.indices),
                keys=tuple(found.keys),
                pixels=np.array(found.pixels, dtype=np.float64),
                skipped=tuple(found.skipped),
                labels=tuple(found.labels),
            )
            for name, scorer in judges.scorers.items()
        }

    def _measured(self, dataset: TaskDataset, road: Road, qualities: Sequence[float]) -> _Measured:
        """Send a data set down a road, as far as its rows are not known; return what is measured of all of it."""
        self._check_channel(road.channel)
        known = self._known_rows(road, qualities)
        found = _Measured({quality: [] for quality in qualities})
        rows: list[dict[float, list[ImageRow | None]]] = []  # of every batch
        images: list[list[str]] = []
        with road.open():
            batches = self._batches(dataset, known, found, rows, images)
            for number, quality, new in travel(road, batches, self._engine):
                places = [place for place, row in enumerate(rows[number][quality]) if row is None]
                for place, row in zip(places, new, strict=True):
                    rows[number][quality][place] = row
                    if known is not None:
                        known.add(quality, images[number][place], row)
                self._advance(len(rows[number][quality]))
        self._cache.save()
        if not found.keys:
            raise _empty(dataset, "none that can be read")
        for batch in rows:
            for quality, whole in batch.items():
                found.rows[quality] += [row for row in whole if row is not None]
        return found

    def _batches(
        self,
        dataset: TaskDataset,
        known: KnownRows | None,
        found: _Measured,
        rows: list[dict[float, list[ImageRow | None]]],
        images: list[list[str]],
    ) -> Iterator[Batch]:
        """Load a data set, take note of its images and of the rows that are known, and yield what is missing."""
        settings = self.settings
        for batch in load_batches(
            dataset, settings.batch_size, settings.max_batch_pixels, skip_unreadable=settings.skip_unreadable
        ):
            samples = batch.samples
            found.skipped += batch.skipped
            found.indices += batch.indices
            found.keys += [sample.key for sample in samples]
            found.labels += [_label(sample) for sample in samples]
            found.pixels += [sample.image.shape[1] * sample.image.shape[2] for sample in samples]
            names = [] if known is None else [image_fingerprint(sample.image, sample.target) for sample in samples]
            images.append(names)
            rows.append(
                {
                    quality: [known.row(quality, name) for name in names] if known else [None] * len(samples)
                    for quality in found.rows
                }
            )
            missing = {
                quality: [place for place, row in enumerate(there) if row is None]
                for quality, there in rows[-1].items()
                if None in there
            }
            self._advance(len(batch.skipped) * len(found.rows) + len(samples) * (len(found.rows) - len(missing)))
            if missing:
                yield Batch(len(rows) - 1, samples, missing)

    def _known_rows(self, road: Road, qualities: Sequence[float]) -> KnownRows | None:
        """Return where the rows of one road are kept, or None where what they depend on cannot be told."""
        try:
            return KnownRows(self._cache, road.channel, road.judges.fingerprints(), qualities, coded=road.coded)
        except UnknownContentError as error:
            if self.settings.cache is not None and road.coded and self._observer is not None:
                message = f"{road.channel.label} is measured anew: what {error} holds cannot be told"
                self._observer(Notice("evaluate", message))
            return None

    def close(self) -> None:
        """Stop the threads, and an engine's workers."""
        self.transcoder.close()
        if self._engine is not None:
            self._engine.close()

    def _check_channel(self, channel: Channel) -> None:
        if channel.codec is not self.codec:
            raise OptionError(
                where=f"evaluation, channel {channel.label!r}",
                expected=f"one of the codec that is measured, {self.codec.name!r}",
                got=f"one of another object, {channel.codec.name!r}",
                remedy="Construct it with the measurer's transcoder.",
            )

    def _advance(self, images: int) -> None:
        self._step += images
        if images and self._observer is not None:
            self._observer(StepDone("evaluate", self._step, self.total_steps, {}))


def measure_curve(
    codec: Codec,
    task: TaskModel,
    dataset: TaskDataset,
    *,
    preprocessor: Preprocessor | None = None,
    label: str | None = None,
    settings: EvaluateSettings | None = None,
    observer: Listener = "auto",
) -> MeasuredCurve:
    """Measure one curve: the anchor, or the codec behind a preprocessor.

    Args:
        codec: the real codec.
        task: the task network, where it is to work.
        dataset: images with targets that fit the task.
        preprocessor: None for the anchor.
        label: names the curve; default: ``"anchor"`` or the preprocessor's name.
        settings: how to measure; those of comparisons and baselines are not used.
        observer: receives a `StepDone` per batch and quality; steps are images times qualities. See
            `precomp_sdk.observers.listening`.

    Returns:
        The measurement, image by image.

    Raises:
        DatasetError: there is no readable image, or one is unreadable and was not to be skipped.
        TargetError: the targets do not fit the task.
        QualityError: the ladder leaves the scale.
        NonFiniteError: a loss is not finite.
    """
    with listening(observer) as notify, Measurer(codec, task, settings, observer=notify) as measurer:
        measurer.check(dataset)
        measurer.total_steps = len(dataset) * len(measurer.ladder)
        return measurer.curve(dataset, Channel(measurer.transcoder, preprocessor, label=label))


def _engine(settings: EvaluateSettings) -> Engine | None:
    """Return who measures, or None where it is this process; workers stay from curve to curve."""
    if not settings.distributed:
        return None
    return make_engine(settings.engine, settings.engine_workers, address=settings.engine_address).__enter__()


def _label(sample: Sample) -> int | None:
    return sample.target.index if isinstance(sample.target, Label) else None


def _empty(dataset: TaskDataset, got: str) -> DatasetError:
    return DatasetError(
        where=f"evaluation on {dataset.name!r}",
        expected="one image or more",
        got=got,
        remedy="Look at the data set's folder and options.",
    )
