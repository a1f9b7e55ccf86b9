import pytest
import torch

from precomp_sdk import Codec, NonFiniteError, NotFittedError, OptionError, ProxyCodec, ProxyOutput
from precomp_sdk.testing import FakeCodec, FakeDataset, FakeProxy
from precomp_sdk.training import fit_proxy, fitting_loss


class Unfitted(FakeProxy):
    needs_fitting = True


def test_fitting_brings_the_bits_closer_and_marks_the_proxy() -> None:
    proxy = Unfitted(FakeCodec())
    images = torch.rand(2, 3, 24, 24)
    with pytest.raises(NotFittedError, match="fit_proxy"):
        proxy(images, 30)
    with torch.no_grad():
        proxy.log_scale.fill_(1.5)
    result = fit_proxy(proxy, FakeDataset(count=8), steps=60, batch_size=4, learning_rate=0.1)
    assert result.bits_error < 0.3  # it began near 1.5
    assert proxy(images, 30).bits.shape == (2,)
    assert not proxy.log_scale.requires_grad
    assert not proxy.training


def test_unlabelled_images_of_any_size_do() -> None:
    proxy = FakeProxy(FakeCodec())
    dataset = FakeDataset(count=6, labelled=False, sizes=((8, 8), (9, 13)), unreadable=(1,))
    result = fit_proxy(proxy, dataset, steps=3, batch_size=3, skip_unreadable=True)
    assert result.psnr_db > 60  # the double decodes exactly what the codec does


def test_crops_tell_what_a_file_costs_from_what_its_pixels_cost() -> None:
    sizes: set[tuple[int, int]] = set()

    class Watched(FakeProxy):
        def _predict(self, images: torch.Tensor, qualities: torch.Tensor) -> ProxyOutput:
            sizes.add((images.shape[-2], images.shape[-1]))
            return super()._predict(images, qualities)

    dataset = FakeDataset(count=6, sizes=((24, 24), (9, 30)))
    fit_proxy(Watched(FakeCodec()), dataset, steps=12, batch_size=3, crops=(8, 16))
    assert sizes == {(8, 8), (16, 16), (9, 16)}  # no side grows


@pytest.mark.parametrize("crops", [(), (8, 0)])
def test_a_crop_without_pixels_is_refused(crops: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match=r"crops.*sides in pixels"):
        fit_proxy(FakeProxy(FakeCodec()), FakeDataset(), crops=crops)


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
        fit_proxy(Exploding(FakeCodec()), FakeDataset(), steps=5)


def test_the_loss_weighs_image_and_bits() -> None:
    images, bits = torch.rand(2, 3, 4, 4), torch.tensor([100.0, 200.0])
    best = fitting_loss(ProxyOutput(images, bits), images, bits)
    assert fitting_loss(ProxyOutput(images, bits * 1.1), images, bits) > best
    assert fitting_loss(ProxyOutput(images + 0.1, bits), images, bits) > best
