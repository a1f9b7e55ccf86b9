import numpy as np
import pytest
import torch

from precomp_sdk import CalibrationError, DatasetError, Event, Notice, OptionError, Transcoder
from precomp_sdk.testing import FakeCodec, FakeDataset, FakeTask
from precomp_sdk.training import calibrate, slopes
from precomp_sdk.training.calibration import measure_anchor


def test_slope_of_a_known_curve() -> None:
    losses = np.linspace(3.0, 0.5, 30)
    rates = 0.2 + 1.0 / losses  # d rate / d loss = -1 / loss^2
    np.testing.assert_allclose(slopes(rates, losses)[1:-1], 1.0 / losses[1:-1] ** 2, rtol=0.02)


def test_the_anchors_rate_is_per_pixel_of_images_that_are_not_square() -> None:
    codec, dataset = FakeCodec(), FakeDataset(count=3, sizes=((16, 40), (24, 9)))
    samples = [dataset[index] for index in range(len(dataset))]
    with Transcoder(codec) as transcoder:
        bpps, _, _ = measure_anchor(transcoder, FakeTask().eval(), samples, (5, 30), targets="pseudo-labels")
    pixels = sum(sample.image.shape[1] * sample.image.shape[2] for sample in samples)
    for bpp, quality in zip(bpps, (5, 30), strict=True):
        bits = sum(codec.transcode(sample.image, quality).bits for sample in samples)
        assert bpp == pytest.approx(bits / pixels)


def test_slopes_do_not_depend_on_the_order() -> None:
    rates, losses = np.array([1.0, 2.0, 4.0, 7.0]), np.array([4.0, 2.0, 1.5, 1.4])
    shuffled = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(slopes(rates[shuffled], losses[shuffled]), slopes(rates, losses)[shuffled])


def test_a_bump_in_the_curve_gives_positive_slopes() -> None:
    trade_offs = slopes(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 1.0, 1.2, 0.5]))
    assert (trade_offs > 0).all()
    assert np.isfinite(trade_offs).all()


def test_a_loss_that_never_falls_has_no_slope() -> None:
    with pytest.raises(CalibrationError, match=r"falls as the rate grows.*Give lambda as a table"):
        slopes(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0]))


def test_calibrate_measures_the_real_codec() -> None:
    codec, task, dataset = FakeCodec(), FakeTask().eval(), FakeDataset(count=10)
    with Transcoder(codec) as transcoder:
        points = calibrate(transcoder, task, dataset, (5, 30), targets="dataset", features=True, batch_size=4)
    assert [point.quality for point in points] == [5.0, 30.0]
    bits = sum(8 * len(codec.encode(dataset[index].image, 30)) for index in range(10))
    assert points[1].bpp == pytest.approx(bits / (10 * 24 * 24))
    decoded = torch.stack([codec.transcode(dataset[index].image, 30).image for index in range(10)]) / 255.0
    losses = task.losses(decoded, [dataset[index].target for index in range(10)])  # type: ignore[misc]
    assert points[1].task_loss == pytest.approx(float(losses.mean().detach()), rel=1e-5)
    assert points[0].feature_loss > points[1].feature_loss > 0
    assert points[0].clean_loss == 0.0  # not asked for
    expected = (points[1].bpp - points[0].bpp) / (points[0].task_loss - points[1].task_loss)
    assert points[0].trade_off == pytest.approx(expected)


def test_the_clean_loss_is_that_of_the_images_themselves() -> None:
    task, dataset = FakeTask().eval(), FakeDataset(count=10)
    with Transcoder(FakeCodec()) as transcoder:
        points = calibrate(transcoder, task, dataset, (5, 30), targets="dataset", clean=True, batch_size=4)
    images = torch.stack([dataset[index].image for index in range(10)]).float() / 255.0
    losses = task.losses(images, [dataset[index].target for index in range(10)])  # type: ignore[misc]
    assert [point.clean_loss for point in points] == pytest.approx([float(losses.mean().detach())] * 2, rel=1e-5)
    assert points[0].clean_loss < points[1].task_loss


def test_images_of_unequal_sizes() -> None:
    dataset = FakeDataset(count=6, sizes=((24, 24), (16, 40)))
    with Transcoder(FakeCodec()) as transcoder:
        points = calibrate(transcoder, FakeTask().eval(), dataset, (5, 50))
    assert points[0].bpp < points[1].bpp


