"""Every real codec at every effort: CPU time per megapixel, bits and PSNR, in one run.

    python benchmarks/codecs.py ../shared/data/imagenette/val

Each codec works, at all its efforts, at the quality of its ladder whose mean rate comes nearest 0.5 bpp. Time is that
of the whole process, all threads of a library counted; codecs take turns on each image and the fastest turn of each
counts, so that other work on the machine hurts all alike. Codecs whose package or program is not installed are left
out and named. Writes ``results/codecs.json`` and ``.md``.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from time import process_time

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from precomp_bpg import BPGCodec, HEVCIntraCodec
from precomp_jpeg import JPEGCodec
from precomp_pillow import AVIFCodec, HEICCodec, JPEG2000Codec, JPEGXLCodec, WebPCodec
from precomp_sdk import Codec, MissingDependencyError

RESULTS = Path(__file__).parent / "results"
SIDE = 256
TARGET_BPP = 0.5
CONTENDERS: Sequence[tuple[str, str, Callable[[], Codec]]] = (
    ("jpeg", "", JPEGCodec),
    ("bpg 4:2:0", "fast", lambda: BPGCodec(effort="fast")),
    ("bpg 4:2:0", "default", BPGCodec),
    ("bpg 4:2:0", "best", lambda: BPGCodec(effort="best")),
    ("bpg 4:4:4", "default", lambda: BPGCodec(chroma="444")),
    ("bpg gray", "default", lambda: BPGCodec(chroma="gray")),
    ("bpgenc x265", "-m 8", lambda: BPGCodec(backend="bpgenc")),
    ("bpgenc jctvc", "-m 8", lambda: BPGCodec(backend="bpgenc", encoder="jctvc")),
    ("hevc-intra", "default", HEVCIntraCodec),
    ("heic", "fast", lambda: HEICCodec(effort="fast")),
    ("heic", "default", HEICCodec),
    ("heic", "best", lambda: HEICCodec(effort="best")),
    ("webp", "method 0", lambda: WebPCodec(method=0)),
    ("webp", "method 4", WebPCodec),
    ("webp", "method 6", lambda: WebPCodec(method=6)),
    ("avif", "speed 10", lambda: AVIFCodec(speed=10)),
    ("avif", "speed 6", AVIFCodec),
    ("avif", "speed 3", lambda: AVIFCodec(speed=3)),
    ("jpeg2000", "", JPEG2000Codec),
    ("jpeg-xl", "effort 3", lambda: JPEGXLCodec(effort=3)),
    ("jpeg-xl", "effort 7", JPEGXLCodec),
    ("jpeg-xl", "effort 9", lambda: JPEGXLCodec(effort=9)),
)
REFERENCE = ("bpg 4:2:0", "default")
Row = dict[str, str | float]


def photographs(folder: Path, count: int) -> list[Tensor]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
    chosen = files[:: max(1, len(files) // count)][:count]
    if len(chosen) < count:
        raise SystemExit(f"{folder}: {count} images are needed, {len(files)} found")
    images = [Image.open(file).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS) for file in chosen]
    return [torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous() for image in images]


def psnr_db(a: Tensor, b: Tensor) -> float:
    return 10 * float(np.log10(255**2 / max((a.double() - b.double()).square().mean().item(), 1e-9)))


def working() -> tuple[list[tuple[str, str, Codec]], list[str]]:
    found, absent = [], []
    for name, effort, make in CONTENDERS:
        try:
            found.append((name, effort, make()))
        except MissingDependencyError as error:
            absent.append(f"{name} {effort}: {error.expected} is not installed")
    return found, absent


def nearest_quality(codec: Codec, images: list[Tensor]) -> float:
    def miss(quality: float) -> float:
        return abs(fmean(8 * len(codec.encode(image, quality)) / SIDE**2 for image in images) - TARGET_BPP)

    return min(codec.quality_scale.ladder, key=miss)


def measure(codecs: list[tuple[str, str, Codec]], images: list[Tensor], turns: int) -> list[Row]:
    by_name: dict[str, float] = {}
    for name, _, codec in codecs:
        if name not in by_name:
            by_name[name] = nearest_quality(codec, images)
    qualities = [by_name[name] for name, _, _ in codecs]
    encode_s = np.full((len(codecs), len(images), turns), np.inf)
    decode_s = np.full_like(encode_s, np.inf)
    bits, quality_db = np.zeros((2, len(codecs), len(images)))
    for column, image in enumerate(images):
        for turn in range(turns):
            for row, (_, _, codec) in enumerate(codecs):
                start = process_time()
                payload = codec.encode(image, qualities[row])
                middle = process_time()
                decoded = codec.decode(payload)
                encode_s[row, column, turn] = middle - start
                decode_s[row, column, turn] = process_time() - middle
                bits[row, column] = 8 * len(payload)
                quality_db[row, column] = psnr_db(decoded, image)
    per_megapixel = 1e3 / (SIDE**2 / 1e6)
    encode_ms = encode_s.min(2).mean(1) * per_megapixel
    decode_ms = decode_s.min(2).mean(1) * per_megapixel
    at = [(name, effort) for name, effort, _ in codecs].index(REFERENCE)
    return [
        {
            "codec": name,
            "effort": effort,
            "quality": f"{codec.quality_scale.name} {qualities[row]:g}",
            "bpp": float(bits[row].mean() / SIDE**2),
            "psnr_db": float(quality_db[row].mean()),
            "encode_ms_per_megapixel": float(encode_ms[row]),
            "decode_ms_per_megapixel": float(decode_ms[row]),
            "encode_ratio": float(encode_ms[row] / encode_ms[at]),
            "decode_ratio": float(decode_ms[row] / decode_ms[at]),
            "version": codec.version,
        }
        for row, (name, effort, codec) in enumerate(codecs)
    ]


def bpg_by_qp(images: list[Tensor], turns: int) -> list[dict[str, float]]:
    """Encode plus decode of one image of 256 x 256, the bar of 60 ms, over the ladder."""
    codec = BPGCodec()
    rows = []
    for qp in codec.quality_scale.ladder:
        best_ms = []
        for image in images:
            spent = []
            for _ in range(turns):
                start = process_time()
                codec.transcode(image, qp)
                spent.append(1e3 * (process_time() - start))
            best_ms.append(min(spent))
        rows.append({"QP": qp, "mean_ms": fmean(best_ms), "slowest_image_ms": max(best_ms)})
    return rows


def report(result: dict[str, object], command: str) -> str:
    rows, ladder = result["codecs"], result["bpg_default_by_qp"]
    assert isinstance(rows, list)
    assert isinstance(ladder, list)
    lines = [
        "# Real codecs: CPU time per megapixel",
        "",
        f"`{command}`, {result['images']} images of {SIDE} x {SIDE}, fastest of {result['turns']} turns, on "
        f"{result['cpus']} cores (load average {result['load']:.1f}). Ratios are against BPG 4:2:0 at its default "
        "effort. PSNR is that of RGB; gray loses its colour, and the rates differ, so read it beside bpp.",
        "",
        "| codec | effort | quality | bpp | PSNR dB | encode ms/MP | ratio | decode ms/MP | ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['codec']} | {row['effort']} | {row['quality']} | {row['bpp']:.3f} | {row['psnr_db']:.2f} "
        f"| {row['encode_ms_per_megapixel']:.0f} | {row['encode_ratio']:.2f} "
        f"| {row['decode_ms_per_megapixel']:.0f} | {row['decode_ratio']:.2f} |"
        for row in rows
    ]
    lines += ["", "BPG 4:2:0 at its default effort, encode plus decode of one image (bar: 60 ms):", ""]
    lines += ["| QP | mean ms | slowest image ms |", "| --- | --- | --- |"]
    lines += [f"| {row['QP']:g} | {row['mean_ms']:.1f} | {row['slowest_image_ms']:.1f} |" for row in ladder]
    absent = result["left_out"]
    assert isinstance(absent, list)
    lines += ["", f"Left out: {'; '.join(absent) or 'nothing'}.", "", "Versions: "]
    lines[-1] += "; ".join(sorted({str(row["version"]) for row in rows if row["version"]})) + "."
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--turns", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = photographs(options.folder, options.images)
    codecs, absent = working()
    result: dict[str, object] = {
        "images": len(images),
        "turns": options.turns,
        "side": SIDE,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "codecs": measure(codecs, images, options.turns),
        "bpg_default_by_qp": bpg_by_qp(images, options.turns),
        "load": os.getloadavg()[0],
        "left_out": absent,
    }
    text = report(result, f"python benchmarks/codecs.py {options.folder.name}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "codecs.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "codecs.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
