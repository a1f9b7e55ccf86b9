import threading

import numpy as np
import pytest
import torch
from torch import nn

from precomp_sdk import (
    Channel,
    DatasetError,
    LabelScorer,
    Mask,
    NonFiniteError,
    OptionError,
    QualityError,
    StepDone,
    TargetError,
    downscale,
    stack_images,
    to_float,
    to_uint8,
    upscale,
)
from precomp_sdk.evaluation import DOWNSCALE, Downscale, EvaluateSettings, Measurer, measure_curve
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeTask

LADDER = (10, 40, 80)
SIZES = [(24, 24), (17, 30), (1, 1), (24, 24)]


def test_every_number_is_what_one_image_at_a_time_gives():
    codec, task, preprocessor = FakeCodec(), FakeTask(), FakePreprocessor(gain=0.7)
    dataset = FakeDataset(count=11, sizes=SIZES)
    measured = measure_curve(
        codec,
        task,
        dataset,
        preprocessor=preprocessor,
        settings=EvaluateSettings(ladder=LADDER, batch_size=4),
        label="net",
    )
    assert measured.label == "net"
    assert [point.quality for point in measured.points] == list(LADDER)
    assert measured.keys == tuple(str(index) for index in range(11))
    scorer = LabelScorer()
    for point in measured.points:
        for index in range(11):
            sample = dataset[index]
            strength = codec.quality_scale.strength(point.quality)
            sent = to_uint8(preprocessor(stack_images([sample.image]), strength))[0]
            received = codec.transcode(sent, point.quality)
            decoded = to_float(received.image)[None]
            assert point.bits[index] == received.bits
            assert point.losses[index] == pytest.approx(float(task.losses(decoded, [sample.target]).detach()), abs=1e-5)
            expected = scorer.measure(task.predict(decoded)[0], sample.target)
            np.testing.assert_array_equal(point.statistics[index], expected)


def test_the_curve_is_total_bits_over_total_pixels_and_mean_scores():
    measured = measure_curve(
        FakeCodec(),
        FakeTask(),
        FakeDataset(count=6, sizes=[(8, 8), (24, 32)]),
        settings=EvaluateSettings(ladder=LADDER),
    )
    curve = measured.curve()
    assert curve.label == "anchor"
    pixels = 3 * 64 + 3 * 768
    for point, rows in zip(curve.points, measured.points, strict=True):
        assert point.bpp == pytest.approx(rows.bits.sum() / pixels)
        assert point.scores["top1"] == pytest.approx(np.mean([statistics[0] for statistics in rows.statistics]))
        assert point.task_loss == pytest.approx(rows.losses.mean())


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_batch_size_changes_nothing(batch_size):
    dataset = FakeDataset(count=7, sizes=SIZES)
    settings = EvaluateSettings(ladder=LADDER, batch_size=batch_size, workers=2)
    first = measure_curve(FakeCodec(), FakeTask(), dataset, settings=EvaluateSettings(ladder=LADDER))
    second = measure_curve(FakeCodec(), FakeTask(), dataset, settings=settings)
    for one, other in zip(first.points, second.points, strict=True):
        np.testing.assert_array_equal(one.bits, other.bits)
        np.testing.assert_allclose(one.losses, other.losses, atol=1e-5)


class _CountingDataset(FakeDataset):
    def __init__(self, **options):
        super().__init__(**options)
        self.loaded = []

    def _sample(self, index):
        self.loaded.append(index)
        return super()._sample(index)


def test_a_image_is_loaded_once_for_all_qualities():
    dataset = _CountingDataset(count=9)
    measure_curve(FakeCodec(), FakeTask(), dataset, settings=EvaluateSettings(ladder=LADDER, batch_size=4))
    assert sorted(dataset.loaded) == list(range(9))


class _Pale(FakePreprocessor):
    """Takes contrast away, the more the stronger."""

    def _process(self, images, strengths):
        return 0.5 + (images - 0.5) * (0.8 - 0.5 * strengths[:, None, None, None])


class _Watched(FakePreprocessor):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.seen = []

    def _process(self, images, strengths):
        self.seen.append((self.training, self.norm.training, torch.is_grad_enabled(), strengths.tolist()))
        return images


