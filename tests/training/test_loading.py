import threading
import time
from itertools import islice

import pytest
import torch

from precomp_sdk import DatasetError, Label, OptionError, TaskDataset
from precomp_sdk.testing import FakeDataset
from precomp_sdk.training import shuffled
from precomp_sdk.training.loading import Batches


class Stamped(TaskDataset):
    """Images that say which epoch they were loaded in; remembers what happened."""

    name = "stamped"
    source = "test"
    target_kind = Label.kind

    def __init__(self, count, broken=(), slow=False):
        self.count, self.broken, self.slow = count, broken, slow
        self.epoch = -1
        self.lock = threading.Lock()
        self.in_flight = 0
        self.told = []
        self.loaded = []

    def __len__(self):
        return self.count

    def set_epoch(self, epoch):
        with self.lock:
            self.told.append((epoch, self.in_flight))
            self.epoch = epoch

    def _sample(self, index):
        with self.lock:
            self.in_flight += 1
            epoch = self.epoch
        if self.slow:
            time.sleep(0.001 * ((index * 7) % 5))
        with self.lock:
            changed = self.epoch != epoch
            self.in_flight -= 1
            self.loaded.append(index)
        assert not changed, "the epoch changed while a sample was being loaded"
        if index in self.broken:
            raise DatasetError(where=str(index), expected="an image", got="rubbish", remedy="Repair it.")
        return torch.full((3, 1, 1), epoch, dtype=torch.uint8), Label(index)


def indices(batch):
    return [sample.target.index for sample in batch]


def epochs(batch):
    return {int(sample.image[0, 0, 0]) for sample in batch}


def take(count, dataset, **options):
    with Batches(dataset, **{"batch_size": 3, "workers": 2, **options}) as batches:
        return [(indices(batch), epochs(batch)) for batch in islice(batches, count)]


