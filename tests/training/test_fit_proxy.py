import pytest
import torch

from precomp_sdk import (
    Codec,
    DatasetError,
    Event,
    NonFiniteError,
    NotFittedError,
    Notice,
    OptionError,
    ProxyCodec,
    ProxyOutput,
    StepDone,
    TaskDataset,
    to_float,
)
from precomp_sdk.testing import FakeCodec, FakeDataset, FakeProxy
from precomp_sdk.training import FitProxyResult, FitProxySettings, fit_proxy, fitting_loss


class Unfitted(FakeProxy):
    needs_fitting = True


def test_fitting_brings_the_bits_closer_and_marks_the_proxy() -> None:
    proxy = Unfitted(FakeCodec())
    images = torch.rand(2, 3, 24, 24)
    with pytest.raises(NotFittedError, match="fit_proxy"):
        proxy(images, 30)
    with torch.no_grad():
        proxy.log_scale.fill_(1.5)
    result = fit_proxy(
        proxy, FakeDataset(count=8), settings=FitProxySettings(steps=60, batch_size=4, learning_rate=0.1)
    )
    assert result.bits_error < 0.3  # it began near 1.5
    assert proxy(images, 30).bits.shape == (2,)
    assert not proxy.log_scale.requires_grad
    assert not proxy.training


def test_unlabelled_images_of_any_size_do() -> None:
    proxy = FakeProxy(FakeCodec())
    dataset = FakeDataset(count=6, labelled=False, sizes=((8, 8), (9, 13)), unreadable=(1,))
    result = fit_proxy(proxy, dataset, settings=FitProxySettings(steps=3, batch_size=3, skip_unreadable=True))
    assert result.psnr_db > 60  # the double decodes exactly what the codec does


def test_crops_tell_what_a_file_costs_from_what_its_pixels_cost() -> None:
    sizes: set[tuple[int, int]] = set()

    class Watched(FakeProxy):
        def _predict(self, images: torch.Tensor, qualities: torch.Tensor) -> ProxyOutput:
            sizes.add((images.shape[-2], images.shape[-1]))
            return super()._predict(images, qualities)

    dataset = FakeDataset(count=6, sizes=((24, 24), (9, 30)))
    fit_proxy(Watched(FakeCodec()), dataset, settings=FitProxySettings(steps=12, batch_size=3, crops=(8, 16)))
    assert sizes == {(8, 8), (16, 16), (9, 16)}  # no side grows


def test_crops_are_drawn_from_every_place_of_an_image() -> None:
    seen: set[tuple[int, int]] = set()

    class Watched(FakeProxy):
        def _predict(self, images: torch.Tensor, qualities: torch.Tensor) -> ProxyOutput:
            seen.update((int(row), int(column)) for row, column in (255 * images[:, :2, 0, 0]).round().tolist())
            return super()._predict(images, qualities)

    rows, columns = torch.arange(5)[:, None].expand(5, 7), torch.arange(7).expand(5, 7)
    places = torch.stack([rows, columns, rows]).to(torch.uint8)
    dataset = TaskDataset.of([places] * 6, lambda image: (image, None))
    fit_proxy(Watched(FakeCodec()), dataset, settings=FitProxySettings(steps=40, batch_size=6, crops=(3,)))
    assert seen == {(top, left) for top in range(3) for left in range(5)}


@pytest.mark.parametrize("crops", [(), (8, 0)])
def test_a_crop_without_pixels_is_refused(crops: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match=r"option 'crops'"):
        fit_proxy(FakeProxy(FakeCodec()), FakeDataset(), settings=FitProxySettings(crops=crops))


def test_a_crop_of_one_pixel_is_a_crop() -> None:
    fit_proxy(FakeProxy(FakeCodec()), FakeDataset(), settings=FitProxySettings(steps=1, batch_size=2, crops=(1,)))


