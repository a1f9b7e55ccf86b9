"""Files made to cost time: each is read within 2 s of CPU and 1 s for each megapixel that it holds, or refused.

python benchmarks/hostile_files.py     # prints what each costs; tests/image_io/test_hostile_files.py holds them to it
"""

import os
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from hostile_making import (
    TINY_TILES,
    avif_grid,
    avif_hidden,
    avif_items,
    bmp,
    chunk,
    flat,
    frames,
    gif,
    heic_grid,
    heic_pictures,
    j2k,
    jpeg_scans,
    jpeg_with,
    jxl_layers,
    noise,
    png,
    saved,
    tiff,
    webp_canvas,
    zeros,
)

from precomp_sdk import PrecompError, Registry
from precomp_sdk.atomic_io import write_whole
from precomp_sdk.image_io import read_image

HERE = Path(__file__).parent
FIXED_S, PER_MEGAPIXEL_S = 2.0, 1.0
CODECS = ("jpeg", "webp", "avif", "heic", "jpeg-xl", "jpeg2000", "bpg", "hevc-intra")


@dataclass(frozen=True)
class Cost:
    """What reading a file took: CPU seconds, the megapixels that came out, and why it was refused, or nothing."""

    seconds: float
    megapixels: float
    refused: str

    @property
    def bounded(self) -> bool:
        """Whether the promise held."""
        return self.seconds <= FIXED_S + PER_MEGAPIXEL_S * self.megapixels


def cost(read: Callable[[bytes], Any], content: bytes) -> Cost:
    """Read a file and measure it: this process, whose decoders have threads of their own, and the helper processes."""

    def used() -> float:
        helpers = sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children())
        return sum(os.times()[:4]) + helpers  # children that have ended count as well

    start = used()
    try:
        image = read(content)
    except PrecompError as error:
        return Cost(used() - start, 0.0, f"{error.expected}; got {error.got}")
    return Cost(used() - start, image.shape[-1] * image.shape[-2] / 1e6, "")


