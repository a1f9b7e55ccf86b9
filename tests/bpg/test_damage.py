"""Damaged files raise BitstreamError or decode: never another error, a hang, or an image that is too large."""

import random
import time
from collections.abc import Callable
from typing import Final

import numpy as np
import pytest
import torch

from precomp_bpg import BPGCodec, HEVCIntraCodec, decode_bpg, decoder, parse_bpg
from precomp_bpg._numbers import write_ue7
from precomp_bpg.container import MAX_PIXELS
from precomp_sdk import BitstreamError

CASES: Final = 4000
LIMIT_S: Final = 60.0


def damage(payload: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    out = bytearray(payload)
    match chance.randrange(6):
        case 0:  # the headers
            for _ in range(chance.randrange(1, 4)):
                out[chance.randrange(min(len(out), 30))] = chance.randrange(256)
        case 1:  # bit flips anywhere
            for _ in range(chance.randrange(1, 9)):
                out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
        case 2:  # a cut
            del out[chance.randrange(len(out)) :]
        case 3:  # bytes lost or put in
            at = chance.randrange(len(out))
            out[at : at + chance.randrange(9)] = chance.randbytes(chance.randrange(9))
        case 4:  # start codes and emulation prevention where they do not belong
            at = chance.randrange(len(out))
            out[at:at] = chance.choice((b"\0\0\1", b"\0\0\0\1\x42\1", b"\0\0\3", b"\0\0\1\x26\1", bytes(9)))
        case _:  # the head of one on the body of another
            at = chance.randrange(5, 30)
            out[:at] = chance.choice(others)[: chance.randrange(5, 30)]
    return bytes(out)


def test_mutations_of_bpg(small_files: dict[str, bytes]) -> None:
    chance, files = random.Random(11), list(small_files.values())
    assert len(files) >= 11
    refused, start = 0, time.monotonic()
    for case in range(CASES):
        try:
            image = decode_bpg(damage(chance.choice(files), chance, files))
        except BitstreamError:
            refused += 1
        else:
            assert 0 < image.rgb[0].size <= MAX_PIXELS
        assert time.monotonic() - start < LIMIT_S, case
    assert CASES // 3 < refused < CASES


def test_mutations_of_hevc(image: Callable[..., torch.Tensor]) -> None:
    chance, codec = random.Random(12), HEVCIntraCodec()
    files = [HEVCIntraCodec(chroma=chroma).encode(image(17, 26), 30) for chroma in ("420", "444", "gray")]
    refused, start = 0, time.monotonic()
    for _ in range(CASES // 4):
        body = damage(chance.choice(files)[:-6], chance, files)
        try:
            codec.decode(body + files[0][-6:])
        except BitstreamError:
            refused += 1
        assert time.monotonic() - start < LIMIT_S
    assert refused > 100


def test_truncation_with_length(small_files: dict[str, bytes]) -> None:
    for name, payload in small_files.items():
        if not name.endswith("-open"):
            for length in range(len(payload)):
                with pytest.raises(BitstreamError):
                    decode_bpg(payload[:length])


def test_truncation_without_length(small_files: dict[str, bytes]) -> None:
    for name, payload in small_files.items():
        if name.endswith("-open"):
            image = decode_bpg(payload).rgb
            for length in range(len(payload) - 1):
                with pytest.raises(BitstreamError):
                    decode_bpg(payload[:length])
            try:
                shorter = decode_bpg(payload[:-1]).rgb
            except BitstreamError:
                continue
            assert np.array_equal(shorter, image)  # the last byte held nothing but the stop bit


def test_rubbish_of_every_length() -> None:
    chance = random.Random(13)
    for length in range(1, 200):
        for head in (b"", b"BPG\xfb", b"BPG\xfb\x20\x00\x08\x08\x00"):
            with pytest.raises(BitstreamError):
                BPGCodec().decode(head + chance.randbytes(length))


def test_frames_that_are_not_as_announced(small_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "byte_stream", lambda nals: b"\0\0\0\1" + next(iter(nals)))
    with pytest.raises(BitstreamError, match=r"one image of 32x24 yuv420p; got none|FFmpeg"):
        decode_bpg(small_files["420"])


@pytest.mark.parametrize("chroma", ["420", "422", "444"])
@pytest.mark.parametrize(("width", "height"), [(72, 64), (64, 72), (256, 256), (64, 1024)])
def test_a_slice_that_does_not_reach_the_end_of_the_image(chroma: str, width: int, height: int) -> None:
    image = (torch.arange(3 * 64 * 64) * 37 % 251).to(torch.uint8).reshape(3, 64, 64)
    payload = BPGCodec(chroma=chroma).encode(image, 20)  # type: ignore[arg-type]  # one of the parameters
    file = parse_bpg(payload)
    assert decode_bpg(payload).rgb.shape == (3, 64, 64)
    sides = write_ue7(file.width) + write_ue7(file.height)
    assert payload[6 : 6 + len(sides)] == sides
    with pytest.raises(BitstreamError):
        decode_bpg(payload[:6] + write_ue7(width) + write_ue7(height) + payload[6 + len(sides) :])
