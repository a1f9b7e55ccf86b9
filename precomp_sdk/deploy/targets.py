"""The quality of each image: fixed, or the best that a number of bits or bytes affords."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from precomp_sdk.deploy.compressed_image import CompressedImage
from precomp_sdk.deploy.keep_answer import KeepAnswer
from precomp_sdk.errors import OptionError

if TYPE_CHECKING:
    from precomp_sdk.deploy.compressor import Compressor

__all__ = ["CompressedImage", "QualityTarget", "compress_to_target"]


@dataclass(frozen=True, slots=True)
class QualityTarget:
    """How the quality of an image is chosen; exactly one is given.

    Args:
        quality: it is fixed, on the codec's scale.
        bits_per_pixel: the mildest compression whose payload has at most so many bits per pixel of the source.
        max_bytes: the mildest compression whose payload has at most so many bytes.
        max_encodes: how often an image may be encoded to find out.

    Raises:
        OptionError: none or several are given, or a limit is not positive.
    """

    quality: float | None = None
    bits_per_pixel: float | None = None
    max_bytes: int | None = None
    max_encodes: int = 8

    def __post_init__(self) -> None:
        given = [name for name in ("quality", "bits_per_pixel", "max_bytes") if getattr(self, name) is not None]
        if len(given) != 1:
            raise OptionError(
                where="quality of the images",
                expected="one of a quality, bits per pixel, and bytes",
                got=" and ".join(given) or "none",
                remedy="Give one of them.",
            )
        for name in ("bits_per_pixel", "max_bytes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise OptionError.number("quality of the images", name, "a finite number above 0", value)
        if self.max_encodes < 1:
            raise OptionError.number("quality of the images", "max_encodes", "a whole number from 1", self.max_encodes)

    def bytes_for(self, image: Tensor) -> float | None:
        """Return the most bytes that the payload of an image may have; None where the quality is fixed."""
        if self.bits_per_pixel is not None:
            return self.bits_per_pixel * image.shape[1] * image.shape[2] / 8
        return self.max_bytes

    def __str__(self) -> str:
        if self.quality is not None:
            return f"quality={self.quality:g}"
        if self.bits_per_pixel is not None:
            return f"bpp={self.bits_per_pixel:g}"
        return f"bytes={self.max_bytes}"


def compress_to_target(compressor: "Compressor", image: Any, target: QualityTarget | KeepAnswer) -> CompressedImage:
    """Compress one image at a given quality, at the best that fits a number of bytes, or so that an answer is kept.

    The quality is found by bisection over the codec's scale between the ends of the compressor's ladder, whole numbers
    where the scale has only those; that takes payloads to grow as the compression gets milder, which codecs do but for
    a byte here and there. Where not even the strongest compression fits, it is taken, and the reason says so. With a
    quality chooser, qualities are its operating points.

    Args:
        compressor: the sender.
        image: as `Compressor.compress` takes it; (3, H, W) uint8 where a target is given in bits per pixel.
        target: the quality, the limit, or whose answer is kept.

    Raises:
        PrecompError: as `Compressor.compress` raises it.
    """
    if isinstance(target, KeepAnswer):
        return target.keep(compressor.without_chooser(), image)
    limit = target.bytes_for(image)
    if target.quality is not None or limit is None:
        return compressor.compress_chosen(image, float(target.quality or 0.0))
    scale = compressor.codec.quality_scale
    strengths = [scale.strength(quality) for quality in compressor.ladder]
    mild, strong = min(strengths), max(strengths)
    best: CompressedImage | None = None
    tried: dict[float, bytes] = {}
    while len(tried) < target.max_encodes:
        # the strongest first: where that does not fit, nothing does
        strength = strong if not tried else mild if len(tried) == 1 else (mild + strong) / 2
        quality = scale.quality(strength)
        if quality in tried:
            break
        tried[quality] = compressor.compress(image, quality)
        fits = len(tried[quality]) <= limit
        if fits and (best is None or scale.strength(quality) < scale.strength(best.quality)):
            best = CompressedImage(tried[quality], quality, len(tried), f"at most {limit:.0f} bytes")
        if len(tried) == 1 and not fits:
            return CompressedImage(tried[quality], quality, 1, f"over {limit:.0f} bytes: the strongest compression")
        if len(tried) == 2 and fits:
            break
        if len(tried) > 2:
            mild, strong = (mild, strength) if fits else (strength, strong)
    assert best is not None
    return CompressedImage(best.payload, best.quality, len(tried), best.reason)
