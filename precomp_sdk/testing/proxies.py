"""The checks of a `ProxyCodec`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from precomp_sdk.codec import Codec
from precomp_sdk.errors import BitstreamError, NotFittedError, PluginError, QualityError
from precomp_sdk.images import stack_images, to_float, to_uint8
from precomp_sdk.proxy import ANY_CODEC, ProxyCodec
from precomp_sdk.quality import QualityScale
from precomp_sdk.testing._tools import (
    copied,
    gradients,
    natural_batch,
    needs_options,
    not_applicable,
    require_close,
    require_declared,
    require_refused,
    stray_tensors,
    without_cuda,
)
from precomp_sdk.testing.checks import Check, Numbered, numbered, require
from precomp_sdk.testing.images import ODD_SIZES, extreme_images
from precomp_sdk.transcode import Transcoder
from precomp_sdk.types import ProxyOutput

__all__ = ["PROXY_CHECKS", "ProxySettings"]

_IMAGE_MEAN, _IMAGE_LARGEST = 2e-3, 0.1  # a batch may sum in another order, and a rounding may then fall elsewhere
_BITS_SHARE = 5e-3  # of the bits
_NOT_FITTED = "it is not fitted; give the kit a fitted one"


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """How a proxy is checked.

    Args:
        size: height and width of the images, but for those of P2.
        images: how many of them the ladder is measured on.
        sizes: heights and widths for P2.
        ladder: the qualities to use; None takes the codec's own.
        make: returns a fresh proxy with the same options, for P11; None calls its class with its codec alone.
    """

    size: tuple[int, int] = (40, 56)
    images: int = 3
    sizes: tuple[tuple[int, int], ...] = ODD_SIZES
    ladder: tuple[float, ...] | None = None
    make: Callable[[], ProxyCodec] | None = None


_DEFAULT = ProxySettings()

PROXY_CHECKS: list[Check] = []  #: what every proxy has to pass, in order
check: Numbered = numbered(PROXY_CHECKS)


@check("P1", "The class says its name in kebab-case, its source and its codec's name; the object holds the codec.")
def declares_itself(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    require_declared(proxy, ("codec_name", str), ("codec", Codec))


@check("P2", "Batches of any size from 1x1 give images of their shape and one number of bits per image.")
def any_size(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    ready = _ready(proxy)
    wrong = []
    for size in settings.sizes:
        try:
            ready(natural_batch(2, size), _ends(proxy, settings))  # `forward` compares the shapes
        except Exception as error:
            wrong.append(f"{size[0]}x{size[1]}: {type(error).__name__}: {error}")
    require(not wrong, f"{len(wrong)} of {len(settings.sizes)} sizes fail; the first: {(wrong or [''])[0]}")


@check("P3", "Decoded images are finite and in [0, 1], for extreme images too.")
def stays_in_range(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    ready = _ready(proxy)
    extremes = stack_images([*extreme_images(*settings.size).values()])
    for batch in (natural_batch(2, settings.size), extremes):
        for quality in _ends(proxy, settings):
            images = ready(batch, quality).images.detach()
            require(bool(torch.isfinite(images).all()), f"quality {quality:g}: expected finite samples; got others")
            low, high = float(images.min()), float(images.max())
            require(
                low >= -1e-4 and high <= 1.0 + 1e-4,
                f"quality {quality:g}: expected samples in [0, 1]; got {low:.4g} to {high:.4g}",
            )


@check("P4", "The decoded images have a finite gradient to every source image, that is not zero.")
def image_gradient(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    for quality in _ends(proxy, settings):
        images = natural_batch(2, settings.size).requires_grad_()
        output = _ready(proxy)(images, quality)
        direction = natural_batch(2, settings.size, first_seed=7) - 0.5
        gradients(f"images, quality {quality:g}", (output.images * direction).sum(), images)


@check("P5", "The bits have a finite gradient to every source image, that is not zero.")
def rate_gradient(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    for quality in _ends(proxy, settings):
        images = natural_batch(2, settings.size).requires_grad_()
        gradients(f"bits, quality {quality:g}", _ready(proxy)(images, quality).bits.sum(), images)


@check("P6", "Bits are finite and above zero for every image, for extreme images too.")
def bits_are_positive(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    ready = _ready(proxy)
    extremes = stack_images([*extreme_images(*settings.size).values()])
    for batch in (natural_batch(2, settings.size), extremes):
        for quality in _ends(proxy, settings):
            bits = ready(batch, quality).bits
            right = bool(torch.isfinite(bits).all()) and bool((bits > 0).all())
            require(right, f"quality {quality:g}: expected finite bits above 0; got {bits.tolist()}")


@check("P7", "Where the real codec's bits fall from one rung of the ladder to the next, so do the predicted ones.")
def rate_order(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    not_applicable(proxy.fitted, _NOT_FITTED)
    ladder = proxy.quality_scale.from_mild_to_strong(settings.ladder)
    batch = natural_batch(settings.images, settings.size)
    with Transcoder(proxy.codec, workers=1) as transcoder:
        real = [sum(item.bits for item in transcoder.transcode(batch, [quality] * len(batch))) for quality in ladder]
    predicted = [float(_ready(proxy)(batch, quality).bits.detach().sum()) for quality in ladder]
    pairs = [(i, j) for i in range(len(ladder)) for j in range(i + 1, len(ladder)) if real[i] > real[j]]
    wrong = [f"{ladder[i]:g} and {ladder[j]:g}" for i, j in pairs if predicted[i] <= predicted[j]]
    told = ", ".join(f"{quality:g}: {value:.6g}" for quality, value in zip(ladder, predicted, strict=True))
    require(not wrong, f"expected the codec's order; got the wrong one for {wrong}: {told}")


@check("P8", "Over the ladder, the predicted images are closer to the codec's than the source is.")
def closer_than_the_source(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    not_applicable(proxy.fitted, _NOT_FITTED)
    batch = natural_batch(settings.images, settings.size)
    own = source = 0.0
    with Transcoder(proxy.codec, workers=1) as transcoder:
        for quality in proxy.quality_scale.from_mild_to_strong(settings.ladder):
            decoded, _ = transcoder.submit(batch, [quality] * len(batch)).tensors(batch)
            own += float((_ready(proxy)(batch, quality).images.detach() - decoded).square().mean())
            source += float((to_float(to_uint8(batch)) - decoded).square().mean())
    require(own < source, f"expected a squared error below the source's, {source:.4g}; got {own:.4g}")


@check("P9", "In a batch of several qualities, each image gets what it gets alone.")
def mixed_qualities(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    ready = _ready(proxy)
    ladder = proxy.quality_scale.from_mild_to_strong(settings.ladder)
    qualities = [ladder[0], ladder[-1], ladder[len(ladder) // 2], ladder[0]]
    batch = natural_batch(len(qualities), settings.size)
    together = ready(batch, qualities)
    for index, quality in enumerate(qualities):
        _require_alike(
            f"image {index} at quality {quality:g}",
            ProxyOutput(together.images[index : index + 1], together.bits[index : index + 1]),
            ready(batch[index : index + 1], quality),
        )


@check("P10", "It moves between devices: all tensors are parameters or buffers; a GPU, if any, gives the same answers.")
def moves(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    """It takes double precision too."""
    stray = stray_tensors(proxy)
    require(not stray, f"expected tensors in parameters and buffers only; got {stray}")
    batch = natural_batch(2, settings.size)
    qualities = _ends(proxy, settings)
    expected = _ready(proxy)(batch, qualities)
    double = _ready(proxy).double()(batch.double(), qualities)
    _require_alike("double precision", double, expected)
    if without_cuda():
        return
    moved = _ready(proxy).cuda()(batch.cuda(), qualities)
    require(moved.images.is_cuda and moved.bits.is_cuda, "expected results on the images' device; got others")
    _require_alike("on the GPU", moved, expected)


@check("P11", "A fresh proxy that loads its ``state_dict`` gives the same answers.")
def state(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    not_applicable(
        settings.make is not None or not needs_options(type(proxy)), "the class needs options; give the kit a factory"
    )
    fresh = type(proxy)(proxy.codec) if settings.make is None else settings.make()
    fresh.load_state_dict(_ready(proxy).state_dict())
    batch, qualities = natural_batch(2, settings.size), _ends(proxy, settings)
    _require_alike("loaded", fresh.eval()(batch, qualities), _ready(proxy)(batch, qualities))


@check("P12", "Another codec than its own raises `PluginError`.")
def refuses_another_codec(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    not_applicable(proxy.codec_name != ANY_CODEC, "it learns any codec")
    not_applicable(not needs_options(type(proxy)), "the class needs options")
    require_refused("another codec", PluginError, lambda: type(proxy)(_OtherCodec()))


@check("P13", "Where it needs fitting, use before that raises `NotFittedError`; where not, it is ready from the start.")
def refuses_before_fitting(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    unfitted = copied(proxy).eval()
    unfitted.fitted = torch.tensor(False)
    batch = natural_batch(1, settings.size)
    quality = _ends(proxy, settings)[0]
    require_refused("use before fitting", NotFittedError, lambda: unfitted(batch, quality))
    require(proxy.fitted or proxy.needs_fitting, "expected a proxy that is ready; got fitted = False")


@check("P14", "In evaluation mode, the same images and qualities give the same answers, whatever came between.")
def deterministic(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    ready = _ready(proxy)
    batch, qualities = natural_batch(2, settings.size), _ends(proxy, settings)
    first = ready(batch, qualities)
    ready(natural_batch(3, (24, 24), first_seed=5), qualities[0])
    second = ready(batch, qualities)
    same = torch.equal(first.images, second.images) and torch.equal(first.bits, second.bits)
    require(same, "expected the same answers; the second differ")


@check("P15", "The images are not changed in place.")
def leaves_its_input_alone(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    batch = natural_batch(2, settings.size)
    before = batch.clone()
    _ready(proxy)(batch, _ends(proxy, settings))
    require(torch.equal(batch, before), "expected the images as they were; got some that were changed in place")


@check("P16", "A quality off the codec's scale raises `QualityError`.")
def refuses_qualities_off_the_scale(proxy: ProxyCodec, settings: ProxySettings = _DEFAULT) -> None:
    ready, batch = _ready(proxy), natural_batch(2, settings.size)
    scale = proxy.quality_scale
    for quality in (scale.minimum - 1, scale.maximum + 1, float("nan")):
        qualities = [scale.ladder[0], quality]
        require_refused(f"quality {quality:g}", QualityError, lambda given=qualities: ready(batch, given))  # type: ignore[misc]


class _OtherCodec(Codec):
    """A codec that no proxy is for."""

    name = "conformance-other"
    source = "the conformance kit"
    quality_scale = QualityScale("quality", 0, 1, higher_is_better=True, ladder=(0, 1))

    def _encode(self, image: Tensor, quality: float) -> bytes:
        raise NotImplementedError  # never asked to

    def _decode(self, payload: bytes) -> Tensor:
        raise BitstreamError(where=self.name, expected="nothing", got="a payload", remedy="Use another codec.")


def _ready(proxy: ProxyCodec) -> ProxyCodec:
    """Return a copy in evaluation mode that counts as fitted."""
    ready = copied(proxy)
    ready.mark_fitted()
    return ready


def _ends(proxy: ProxyCodec, settings: ProxySettings) -> tuple[float, float]:
    """Return the mildest and the strongest quality of the ladder."""
    ladder = proxy.quality_scale.from_mild_to_strong(settings.ladder)
    return ladder[0], ladder[-1]


def _require_alike(what: str, got: ProxyOutput, expected: ProxyOutput) -> None:
    require_close(f"{what}, images", got.images, expected.images, mean=_IMAGE_MEAN, largest=_IMAGE_LARGEST)
    allowed = _BITS_SHARE * float(expected.bits.detach().abs().max())
    require_close(f"{what}, bits", got.bits, expected.bits, mean=allowed, largest=allowed)
