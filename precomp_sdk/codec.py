"""The contract of a real codec."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, final

from torch import Tensor

from precomp_sdk.described import Described
from precomp_sdk.errors import BitstreamError, ContractError, ImageError
from precomp_sdk.images import check_image
from precomp_sdk.quality import QualityScale
from precomp_sdk.types import Transcoded

__all__ = ["Codec"]


class Codec(Described, ABC):
    """A codec that writes a real bitstream. Not differentiable.

    Write ``_encode`` and ``_decode`` for one image; validation is done here, once, and batches run in parallel through
    `precomp_sdk.Transcoder`. Both methods are called from several threads at a time. Gradients come from the
    `ProxyCodec` that stands in for it. Options are keyword-only arguments of ``__init__``; those that name a path, a
    program to run or a module to import stand in ``unsafe_options``, so that no file of a stranger sets them.

    Shapes and units:
        image: (3, H, W) uint8, sRGB; any H, W >= 1. Never changed in place.
        payload: ``bytes``, one per image; decodes with no side information.
        rate: bits = ``8 * len(payload)``, headers counted; bpp = bits / (H * W).
        quality: on the codec's own scale, see ``quality_scale``; one value per image.
    """

    name: ClassVar[str]  #: unique, kebab-case, as typed on the command line
    source: ClassVar[str]  #: the standard, paper or commit this follows
    file_suffix: ClassVar[str] = ""  #: of files that hold one payload, with its dot; empty: a dot and the name
    quality_scale: ClassVar[QualityScale]
    limits: ClassVar[frozenset[str]] = frozenset()  #: options that bound work and memory, and change no bit or pixel

    @classmethod
    def suffix(cls) -> str:
        """Return the ending of a file that holds one payload, such as ``".jpg"``."""
        return cls.file_suffix or f".{cls.name}"

    @abstractmethod
    def _encode(self, image: Tensor, quality: float) -> bytes:
        """Encode one image, (3, H, W) uint8, at a quality that lies on the scale."""

    @abstractmethod
    def _decode(self, payload: bytes) -> Tensor:
        """Decode one payload to (3, H, W) uint8; raise `BitstreamError` on anything that is not whole and valid."""

    @property
    def options(self) -> Mapping[str, object]:
        """The options this codec was constructed with, by name, as result files record them."""
        return {}

    @final
    @property
    def coding_options(self) -> Mapping[str, object]:
        """The options less ``limits``: what two codecs must agree in to write the same bits."""
        return {name: value for name, value in self.options.items() if name not in self.limits}

    @property
    def version(self) -> str:
        """Name and version of the library that does the work; different bytes mean a different version."""
        return ""

    @final
    def encode(self, image: Tensor, quality: float) -> bytes:
        """Encode one image.

        Args:
            image: (3, H, W) uint8, sRGB.
            quality: on ``quality_scale``.

        Returns:
            The payload, a complete file of this codec's format.

        Raises:
            ImageError: the image is not ``uint8 (3, H, W)``.
            QualityError: the quality is off the scale.
            CodecError: the codec's library failed.
        """
        check_image(image, f"{self.name} encoder")
        payload = self._encode(image.detach().cpu(), self.quality_scale.check(quality))
        if not isinstance(payload, bytes) or not payload:
            raise ContractError(
                where=f"{type(self).__name__}._encode",
                expected="a payload of one or more bytes",
                got=f"{len(payload)} bytes" if isinstance(payload, bytes) else type(payload).__name__,
                remedy="Return bytes(...).",
            )
        return payload

    @final
    def decode(self, payload: bytes) -> Tensor:
        """Decode one payload.

        Returns:
            (3, H, W) uint8, sRGB.

        Raises:
            BitstreamError: the payload is rubbish, truncated or uses what this codec does not decode.
        """
        if not isinstance(payload, bytes) or not payload:
            raise BitstreamError(
                where=f"{self.name} decoder",
                expected="one or more bytes",
                got=f"{len(payload)} bytes" if isinstance(payload, bytes) else type(payload).__name__,
                remedy="Pass the payload that encode() returned, whole.",
            )
        image = self._decode(payload)
        try:
            return check_image(image, f"{type(self).__name__}._decode")
        except ImageError as error:
            raise ContractError(
                where=error.where, expected=error.expected, got=error.got, remedy="Return what the contract says."
            ) from error

    @final
    def transcode(self, image: Tensor, quality: float, payload: bytes | None = None) -> Transcoded:
        """Encode and decode one image: what the receiver sees, and what it cost.

        Args:
            image: (3, H, W) uint8.
            quality: on the codec's scale.
            payload: of this image at this quality, where it was encoded before.

        Raises:
            ContractError: the decoded image has another size than the source.
        """
        payload = self.encode(image, quality) if payload is None else payload
        decoded = self.decode(payload)
        if decoded.shape != image.shape:
            raise ContractError(
                where=f"{self.name} round trip",
                expected=f"an image of shape {tuple(image.shape)}",
                got=str(tuple(decoded.shape)),
                remedy="Undo inside the codec whatever padding it needs.",
            )
        return Transcoded(image=decoded, bits=8 * len(payload))
