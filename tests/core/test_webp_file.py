"""What `check_webp` notices before libwebp takes memory."""

import io

import pytest
from PIL import Image

from precomp_sdk import BitstreamError
from precomp_sdk.webp_file import check_webp


def saved(width: int = 20, height: int = 10, frames: int = 1, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.new("RGB", (width, height), (200, 30, 90))
    more = {"save_all": True, "append_images": [Image.new("RGB", image.size, (i, 0, 0)) for i in range(1, frames)]}
    image.save(buffer, "WEBP", **options, **(more if frames > 1 else {}))
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def canvas(width: int, height: int) -> bytes:
    return chunk(b"VP8X", bytes((2, 0, 0, 0)) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"))


def frame(width: int, height: int, x: int = 0) -> bytes:
    numbers = (x // 2, 0, width - 1, height - 1, 100)
    return chunk(b"ANMF", b"".join(number.to_bytes(3, "little") for number in numbers) + b"\0")


@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"exif": b"Exif\0\0" + bytes(11)}, {"icc_profile": bytes(301)}, {"frames": 3}]
)
def test_whole_files_pass_with_their_size(options: dict[str, object]) -> None:
    payload = saved(**options)  # type: ignore[arg-type]
    assert check_webp(payload) == (20, 10)
    assert check_webp(payload + b"more") == (20, 10)
    assert check_webp(payload, max_pixels=200) == (20, 10)
    with pytest.raises(BitstreamError, match="at most 199 pixels"):
        check_webp(payload, max_pixels=199)
    for length in (0, 3, 11, 12, 19, 25, len(payload) - 1):
        with pytest.raises(BitstreamError):
            check_webp(payload[:length])


def test_a_small_image_on_a_large_canvas_is_refused() -> None:
    with pytest.raises(BitstreamError, match=r"fills its canvas; got one of \(56, 40\) on a canvas of \(1048632, 40\)"):
        check_webp(riff(canvas(1_048_632, 40), chunk(b"ANIM", bytes(6)), frame(56, 40)))
    with pytest.raises(BitstreamError, match="one or more pixels"):
        check_webp(riff(canvas(56, 40), frame(56, 40, x=2)))
    assert check_webp(riff(canvas(56, 40), frame(56, 40))) == (56, 40)
    with pytest.raises(BitstreamError, match="16777216 x 16777216"):
        check_webp(riff(canvas(1 << 24, 1 << 24)))


def test_files_without_an_image_are_refused() -> None:
    for payload in (riff(), riff(canvas(5, 5)), riff(*[chunk(b"JUNK", b"")] * 2000, frame(5, 5))):
        with pytest.raises(BitstreamError, match="chunk"):
            check_webp(payload)
    for body in (b"", bytes(10), b"\x2f\0"):
        for kind in (b"VP8 ", b"VP8L"):
            with pytest.raises(BitstreamError, match="one or more pixels"):
                check_webp(riff(chunk(kind, body)))
