"""One codec per check that fails it and passes all others."""

import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from precomp_sdk import BitstreamError, CodecError
from precomp_sdk.testing import CHECKS, CodecSettings, FakeCodec, check

_HEADER_BYTES = 9
_STEP_AT = 8


def rubbish(got: str) -> BitstreamError:
    return BitstreamError(where="broken", expected="a whole payload", got=got, remedy="Do not break it.")


class BadlyNamed(FakeCodec):
    name = "Not Kebab"


class WithoutSource(FakeCodec):
    source = " "


class WrongOptions(FakeCodec):
    @property
    def options(self) -> Mapping[str, object]:
        return {"level": 9 - self._level}


class UnknownOptions(FakeCodec):
    @property
    def options(self) -> Mapping[str, object]:
        return {"effort": 3}


class WithoutVersion(FakeCodec):
    version = ""


class KeepsTheHeader(FakeCodec):
    """The receiver never gets the header."""

    def __init__(self, *, level: int = 6) -> None:
        super().__init__(level=level)
        self._headers: dict[bytes, bytes] = {}

    def _encode(self, image: Tensor, quality: float) -> bytes:
        whole = super()._encode(image, quality)
        self._headers[whole[_HEADER_BYTES:]] = whole[:_HEADER_BYTES]
        return whole[_HEADER_BYTES:]

    def _decode(self, payload: bytes) -> Tensor:
        if payload not in self._headers:
            raise rubbish("a payload of nobody's")
        return super()._decode(self._headers[payload] + payload)


class NoSinglePixels(FakeCodec):
    def _encode(self, image: Tensor, quality: float) -> bytes:
        if 1 in image.shape[1:]:
            raise CodecError(where="broken", expected="two pixels", got="one", remedy="Upscale it.")
        return super()._encode(image, quality)


class WrongSize(FakeCodec):
    """Pads odd sizes and does not take the padding off."""

    def _encode(self, image: Tensor, quality: float) -> bytes:
        height, width = image.shape[1:]
        padded = torch.zeros(3, height + height % 2, width + width % 2, dtype=torch.uint8)
        padded[:, :height, :width] = image
        return super()._encode(padded, quality)


class Remembers(FakeCodec):
    """An image that comes back after another one costs other bytes."""

    def __init__(self, *, level: int = 6) -> None:
        super().__init__(level=level)
        self._past = threading.local()

    def _encode(self, image: Tensor, quality: float) -> bytes:
        seen = getattr(self._past, "seen", [])
        came_back = len(seen) == 2 and not torch.equal(image, seen[1]) and torch.equal(image, seen[0])
        self._past.seen = [*seen[-1:], image.clone()]
        return FakeCodec(level=1 if came_back else self._level)._encode(image, quality)


class ChangesItsInput(FakeCodec):
    def _encode(self, image: Tensor, quality: float) -> bytes:
        return super()._encode(image.clamp_(16, 235), quality)


class ReadsMemoryInOrder(FakeCodec):
    """Takes the samples as they lie in memory, whatever the strides say."""

    def _encode(self, image: Tensor, quality: float) -> bytes:
        lying = torch.as_strided(image, image.shape, (image.shape[1] * image.shape[2], image.shape[2], 1))
        return super()._encode(lying, quality)


class KeepsItsOutput(FakeCodec):
    """Hands out the image in its cache."""

    def __init__(self, *, level: int = 6) -> None:
        super().__init__(level=level)
        self._cache: dict[bytes, Tensor] = {}

    def _decode(self, payload: bytes) -> Tensor:
        if payload not in self._cache:
            self._cache[payload] = super()._decode(payload)
        return self._cache[payload]


class OneScratch(FakeCodec):
    """All threads share one place for the image."""

    def _encode(self, image: Tensor, quality: float) -> bytes:
        self._image = image
        time.sleep(0.002)
        return super()._encode(self._image, quality)


STEPS = {round(2 ** (7 * FakeCodec.quality_scale.strength(quality))) for quality in range(1, 101)}


def looks_foreign(payload: bytes) -> bool:
    return sum(one != other for one, other in zip(payload[:4], b"FAKE", strict=False)) > 1


class ForeignErrorOnRubbish(FakeCodec):
    def _decode(self, payload: bytes) -> Tensor:
        if len(payload) > _HEADER_BYTES and looks_foreign(payload):
            raise ValueError("not mine")
        return super()._decode(payload)


class DecodesRubbish(FakeCodec):
    def _decode(self, payload: bytes) -> Tensor:
        if len(payload) > _HEADER_BYTES and looks_foreign(payload):
            return torch.zeros(3, 8, 8, dtype=torch.uint8)
        return super()._decode(payload)


class HangsOnRubbish(FakeCodec):
    def _decode(self, payload: bytes) -> Tensor:
        if len(payload) > _HEADER_BYTES and looks_foreign(payload):
            time.sleep(30.0)
        return super()._decode(payload)