def test_nothing_to_fit_is_said() -> None:
    class Ready(ProxyCodec):
        name, source, codec_name = "ready", "a double", "fake"

        def _predict(self, images: torch.Tensor, qualities: torch.Tensor) -> ProxyOutput:
            return ProxyOutput(images, images.new_full((len(images),), 100.0))

    with pytest.raises(OptionError, match="0 parameters"):
        fit_proxy(Ready(FakeCodec()), FakeDataset())


def test_a_loss_that_explodes_stops_with_its_step() -> None:
    class Exploding(FakeProxy):
        def __init__(self, codec: Codec) -> None:
            super().__init__(codec)
            self.calls = 0

        def _predict(self, images: torch.Tensor, qualities: torch.Tensor) -> ProxyOutput:
            self.calls += 1
            output = super()._predict(images, qualities)
            return ProxyOutput(output.images, output.bits * (float("nan") if self.calls == 3 else 1.0))

    with pytest.raises(NonFiniteError, match="step 3"):
        fit_proxy(Exploding(FakeCodec()), FakeDataset(), settings=FitProxySettings(steps=5))


def test_the_loss_weighs_image_and_bits() -> None:
    images, bits = torch.rand(2, 3, 4, 4), torch.tensor([100.0, 200.0])
    best = fitting_loss(ProxyOutput(images, bits), images, bits)
    assert fitting_loss(ProxyOutput(images, bits * 1.1), images, bits) > best
    assert fitting_loss(ProxyOutput(images + 0.1, bits), images, bits) > best


class Failing(Unfitted):
    """Its third prediction fails."""

    def __init__(self, codec: Codec) -> None:
        super().__init__(codec)
        self.calls = 0
        self.norm = torch.nn.BatchNorm2d(3).eval()

    def _predict(self, images: torch.Tensor, qualities: torch.Tensor) -> ProxyOutput:
        self.calls += 1
        if self.calls == 3:
            raise self.failure
        return super()._predict(images, qualities)

    failure: BaseException


@pytest.mark.parametrize("failure", [RuntimeError("out of memory"), KeyboardInterrupt()])
@pytest.mark.parametrize("fitted", [False, True])
def test_a_fit_that_fails_leaves_the_proxy_as_it_was(failure: BaseException, fitted: bool) -> None:
    proxy = Failing(FakeCodec())
    proxy.failure = failure
    if fitted:
        proxy.mark_fitted("an older version")
    before = {key: value.clone() for key, value in proxy.state_dict().items()}
    with pytest.raises(type(failure)):
        fit_proxy(proxy, FakeDataset(), settings=FitProxySettings(steps=5, learning_rate=0.5))
    assert proxy.calls == 3  # two steps were taken
    assert bool(proxy.fitted) is fitted
    assert proxy.fitted_to == ("an older version" if fitted else "")
    assert all(torch.equal(value, before[key]) for key, value in proxy.state_dict().items())
    assert proxy.training
    assert not proxy.norm.training
    assert proxy.log_scale.requires_grad
    assert proxy.log_scale.grad is None


def test_data_that_fail_leave_the_proxy_unfitted() -> None:
    proxy = Unfitted(FakeCodec())
    with pytest.raises(DatasetError):
        fit_proxy(proxy, FakeDataset(unreadable=(1,)), settings=FitProxySettings(steps=5))
    assert not proxy.fitted


def test_what_was_left_out_is_told() -> None:
    events: list[Event] = []
    dataset = FakeDataset(count=6, unreadable=(1, 4))
    result = fit_proxy(
        FakeProxy(FakeCodec()),
        dataset,
        settings=FitProxySettings(steps=4, batch_size=3, skip_unreadable=True),
        observer=events.append,
    )
    assert {item.key for item in result.skipped} == {dataset.key(1), dataset.key(4)}
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert notices[0].startswith("2 images were left out, unreadable: ")


