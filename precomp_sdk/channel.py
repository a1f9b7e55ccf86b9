"""The road of an image from its source to the network that judges it, written once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import torch
from torch import Tensor, nn

from precomp_sdk.closing import Closing
from precomp_sdk.codec import Codec
from precomp_sdk.described import Assembled
from precomp_sdk.errors import ContractError, ImageError
from precomp_sdk.images import (
    check_batch,
    check_image,
    coded_size,
    downscale,
    group_by_size,
    group_equal,
    round_to_8_bit,
    to_float,
    to_uint8,
    upscale,
)
from precomp_sdk.modules import device_of
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.proxy import ProxyCodec, check_proxy_codec
from precomp_sdk.tiles import TILE_PX, preprocess_in_tiles, works_in_tiles
from precomp_sdk.transcode import Transcoder
from precomp_sdk.transmission import CodedBatch, Transmission, Transmitted, in_order

__all__ = ["Channel", "Coding"]

_WHERE = "Channel"


@dataclass(frozen=True, slots=True)
class Coding:
    """How one image is coded.

    Args:
        quality: on the codec's scale.
        resolution: factor of height and width at which it is coded, above 0 and up to 1.
    """

    quality: float
    resolution: float = 1.0


class Channel(Assembled, Closing):
    """A codec, and what stands before it: the way from a source to what the receiver's network sees.

    ::

        source ─▶ preprocessor ─▶ downscale ─▶ 8 bits ─▶ encode ┄ payload ┄▶ decode ─▶ upscale ─▶ 8 bits ─▶ judge
                  └───────────────── send ────────────┘                     └─────── receive ───────┘

    One rounding rule: what is sent is 8 bits, and what is upscaled at the receiver is rounded to 8 bits once more;
    what comes back at its own size is left as it was decoded. It holds wherever images are sent: in calibration, in the
    training step, on the held-out batch, in evaluation, in `Compressor` and in refinement. So does the order:
    preprocessors work at full size.

    Images of several sizes, qualities and resolutions go in one call, and come back in their order. A channel without a
    preprocessor is the anchor. A baseline is a channel with a simple preprocessor. To choose quality and resolution
    image by image, override `choose`; to change what the receiver does, `receive`.

    Where a proxy is given, values are the real codec's and gradients the proxy's: straight through both roundings,
    and through up- and downscaling as they are.

    Shapes and units:
        images: N 8-bit images (3, H, W) of any sizes, or a float batch (N, 3, H, W) in [0, 1], or a list of float
            images (3, H, W). A batch padded to one size is a batch as any other, see `stack_padded`.
        qualities: N, on the codec's scale.
        sizes: N heights and widths.

    Args:
        codec: the real codec, or one with its threads, to share them.
        preprocessor: what changes images before they are coded, on its device; None leaves them as they are.
        proxy: the codec's proxy, for gradients.
        label: names the channel in plots and tables; default: the preprocessor's name, or ``"anchor"``.
        settings: what was chosen for it, by name.
        tile_px: 8-bit images with more than the square of this many pixels go through a preprocessor that can in tiles
            of this side, without gradients; None: never.

    Raises:
        OptionError: the proxy is of another codec, or of other options of it.

    Example:
        >>> from precomp_sdk.testing import FakeCodec
        >>> channel = Channel(FakeCodec())
        >>> images = [torch.zeros(3, 20, 30, dtype=torch.uint8), torch.zeros(3, 7, 5, dtype=torch.uint8)]
        >>> [tuple(image.shape) for image in channel.transmit(images, [30, 70]).images]
        [(3, 20, 30), (3, 7, 5)]
    """

    _parts = ("codec", "preprocessor")

    def __init__(
        self,
        codec: Codec | Transcoder,
        preprocessor: Preprocessor | None = None,
        *,
        proxy: ProxyCodec | None = None,
        label: str | None = None,
        settings: Mapping[str, float] | None = None,
        tile_px: int | None = TILE_PX,
    ) -> None:
        self.transcoder: Transcoder = codec if isinstance(codec, Transcoder) else Transcoder(codec)
        self.codec: Codec = self.transcoder.codec
        if proxy is not None:
            check_proxy_codec(proxy, self.codec, _WHERE)
        self.preprocessor = preprocessor
        self.proxy = proxy
        self.label: str = label or ("anchor" if preprocessor is None else preprocessor.name)
        self.settings: dict[str, float] = dict(settings or {})
        self.tile_px = tile_px

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The networks at the sender, to be put into evaluation mode."""
        return () if self.preprocessor is None else (self.preprocessor,)

    def choose(self, images: Tensor | Sequence[Tensor], qualities: Sequence[float]) -> list[Coding]:
        """Return how each image is coded: at the quality given, and the resolution the preprocessor asks for there.

        Override it to choose by what is in the image: ``qualities`` then name the operating points.
        """
        return [Coding(quality, self.resolution(quality)) for quality in qualities]

    def resolution(self, quality: float) -> float:
        """Return the factor of height and width at which images are coded at a quality."""
        strength = self.codec.quality_scale.strength(quality)
        return 1.0 if self.preprocessor is None else self.preprocessor.resolution(strength)

    @overload
    def preprocess(self, images: Tensor, qualities: Sequence[float]) -> Tensor: ...
    @overload
    def preprocess(self, images: Sequence[Tensor], qualities: Sequence[float]) -> list[Tensor]: ...
    def preprocess(self, images: Tensor | Sequence[Tensor], qualities: Sequence[float]) -> Tensor | list[Tensor]:
        """Return the images as the preprocessor makes them, float at their own sizes; a batch stays a batch.

        Without a preprocessor they come back as they are. Images of one size go through it together, each at the
        strength of its own quality. 8-bit images that are processed in tiles and coded at full size come back rounded.
        """
        _check(images, qualities)
        if self.preprocessor is None:
            return images if isinstance(images, Tensor) else list(images)
        strengths = [self.codec.quality_scale.strength(quality) for quality in qualities]
        if isinstance(images, Tensor):
            return self._process(images, strengths)
        done: dict[int, Tensor] = {}
        for places in group_by_size(images):
            if self._in_tiles(images[places[0]]):
                done.update((place, self._process_in_tiles(images[place], qualities[place])) for place in places)
                continue
            batch = _as_float(_stacked(images, places))
            done.update(zip(places, self._process(batch, [strengths[place] for place in places]), strict=True))
        return [done[place] for place in range(len(images))]

    def _process(self, batch: Tensor, strengths: Sequence[float]) -> Tensor:
        """Run the preprocessor over a float batch."""
        assert self.preprocessor is not None
        processed: Tensor = self.preprocessor(batch.to(device_of(self.preprocessor, batch.device)), strengths)
        return processed

    def _in_tiles(self, image: Tensor) -> bool:
        """Say whether an image goes through the preprocessor in tiles."""
        if self.preprocessor is None or image.dtype != torch.uint8:
            return False
        return works_in_tiles(self.preprocessor, _size(image), self.tile_px)

    def _process_in_tiles(self, image: Tensor, quality: float) -> Tensor:
        """Process an image in tiles; it is rounded here only where nothing comes between it and the encoder."""
        assert self.preprocessor is not None
        assert self.tile_px is not None
        strength, rounded = self.codec.quality_scale.strength(quality), self.resolution(quality) == 1.0
        return preprocess_in_tiles(self.preprocessor, image, strength, tile_px=self.tile_px, rounded=rounded)

    def send(self, images: Tensor | Sequence[Tensor], qualities: Sequence[float]) -> list[Tensor]:
        """Return what the encoder gets: preprocessed, downscaled and rounded to 8 bits, (3, H', W') each, on the CPU.

        Raises:
            ImageError: an image has the wrong shape, dtype or a NaN.
            QualityError: a quality is off the scale.
        """
        codings = self.choose(images, qualities)
        processed = self.preprocess(images, [coding.quality for coding in codings])
        coded = self._coded(processed, codings)
        return in_order(coded, [batch.to_encoder() for batch in coded])

    @overload
    def receive(self, decoded: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor: ...
    @overload
    def receive(self, decoded: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]: ...
    def receive(self, decoded: Tensor | Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> Tensor | list[Tensor]:
        """Return what the judge gets: decoded images at their sources' sizes, rounded again where they are upscaled.

        8-bit images stay 8-bit images; float images stay float, with gradient; a float batch of one source size stays a
        batch.

        Raises:
            ImageError: a size is below its image's.
        """
        if isinstance(decoded, Tensor):
            return _restored(decoded, sizes[0])
        return [_restored(image[None], size)[0] for image, size in zip(decoded, sizes, strict=True)]

    def submit(
        self,
        images: Tensor | Sequence[Tensor],
        qualities: Sequence[float],
        resolutions: Sequence[float] | None = None,
        *,
        forward: Literal["codec", "proxy"] = "codec",
    ) -> Transmission:
        """Code images that no preprocessor touches any more; return at once, while the codec's threads work.

        Args:
            images: of `preprocess`, or any others.
            qualities: one per image.
            resolutions: factors of height and width at which they are coded, one per image; None takes what the
                preprocessor asks for.
            forward: ``"proxy"`` takes the values from the proxy too, and leaves the codec alone.

        Raises:
            ImageError: an image has the wrong shape, dtype or a NaN.
            QualityError: a quality is off the scale.
            ContractError: there is not one quality and one resolution per image, or no proxy to take values from.
        """
        if resolutions is None:
            resolutions = [self.resolution(quality) for quality in qualities]
        _check(images, qualities, resolutions)
        if forward == "proxy" and self.proxy is None:
            raise ContractError(
                where=_WHERE, expected="a proxy to take values from", got="none", remedy="Construct it with proxy=."
            )
        coded = self._coded(images, [Coding(*pair) for pair in zip(qualities, resolutions, strict=True)])
        if forward == "codec":
            for batch in coded:
                batch.start()
        return Transmission(coded, self.receive, self.proxy, forward)

    def start(self, images: Tensor | Sequence[Tensor], qualities: Sequence[float]) -> Transmission:
        """Choose, preprocess and `submit`; return at once, while the codec's threads work."""
        codings = self.choose(images, qualities)
        chosen = [coding.quality for coding in codings]
        return self.submit(self.preprocess(images, chosen), chosen, [coding.resolution for coding in codings])

    def transmit(self, images: Tensor | Sequence[Tensor], qualities: Sequence[float]) -> Transmitted:
        """Send, encode, decode and receive; wait for it.

        Raises:
            ImageError: an image has the wrong shape, dtype or a NaN.
            QualityError: a quality is off the scale.
            CodecError: the codec's library failed.
        """
        return self.start(images, qualities).result()

    def _coded(self, images: Tensor | Sequence[Tensor], codings: Sequence[Coding]) -> list[CodedBatch]:
        """Put images together by source size and coded size, and downscale them."""
        sizes = [_size(image) for image in images]
        keys = [(size, coded_size(size, coding.resolution)) for size, coding in zip(sizes, codings, strict=True)]
        coded = []
        for places in group_equal(keys):
            size, small = keys[places[0]]
            batch = _stacked(images, places)
            if size != small:
                batch = downscale(_as_float(batch), codings[places[0]].resolution)
            qualities = [codings[place].quality for place in places]
            coded.append(CodedBatch(places, qualities, size, batch, self.transcoder))
        return coded

    def close(self) -> None:
        """Stop the codec's threads."""
        self.transcoder.close()


def _restored(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a batch to a size (H, W): the receiver's one rounding rule."""
    if _size(images) == tuple(size):
        return images
    if images.dtype == torch.uint8:
        return to_uint8(_restored(to_float(images), size))
    return round_to_8_bit(upscale(images, size))


def _size(image: Tensor) -> tuple[int, int]:
    return int(image.shape[-2]), int(image.shape[-1])


def _check(images: Tensor | Sequence[Tensor], *values: Sequence[float]) -> None:
    """Refuse what is no image, and qualities or resolutions that are not one per image."""
    if isinstance(images, Tensor):
        check_batch(images, _WHERE)
    elif not len(images):
        raise ImageError(where=_WHERE, expected="one or more images", got="none", remedy="Leave the call out.")
    else:
        for image in images:
            if isinstance(image, Tensor) and image.is_floating_point():
                check_batch(image[None], _WHERE)
            else:
                check_image(image, _WHERE)
    if any(len(items) != len(images) for items in values):
        raise ContractError(
            where=_WHERE,
            expected=f"one quality and one resolution for each of {len(images)} images",
            got=" and ".join(str(len(items)) for items in values),
            remedy="Repeat them for every image.",
        )


def _stacked(images: Tensor | Sequence[Tensor], places: Sequence[int]) -> Tensor:
    """Return some images of one size as a batch, 8 bits or float as they are; a batch itself where it is all of it."""
    if isinstance(images, Tensor):
        return images if len(places) == len(images) else images[list(places)]
    return torch.stack([images[place] for place in places])


def _as_float(batch: Tensor) -> Tensor:
    return to_float(batch) if batch.dtype == torch.uint8 else batch
