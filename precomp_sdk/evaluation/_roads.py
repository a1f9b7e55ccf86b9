"""Batches on their way through the codec and past the judges: in this process, or in an engine's workers."""

import pickle
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from precomp_sdk._plugins import imported_file, imported_files
from precomp_sdk.channel import Channel
from precomp_sdk.engines import Engine
from precomp_sdk.errors import OptionError, ResourceError
from precomp_sdk.evaluation._judging import Judges
from precomp_sdk.evaluation.statistics import ImageRow
from precomp_sdk.modules import evaluation_mode
from precomp_sdk.targets import Target
from precomp_sdk.transmission import Transmission
from precomp_sdk.types import Sample

__all__ = ["Batch", "Road", "Travelled", "travel"]

_BATCHES_IN_FLIGHT = 2  # at least: one in the codec's threads while the task network works on the other


@dataclass(frozen=True, slots=True)
class Batch:
    """Images that are held together.

    Args:
        number: of the batch, counted from 0.
        samples: its images.
        missing: by quality, the places of the images that are to be measured at it.
    """

    number: int
    samples: Sequence[Sample]
    missing: Mapping[float, Sequence[int]]


Travelled: TypeAlias = tuple[int, float, list[ImageRow]]  #: a batch's number, a quality, and the rows of its missing


@dataclass(frozen=True, slots=True)
class _OnItsWay:
    """A batch at one quality, in the codec's threads."""

    batch: Batch
    quality: float
    transmission: Transmission
    targets: Sequence[Target]


class Road:
    """One way to send images, and who looks at what arrives.

    Args:
        channel: the way.
        judges: who looks.
        coded: the codec works; otherwise images are received as they were to be encoded.
    """

    def __init__(self, channel: Channel, judges: Judges, *, coded: bool = True) -> None:
        self.channel, self.judges, self.coded = channel, judges, coded

    @contextmanager
    def open(self) -> Iterator[None]:
        """Put the networks into the mode for `travel`: of evaluation, without gradients."""
        with evaluation_mode(self.judges.module, *self.channel.modules), torch.no_grad():
            yield

    def travel(self, batches: Iterable[Batch]) -> Iterator[Travelled]:
        """Yield the rows of what is missing, batch by batch and quality by quality, while the road is open.

        The codec works in its threads while the judges look at what came before.

        Raises:
            NonFiniteError: a loss is not finite.
        """
        under_way: deque[_OnItsWay] = deque()
        for batch in batches:
            targets = self.judges.targets(batch.samples)
            for quality, places in batch.missing.items():
                wanted = [targets[place] for place in places]
                if not self.coded:
                    yield batch.number, quality, self._uncoded(batch, quality, places, wanted)
                    continue
                sources = [batch.samples[place].image for place in places]
                sent = self.channel.start(sources, [quality] * len(sources))
                under_way.append(_OnItsWay(batch, quality, sent, wanted))
                while self._enough(under_way):
                    yield self._received(under_way.popleft())
        while under_way:
            yield self._received(under_way.popleft())

    def _enough(self, under_way: Sequence[_OnItsWay]) -> bool:
        """Say whether the batches behind the oldest keep all the codec's threads at work."""
        behind = sum(len(job.targets) for job in under_way) - len(under_way[0].targets)
        return len(under_way) >= _BATCHES_IN_FLIGHT and behind >= self.channel.transcoder.workers

    def _received(self, job: _OnItsWay) -> Travelled:
        received = job.transmission.result()
        where = f"{self.channel.label!r} at {self.channel.codec.quality_scale.name} {job.quality:g}"
        samples = [job.batch.samples[place] for place in job.batch.missing[job.quality]]
        rows = self.judges.rows(samples, job.targets, received.images, received.bits.tolist(), where)
        return job.batch.number, job.quality, rows

    def _uncoded(
        self, batch: Batch, quality: float, places: Sequence[int], targets: Sequence[Target]
    ) -> list[ImageRow]:
        samples = [batch.samples[place] for place in places]
        sources = [sample.image for sample in samples]
        sizes = [(image.shape[1], image.shape[2]) for image in sources]
        images = self.channel.receive(self.channel.send(sources, [quality] * len(sources)), sizes)
        where = f"{self.channel.label!r} without a codec"
        return self.judges.rows(samples, targets, images, [0.0] * len(images), where)


def travel(road: Road, batches: Iterable[Batch], engine: Engine | None) -> Iterator[Travelled]:
    """Yield what `Road.travel` does, from an engine's workers, a batch each, in the order in which they are done.

    Raises:
        OptionError: codec, networks or channel cannot be sent to a worker.
        ResourceError: a worker dies, at one batch again and again.
        Exception: what a batch raises there.
    """
    if engine is None:
        yield from road.travel(batches)
        return
    for outcome in engine.run(_Work(_packed(road), imported_files()), batches):
        if outcome.result is None:
            raise ResourceError(
                where=f"evaluation, {type(engine).__name__}",
                expected="workers that live",
                got=outcome.error,
                remedy="Take fewer workers, or smaller batches: evaluate.batch_size, evaluate.max_batch_pixels.",
            )
        if isinstance(outcome.result, Exception):
            raise outcome.result
        yield from outcome.result


def _packed(road: Road) -> bytes:
    try:
        return pickle.dumps(road)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise OptionError(
            where=f"evaluation of {road.channel.label!r} by several workers",
            expected="a codec, networks and channels that can be pickled",
            got=str(error),
            remedy="Define their classes and functions in a module; or take one local worker.",
        ) from error


@dataclass(frozen=True, slots=True)
class _Work:
    """A road as an engine's work; plugin files come first, since classes of theirs may be in it."""

    road: bytes
    files: Sequence[Path]

    def __call__(self) -> "_Worker":
        for file in self.files:
            imported_file(file)
        return _Worker(pickle.loads(self.road))


class _Worker:
    """What a worker does; an error goes back as a result, so that it can be raised there as what it is."""

    def __init__(self, road: Road) -> None:
        self._road = road

    def __call__(self, batch: Batch) -> list[Travelled] | Exception:
        try:
            with self._road.open():
                return list(self._road.travel([batch]))
        except Exception as error:
            return _portable(error)


def _portable(error: Exception) -> Exception:
    try:
        made: Any = pickle.loads(pickle.dumps(error))
    except Exception:  # of a class that does not pickle
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error if isinstance(made, type(error)) else RuntimeError(str(error))