def test_a_poor_fit_is_told() -> None:
    events: list[Event] = []
    proxy = FakeProxy(FakeCodec())
    with torch.no_grad():
        proxy.log_scale.fill_(1.5)
    result = fit_proxy(
        proxy, FakeDataset(), settings=FitProxySettings(steps=2, learning_rate=1e-6), observer=events.append
    )
    assert result.bits_error > 0.25
    (notice,) = [event.message for event in events if isinstance(event, Notice)]
    assert result.doubt in notice
    assert "its bits are off by" in result.doubt
    assert "dB" not in result.doubt


@pytest.mark.parametrize(
    ("psnr_db", "bits_error", "told"),
    [
        (40.0, 0.05, []), (40.0, 0.73, ["off by 73%, above 25%"]), (12.0, 0.05, ["12.0 dB from the codec's, below 25"]),
        (float("nan"), float("nan"), ["nan%", "nan dB"]), (25.0, 0.25, []),
    ],
)  # fmt: skip
def test_what_is_a_poor_fit(psnr_db: float, bits_error: float, told: list[str]) -> None:
    doubt = FitProxyResult(psnr_db, bits_error, 1.0).doubt
    assert bool(doubt) is bool(told)
    assert all(text in doubt for text in told)


def test_a_batch_of_unequal_sizes_is_a_mean_over_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, gradients, told = FakeCodec(), [], []
    images = [FakeDataset(count=3, sizes=(size,))[0].image for size in ((16, 16), (16, 24))]
    images.append(images[0].flip(-1))  # two of one size, one of another

    class Images(FakeDataset):
        def __len__(self) -> int:
            return 3

        def _sample(self, index: int) -> tuple[torch.Tensor, None]:
            return images[index], None

    def clip(parameters: list[torch.Tensor], limit: float) -> None:
        gradients.append(parameters[0].grad.clone())

    def watch(event: Event) -> None:
        if isinstance(event, StepDone):
            told.append(event.scalars)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    fit_proxy(
        FakeProxy(codec),
        Images(labelled=False),
        settings=FitProxySettings(steps=1, batch_size=3, ladder=(30,)),
        observer=watch,
    )

    proxy = FakeProxy(codec)
    sums = torch.zeros(4)  # of the gradient, the loss, the PSNR and the error
    for image in images:
        done, batch = codec.transcode(image, 30), to_float(image[None])
        output, bits = proxy(batch, 30), torch.tensor([float(done.bits)])
        loss = fitting_loss(output, to_float(done.image[None]), bits)
        (gradient,) = torch.autograd.grad(loss, proxy.log_scale)
        sums += torch.stack(
            [gradient, loss.detach(), torch.tensor(100.0), (output.bits / bits).log().abs()[0].detach()]
        )
    means = (sums / 3).tolist()
    assert gradients[0].item() == pytest.approx(means[0], rel=1e-5)
    assert [told[0][name] for name in ("loss", "psnr_db", "bits_error")] == pytest.approx(means[1:], rel=1e-5)


def test_a_step_is_the_mean_over_the_images_whatever_their_sizes() -> None:
    """Three images of one size and one of another, at one quality: each weighs a quarter."""
    dataset = FakeDataset(count=4, sizes=((24, 24), (24, 24), (24, 24), (9, 40)))
    proxy, gradients = FakeProxy(FakeCodec()), []
    proxy.log_scale.register_hook(lambda gradient: gradients.append(float(gradient)))
    fit_proxy(proxy, dataset, settings=FitProxySettings(steps=1, batch_size=4, ladder=(30,), learning_rate=1e-9))
    expected = []
    for index in range(4):
        alone = FakeProxy(FakeCodec())
        done = alone.codec.transcode(dataset[index].image, 30)
        output = alone(to_float(dataset[index].image)[None], 30)
        loss = fitting_loss(output, to_float(done.image)[None], torch.tensor([float(done.bits)]))
        expected.append(float(torch.autograd.grad(loss, alone.log_scale)[0]))
    assert len(gradients) == 2  # one for each size
    assert sum(gradients) == pytest.approx(sum(expected) / 4, rel=1e-5)
    assert abs(sum(expected)) > 0.1
