"""Bulk jobs: a tree mirrored, resumable, with a record of every file."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from precomp_sdk import Compressor, DatasetError, OptionError, QualityError
from precomp_sdk.deploy import (
    RECORD_NAME,
    BulkReport,
    BulkSettings,
    QualityTarget,
    compress_files,
    compress_to_target,
    find_jobs,
    read_records,
)
from precomp_sdk.engines import ProcessEngine
from precomp_sdk.events import Event, Notice, StepDone
from precomp_sdk.image_io import write_image
from precomp_sdk.testing import FakeCodec, FakePreprocessor, natural_image


def sender() -> Compressor:
    return Compressor(FakeCodec(), FakePreprocessor(gain=0.5), ladder=(5, 70))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for index, name in enumerate(("a.png", "b.png", "trip/c.png", "trip/day two/d.png", ".hidden/e.png", ".f.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(natural_image(20 + index, 30), root / name)
    (root / "notes.txt").write_text("no image")
    return root


def job(photos: Path, output: Path, **options: Any) -> BulkReport:
    settings = BulkSettings(
        QualityTarget(quality=30), **{key: options.pop(key) for key in ("newer", "dry_run") if key in options}
    )
    jobs = find_jobs([photos], output, ".fake")
    return compress_files(sender, jobs, settings, sender="one", record=output / RECORD_NAME, **options)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_tree_is_mirrored_and_every_file_recorded(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    report = job(photos, output)

    assert names(output) == {"a.fake", "b.fake", "trip/c.fake", "trip/day two/d.fake", RECORD_NAME}
    assert [record.status for record in report.records] == ["done"] * 4
    for record in read_records(output / RECORD_NAME):
        assert Path(record.output).stat().st_size == record.bytes_after
        assert Path(record.source).stat().st_size == record.bytes_before
        assert (record.quality, record.width, record.error) == (30.0, 30, "")
        assert record.seconds > 0
    payload = (output / "trip" / "c.fake").read_bytes()
    assert payload == sender().compress(photos / "trip" / "c.png", 30)


def test_what_was_done_is_not_done_again(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    job(photos, output)
    write_image(natural_image(25, 31), photos / "b.png")  # changed
    (output / "a.fake").unlink()  # lost
    (output / "trip" / "c.fake").write_bytes(b"cut")  # damaged

    again = job(photos, output)

    done = {Path(record.source).name for record in again.records if record.status == "done"}
    assert done == {"a.png", "b.png", "c.png"}
    assert again.count("skipped") == 1
    assert job(photos, output).count("skipped") == 4


def test_another_sender_or_quality_does_it_again(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    jobs, record = find_jobs([photos], output, ".fake"), output / RECORD_NAME
    fixed = BulkSettings(QualityTarget(quality=30))
    compress_files(sender, jobs, fixed, sender="one", record=record)
    assert compress_files(sender, jobs, fixed, sender="two", record=record).count("done") == 4
    other = BulkSettings(QualityTarget(quality=50))
    assert compress_files(sender, jobs, other, sender="two", record=record).count("done") == 4
    assert sender().digest == sender().digest
    assert sender().digest != Compressor(FakeCodec(), FakePreprocessor(gain=0.6), ladder=(5, 70)).digest
    assert sender().digest != Compressor(FakeCodec(level=3), FakePreprocessor(gain=0.5), ladder=(5, 70)).digest


def test_an_image_that_fails_is_listed_and_the_others_go_on(photos: Path, tmp_path: Path) -> None:
    (photos / "b.png").write_bytes(b"no image")
    events: list[Event] = []

    report = job(photos, tmp_path / "out", observer=events.append)

    assert [Path(record.source).name for record in report.failures] == ["b.png"]
    assert report.count("done") == 3
    assert f"failed: {photos / 'b.png'}: " in report.summary()
    assert next(event.message for event in events if isinstance(event, Notice)).startswith(str(photos / "b.png"))
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert set(steps[-1].scalars) == {"images_per_s", "megapixels_per_s"}
    (photos / "b.png").unlink()
    write_image(natural_image(9, 9), photos / "b.png")
    assert job(photos, tmp_path / "out").count("done") == 1  # what failed is tried again


def test_a_dry_run_writes_nothing(photos: Path, tmp_path: Path) -> None:
    report = job(photos, tmp_path / "out", dry_run=True)
    assert report.count("planned") == 4
    assert not (tmp_path / "out").exists()


def test_newer_payloads_stay_whoever_made_them(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "a.fake").write_bytes(b"somebody else's")
    old = (photos / "a.png").stat().st_mtime_ns - 10**9
    os.utime(photos / "a.png", ns=(old, old))
    assert job(photos, output, newer=True).count("skipped") == 1
    assert (output / "a.fake").read_bytes() == b"somebody else's"
    assert job(photos, output).count("done") == 1


def test_two_sources_of_one_name_keep_their_endings(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b.png"):
        (tmp_path / "in").mkdir(exist_ok=True)
        write_image(natural_image(8, 8), tmp_path / "in" / "x.png")
        (tmp_path / "in" / "x.png").rename(tmp_path / "in" / name)
    found = {one.output.name for one in find_jobs([tmp_path / "in"], tmp_path / "out", ".fake")}
    assert found == {"a.png.fake", "a.jpg.fake", "b.fake"}


def test_links_are_followed_once_and_the_output_is_no_input(photos: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_image(natural_image(8, 8), elsewhere / "g.png")
    (photos / "link").symlink_to(elsewhere)
    (photos / "circle").symlink_to(photos)
    output = photos / "out"
    output.mkdir()
    write_image(natural_image(8, 8), output / "old.png")

    found = [str(one.source.relative_to(photos)) for one in find_jobs([photos], output, ".fake")]

    assert sorted(found) == ["a.png", "b.png", "link/g.png", "trip/c.png", "trip/day two/d.png"]


def test_inputs_that_are_not_there_or_share_an_output_are_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: expected an image file, a folder, or"):
        find_jobs([tmp_path / "nowhere"], tmp_path, ".fake")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="expected images; got none"):
        find_jobs([tmp_path / "empty"], tmp_path, ".fake")
    jobs = find_jobs([photos, photos / "trip" / "c.png"], tmp_path, ".fake")
    twice = [*jobs, jobs[0]]
    with pytest.raises(OptionError, match="an output of its own"):
        compress_files(sender, twice, BulkSettings(QualityTarget(quality=30)), sender="one")


def test_a_record_that_was_cut_off_is_read_and_goes_on(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    job(photos, output)
    record = output / RECORD_NAME
    whole = record.read_text()
    record.write_text(whole[: len(whole) - 40])  # a kill in the middle of the last line

    again = job(photos, output)

    assert (again.count("skipped"), again.count("done")) == (3, 1)
    lines = record.read_text().splitlines()
    assert json.loads(lines[-1])["status"] == "done"
    assert len(read_records(record)) == 4


@pytest.mark.slow
def test_several_processes_make_the_same_files(photos: Path, tmp_path: Path) -> None:
    job(photos, tmp_path / "one")
    job(photos, tmp_path / "two", engine=ProcessEngine(2))
    for name in names(tmp_path / "one") - {RECORD_NAME}:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


KILLED = """
import sys
from pathlib import Path
from precomp_sdk import Compressor
from precomp_sdk.deploy import BulkSettings, QualityTarget, compress_files, find_jobs, RECORD_NAME
from precomp_sdk.testing import FakeCodec, FakePreprocessor
import time
class Slow(FakeCodec):
    def _encode(self, image, quality):
        time.sleep(0.05)
        return super()._encode(image, quality)