ATTACKS: dict[str, tuple[str, Callable[[], bytes], bool | None]] = {
    "PNG of 66 bytes claims 169 MP": ("", lambda: png(13_000, 13_000, zlib.compress(b"x")), True),
    "PNG bomb of 4 MP": ("", lambda: png(2000, 2000, zeros(2000 * 6001)), False),
    "PNG bomb of 4 MP, 16 bits, interlaced": ("", lambda: png(2000, 2000, zeros(26_000_000), b"", 16, 1), False),
    "PNG of one pixel with 100 MB": ("", lambda: png(1, 1, zeros(100 << 20)), False),
    "PNG with text bombs": ("", lambda: png(1, 1, zeros(4), chunk(b"zTXt", b"k\0\0" + zeros(60 << 20)) * 9), True),
    "PNG with a profile bomb": ("", lambda: png(1, 1, zeros(4), chunk(b"iCCP", b"k\0\0" + zeros(90 << 20))), True),
    "PNG of 300,000 chunks": ("", lambda: png(1, 1, zeros(4), chunk(b"teXt", b"") * 300_000), True),
    "PNG of 90,000 chunks": ("", lambda: png(1, 1, zeros(4), chunk(b"teXt", b"") * 90_000), False),
    "GIF of 200 bytes claims 64 MP": ("", lambda: gif(b"")[:6] + struct.pack("<HH", 8000, 8000) + gif(b"")[10:], False),
    "GIF of 300,000 comments": ("", lambda: gif(b"\x21\xfe\x01a\0" * 300_000), True),
    "GIF with a comment of 7 MB": ("", lambda: gif(b"\x21\xfe" + (b"\xff" + bytes(255)) * 30_000 + b"\0"), True),
    "TIFF of a million strips": ("", lambda: tiff(1_000_000), True),
    "TIFF of 100,000 strips": ("", lambda: tiff(100_000), False),
    "TIFF bomb of 4 MP": ("", lambda: saved("TIFF", flat(2000, 2000), compression="tiff_adobe_deflate"), False),
    "BMP of 3 million jumps": ("", lambda: bmp(10, 10, b"\0\2\0\0" * 3_000_000 + b"\0\1"), True),
    "BMP of 1 MP, runs of one": ("", lambda: bmp(1000, 1000, b"\1\7" * 1_000_000 + b"\0\1"), None),
    "BMP of 1 kB claims 100 MP": ("", lambda: bmp(10_000, 10_000, b"\0\1"), True),
    "QOI of 1 MP, noise": ("", lambda: saved("QOI", noise(1000, 1000)), False),
    "QOI of 2 MP": ("", lambda: saved("QOI", flat(2000, 1000)), True),
    "plain PPM of a million comments": ("", lambda: b"P3 10 10 255\n" + b"#\n" * 1_000_000, True),
    "PPM with a header of 2 MB": ("", lambda: b"P6\n" + b"#\n" * 1_000_000 + b"10 10 255\n" + bytes(300), True),
    "plain PPM of 0.5 MP": ("", lambda: b"P3 1000 500 255\n" + b"1 22 255\n" * 500_000, False),
    "PPM of 0.5 MP, 100 levels": ("", lambda: b"P6 1000 500 100\n" + bytes(1_500_000), False),
    "PPM of 1 MP, 100 levels": ("", lambda: b"P6 1000 1000 100\n" + bytes(3_000_000), True),
    "TGA bomb of 4 MP": ("", lambda: saved("TGA", flat(2000, 2000), compression="tga_rle"), False),
    "JPEG of 100 scans, 4 MP": ("jpeg", lambda: jpeg_scans(2000, 2000, 36), False),
    "JPEG of 127 scans, 4 MP": ("jpeg", lambda: jpeg_scans(2000, 2000, 63), True),
    "JPEG with 20 MB of fill bytes": ("jpeg", lambda: jpeg_with(b"\xff" * 20_000_000), True),
    "JPEG with 20 MB between its segments": ("jpeg", lambda: jpeg_with(bytes(20_000_000)), True),
    "JPEG of 300,000 segments": ("jpeg", lambda: jpeg_with(b"\xff\xef\0\2" * 300_000), True),
    "JPEG of 15,000 segments": ("jpeg", lambda: jpeg_with(b"\xff\xef\0\2" * 15_000), False),
    "WebP of 200 bytes claims 42 MP": ("webp", lambda: webp_canvas(1_048_632, 40), True),
    "WebP of 4 MP, flat": ("webp", lambda: saved("WEBP", flat(2000, 2000), method=0), False),
    "WebP of 100 frames": (
        "webp",
        lambda: saved("WEBP", flat(64, 64), save_all=True, append_images=frames(100)),
        False,
    ),
    "AVIF of 4 MP, flat": ("avif", lambda: saved("AVIF", flat(2000, 2000), speed=10), False),
    "AVIF of 100 frames": (
        "avif",
        lambda: saved("AVIF", flat(64, 64), save_all=True, append_images=frames(100), speed=10),
        False,
    ),
    "AVIF of 5 frames of 1 MP in one image": ("avif", lambda: avif_hidden(1000, 5), False),
    "AVIF of 3000 frames of 1 MP in one image": ("avif", lambda: avif_hidden(1000, 3000), True),
    "AVIF of 4096 x 64 whose tiles are 16 MP": ("avif", lambda: avif_grid(64, 4000), True),
    "AVIF of 20,000 items": ("avif", lambda: avif_items(20_000), True),
    "HEIC of 4 MP, flat": ("heic", lambda: saved("HEIF", flat(2000, 2000), quality=20), False),
    "HEIC of 100 images": (
        "heic",
        lambda: saved("HEIF", flat(64, 64), save_all=True, append_images=frames(100)),
        False,
    ),
    "HEIC of 8 pictures of 1 MP in one image": ("heic", lambda: heic_pictures(8), False),
    "HEIC of 3000 pictures of 1 MP in one image": ("heic", lambda: heic_pictures(3000), True),
    "HEIC grid, 268 MP around 64 x 64": ("heic", lambda: heic_grid(16, 16, 1024, (64, 64)), True),
    "HEIC grid made of itself": ("heic", lambda: heic_grid(2, 2, 64, (128, 128), [1, 1, 1, 1]), True),
    "HEIC grid of 1 MP": ("heic", lambda: heic_grid(4, 4, 256, (1024, 1024)), False),
    "JPEG XL of 4 MP, flat": ("jpeg-xl", lambda: saved("JXL", flat(2000, 2000), effort=1, use_container=False), False),
    "JPEG XL of 1 MP, noise": ("jpeg-xl", lambda: saved("JXL", noise(999, 999), effort=1, use_container=False), False),
    "JPEG XL of 10 layers": ("jpeg-xl", lambda: jxl_layers(10), False),
    "JPEG XL of 3000 layers": ("jpeg-xl", lambda: jxl_layers(3000), True),
    "JPEG 2000 of 16,000 tiles": ("jpeg2000", lambda: saved("JPEG2000", flat(126, 126), **TINY_TILES), False),
    "JPEG 2000 of 65,000 tiles": ("jpeg2000", lambda: saved("JPEG2000", flat(255, 255), **TINY_TILES), True),
    "JPEG 2000 of 2 kB, 59 million precincts": ("jpeg2000", lambda: j2k(7700, 7700, 1), True),
    "JPEG 2000 of 1 MP, noise": ("jpeg2000", lambda: saved("JPEG2000", noise(1000, 1000), no_jp2=True), False),
    "BPG of 4 MP, flat": ("bpg", lambda: encoded("bpg"), False),
    "HEVC of 4 MP, flat": ("hevc-intra", lambda: encoded("hevc-intra"), False),
}


def encoded(codec: str) -> bytes:
    import torch

    made = Registry().create("codec", codec)
    worst = made.quality_scale.ladder[0]
    return made.encode(torch.zeros(3, 2000, 2000, dtype=torch.uint8), worst)


def costs(name: str) -> dict[str, Cost]:
    """Return what a file costs the reader of image files and, where it is of a codec's format, the codec."""
    codec, make, _ = ATTACKS[name]
    content = make()
    found = {} if codec in ("bpg", "hevc-intra") else {"read_image": cost(read_image, content)}
    if codec:
        found[codec] = cost(Registry().create("codec", codec).decode, content)
    return found


def main() -> None:
    read_image(saved("PNG", flat(8, 8)))
    lines = ["| file | reader | CPU s | of | result |", "| --- | --- | --- | --- | --- |"]
    bad = False
    for name in ATTACKS:
        for reader, found in costs(name).items():
            bad |= not found.bounded
            allowed = FIXED_S + PER_MEGAPIXEL_S * found.megapixels
            result = "refused" if found.refused else f"{found.megapixels:.1f} MP"
            lines.append(f"| {name} | {reader} | {found.seconds:.2f} | {allowed:.1f} | {result} |")
            print(lines[-1], found.refused, flush=True)
    write_whole(HERE / "results" / "hostile_files.md", "\n".join(lines) + "\n")
    sys.exit(bad)


if __name__ == "__main__":
    main()
