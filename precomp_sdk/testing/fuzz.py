"""Damaged payloads by number, and what a decoder makes of them."""

import random
from collections.abc import Callable, Sequence

import torch

from precomp_sdk.codec import Codec
from precomp_sdk.errors import BitstreamError, PrecompError
from precomp_sdk.testing.images import natural_image

__all__ = ["DECODED", "REFUSED", "damaged_payload", "decode_damaged", "read_damaged", "whole_payloads"]

DECODED = "decoded"  #: the damage did not matter, or cannot be seen in the format
REFUSED = "refused"  #: as `BitstreamError`

_SIZES = ((1, 1), (7, 13), (24, 40), (65, 33))
_EDGES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)  # that a length or a count likes least
_HEADER_BYTES = 64


def whole_payloads(codec: Codec) -> list[bytes]:
    """Return payloads to damage: four sizes, at both ends and in the middle of the ladder."""
    ladder = codec.quality_scale.ladder
    qualities = (ladder[0], ladder[len(ladder) // 2], ladder[-1])
    return [codec.encode(natural_image(*size, seed=size[0]), quality) for size in _SIZES for quality in qualities]


def damaged_payload(payloads: Sequence[bytes], number: int) -> bytes:
    """Return damaged payload ``number``: one of ten kinds of damage to one of ``payloads``, or to two.

    The number is the seed: the same payloads and number always give the same bytes.
    """
    chance = random.Random(number)
    payload = bytearray(chance.choice(payloads))
    place = chance.randrange(len(payload))
    length = chance.randrange(1, 1 + max(1, len(payload) // 4))
    match chance.randrange(10):
        case 0:  # one bit
            payload[place] ^= 1 << chance.randrange(8)
        case 1:  # a few bytes
            for _ in range(chance.randrange(1, 9)):
                payload[chance.randrange(len(payload))] = chance.randrange(256)
        case 2:  # the end is missing
            del payload[place:]
        case 3:  # the middle is missing
            del payload[place : place + length]
        case 4:  # zeros
            payload[place : place + length] = bytes(len(payload[place : place + length]))
        case 5:  # rubbish behind
            payload += chance.randbytes(length)
        case 6:  # a piece twice
            payload[place:place] = payload[place : place + length]
        case 7:  # the head of one, the rest of another
            other = chance.choice(payloads)
            payload = payload[:place] + other[chance.randrange(len(other)) :]
        case 8:  # sizes, counts and offsets of the header
            for _ in range(chance.randrange(1, 4)):
                payload[chance.randrange(min(_HEADER_BYTES, len(payload)))] = chance.choice(_EDGES)
        case _:  # rubbish from the start
            payload = bytearray(chance.randbytes(chance.randrange(200)))
    return bytes(payload)


def decode_damaged(codec: Codec, payload: bytes) -> str:
    """Return `DECODED`, `REFUSED`, or what went wrong: a codec does one of these two, whatever it is given."""
    images: list[torch.Tensor] = []
    outcome = read_damaged(lambda data: images.append(codec.decode(data)), payload, BitstreamError)
    if not images:
        return outcome
    image = images[0]
    good = image.dtype == torch.uint8 and image.dim() == 3 and image.shape[0] == 3
    return DECODED if good else f"an image of {image.dtype} {tuple(image.shape)}"


def read_damaged(read: Callable[[bytes], object], content: bytes, refusal: type[PrecompError] = PrecompError) -> str:
    """Return `DECODED`, `REFUSED`, or what went wrong: a reader returns, or raises its own kind of error."""
    try:
        read(content)
    except refusal:
        return REFUSED
    except Exception as error:  # whatever it is, it is a finding
        return f"{type(error).__name__}: {error}"
    return DECODED