source, output = map(Path, sys.argv[1:])
make = lambda: Compressor(Slow(), FakePreprocessor(gain=0.5), ladder=(5, 70))
jobs = find_jobs([source], output, ".fake")
settings = BulkSettings(QualityTarget(quality=30))
print(compress_files(make, jobs, settings, sender="s", record=output / RECORD_NAME).summary())
"""


@pytest.mark.slow
def test_a_job_that_is_killed_twice_ends_whole(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for index in range(40):
        write_image(natural_image(20, 20 + index), source / f"{index:02}.png")
    command = [sys.executable, "-c", KILLED, str(source), str(output)]
    for kills in (1, 2):
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 120
        while len(list(output.glob("*.fake"))) < 8 * kills and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(list(output.glob("*.fake"))) < 40
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "skipped" in done.stdout
    records = read_records(output / RECORD_NAME)
    assert len(records) == len(list(output.glob("*.fake"))) == 40
    assert all(Path(record.output).stat().st_size == record.bytes_after for record in records)
    assert [path for path in output.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_the_mildest_quality_that_fits_is_found(share: float) -> None:
    image, compressor = natural_image(60, 80), sender()
    sizes = {quality: len(compressor.compress(image, quality)) for quality in range(5, 71)}
    limit = int(sizes[5] + share * (sizes[70] - sizes[5]))
    best = max(quality for quality, size in sizes.items() if size <= limit)

    found = compress_to_target(compressor, image, QualityTarget(max_bytes=limit))
    by_bpp = compress_to_target(compressor, image, QualityTarget(bits_per_pixel=8 * limit / image[0].numel()))

    assert len(found.payload) <= limit
    assert sizes[best] - len(found.payload) <= 0.02 * sizes[best]  # FakeCodec's sizes are not strictly monotone
    assert found.encodes <= 8
    assert by_bpp.quality == found.quality


def test_limits_beyond_the_ladders_ends() -> None:
    image, compressor = natural_image(60, 80), sender()
    assert compress_to_target(compressor, image, QualityTarget(max_bytes=10**9)).quality == 70
    tight = compress_to_target(compressor, image, QualityTarget(max_bytes=1))
    assert (tight.quality, tight.encodes) == (5, 1)
    assert "the strongest compression" in tight.reason


@pytest.mark.parametrize(
    "options",
    [{}, {"quality": 5, "max_bytes": 9}, {"bits_per_pixel": 0}, {"max_bytes": -1}, {"quality": 5, "max_encodes": 0}],
)
def test_targets_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        QualityTarget(**options)  # type: ignore[arg-type]  # some are wrong


def test_many_images_in_python(photos: Path) -> None:
    compressor = sender()
    images: Sequence[Any] = [photos / "a.png", natural_image(8, 9)]
    found = list(compressor.compress_many(images, 30))
    assert [one.payload for one in found] == [compressor.compress(image, 30) for image in images]


def test_a_pattern_stands_for_what_it_matches(photos: Path, tmp_path: Path) -> None:
    output = photos / "out"
    output.mkdir()
    write_image(natural_image(8, 8), output / "old.png")

    def found(*patterns: str) -> set[str]:
        jobs = find_jobs([photos / pattern for pattern in patterns], output, ".fake")
        return {str(one.output.relative_to(output)) for one in jobs}

    assert found("*.png") == {"a.fake", "b.fake"}
    assert found("**/*.png") == found("**/*") == {"a.fake", "b.fake", "trip/c.fake", "trip/day two/d.fake"}
    assert found("t*/day*") == {"trip/day two/d.fake"}
    (photos / "x[1].png").write_bytes((photos / "a.png").read_bytes())
    assert found("x[1].png") == {"x[1].fake"}  # a file of that name comes first
    with pytest.raises(DatasetError, match="or a pattern of them; got nothing there"):
        found("*.webp")


def test_a_quality_that_was_not_trained_is_told_once_and_before_the_work(photos: Path, tmp_path: Path) -> None:
    jobs = find_jobs([photos], tmp_path / "out", ".fake")
    with pytest.raises(QualityError, match="from 5 to 70; got 99"):
        compress_files(sender, jobs, BulkSettings(QualityTarget(quality=99)), sender="one")
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_the_input_is_refused(photos: Path) -> None:
    with pytest.raises(OptionError, match="an output folder other than the inputs"):
        find_jobs([photos], photos / "trip" / "..", ".fake")


def test_a_link_to_nothing_is_a_failure_that_says_so(photos: Path, tmp_path: Path) -> None:
    (photos / "a.png").unlink()
    (photos / "a.png").symlink_to("nowhere.png")
    (failure,) = job(photos, tmp_path / "out").failures
    assert not failure.error.startswith(str(photos))  # the record names it already
    assert failure.error.startswith("expected a file or folder that exists")


def test_no_source_is_overwritten(photos: Path) -> None:
    (photos / "a.png").rename(photos / "a.fake.png")
    jobs = find_jobs([photos / "b.png"], photos, ".png")
    with pytest.raises(OptionError, match="sources are never overwritten"):
        compress_files(sender, jobs, BulkSettings(QualityTarget(quality=30)), sender="one")


def test_names_of_any_bytes_are_recorded_and_found_again(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in (b"gr\xfcn.png", "gr\u00fcn \u2028 \U0001f600.png".encode(), b"two\nlines\x1b[2J.png"):
        write_image(natural_image(8, 8), tmp_path / "plain.png")
        os.rename(tmp_path / "plain.png", os.path.join(os.fsencode(tmp_path / "in"), name))
    assert job(tmp_path / "in", tmp_path / "out").count("done") == 3
    assert job(tmp_path / "in", tmp_path / "out").count("skipped") == 3
    for path in (tmp_path / "in").iterdir():
        path.write_bytes(b"no image")
    told = job(tmp_path / "in", tmp_path / "out").summary()
    assert len(told.splitlines()) == 4
    assert told.isprintable() or "\n" in told
    assert "\x1b" not in told


def test_what_a_killed_job_had_begun_is_removed_and_nobody_elses(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (output / "trip").mkdir(parents=True)
    ours, others = output / "trip" / f".c.fake.{'a' * 32}.tmp", output / f".z.fake.{'b' * 32}.tmp"
    for path in (ours, others):
        path.write_bytes(b"half")
    job(photos, output)
    assert (ours.exists(), others.exists()) == (False, True)
