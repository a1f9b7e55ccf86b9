"""What was measured is not measured again, unless something it depends on has changed."""

import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from precomp_sdk import Channel, EnsembleTask, Notice
from precomp_sdk.evaluation import BLUR, Baseline, EvaluateSettings, Measurer, evaluate
from precomp_sdk.evaluation._cache import RowCache
from precomp_sdk.evaluation._fingerprint import UnknownContentError, fingerprint
from precomp_sdk.evaluation.statistics import ImageRow
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeTask

LADDER = (5.0, 30.0)


class Codec(FakeCodec):
    """Says how often it encoded, to all of its kind."""

    encoded = 0

    def _encode(self, image, quality):
        Codec.encoded += 1
        return super()._encode(image, quality)


class NextCodec(Codec):
    @property
    def version(self):
        return "the next"


def measure(folder: Path | None, **changes: Any):
    """Return the curve of one measurement and how many encodes it took."""
    parts = {
        "codec": Codec(),
        "task": FakeTask(),
        "dataset": FakeDataset(count=6),
        "preprocessor": FakePreprocessor(gain=0.2),
        "ladder": LADDER,
        "pseudo_labels": False,
        **changes,
    }
    settings = EvaluateSettings(ladder=parts["ladder"], cache=folder, pseudo_labels=parts["pseudo_labels"])
    before = Codec.encoded
    with Measurer(parts["codec"], parts["task"], settings) as measurer:
        curve = measurer.curve(parts["dataset"], Channel(measurer.transcoder, parts["preprocessor"]))
    return curve, Codec.encoded - before


@pytest.fixture
def folder(tmp_path):
    measure(tmp_path / "cache")
    return tmp_path / "cache"


def assert_equal(one, other):
    assert one.keys == other.keys
    for ours, theirs in zip(one.points, other.points, strict=True):
        np.testing.assert_array_equal(ours.bits, theirs.bits)
        np.testing.assert_array_equal(ours.losses, theirs.losses)
        np.testing.assert_array_equal(np.stack(ours.statistics), np.stack(theirs.statistics))


def test_an_unchanged_run_encodes_nothing_and_says_the_same(folder):
    fresh, all_of_it = measure(None)
    again, nothing = measure(folder)
    assert (all_of_it, nothing) == (12, 0)
    assert_equal(fresh, again)
    assert fresh.curve() == again.curve()


def another_task():
    task = FakeTask()
    with torch.no_grad():
        task.filters[0, 0, 0, 0] += 1e-6
    return task


class OtherTask(FakeTask):
    pass


@pytest.mark.parametrize(
    ("change", "encodes"),
    [
        ({"preprocessor": FakePreprocessor(gain=0.2000001)}, 12),
        ({"preprocessor": None}, 12),
        ({"task": another_task()}, 12),
        ({"task": FakeTask(sharpness=41.0)}, 12),
        ({"task": OtherTask()}, 12),
        ({"codec": Codec(level=5)}, 12),
        ({"codec": NextCodec()}, 12),
        ({"pseudo_labels": True}, 12),
        ({"dataset": FakeDataset(count=6, seed=1)}, 12),
        ({"dataset": FakeDataset(count=8)}, 4),
        ({"ladder": (5.0, 30.0, 70.0)}, 6),
        ({"ladder": (30.0,)}, 0),
    ],
    ids=str,
)
def test_whatever_changes_is_measured_anew(folder, change, encodes):
    fresh, _ = measure(None, **change)
    found, count = measure(folder, **change)
    assert count == encodes
    if encodes in (0, 12):
        assert_equal(fresh, found)
    assert fresh.curve().points[0].bpp == found.curve().points[0].bpp


def test_a_changed_target_is_another_image(folder):
    class Shifted(FakeDataset):
        def _sample(self, index):
            image, target = super()._sample(index)
            return image, replace(target, index=(target.index + 1) % 4)

    fresh, _ = measure(None, dataset=Shifted(count=6))
    found, count = measure(folder, dataset=Shifted(count=6))
    assert count == 12
    assert_equal(fresh, found)


def test_changed_code_and_versions_miss(folder, monkeypatch):
    monkeypatch.setattr("precomp_sdk.evaluation._fingerprint._code_of", lambda module: "edited")
    assert measure(folder)[1] == 12
    monkeypatch.undo()
    assert measure(folder)[1] == 0
    monkeypatch.setattr("precomp_sdk.evaluation._cache.environment_versions", lambda: {"numpy": "9.9"})
    assert measure(folder)[1] == 12


def test_the_code_of_a_checkout_is_its_source(tmp_path, monkeypatch):
    from precomp_sdk.evaluation._fingerprint import _code_of

    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("A = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("mine")
    before = _code_of("mine")
    (package / "inner.py").write_text("A = 2\n")
    _code_of.cache_clear()
    assert _code_of("mine") != before
    assert _code_of("numpy").startswith("numpy ")
    assert _code_of("json").startswith("python ")


def test_files_are_whole_and_a_damaged_one_is_measured_again(folder):
    files = sorted(folder.rglob("*"))
    sections = [path for path in files if path.is_file()]
    assert len(sections) == len(LADDER)
    assert all(path.suffix == ".npz" for path in sections)
    whole = sections[0].read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"rubbish"):
        sections[0].write_bytes(damage)
        _, count = measure(folder)
        assert count == 6
        assert sections[0].stat().st_size > 100  # whole again