class DecodesWhatIsThere(FakeCodec):
    """Fills up what was cut off with zeros."""

    def _decode(self, payload: bytes) -> Tensor:
        try:
            return super()._decode(payload)
        except BitstreamError:
            if len(payload) > _HEADER_BYTES and payload[:4] == b"FAKE" and payload[_HEADER_BYTES:][:1] == b"\x78":
                return torch.zeros(3, 8, 8, dtype=torch.uint8)
            raise


class ForeignErrorOnOddSteps(FakeCodec):
    def _decode(self, payload: bytes) -> Tensor:
        if payload[:4] == b"FAKE" and len(payload) > _STEP_AT and payload[_STEP_AT] not in STEPS:
            raise ZeroDivisionError("step")
        return super()._decode(payload)


class WrongShapeOnOddSteps(FakeCodec):
    def _decode(self, payload: bytes) -> Tensor:
        if payload[:4] == b"FAKE" and len(payload) > _STEP_AT and payload[_STEP_AT] not in STEPS:
            return torch.zeros(3, 0, 4, dtype=torch.uint8)
        return super()._decode(payload)


class Padded(FakeCodec):
    """Every payload has a length that is chosen freely; the last four bytes tell where the inner one ends."""

    def _length_bytes(self, quality: float) -> int:
        return 40_000

    def _inner_quality(self, quality: float) -> float:
        return quality

    def _encode(self, image: Tensor, quality: float) -> bytes:
        whole = super()._encode(image, self._inner_quality(quality))
        length = self._length_bytes(quality)
        return whole + bytes(length - len(whole) - 8) + length.to_bytes(4) + len(whole).to_bytes(4)

    def _decode(self, payload: bytes) -> Tensor:
        if len(payload) < 8 or len(payload) != int.from_bytes(payload[-8:-4]):
            raise rubbish("another length")
        return super()._decode(payload[: int.from_bytes(payload[-4:])])


class CostsTheSame(Padded):
    pass


class LosesNothing(Padded):
    def _length_bytes(self, quality: float) -> int:
        return 40_000 + 100 * round(quality)

    def _inner_quality(self, quality: float) -> float:
        return 100.0


class WrapsAround(FakeCodec):
    """The brightest level becomes black."""

    def _decode(self, payload: bytes) -> Tensor:
        image = super()._decode(payload)
        return torch.where((image == 255).all(dim=0).all(), torch.zeros_like(image), image)


class RefusesFlatImages(FakeCodec):
    def _encode(self, image: Tensor, quality: float) -> bytes:
        if len(image.unique()) == 1:
            raise CodecError(where="broken", expected="contrast", got="none", remedy="Add noise.")
        return super()._encode(image, quality)


class StopsBeforeItsEnd(FakeCodec):
    def _encode(self, image: Tensor, quality: float) -> bytes:
        if quality == self.quality_scale.maximum:
            raise CodecError(where="broken", expected="99", got="100", remedy="Take less.")
        return super()._encode(image, quality)


class ClampsQuality(FakeCodec):
    def encode(self, image: Tensor, quality: float) -> bytes:  # type: ignore[misc]  # that is what is broken
        scale = self.quality_scale
        whole = round(quality) if quality == quality else scale.minimum
        return super().encode(image, min(max(whole, scale.minimum), scale.maximum))


class TakesAnything(FakeCodec):
    def encode(self, image: Tensor, quality: float) -> bytes:  # type: ignore[misc]  # that is what is broken
        return super().encode(image.to(torch.uint8), quality)


BROKEN: list[tuple[str, type[Any]]] = [
    ("C1", BadlyNamed),
    ("C1", WithoutSource),
    ("C2", WrongOptions),
    ("C2", UnknownOptions),
    ("C2", WithoutVersion),
    ("C3", KeepsTheHeader),
    ("C4", NoSinglePixels),
    ("C4", WrongSize),
    ("C5", Remembers),
    ("C6", ChangesItsInput),
    ("C6", ReadsMemoryInOrder),
    ("C7", KeepsItsOutput),
    ("C8", OneScratch),
    ("C9", ForeignErrorOnRubbish),
    ("C9", DecodesRubbish),
    ("C9", HangsOnRubbish),
    ("C10", DecodesWhatIsThere),
    ("C11", ForeignErrorOnOddSteps),
    ("C11", WrongShapeOnOddSteps),
    ("C12", CostsTheSame),
    ("C13", LosesNothing),
    ("C14", WrapsAround),
    ("C14", RefusesFlatImages),
    ("C15", StopsBeforeItsEnd),
    ("C15", ClampsQuality),
    ("C16", TakesAnything),
]


@pytest.mark.parametrize(("number", "codec"), BROKEN, ids=[f"{number}-{item.__name__}" for number, item in BROKEN])
def test_each_check_catches_its_own(number: str, codec: type[FakeCodec]) -> None:
    limit_s = 2.0 if codec is HangsOnRubbish else 60.0
    report = check(codec, CodecSettings(decode_limit_s=limit_s), on_fail="report")

    assert [finding.check.number for finding in report.failures] == [number], report.summary()


def test_every_check_is_failed_once() -> None:
    assert {number for number, _ in BROKEN} == {check.number for check in CHECKS["codec"]}
