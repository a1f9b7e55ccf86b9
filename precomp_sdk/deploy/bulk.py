"""Many images: a folder tree compressed into another, by several workers, resumable, with a record of every file."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Literal, Self

from precomp_sdk.atomic_io import write_whole
from precomp_sdk.deploy.compressor import Compressor
from precomp_sdk.deploy.targets import QualityTarget, compress_to_target
from precomp_sdk.engines import Engine, SerialEngine
from precomp_sdk.errors import DatasetError, OptionError
from precomp_sdk.events import Notice, RunFinished, RunStarted, StepDone
from precomp_sdk.image_io import ReadSettings, is_image_name, read_image
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

RECORD_NAME = "compressed.jsonl"  #: the record of a bulk job, in its output folder: a line per file
_STAGE = "compress"


@dataclass(frozen=True, slots=True)
class Job:
    """One image to be compressed.

    Args:
        source: its file.
        output: where its payload goes.
    """

    source: Path
    output: Path


@dataclass(frozen=True, slots=True)
class BulkSettings:
    """How a bulk job works.

    Args:
        target: the quality, or how it is chosen.
        newer: skip a source whose payload is younger than it, whoever made it.
        dry_run: say what would be done, and do nothing.
        read: how images are read.
    """

    target: QualityTarget
    newer: bool = False
    dry_run: bool = False
    read: ReadSettings = field(default_factory=ReadSettings)


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What became of one image.

    Args:
        source: its file.
        output: of its payload.
        status: ``"done"``, ``"failed"``, ``"skipped"`` (it was done before), or ``"planned"`` in a dry run.
        bytes_before: size of the source file.
        bytes_after: of the payload; 0 where there is none.
        height: of the source, in pixels; 0 where it was not read.
        width: likewise.
        quality: on the codec's scale; None where there is no payload.
        seconds: of one worker's time, reading and writing included.
        error: in one line, where it failed.
        reason: why this quality was chosen, where it was.
        mtime_ns: when the source was last changed.
        sender: what made it: a digest of weights, codec, options and how the quality is chosen.
    """

    source: str
    output: str
    status: Literal["done", "failed", "skipped", "planned"]
    bytes_before: int = 0
    bytes_after: int = 0
    height: int = 0
    width: int = 0
    quality: float | None = None
    seconds: float = 0.0
    error: str = ""
    reason: str = ""
    mtime_ns: int = 0
    sender: str = ""


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
                f"; {before / 1e6:.2f} MB to {after / 1e6:.2f} MB, {8 * after / pixels:.3f} bits per pixel; "
                f"{len(done) / self.seconds:.1f} images/s, {pixels / 1e6 / self.seconds:.1f} megapixels/s"
            )
        return "\n".join([line, *(f"failed: {record.source}: {record.error}" for record in self.failures)])


def find_jobs(inputs: Sequence[Path], output: Path, suffix: str) -> list[Job]:
    """Return the images of files and folders, each with where its payload goes: the tree is mirrored.

    A payload has the source's name with the codec's ending. Where two sources of one folder would share it (``a.png``
    and ``a.jpg``), both keep their own ending before the codec's. Hidden files and folders are left out; linked folders
    are followed, each once.

    Args:
        inputs: image files, and folders of images at any depth.
        output: the folder to write to; not looked into where it lies below an input.
        suffix: ending of the codec's files, with its dot.

    Raises:
        DatasetError: an input is not there, or there is no image.
    """
    found: list[tuple[Path, Path]] = []  # a source, and its place below the output
    for place in inputs:
        if place.is_dir():
            found += [(path, path.relative_to(place)) for path in _images_below(place, output)]
        elif place.is_file():
            found.append((place, Path(place.name)))
        else:
            raise DatasetError(
                where=str(place), expected="an image file or a folder", got="nothing there", remedy="Look at the path."
            )
    if not found:
        raise DatasetError(
            where=", ".join(map(str, inputs)), expected="images", got="none", remedy="Look at the folder."
        )
    names = [relative.with_suffix(suffix) for _, relative in found]
    shared = {name for name, count in Counter(names).items() if count > 1}
    return [
        Job(path, output / (relative.with_name(relative.name + suffix) if name in shared else name))
        for (path, relative), name in zip(found, names, strict=True)
    ]


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
        OptionError: two jobs have one output.
    """
    twice = [path for path, count in Counter(job.output for job in jobs).items() if count > 1]
    if twice:
        raise OptionError(
            where="bulk job",
            expected="an output of its own for every image",
            got=f"{twice[0]} twice",
            remedy="Compress the inputs one by one, each into a folder of its own.",
        )
    begin = time.monotonic()
    sender = f"{sender}/{settings.target}"
    known = {} if record is None else {entry.source: entry for entry in read_records(record)}
    records, left = [], []
    for job in jobs:
        skipped = _skipped(job, known.get(str(job.source)), sender, newer=settings.newer)
        if skipped is not None:
            records.append(skipped)
        else:
            left.append(job)
    if settings.dry_run:
        planned = [FileRecord(str(job.source), str(job.output), "planned", _size(job.source)) for job in left]
        return BulkReport((*records, *planned), time.monotonic() - begin)
    work = partial(_Sender, make, settings, sender)
    pixels = 0
    with listening(observer) as notify, _Journal(record) as journal:
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


def read_records(path: Path) -> list[FileRecord]:
    """Return the last record of every source in a file of records; a line that was cut off at a kill is left out."""
    if not path.exists():
        return []
    names = {item.name for item in fields(FileRecord)}
    found: dict[str, FileRecord] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
            entry = FileRecord(**{name: value for name, value in values.items() if name in names})
        except (ValueError, TypeError, AttributeError):
            continue
        found[entry.source] = entry
    return list(found.values())


class _Sender:
    """What a worker does: read, compress, write."""

    def __init__(self, make: Callable[[], Compressor], settings: BulkSettings, sender: str) -> None:
        self._compressor = make()
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
            seconds=time.monotonic() - begin,
            reason=found.reason,
            mtime_ns=mtime_ns,
            sender=self._sender,
        )


class _Journal:
    """Appends records to a file, each as a line that is on disk before the next begins; or nowhere."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def __enter__(self) -> Self:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            content = self._path.read_bytes() if self._path.exists() else b""
            self._file = self._path.open("a", encoding="utf-8")
            if content and not content.endswith(b"\n"):  # a kill left half a line
                self._file.write("\n")
        return self

    def write(self, entry: FileRecord) -> None:
        if self._path is not None:
            self._file.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
            self._file.flush()

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            os.fsync(self._file.fileno())
            self._file.close()


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
    return FileRecord(str(job.source), str(job.output), "failed", _size(job.source), error=error, sender=sender)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _images_below(root: Path, output: Path) -> Iterator[Path]:
    """Yield image files below a folder in the order of their names, hidden ones and the output left out."""
    seen: set[Path] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        here = Path(folder).resolve()
        if here in seen or here == output.resolve():
            folders.clear()
            continue
        seen.add(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith(".") and is_image_name(name))
