import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

from precomp_jpeg import JPEGCodec
from precomp_sdk import (
    BitstreamError,
    CheckpointError,
    Codec,
    CodecError,
    Event,
    Identity,
    ImageError,
    Notice,
    QualityError,
    Registry,
    UnknownNameError,
    to_float,
    to_uint8,
    upscale,
)
from precomp_sdk.deploy import Compressor
from precomp_sdk.run import Source, load_compressor
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import WEIGHTS_FILE, Trainer, TrainSettings, read_module, save_module

IMAGE = FakeDataset(size=(13, 21))[3].image


class OtherCodec(FakeCodec):
    name = "other"


class NewerCodec(FakeCodec):
    @property
    def version(self) -> str:
        return "zlib 99"


@pytest.fixture
def sender() -> Compressor:
    return Compressor(FakeCodec(level=9), FakePreprocessor(gain=0.8), ladder=(5, 15, 30), facts={"task": "fake"})


@pytest.fixture
def file(sender: Compressor, tmp_path: Path) -> Path:
    sender.save(tmp_path / "sender.safetensors")
    return tmp_path / "sender.safetensors"


def test_a_payload_is_the_codecs_own_of_the_processed_image(sender: Compressor) -> None:
    before = IMAGE.clone()
    strength = FakeCodec.quality_scale.strength(15)
    processed = to_uint8(FakePreprocessor(gain=0.8)(to_float(IMAGE)[None], strength)[0])
    payload = sender.compress(IMAGE, 15)
    assert payload == FakeCodec(level=9).encode(processed, 15)
    assert len(payload) < len(FakeCodec(level=9).encode(IMAGE, 15))
    assert torch.equal(sender.decompress(payload), FakeCodec().decode(payload))
    assert torch.equal(IMAGE, before)


def test_a_lower_resolution_is_sent_small_and_upscaled_on_request() -> None:
    class Halving(FakePreprocessor):
        def resolution(self, strength: float) -> float:
            return 0.5

    sender = Compressor(FakeCodec(), Halving(gain=0.8))
    payload = sender.compress(IMAGE, 15)
    assert sender.preprocess(IMAGE, 15).shape == (3, 6, 10)  # 13 x 21, halved; 6.5 rounds to the even 6
    assert sender.decompress(payload).shape == (3, 6, 10)
    small = sender.decompress(payload)
    whole = sender.decompress(payload, (13, 21))
    assert whole.shape == IMAGE.shape
    assert torch.equal(whole, to_uint8(upscale(to_float(small)[None], (13, 21)))[0])


def test_it_is_frozen_and_in_evaluation_mode() -> None:
    network = FakePreprocessor()
    Compressor(FakeCodec(), network)
    assert not network.training
    assert not any(item.requires_grad for item in network.parameters())


def test_the_ladder_is_the_codecs_unless_given() -> None:
    assert Compressor(FakeCodec(), FakePreprocessor()).ladder == FakeCodec.quality_scale.ladder
    with pytest.raises(QualityError, match="from 1 to 100"):
        Compressor(FakeCodec(), FakePreprocessor(), ladder=(5, 101))


def test_threads_get_the_same_payloads(sender: Compressor) -> None:
    images = [FakeDataset(size=(17, 9))[index].image for index in range(8)]
    alone = [sender.compress(image, 15) for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda image: sender.compress(image, 15), images)) == alone


@pytest.mark.parametrize("quality", [1, 4, 31, 100])
def test_a_quality_it_was_not_trained_for_is_refused(sender: Compressor, quality: float) -> None:
    with pytest.raises(QualityError, match="from 5 to 30; got"):
        sender.compress(IMAGE, quality)


def test_bad_images_and_payloads_are_refused(sender: Compressor) -> None:
    with pytest.raises(ImageError):
        sender.compress(to_float(IMAGE) * 2, 15)
    with pytest.raises(BitstreamError):
        sender.decompress(sender.compress(IMAGE, 15)[:-1])


def test_one_file_holds_everything(sender: Compressor, file: Path, doubles: Registry) -> None:
    events: list[Event] = []
    loaded = Compressor.load(file, doubles, observer=events.append)
    assert loaded.compress(IMAGE, 15) == sender.compress(IMAGE, 15)
    assert loaded.ladder == (5, 15, 30)
    assert loaded.codec.options == {"level": 9}
    assert loaded.facts["task"] == "fake"
    assert events == []
    assert read_module(file).facts["codec_version"] == FakeCodec().version