def test_rows_of_two_runs_come_together(tmp_path):
    first, second = RowCache(tmp_path), RowCache(tmp_path)
    row = ImageRow(8.0, {"a": 1.0}, {"a": np.ones((2, 3))})
    first.row({"a": "s"}, "x")
    second.row({"a": "s"}, "x")
    first.add({"a": "s"}, "x", row)
    second.add({"a": "s"}, "y", ImageRow(16.0, {"a": 2.0}, {"a": np.zeros(0)}))
    first.save()
    second.save()
    both = RowCache(tmp_path)
    found = both.row({"a": "s"}, "x")
    assert (found.bits, found.losses) == (8.0, {"a": 1.0})
    np.testing.assert_array_equal(found.statistics["a"], np.ones((2, 3)))
    assert both.row({"a": "s"}, "y").statistics["a"].shape == (0,)
    assert both.row({"a": "s", "b": "t"}, "x") is None


def test_within_a_run_tuning_is_not_paid_twice():
    counts = []
    for tuning in (4, 12):
        before = Codec.encoded
        settings = EvaluateSettings(
            ladder=LADDER,
            baselines=(Baseline("blur", "sigma", (0.4, 0.8), BLUR.channel),),
            tuning_images=tuning,
            replicates=0,
        )
        evaluate(Codec(), FakeTask(), FakeDataset(count=12), settings=settings)
        counts.append(Codec.encoded - before)
    anchor = 12 * 2
    assert counts == [anchor + 4 * 2 * 2 + 8 * 2, anchor + 12 * 2 * 2]


def test_an_ensemble_finds_what_its_members_were(tmp_path):
    tasks = {"one": FakeTask(), "two": FakeTask(sharpness=10.0)}
    settings = EvaluateSettings(ladder=LADDER, cache=tmp_path)
    counts, curves = [], []
    for members in (tasks, {"b": tasks["two"], "a": tasks["one"]}):
        before = Codec.encoded
        with Measurer(Codec(), EnsembleTask(members=members), settings) as measurer:
            curves.append(measurer.curves(FakeDataset(count=5)))
        counts.append(Codec.encoded - before)
    assert counts == [10, 0]
    assert_equal(curves[0]["one"], curves[1]["a"])
    assert_equal(curves[0]["two"], curves[1]["b"])


class Secretive(FakePreprocessor):
    def __init__(self):
        super().__init__()
        self.source_of_noise = (item for item in ())  # a generator: what it will give cannot be told


def test_what_cannot_be_told_is_measured_every_time_and_said(tmp_path):
    events = []
    settings = EvaluateSettings(ladder=LADDER, cache=tmp_path)
    for _ in range(2):
        before = Codec.encoded
        with Measurer(Codec(), FakeTask(), settings, observer=events.append) as measurer:
            measurer.curve(FakeDataset(count=3), Channel(measurer.transcoder, Secretive()))
        assert Codec.encoded - before == 6
    told = [event.message for event in events if isinstance(event, Notice)]
    assert told == ["fake is measured anew: what builtins.generator holds cannot be told"] * 2


@dataclass
class Record:
    a: int
    b: object


def test_fingerprints_tell_values_apart_and_objects_together():
    def build(value):
        return [value, {"k": (value, {value})}, Record(1, value), nn.Linear(2, 2, bias=False).requires_grad_(False)]

    torch.manual_seed(0)
    one = fingerprint(build(1))
    torch.manual_seed(0)
    assert fingerprint(build(1)) == one
    torch.manual_seed(0)
    assert fingerprint(build(2)) != one
    values = [
        *(1, 1.0, True, "1", b"1", None, (1,), [1], {1}, {1: 1}, OrderedDict({1: 1})),
        *(np.array([1]), np.array([1.0]), torch.ones(1), torch.ones(1, 1), torch.ones(1, dtype=torch.bfloat16)),
        *(Record(1, 2), Record(2, 1), nn.ReLU(), nn.BatchNorm2d(1), nn.BatchNorm2d(1, eps=1e-3), Path("1")),
        *(fingerprint, np.stack, Record, time.sleep, LADDER, torch.float32),
    ]
    prints = [fingerprint(value) for value in values]
    assert len(set(prints)) == len(prints)
    assert fingerprint("a", "bc") != fingerprint("ab", "c")
    circle: list[Any] = []
    circle.append(circle)
    assert fingerprint(circle) == fingerprint(circle)
    with pytest.raises(UnknownContentError, match="generator"):
        fingerprint([(item for item in ())])


def test_a_module_in_training_mode_is_the_same_module():
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    before = fingerprint(network)
    assert fingerprint(network.eval()) == before
    network[1].running_mean += 1.0
    assert fingerprint(network) != before


def test_lambdas_are_told_by_what_they_do_and_hold():
    def scale(factor):
        return lambda value: value * factor

    assert fingerprint(scale(2)) == fingerprint(scale(2))
    assert fingerprint(scale(2)) != fingerprint(scale(3))