def test_networks_work_in_evaluation_mode_and_every_part_gets_its_mode_back():
    codec, task, preprocessor = FakeCodec(), FakeTask(), _Watched()
    preprocessor.train()
    preprocessor.norm.eval()  # frozen by its owner
    measure_curve(
        codec, task.train(), FakeDataset(count=2), preprocessor=preprocessor, settings=EvaluateSettings(ladder=(1, 100))
    )
    assert preprocessor.seen == [(False, False, False, [1.0, 1.0]), (False, False, False, [0.0, 0.0])]
    assert (task.training, preprocessor.training, preprocessor.norm.training) == (True, True, False)


def test_modes_come_back_after_an_error():
    task = FakeTask().train()
    with pytest.raises(DatasetError):
        measure_curve(FakeCodec(), task, FakeDataset(count=3, unreadable=[1]), settings=EvaluateSettings(ladder=LADDER))
    assert task.training


def test_the_clean_score_sees_no_codec():
    dataset = FakeDataset(count=12)
    task = FakeTask()
    with Measurer(FakeCodec(), task, settings=EvaluateSettings(batch_size=5)) as measurer:
        clean = measurer.clean(dataset)
    samples = [dataset[index] for index in range(12)]
    losses = task.losses(stack_images([sample.image for sample in samples]), [sample.target for sample in samples])
    assert clean.task_loss == pytest.approx(float(losses.detach().mean()), abs=1e-5)
    assert set(clean.scores) == {"top1", "top5"}


@pytest.mark.parametrize(("quality", "strength"), [(None, 0.0), (1, 1.0)])
def test_a_preprocessor_is_scored_without_a_codec_at_the_mildest_quality_or_another(quality, strength):
    dataset, task, preprocessor = FakeDataset(count=6), FakeTask(), _Pale()
    with Measurer(FakeCodec(), task, settings=EvaluateSettings(ladder=(1, 100, 50))) as measurer:
        assert measurer.mildest == 100
        found = measurer.clean(dataset, Channel(measurer.transcoder, preprocessor), quality)
    samples = [dataset[index] for index in range(6)]
    images = preprocessor(stack_images([sample.image for sample in samples]), strength)
    losses = task.losses(to_float(to_uint8(images)), [sample.target for sample in samples])
    assert found.task_loss == pytest.approx(float(losses.detach().mean()), abs=1e-5)


def test_without_a_codec_images_come_back_at_their_sources_size():
    dataset, task = FakeDataset(count=4, sizes=[(20, 30), (24, 24)]), FakeTask()
    with Measurer(FakeCodec(), task) as measurer:
        quarter = DOWNSCALE.channel(measurer.transcoder, 0.25)
        assert measurer.clean(dataset, quarter).task_loss > measurer.clean(dataset).task_loss


def test_downscaling_codes_fewer_pixels_and_counts_the_sources():
    codec, dataset = FakeCodec(), FakeDataset(count=4, sizes=[(20, 30), (1, 1)])
    with Measurer(codec, FakeTask(), settings=EvaluateSettings(ladder=(50,))) as measurer:
        channel = DOWNSCALE.channel(measurer.transcoder, 0.5)
        measured = measurer.curve(dataset, channel)
        anchor = measurer.curve(dataset)
    np.testing.assert_array_equal(measured.pixels, [600, 1, 600, 1])
    small = channel.send([dataset[0].image, dataset[1].image], [50, 50])
    assert [tuple(image.shape) for image in small] == [(3, 10, 15), (3, 1, 1)]
    assert measured.points[0].bits[0] == 8 * len(codec.encode(small[0], 50))
    assert measured.points[0].bits[0] < anchor.points[0].bits[0]
    large = channel.receive(small, [(20, 30), (1, 1)])
    assert [tuple(image.shape) for image in large] == [(3, 20, 30), (3, 1, 1)]
    difference = (large[0].float() - dataset[0].image.float()).abs().mean()
    assert difference < 20  # a blurred source, not something else
    assert dict(measured.settings) == {"factor": 0.5}


