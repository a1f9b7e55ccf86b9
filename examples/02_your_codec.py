"""Your codec: one class, one hook. The conformance kit says whether it does what the contract asks."""

import struct
import zlib

import torch

from precomp_sdk import BitstreamError, Codec, QualityScale, Registry, hookimpl
from precomp_sdk.testing import CodecSettings, check

HEADER = struct.Struct(">HHB")  # height, width, kept bits


class PackedCodec(Codec):
    """Keeps the upper bits of every sample and packs them with zlib."""

    name = "packed"
    source = "RFC 1950, after dropping low bits"
    quality_scale = QualityScale("bits", 1, 8, higher_is_better=True, ladder=(2, 3, 4, 5))
    version = f"zlib {zlib.ZLIB_RUNTIME_VERSION}"

    def _encode(self, image: torch.Tensor, quality: float) -> bytes:
        bits = int(quality)
        return HEADER.pack(*image.shape[1:], bits) + zlib.compress((image >> (8 - bits)).numpy().tobytes())

    def _decode(self, payload: bytes) -> torch.Tensor:
        unpacker = zlib.decompressobj()
        try:
            height, width, bits = HEADER.unpack_from(payload)
            samples = unpacker.decompress(payload[HEADER.size :], 3 * height * width + 1)
            if not unpacker.eof or unpacker.unused_data or not 1 <= bits <= 8:
                raise ValueError("cut, overlong or damaged")
            kept = torch.frombuffer(bytearray(samples), dtype=torch.uint8).reshape(3, height, width)
        except (struct.error, zlib.error, ValueError, RuntimeError) as error:
            raise BitstreamError(
                where="packed decoder", expected="a whole payload", got=str(error), remedy="Send it again."
            ) from error
        return (kept << (8 - bits)) + (1 << (8 - bits)) // 2


class Plugin:
    """What a package would offer under its entry point."""

    @hookimpl
    def precomp_register_codecs(self) -> list[type[Codec]]:
        """Offer the codec."""
        return [PackedCodec]


registry = Registry()
registry.register(Plugin(), name="packed")
codec = registry.create("codec", "packed")

report = check(codec, CodecSettings(damages=8))  # raises where a check fails
print(report.summary())
sent = codec.transcode(torch.randint(0, 256, (3, 24, 32), dtype=torch.uint8), 3)
print(f"{sent.bits} bits, {sent.bpp:.2f} bits per pixel")
assert report.failures == ()