def test_order_depends_on_seed_and_epoch_only():
    first = take(9, Stamped(9), seed=4)
    assert first == take(9, Stamped(9, slow=True), seed=4, workers=3, prefetch=7)
    orders = [[index for batch, _ in first[start : start + 3] for index in batch] for start in (0, 3, 6)]
    assert all(sorted(order) == list(range(9)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert take(3, Stamped(9), seed=5) != first[:3]
    later = take(3, Stamped(9), seed=4, start=(2, 0))  # without having seen the epochs before
    assert later == first[6:]


def test_without_shuffle_the_order_is_the_data_sets_own():
    assert [batch for batch, _ in take(4, Stamped(7), shuffle=False, drop_last=False)] == [
        [0, 1, 2],
        [3, 4, 5],
        [6],
        [0, 1, 2],
    ]
    assert [batch for batch, _ in take(3, Stamped(7), shuffle=False)] == [[0, 1, 2], [3, 4, 5], [0, 1, 2]]


@pytest.mark.parametrize("drop_last", [True, False])
def test_a_resumed_run_sees_the_same_batches(drop_last):
    whole = take(10, Stamped(11), drop_last=drop_last)
    for done in range(9):
        with Batches(Stamped(11), batch_size=3, drop_last=drop_last) as batches:
            list(islice(batches, done))
            state = batches.state
        assert state == divmod(done, batches.per_epoch)
        assert take(10 - done, Stamped(11), drop_last=drop_last, start=state) == whole[done:]


def test_state_does_not_run_ahead_of_the_caller():
    dataset = Stamped(12)
    with Batches(dataset, batch_size=3, prefetch=3, workers=1) as batches:
        next(batches)
        _wait(lambda: len(dataset.loaded) == 12)
        assert batches.state == (0, 1)


@pytest.mark.parametrize(("workers", "prefetch"), [(1, 1), (3, 2), (4, 9)])
def test_epochs_never_mix(workers, prefetch):
    dataset = Stamped(7, slow=True)
    taken = take(40, dataset, workers=workers, prefetch=prefetch)  # 2 batches an epoch, prefetch beyond several
    assert [stamp for _, stamp in taken] == [{number // 2} for number in range(40)]
    assert [epoch for epoch, _ in dataset.told] == list(range(len(dataset.told)))
    assert all(in_flight == 0 for _, in_flight in dataset.told)


def test_epoch_is_told_before_its_first_sample_also_when_resuming():
    dataset = Stamped(6)
    assert [stamp for _, stamp in take(1, dataset, start=(5, 1))] == [{5}]
    assert dataset.told[0] == (5, 0)


def test_loads_ahead_but_not_further_than_asked():
    dataset = Stamped(60)
    with Batches(dataset, batch_size=2, prefetch=3, workers=2) as batches:
        assert not dataset.loaded  # nothing before the first request
        next(batches)
        _wait(lambda: len(dataset.loaded) == 8)  # the batch in hand and three more
        time.sleep(0.02)
        assert len(dataset.loaded) == 8


def test_loading_goes_on_in_several_threads():
    together = threading.Barrier(2, timeout=20)

    class Meeting(Stamped):
        def _sample(self, index):
            together.wait()  # passes only if two samples are being loaded at once
            return super()._sample(index)

    assert len(take(1, Meeting(2), batch_size=1, workers=2, stop=(1, 0))) == 1


def test_stops_where_told_and_loads_nothing_behind():
    dataset = Stamped(6)
    assert len(take(99, dataset, stop=(2, 1), prefetch=50)) == 5
    assert len(dataset.loaded) == 15
    assert dataset.told[-1][0] == 2
    assert take(99, dataset, start=(1, 0), stop=(1, 0)) == []
    assert len(take(99, dataset, start=(0, 2), stop=(1, 1))) == 1  # (0, 2) is (1, 0)


@pytest.mark.parametrize("count", [12, 17])
def test_processes_share_an_epoch(count):
    whole = [set(batch) for batch, _ in take(2, Stamped(count), batch_size=6)]
    shares = [take(2, Stamped(count), batch_size=3, rank=rank, world_size=2) for rank in (0, 1)]
    assert [set(a) | set(b) for (a, _), (b, _) in zip(*shares, strict=True)] == whole  # the same global batches
    for drop_last in (True, False):
        parts = [
            take(99, Stamped(count), rank=rank, world_size=3, drop_last=drop_last, stop=(1, 0)) for rank in range(3)
        ]
        seen = [index for part in parts for batch, _ in part for index in batch]
        assert len(seen) == len(set(seen))
        if drop_last:
            assert len({len(part) for part in parts}) == 1
        else:
            assert len(seen) == count


def test_skips_unreadable_samples_and_lists_each_once():
    with Batches(Stamped(6, broken={4, 1}), batch_size=3, shuffle=False, skip_unreadable=True) as batches:
        assert [indices(batch) for batch in islice(batches, 4)] == [[0, 2], [3, 5], [0, 2], [3, 5]]
        assert [item.key for item in batches.skipped] == ["1", "4"]
        assert "rubbish" in batches.skipped[0].reason


def test_skipped_samples_are_listed_when_their_batch_is_returned():
    dataset = Stamped(6, broken={4})
    with Batches(dataset, batch_size=3, shuffle=False, skip_unreadable=True, stop=(1, 0)) as batches:
        next(batches)
        _wait(lambda: len(dataset.loaded) == 6)
        assert batches.skipped == ()
        next(batches)
        assert len(batches.skipped) == 1


def test_a_batch_without_readable_samples_is_passed_over():
    with Batches(Stamped(6, broken={2, 3}), batch_size=2, shuffle=False, skip_unreadable=True) as batches:
        assert [indices(batch) for batch in islice(batches, 3)] == [[0, 1], [4, 5], [0, 1]]
        assert batches.state == (1, 1)


def test_an_epoch_without_readable_samples_is_an_error():
    with (
        Batches(Stamped(4, broken=range(4)), batch_size=2, skip_unreadable=True) as batches,
        pytest.raises(DatasetError, match=r"4 unreadable ones, first: .*rubbish"),
    ):
        next(batches)


def test_an_unreadable_sample_is_an_error_and_stays_one():
    with Batches(Stamped(6, broken={4}), batch_size=3, shuffle=False) as batches:
        next(batches)
        for _ in range(2):
            with pytest.raises(DatasetError, match="rubbish"):
                next(batches)
        assert batches.state == (0, 1)


@pytest.mark.parametrize(("options", "images"), [({}, "at least 10"), ({"world_size": 2}, "at least 20")])
def test_too_few_images(options, images):
    with pytest.raises(DatasetError, match=f"{images} images.*got 9"):
        Batches(Stamped(9), batch_size=10, **options)


def test_no_images():
    with pytest.raises(DatasetError, match="at least 1 images"):
        Batches(Stamped(0), batch_size=1, drop_last=False)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("batch_size", 0),
        ("seed", -1),
        ("world_size", 0),
        ("rank", -1),
        ("rank", 1),
        ("workers", 0),
        ("prefetch", 0),
        ("start", (-1, 0)),
        ("start", (0, 4)),
        ("stop", (0, -1)),
    ],
)
def test_wrong_options(option, value):
    with pytest.raises(OptionError, match=f"option '{option}'"):
        Batches(Stamped(9), **{"batch_size": 3, option: value})


def test_closing_early_leaves_no_thread():
    before = threading.active_count()
    batches = Batches(Stamped(100, slow=True), batch_size=2, workers=3)
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def _wait(condition):
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.001)


def test_the_first_images_are_of_all_places_of_a_folder_and_a_seed_says_which():
    order = shuffled(FakeDataset(count=60), 0)
    assert sorted(order) == list(range(60))
    assert {index // 20 for index in order[:12]} == {0, 1, 2}  # a folder sorted by class has three here
    assert order == shuffled(FakeDataset(count=60), 0) != shuffled(FakeDataset(count=60), 1)