@pytest.mark.parametrize("factor", [0.0, 1.0, -0.5, float("nan")])
def test_a_factor_downscales(factor):
    with pytest.raises(OptionError, match="between 0 and 1"):
        Downscale(factor=factor)


def test_unreadable_images_are_errors_or_named():
    dataset = FakeDataset(count=6, unreadable=[0, 4])
    with pytest.raises(DatasetError, match="fake image 0"):
        measure_curve(FakeCodec(), FakeTask(), dataset, settings=EvaluateSettings(ladder=LADDER))
    measured = measure_curve(
        FakeCodec(), FakeTask(), dataset, settings=EvaluateSettings(ladder=LADDER, skip_unreadable=True, batch_size=1)
    )
    assert measured.keys == ("1", "2", "3", "5")
    assert measured.indices == (1, 2, 3, 5)
    assert [skipped.key for skipped in measured.skipped] == ["0", "4"]
    assert len(measured.points[0].bits) == len(measured.points[0].statistics) == 4


def test_nothing_to_measure_is_an_error():
    with pytest.raises(DatasetError, match="got none"):
        measure_curve(FakeCodec(), FakeTask(), FakeDataset(count=0), settings=EvaluateSettings(ladder=LADDER))
    broken = FakeDataset(count=2, unreadable=[0, 1])
    with Measurer(FakeCodec(), FakeTask(), settings=EvaluateSettings(skip_unreadable=True)) as measurer:
        with pytest.raises(DatasetError, match="none that can be read"):
            measurer.curve(broken)
        with pytest.raises(DatasetError, match="none that can be read"):
            measurer.clean(broken)


def test_targets_must_fit_the_task():
    with pytest.raises(TargetError, match=r"got no targets.*pseudo_labels=True"):
        measure_curve(FakeCodec(), FakeTask(), FakeDataset(labelled=False), settings=EvaluateSettings(ladder=LADDER))
    dataset = FakeDataset()
    dataset.target_kind = Mask.kind
    with pytest.raises(TargetError, match="'label'; got targets of kind 'mask'"):
        measure_curve(FakeCodec(), FakeTask(), dataset, settings=EvaluateSettings(ladder=LADDER))

    class Picky(FakeTask):
        def check_dataset(self, class_names):
            raise TargetError(where="picky", expected="cats", got=str(class_names), remedy="Bring cats.")

    with pytest.raises(TargetError, match="Bring cats"):
        measure_curve(FakeCodec(), Picky(), FakeDataset(), settings=EvaluateSettings(ladder=LADDER))


def test_images_without_labels_are_scored_against_the_tasks_own_answers():
    dataset = FakeDataset(count=8, labelled=False)
    with Measurer(
        FakeCodec(), FakeTask(), settings=EvaluateSettings(ladder=(100,), pseudo_labels=True, batch_size=3)
    ) as measurer:
        measurer.check(dataset)
        assert measurer.clean(dataset).scores["top1"] == 1.0
        assert measurer.curve(dataset).curve().points[0].scores["top1"] == 1.0  # quality 100 is lossless


def test_a_loss_that_is_not_finite_stops_and_names_the_image():
    task = FakeTask()
    nn.init.constant_(task.filters, float("nan"))
    with pytest.raises(NonFiniteError, match="'anchor' at quality 10, image '0'"):
        measure_curve(FakeCodec(), task, FakeDataset(count=2), settings=EvaluateSettings(ladder=LADDER))
    with Measurer(FakeCodec(), task) as measurer, pytest.raises(NonFiniteError, match="the clean images"):
        measurer.clean(FakeDataset(count=2))


def test_the_observer_hears_of_every_batch():
    events = []
    measure_curve(
        FakeCodec(),
        FakeTask(),
        FakeDataset(count=5),
        settings=EvaluateSettings(ladder=LADDER, batch_size=2),
        observer=events.append,
    )
    assert events == [StepDone("evaluate", step, 15, {}) for step in (2, 4, 6, 8, 10, 12, 13, 14, 15)]