def test_objects_need_no_registry(sender: Compressor, file: Path) -> None:
    loaded = Compressor.load(file, codec=FakeCodec(level=9), preprocessor=FakePreprocessor(), device="cpu")
    assert loaded.compress(IMAGE, 5) == sender.compress(IMAGE, 5)


@pytest.mark.parametrize(
    ("codec", "got"),
    [(OtherCodec(level=9), "got 'other' with options {'level': 9}"), (FakeCodec(level=1), "with options {'level': 1}")],
)
def test_another_codec_or_other_options_are_refused(file: Path, codec: Codec, got: str) -> None:
    with pytest.raises(CheckpointError, match=r"'fake' with options \{'level': 9\}") as caught:
        Compressor.load(file, codec=codec, preprocessor=FakePreprocessor())
    assert got in str(caught.value)


def test_another_version_is_told(file: Path) -> None:
    events: list[Event] = []
    loaded = Compressor.load(file, codec=NewerCodec(level=9), preprocessor=FakePreprocessor(), observer=events.append)
    (notice,) = events
    assert isinstance(notice, Notice)
    assert f"trained with {FakeCodec().version}; here is zlib 99" in notice.message
    assert loaded.facts["codec_version_in_training"] == FakeCodec().version


def test_a_name_nobody_offers(file: Path) -> None:
    with pytest.raises(UnknownNameError, match="'fake'"):
        Compressor.load(file, Registry(entry_points=False))


def test_a_weights_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "task.safetensors"
    save_module(path, FakeTask(), name="fake", options={}, facts={})
    with pytest.raises(CheckpointError, match="with no codec, no codec_options, no ladder"):
        Compressor.load(path)
    path.write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match="written by precomp_sdk"):
        Compressor.load(path)


def test_a_training_runs_own_file_is_read(tmp_path: Path, doubles: Registry) -> None:
    codec, network = FakeCodec(), FakePreprocessor()
    settings = TrainSettings(steps=2, batch_size=4, ladder=(5, 30), lambdas={5: 0.5, 30: 2.0}, held_out_images=4)
    trainer = Trainer(codec=codec, proxy=FakeProxy(codec), preprocessor=network, task=FakeTask(), settings=settings)
    trainer.run(FakeDataset(), folder=tmp_path)
    loaded = Compressor.load(tmp_path / WEIGHTS_FILE, doubles)
    assert loaded.ladder == (5, 30)
    assert loaded.compress(IMAGE, 5) == Compressor(codec, network).compress(IMAGE, 5)
    assert Compressor.load(tmp_path, doubles).compress(IMAGE, 5) == loaded.compress(IMAGE, 5)  # or its folder
    assert json.dumps(loaded.facts)


class LimitedCodec(FakeCodec):
    """With an option that changes no bit."""

    limits = frozenset({"max_pixels"})

    def __init__(self, *, level: int = 6, max_pixels: int = 1000) -> None:
        super().__init__(level=level)
        self._max_pixels = max_pixels

    @property
    def options(self) -> dict[str, object]:
        return {**super().options, "max_pixels": self._max_pixels}


def test_a_codecs_limits_are_not_in_the_file_and_may_be_the_users(tmp_path: Path) -> None:
    path = tmp_path / "sender.safetensors"
    Compressor(LimitedCodec(level=9), FakePreprocessor(), ladder=(5, 30)).save(path)
    assert read_module(path).facts["codec_options"] == {"level": 9}
    Compressor.load(path, codec=LimitedCodec(level=9, max_pixels=5), preprocessor=FakePreprocessor())
    with pytest.raises(CheckpointError, match="level"):
        Compressor.load(path, codec=LimitedCodec(level=8), preprocessor=FakePreprocessor())


def test_the_limit_of_the_codec_is_the_users_to_raise(tmp_path: Path) -> None:
    path = tmp_path / "sender.safetensors"
    Compressor(JPEGCodec(), Identity()).save(path)
    assert Compressor.load(path).codec.options["max_pixels"] == JPEGCodec().max_pixels
    load = partial(load_compressor, path, Registry(), max_pixels=123)
    for made in (Compressor.load(path, max_pixels=123), load()):
        assert made.codec.options["max_pixels"] == 123
        with pytest.raises(CodecError, match="123 pixels"):
            made.compress(torch.zeros(3, 16, 16, dtype=torch.uint8), 20)
    worker = pickle.loads(pickle.dumps(Source(load)))
    assert worker().codec.options["max_pixels"] == 123
