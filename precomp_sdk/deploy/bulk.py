"""Many images: a folder tree compressed into another, by several workers, resumable, with a record of every file."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from precomp_sdk.atomic_io import write_whole
from precomp_sdk.deploy._jobs import Job, check_outputs, clear_leftovers, find_jobs
from precomp_sdk.deploy._records import RECORD_NAME, FileRecord, Journal, read_records
from precomp_sdk.deploy.compressor import Compressor
from precomp_sdk.deploy.keep_answer import KeepAnswer
from precomp_sdk.deploy.targets import QualityTarget, compress_to_target
from precomp_sdk.engines import Engine, SerialEngine
from precomp_sdk.errors import printable
from precomp_sdk.events import Notice, RunFinished, RunStarted, StepDone
from precomp_sdk.image_io import ReadSettings, read_image
from precomp_sdk.observers import Listener, listening

__all__ = [
    "RECORD_NAME",
    "BulkReport",
    "BulkSettings",
    "FileRecord",
    "Job",
    "compress_files",
    "find_jobs",
    "read_records",
]

_STAGE = "compress"


@dataclass(frozen=True, slots=True)
class BulkSettings:
    """How a bulk job works.

    Args:
        target: the quality, or how it is chosen.
        newer: skip a source whose payload is younger than it, whoever made it.
        dry_run: say what would be done, and do nothing.
        read: how images are read.
    """

    target: QualityTarget | KeepAnswer
    newer: bool = False
    dry_run: bool = False
    read: ReadSettings = field(default_factory=ReadSettings)


@dataclass(frozen=True, slots=True)
class BulkReport:
    """A bulk job as a whole.

    Args:
        records: of every file, in the order in which they were done.
        seconds: wall time.
    """

    records: tuple[FileRecord, ...]
    seconds: float

    def count(self, status: str) -> int:
        """Return how many files have a status."""
        return sum(record.status == status for record in self.records)

    @property
    def failures(self) -> tuple[FileRecord, ...]:
        """The files that failed."""
        return tuple(record for record in self.records if record.status == "failed")

    def summary(self) -> str:
        """Return the whole in one line, and every failure in one of its own."""
        done = [record for record in self.records if record.status == "done"]
        before, after = (sum(getattr(record, name) for record in done) for name in ("bytes_before", "bytes_after"))
        pixels = sum(record.height * record.width for record in done)
        counts = [
            f"{self.count(status)} {status}"
            for status in ("done", "skipped", "planned", "failed")
            if self.count(status)
        ]
        line = ", ".join(counts) or "no images"
        if pixels and self.seconds:
            line += (
                f"; {before / 1e6:.3g} MB to {after / 1e6:.3g} MB, {8 * after / pixels:.3f} bits per pixel; "
                f"{len(done) / self.seconds:.3g} images/s, {pixels / 1e6 / self.seconds:.3g} megapixels/s"
            )
        return "\n".join([line, *(printable(f"failed: {record.source}: {record.error}") for record in self.failures)])


def compress_files(
    make: Callable[[], Compressor],
    jobs: Sequence[Job],
    settings: BulkSettings,
    *,
    sender: str,
    record: Path | None = None,
    engine: Engine | None = None,
    observer: Listener = "auto",
) -> BulkReport:
    """Compress files by several workers. A job that was killed goes on where it stopped.

    Every payload is written atomically, and a line about it goes to the record after it: what the record calls done is
    whole. A source that the same sender has done before, and that was not changed since, is skipped.

    Args:
        make: makes the compressor in each worker; it can be pickled.
        jobs: of `find_jobs`.
        settings: the quality or how it is chosen, what is skipped, and how images are read.
        sender: names what ``make`` makes, such as a digest of the weights; another one does a file again.
        record: the file of records; None keeps none, and skips nothing but with ``newer``.
        engine: who works; None: this process.
        observer: receives a `StepDone` per file, with images and megapixels a second; see
            `precomp_sdk.observers.listening`.

    Raises:
        OptionError: two jobs have one output, or an output is a source.
        QualityError: a quality that is given for all lies outside the ladder.
    """
    check_outputs(jobs)
    begin = time.monotonic()
    sender = f"{sender}/{settings.target}"
    known = {} if record is None else {entry.output: entry for entry in read_records(record)}
    records, left = [], []
    for job in jobs:
        skipped = _skipped(job, known.get(str(job.output)), sender, newer=settings.newer)
        if skipped is not None:
            records.append(skipped)
        else:
            left.append(job)
    if settings.dry_run:
        planned = [FileRecord(str(job.source), str(job.output), "planned", _size(job.source)) for job in left]
        return BulkReport((*records, *planned), time.monotonic() - begin)
    clear_leftovers(jobs)
    work = partial(_Sender, make, settings, sender)
    pixels = 0
    with listening(observer) as notify, Journal(record) as journal:
        notify(RunStarted(_STAGE, len(left), {"files": len(jobs), "skipped": len(records)}))
        for done, outcome in enumerate((engine or SerialEngine()).run(work, left), start=1):
            entry = outcome.result or _failure(outcome.item, outcome.error, sender)
            journal.write(entry)
            records.append(entry)
            if entry.status == "failed":
                notify(Notice(_STAGE, f"{entry.source}: {entry.error}"))
            pixels += entry.height * entry.width
            seconds = max(time.monotonic() - begin, 1e-9)
            rates = {"images_per_s": done / seconds, "megapixels_per_s": pixels / 1e6 / seconds}
            notify(StepDone(_STAGE, done, len(left), rates))
        seconds = time.monotonic() - begin
        notify(RunFinished(_STAGE, seconds))
    return BulkReport(tuple(records), seconds)


class _Sender:
    """What a worker does: read, compress, write."""

    def __init__(self, make: Callable[[], Compressor], settings: BulkSettings, sender: str) -> None:
        self._compressor = make()
        quality = settings.target.quality if isinstance(settings.target, QualityTarget) else None
        if quality is not None:  # wrong for every image, so it is told once
            self._compressor.check_quality(quality)
        self._settings, self._sender = settings, sender

    def __call__(self, job: Job) -> FileRecord:
        begin = time.monotonic()
        mtime_ns = job.source.stat().st_mtime_ns  # before it is read: a change meanwhile shows
        image = read_image(job.source, settings=self._settings.read)
        found = compress_to_target(self._compressor, image, self._settings.target)
        write_whole(job.output, found.payload)
        return FileRecord(
            source=str(job.source),
            output=str(job.output),
            status="done",
            bytes_before=_size(job.source),
            bytes_after=len(found.payload),
            height=int(image.shape[1]),
            width=int(image.shape[2]),
            quality=found.quality,
            resolution=found.resolution,
            encodes=found.encodes,
            seconds=time.monotonic() - begin,
            reason=found.reason,
            mtime_ns=mtime_ns,
            sender=self._sender,
        )


def _skipped(job: Job, known: FileRecord | None, sender: str, *, newer: bool) -> FileRecord | None:
    """Return a record that says so where an image need not be done."""
    if not job.output.exists():
        return None
    source = job.source.stat()
    same = known is not None and (known.status, known.sender, known.mtime_ns, known.output) == (
        "done",
        sender,
        source.st_mtime_ns,
        str(job.output),
    )
    whole = known is not None and job.output.stat().st_size == known.bytes_after
    if same and whole and known is not None:
        return replace(known, status="skipped")
    if newer and job.output.stat().st_mtime_ns > source.st_mtime_ns:
        return FileRecord(
            str(job.source), str(job.output), "skipped", source.st_size, job.output.stat().st_size, reason="newer"
        )
    return None


def _failure(job: Job, error: str, sender: str) -> FileRecord:
    return FileRecord(
        str(job.source), str(job.output), "failed", _size(job.source), error=_reason(job, error), sender=sender
    )


def _reason(job: Job, error: str) -> str:
    """Return an error without its image's name, which the record tells already."""
    return error.removeprefix(f"{job.source}: ").removeprefix(f"{str(job.source)!r}: ")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