def test_steps_count_images_that_were_left_out():
    events = []
    measure_curve(
        FakeCodec(),
        FakeTask(),
        FakeDataset(count=5, unreadable=(1, 4)),
        settings=EvaluateSettings(ladder=LADDER, batch_size=2, skip_unreadable=True, workers=1),
        observer=events.append,
    )
    steps = [event.step for event in events]
    assert steps == sorted(set(steps))
    assert steps[-1] == 15


class _ShapedTask(FakeTask):
    def __init__(self):
        super().__init__()
        self.pixels = []

    def _predict_with_losses(self, images, targets):
        self.pixels.append(images.shape[0] * images.shape[2] * images.shape[3])
        return super()._predict_with_losses(images, targets)


@pytest.mark.parametrize("most", [1, 500, 1200, 10**6])
def test_pixels_bound_the_batches_and_change_nothing(most):
    sizes = [(20, 20), (30, 40), (10, 10)]
    dataset = FakeDataset(count=9, sizes=sizes)
    first = measure_curve(FakeCodec(), FakeTask(), dataset, settings=EvaluateSettings(ladder=LADDER, batch_size=1))
    task = _ShapedTask()
    second = measure_curve(FakeCodec(), task, dataset, settings=EvaluateSettings(ladder=LADDER, max_batch_pixels=most))
    for one, other in zip(first.points, second.points, strict=True):
        np.testing.assert_array_equal(one.bits, other.bits)
        np.testing.assert_allclose(one.losses, other.losses, atol=1e-5)
    assert max(task.pixels) <= max(most, 1200)  # an image of 30 x 40 comes alone
    assert sum(task.pixels) == len(LADDER) * 3 * (400 + 1200 + 100)


def test_the_codec_has_a_image_for_every_thread_though_batches_are_small():
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(3, timeout=20)

    class Slow(FakeCodec):
        def _encode(self, image, quality):
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            together.wait()  # breaks unless three images are under way at once
            with lock:
                running -= 1
            return super()._encode(image, quality)

    measured = measure_curve(
        Slow(),
        FakeTask(),
        FakeDataset(count=3),
        settings=EvaluateSettings(ladder=LADDER, max_batch_pixels=1, workers=3),
    )
    assert len(measured) == 3
    assert most == 3


def test_the_ladder_lies_on_the_codecs_scale():
    for name in ("ladder", "anchor_ladder"):
        with pytest.raises(QualityError, match="from 1 to 100"):
            Measurer(FakeCodec(), FakeTask(), EvaluateSettings(**{name: (0,)}))
    with Measurer(FakeCodec(), FakeTask(), EvaluateSettings(ladder=(10, 10, 20))) as measurer:
        assert measurer.ladder == (10, 20)
        assert measurer.anchor_ladder == (10, 20)
    with Measurer(FakeCodec(), FakeTask(), EvaluateSettings(ladder=(10, 20), anchor_ladder=(5, 5, 30))) as measurer:
        assert measurer.anchor_ladder == (5, 30)


class Halving(FakePreprocessor):
    def resolution(self, strength):
        return 0.5


def test_a_preprocessor_is_coded_at_its_resolution_and_judged_at_full_size():
    codec, task, dataset = FakeCodec(), FakeTask(), FakeDataset(count=6, sizes=SIZES)
    preprocessor = Halving(gain=0.7)
    measured = measure_curve(
        codec, task, dataset, preprocessor=preprocessor, settings=EvaluateSettings(ladder=LADDER, batch_size=4)
    )
    for point in measured.points:
        for index in range(6):
            sample = dataset[index]
            size = tuple(sample.image.shape[1:])
            processed = preprocessor(stack_images([sample.image]), codec.quality_scale.strength(point.quality))
            received = codec.transcode(to_uint8(downscale(processed, 0.5))[0], point.quality)
            assert tuple(received.image.shape[1:]) == tuple(max(1, round(side / 2)) for side in size)
            decoded = to_float(to_uint8(upscale(to_float(received.image)[None], size)))
            assert point.bits[index] == received.bits
            assert point.losses[index] == pytest.approx(float(task.losses(decoded, [sample.target]).detach()), abs=1e-5)
    assert measured.pixels.sum() == sum(dataset[index].image[0].numel() for index in range(6))
