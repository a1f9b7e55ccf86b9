"""One proxy and one preprocessor per check that fails it and passes all others."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from precomp_sdk import Codec, ModuleReference, Preprocessor, ProxyCodec, ProxyOutput, TaskModel
from precomp_sdk.preprocessor import Tiling, Window
from precomp_sdk.testing import CHECKS, FakeCodec, FakePreprocessor, FakeProxy, FakeTask, Outcome, check


def pad_by_reflection(images: Tensor) -> None:
    nn.functional.pad(images, (1, 1, 1, 1), mode="reflect")  # raises where a side has one pixel


def without_gradient(images: Tensor) -> Tensor:
    """Clip in place, where the caller sees it."""
    with torch.no_grad():
        return images.clamp_(0.02, 0.98)


class SourcelessProxy(FakeProxy):
    source = ""


class ProxyOfPairs(FakeProxy):
    def _predict(self, images: Tensor, qualities: Tensor) -> ProxyOutput:
        pad_by_reflection(images)
        return super()._predict(images, qualities)


class Changed(FakeProxy):
    """Changes what `FakeProxy` predicts."""

    def _images(self, images: Tensor, decoded: Tensor, qualities: Tensor) -> Tensor:
        return decoded

    def _bits(self, images: Tensor, bits: Tensor, qualities: Tensor) -> Tensor:
        return bits

    def _predict(self, images: Tensor, qualities: Tensor) -> ProxyOutput:
        output = super()._predict(images, qualities)
        return ProxyOutput(self._images(images, output.images, qualities), self._bits(images, output.bits, qualities))


class TooBright(Changed):
    def _images(self, images: Tensor, decoded: Tensor, qualities: Tensor) -> Tensor:
        return decoded * 1.02


class NaNOfFlatImages(Changed):
    def _images(self, images: Tensor, decoded: Tensor, qualities: Tensor) -> Tensor:
        flat = (images == images[..., :1, :1]).flatten(1).all(dim=1)
        return torch.where(flat[:, None, None, None], torch.nan, decoded)


class DetachedImage(Changed):
    def _images(self, images: Tensor, decoded: Tensor, qualities: Tensor) -> Tensor:
        return decoded.detach()


class InfiniteImageGradient(Changed):
    def _images(self, images: Tensor, decoded: Tensor, qualities: Tensor) -> Tensor:
        return decoded + 0.0 * (images - images.detach()).abs().sqrt()


class DetachedRate(FakeProxy):
    def _predict(self, images: Tensor, qualities: Tensor) -> ProxyOutput:
        with_gradient = super()._predict(images, qualities)
        return ProxyOutput(with_gradient.images, super()._predict(images.detach(), qualities).bits)


class NegativeBits(Changed):
    def _bits(self, images: Tensor, bits: Tensor, qualities: Tensor) -> Tensor:
        return bits - 1000.0


class RateUpsideDown(Changed):
    def _bits(self, images: Tensor, bits: Tensor, qualities: Tensor) -> Tensor:
        return bits * (101.0 - qualities) ** 2


class FarFromTheCodec(Changed):
    def _images(self, images: Tensor, decoded: Tensor, qualities: Tensor) -> Tensor:
        return 0.5 * decoded


class FirstQualityForAll(FakeProxy):
    def _predict(self, images: Tensor, qualities: Tensor) -> ProxyOutput:
        return super()._predict(images, qualities[:1].expand(len(qualities)))


class StrayFactor(Changed):
    def __init__(self, codec: Codec) -> None:
        super().__init__(codec)
        self.factors = {"bits": [torch.ones(1)]}

    def _bits(self, images: Tensor, bits: Tensor, qualities: Tensor) -> Tensor:
        return bits * self.factors["bits"][0]


class SinglePrecision(Changed):
    def _images(self, images: Tensor, decoded: Tensor, qualities: Tensor) -> Tensor:
        return decoded @ torch.eye(decoded.shape[-1])


class ForgetfulProxy(Changed):
    """A number that matters is not in the state."""

    made: ClassVar[int] = 0

    def __init__(self, codec: Codec) -> None:
        super().__init__(codec)
        type(self).made += 1
        self.factor = 1.0 + 0.1 * type(self).made

    def _bits(self, images: Tensor, bits: Tensor, qualities: Tensor) -> Tensor:
        return bits * self.factor


class ForAnyCodec(FakeProxy):
    def __init__(self, codec: Codec) -> None:
        self.codec_name = codec.name  # type: ignore[misc]  # that is what is broken
        super().__init__(codec)


class NeverRefuses(FakeProxy):
    def forward(self, images: Tensor, qualities: Any) -> ProxyOutput:  # type: ignore[misc]
        self.mark_fitted()
        return super().forward(images, qualities)


class NoisyProxy(Changed):
    def _bits(self, images: Tensor, bits: Tensor, qualities: Tensor) -> Tensor:
        return bits * (1.0 + 1e-4 * torch.rand(()))


class ProxyThatClips(FakeProxy):
    def _predict(self, images: Tensor, qualities: Tensor) -> ProxyOutput:
        return super()._predict(without_gradient(images) if not images.requires_grad else images, qualities)


class ClampsQualities(FakeProxy):
    def forward(self, images: Tensor, qualities: Any) -> ProxyOutput:  # type: ignore[misc]
        scale = self.quality_scale
        values = torch.as_tensor(qualities, dtype=torch.float32).nan_to_num(scale.minimum)
        return super().forward(images, values.clamp(scale.minimum, scale.maximum))


BROKEN_PROXIES: list[tuple[str, type[ProxyCodec]]] = [
    ("P1", SourcelessProxy),
    ("P2", ProxyOfPairs),
    ("P3", TooBright),
    ("P3", NaNOfFlatImages),
    ("P4", DetachedImage),
    ("P4", InfiniteImageGradient),
    ("P5", DetachedRate),
    ("P6", NegativeBits),
    ("P7", RateUpsideDown),
    ("P8", FarFromTheCodec),
    ("P9", FirstQualityForAll),
    ("P10", StrayFactor),
    ("P10", SinglePrecision),
    ("P11", ForgetfulProxy),
    ("P12", ForAnyCodec),
    ("P13", NeverRefuses),
    ("P14", NoisyProxy),
    ("P15", ProxyThatClips),
    ("P16", ClampsQualities),
]


class Strong(FakePreprocessor):
    """`FakePreprocessor` with a larger effect and an option that shapes its weights."""

    def __init__(self, *, gains: int = 1) -> None:
        super().__init__()
        self._gains = gains
        self.gain = nn.Parameter(torch.zeros(gains))

    @property
    def options(self) -> Mapping[str, Any]:
        return {"gains": self._gains}

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        mean = images.mean(dim=(2, 3), keepdim=True)
        return images + 10.0 * self.gain.sum() * (0.2 + strengths[:, None, None, None]) * (mean - images)


class NamelessPreprocessor(Strong):
    name = ""


class BlursFromTheStart(Strong):
    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return 0.9 * super()._process(images, strengths) + 0.05


class DropsOutFromTheStart(Strong):
    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return nn.functional.dropout(super()._process(images, strengths), 0.1, self.training)


class PreprocessorOfPairs(Strong):
    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        pad_by_reflection(images)
        return super()._process(images, strengths)


class OneStrengthForAll(Strong):
    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return super()._process(images, strengths.mean().expand(len(strengths)))


class DetachedImages(Strong):
    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return super()._process(images.detach(), strengths)


class DetachedParameters(Strong):
    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return images + 0.0 * self.gain.sum()


class NaNOfFlat(Strong):
    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        spread = images.std(dim=(1, 2, 3), keepdim=True, unbiased=False)
        return super()._process(images, strengths) * (spread / spread)


class LeavesTheRange(Strong):
    def forward(self, images: Tensor, strengths: Any) -> Tensor:  # type: ignore[misc]
        processed: Tensor = super().forward(images, strengths)
        return processed + self.gain.sum()


class NoisyPreprocessor(Strong):
    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return super()._process(images, strengths) + 1e-5 * torch.rand_like(images)


class ForgetsItsOptions(Strong):
    @property
    def options(self) -> Mapping[str, Any]:
        return {}


class WithATask(Strong):
    """Constructed with a part, so that the kit cannot rebuild it from its options alone."""

    name = "with-a-task"
    requires = ("task",)

    def __init__(self, task: TaskModel, *, gains: int = 1) -> None:
        super().__init__(gains=gains)
        self._task = ModuleReference(task)


class ForgetsItsOptionsBesideAPart(WithATask):
    @property
    def options(self) -> Mapping[str, Any]:
        return {}


class OptionsThatAreNoJSON(Strong):
    @property
    def options(self) -> Mapping[str, Any]:
        return {"gains": torch.tensor(self._gains)}


class PreprocessorThatClips(Strong):
    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return super()._process(without_gradient(images) if not images.requires_grad else images, strengths)


class StrayWeight(Strong):
    def __init__(self, *, gains: int = 1) -> None:
        super().__init__(gains=gains)
        self.weight = torch.zeros(2)

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return super()._process(images, strengths + self.weight.sum())


class ClampsStrengths(Strong):
    def forward(self, images: Tensor, strengths: Any) -> Tensor:  # type: ignore[misc]
        values = torch.as_tensor(strengths).flatten().nan_to_num().clamp(0.0, 1.0)
        return super().forward(images, values[: len(images)])


class CodesNothing(Strong):
    def resolution(self, strength: float) -> float:
        return 1.0 - strength


class ForgetsItsResolution(Strong):
    resolutions = iter(range(1, 10**6))

    def __init__(self, *, gains: int = 1) -> None:
        super().__init__(gains=gains)
        self._factor = 1.0 / next(self.resolutions)

    def resolution(self, strength: float) -> float:
        return self._factor


class MixesTypes(Strong):
    """Takes what a matrix product gives for the type of the images."""

    def _process(self, images: torch.Tensor, strengths: torch.Tensor) -> torch.Tensor:
        product = images @ torch.eye(images.shape[-1]).to(images)
        share = 10.0 * self.gain.sum() * (0.2 + strengths[:, None, None, None])
        return torch.lerp(product, product.mean(dim=(2, 3), keepdim=True), share)


class AveragesItsTile(FakePreprocessor):
    """Takes the mean of the tile for that of the image."""

    @property
    def tiling(self) -> Tiling:
        return Tiling(overlap_px=0, reduced_px=16)

    def look(self, reduced: torch.Tensor) -> torch.Tensor:
        return reduced.mean(dim=(2, 3))

    def _process_tile(
        self, tiles: torch.Tensor, seen: torch.Tensor, window: Window, strengths: torch.Tensor
    ) -> torch.Tensor:
        return self._process(tiles, strengths) + self.gain * (tiles.mean(dim=(2, 3), keepdim=True) - tiles)


BROKEN_PREPROCESSORS: list[tuple[str, Callable[[], Preprocessor]]] = [
    ("N1", NamelessPreprocessor),
    ("N2", BlursFromTheStart),
    ("N2", DropsOutFromTheStart),
    ("N3", PreprocessorOfPairs),
    ("N4", OneStrengthForAll),
    ("N5", DetachedImages),
    ("N6", DetachedParameters),
    ("N7", NaNOfFlat),
    ("N7", LeavesTheRange),
    ("N8", NoisyPreprocessor),
    ("N9", lambda: ForgetsItsOptions(gains=3)),
    ("N9", lambda: OptionsThatAreNoJSON(gains=3)),
    ("N9", lambda: ForgetsItsOptionsBesideAPart(FakeTask())),
    ("N10", PreprocessorThatClips),
    ("N11", StrayWeight),
    ("N12", ClampsStrengths),
    ("N13", CodesNothing),
    ("N13", ForgetsItsResolution),
    ("N14", AveragesItsTile),
    ("N15", MixesTypes),
]


def ids(broken: Sequence[tuple[str, Any]]) -> list[str]:
    return [f"{number}-{getattr(item, '__name__', 'lambda')}" for number, item in broken]


@pytest.mark.parametrize(("number", "cls"), BROKEN_PROXIES, ids=ids(BROKEN_PROXIES))
def test_each_check_of_a_proxy_catches_its_own(number: str, cls: type[ProxyCodec]) -> None:
    report = check(lambda: cls(FakeCodec()), on_fail="report")

    assert [finding.check.number for finding in report.failures] == [number], report.summary()


@pytest.mark.parametrize(("number", "make"), BROKEN_PREPROCESSORS, ids=ids(BROKEN_PREPROCESSORS))
def test_each_check_of_a_preprocessor_catches_its_own(number: str, make: Callable[[], Preprocessor]) -> None:
    report = check(make, on_fail="report")

    assert [finding.check.number for finding in report.failures] == [number], report.summary()


def test_every_check_is_failed_once() -> None:
    assert {number for number, _ in BROKEN_PROXIES} == {check.number for check in CHECKS["proxy"]}
    assert {number for number, _ in BROKEN_PREPROCESSORS} == {item.number for item in CHECKS["preprocessor"]}


def test_what_is_not_broken_passes() -> None:
    assert check(Strong, on_fail="report").failures == ()
    assert check(lambda: Changed(FakeCodec())).failures == ()
    assert check(lambda: WithATask(FakeTask())).failures == ()


def test_what_has_parts_is_best_given_as_a_callable() -> None:
    report = check(WithATask(FakeTask()), on_fail="report")
    open_ones = {item.check.number: item.detail for item in report.findings if item.outcome is Outcome.NOT_APPLICABLE}
    assert sorted(open_ones) == ["N11", "N13", "N14", "N2", "N9"]
    assert "a callable that constructs it with its task" in open_ones["N9"]