def test_a_table_replaces_the_slopes_and_must_be_complete() -> None:
    with Transcoder(FakeCodec()) as transcoder:
        table = {5: 0.5, 30: 2.0}
        points = calibrate(
            transcoder, FakeTask().eval(), FakeDataset(count=4), (5, 30), lambdas=table, lambda_scale=3.0
        )
        assert [point.trade_off for point in points] == pytest.approx([1.5, 6.0])
        with pytest.raises(OptionError, match=r"none for 50"):
            calibrate(transcoder, FakeTask().eval(), FakeDataset(count=4), (5, 50), lambdas=table)


def test_unlabelled_images_need_the_tasks_pseudo_labels() -> None:
    with Transcoder(FakeCodec()) as transcoder:
        unlabelled = FakeDataset(count=4, labelled=False)
        with pytest.raises(OptionError, match='targets="pseudo-labels"'):
            calibrate(transcoder, FakeTask().eval(), unlabelled, (5, 50), targets="dataset")
        assert len(calibrate(transcoder, FakeTask().eval(), unlabelled, (5, 50), targets="pseudo-labels")) == 2


@pytest.mark.parametrize(
    ("dataset", "got"),
    [(FakeDataset(count=2, unreadable=(0, 1)), "2 unreadable ones, first: .*fake"), (FakeDataset(count=0), "got none")],
)
def test_not_one_readable_image(dataset: FakeDataset, got: str) -> None:
    with Transcoder(FakeCodec()) as transcoder, pytest.raises(DatasetError, match=f"calibration images.*{got}"):
        calibrate(transcoder, FakeTask().eval(), dataset, (5, 30), skip_unreadable=True)


@pytest.mark.parametrize(
    ("bpps", "losses", "expected"),
    [
        ([1.0, 1.0, 2.0], [3.0, 2.0, 1.0], [1 / 1.5, 1 / 1.5, 1 / 1.5]),  # the two are one point, at 2.5
        ([1.0, 2.0, 2.0], [3.0, 2.0, 1.0], [1 / 1.5] * 3),
        ([2.0, 1.0, 2.0 + 1e-9, 1.0], [2.0, 3.0, 1.0, 3.0], [1 / 1.5] * 4),  # in any order, and all but equal
        ([1.0, 1.0, 1.0, 3.0], [4.0, 1.0, 1.0, 1.0], [2.0] * 4),
    ],
)
def test_steps_that_cost_no_bit_have_no_price(bpps: list[float], losses: list[float], expected: list[float]) -> None:
    assert slopes(np.array(bpps), np.array(losses)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(20))
def test_lambda_is_finite_and_above_zero_whatever_the_curve(seed: int) -> None:
    """Curves with equal rates, equal losses and bumps."""
    generator = np.random.default_rng(seed)
    bpps = generator.integers(1, 5, 8) / 4.0
    losses = 5.0 - bpps + generator.integers(-2, 3, 8) / 4.0
    try:
        found = slopes(bpps, losses)
    except CalibrationError:
        return
    assert np.isfinite(found).all()
    assert (found > 0).all()
    for rate in set(bpps):
        assert len(set(found[bpps == rate].round(12))) == 1


@pytest.mark.parametrize(
    ("bpps", "losses"),
    [([1.0, 1.0], [2.0, 1.0]), ([1.0], [1.0]), ([], []), ([1.0, np.nan], [2.0, 1.0]), ([1.0, 2.0], [np.inf, 1.0])],
)
def test_without_two_rates_or_with_endless_values_there_is_no_slope(bpps: list[float], losses: list[float]) -> None:
    with pytest.raises(CalibrationError, match="Give lambda as a table"):
        slopes(np.array(bpps, dtype=float), np.array(losses, dtype=float))


def test_images_left_out_of_the_calibration_are_named() -> None:
    events: list[Event] = []
    with Transcoder(FakeCodec()) as transcoder:
        dataset = FakeDataset(count=8, unreadable=(2, 5))
        calibrate(transcoder, FakeTask().eval(), dataset, (5, 50), skip_unreadable=True, observer=events.append)
        (notice,) = events
        assert isinstance(notice, Notice)
        assert notice.message.startswith("for calibration, 2 images were left out, unreadable: 2, 5 (")
        calibrate(transcoder, FakeTask().eval(), FakeDataset(count=8), (5, 50), observer=events.append)
    assert len(events) == 1


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_a_table_of_lambdas_holds_finite_ones_above_0(value: float) -> None:
    with (
        Transcoder(FakeCodec()) as transcoder,
        pytest.raises(OptionError, match=r"a finite lambda above 0.*none for 30"),
    ):
        calibrate(transcoder, FakeTask(), FakeDataset(count=4), (5, 30), lambdas={5: 1.0, 30: value}, targets="dataset")
