import threading
from concurrent.futures import CancelledError

import pytest
import torch
from torch import Tensor

from precomp_sdk import BitstreamError, ContractError, ImageError, QualityError, Transcoder
from precomp_sdk.testing import FakeCodec


class Gated(FakeCodec):
    """Encodes images whose first sample is 0 at once, and the others when ``gate`` opens."""

    name = "gated"

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.encoded = 0

    def _encode(self, image: Tensor, quality: float) -> bytes:
        if int(image[0, 0, 0]):
            self.waiting.release()
            assert self.gate.wait(30.0)
        self.encoded += 1
        return super()._encode(image, quality)


class Failing(FakeCodec):
    name = "failing"

    def _decode(self, payload: bytes) -> Tensor:
        raise BitstreamError(where="failing", expected="luck", got="none", remedy="Try again.")


def image(value: int, height: int = 4, width: int = 6) -> Tensor:
    return torch.full((3, height, width), value, dtype=torch.uint8)


def test_images_of_any_sizes_come_back_in_order_each_with_its_quality() -> None:
    codec = FakeCodec()
    images = [torch.randint(0, 256, (3, size, 2 * size), dtype=torch.uint8) for size in (1, 9, 4)]

    with Transcoder(codec, workers=3) as transcoder:
        done = transcoder.transcode(images, [100, 5, 30])

    for item, image, quality in zip(done, images, (100, 5, 30), strict=True):
        alone = codec.transcode(image, quality)
        assert torch.equal(item.image, alone.image)
        assert item.bits == alone.bits


def test_the_codec_works_in_several_threads_while_the_caller_goes_on() -> None:
    codec = Gated()
    with Transcoder(codec, workers=2) as transcoder:
        pending = transcoder.submit([image(4), image(2), image(0)], [100, 100, 100])
        for _ in range(2):  # both threads are at work, and the caller is here
            assert codec.waiting.acquire(timeout=30.0)
        assert codec.encoded == 0
        codec.gate.set()
        done = pending.result()

    assert [int(item.image[0, 0, 0]) for item in done] == [4, 2, 0]


def test_float_batches_are_rounded_and_qualities_may_be_a_tensor() -> None:
    batch = torch.rand(2, 3, 4, 6)
    with Transcoder(FakeCodec()) as transcoder:
        images, bits = transcoder.submit(batch, torch.tensor([100.0, 100.0])).tensors(batch)

    assert torch.allclose(images, (batch * 255).round() / 255)
    assert images.dtype == torch.float32
    assert bits.shape == (2,)
    assert bool((bits > 0).all())


def test_decoded_tensors_take_the_type_of_another() -> None:
    with Transcoder(FakeCodec()) as transcoder:
        images, bits = transcoder.submit([image(4)], [50]).tensors(torch.zeros(1, dtype=torch.float64))

    assert images.dtype == torch.float64
    assert bits.dtype == torch.float32


@pytest.mark.parametrize("qualities", [[50], [50, 50, 50], torch.tensor([50.0])])
def test_there_is_one_quality_per_image(qualities: list[float] | Tensor) -> None:
    with Transcoder(FakeCodec()) as transcoder, pytest.raises(ContractError, match="one quality for each of 2 images"):
        transcoder.submit([image(1), image(2)], qualities)


def test_the_first_images_error_passes() -> None:
    with Transcoder(FakeCodec()) as transcoder, pytest.raises(QualityError):
        transcoder.transcode([image(1), image(2)], [50, 500])
    with Transcoder(FakeCodec()) as transcoder, pytest.raises(ImageError):
        transcoder.transcode([image(1).float()], [50])
    with Transcoder(Failing()) as transcoder, pytest.raises(BitstreamError, match="failing"):
        transcoder.transcode([image(1)], [50])


def test_a_closed_transcoder_takes_no_more_and_drops_what_waits() -> None:
    codec = Gated()
    transcoder = Transcoder(codec, workers=1)
    pending = transcoder.submit([image(1)] + [image(0)] * 50, [100] * 51)
    assert codec.waiting.acquire(timeout=30.0)

    threading.Timer(0.05, codec.gate.set).start()  # close() waits for what has begun
    transcoder.close()

    assert codec.encoded == 1
    with pytest.raises(CancelledError):
        pending.result()
    with pytest.raises(RuntimeError):
        transcoder.submit([image(1)], [50])
