"""Writes ``vectors.json``: tiny files of every kind, from our own encoder, and what they decode to.

    python tests/bpg/make_vectors.py

Run it only when the decoder is meant to change; the pixels of ``../shared/bpg-vectors`` decide what is right.
"""

import base64
import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np

from precomp_bpg import decode_bpg
from precomp_bpg._av import encode_frame, load_av
from precomp_bpg.container import CodedImage, PixelFormat
from precomp_bpg.encoder import encode_image
from precomp_bpg.hevc import parse_sps
from precomp_bpg.hevc.nal import IDR_TYPES, PPS, SPS, nal_type, split_nals

HERE = Path(__file__).resolve().parent
HEIGHT, WIDTH = 13, 19


def helpers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bpg_test_helpers", HERE / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def deep(bit_depth: int, chroma_format: int) -> CodedImage:
    """An image of more than 8 bits, which the encoder does not write."""
    name = ("gray", "yuv420p", "yuv422p", "yuv444p")[chroma_format] + f"{bit_depth}le"
    frame, chance, largest = load_av().VideoFrame(24, 16, name), np.random.default_rng(bit_depth), (1 << bit_depth) - 1
    for plane in frame.planes:
        y, x = np.mgrid[0 : plane.height, 0 : plane.line_size // 2]
        samples = (np.sin(x / 5 + y / 7) + 1) / 2 * largest + chance.normal(0, 20, x.shape)
        plane.update(samples.clip(0, largest).astype("<u2").tobytes())
    parameters = (
        "log-level=none:info=0:keyint=1:repeat-headers=1:qp=24:ipratio=1:ctu=16:pools=none:wpp=0:aq-mode=0:sao=1"
    )
    stream = encode_frame(frame, "superfast", parameters + ":aq-mode=0:sao=1")
    nals = split_nals(stream.lstrip(b"\0").removeprefix(b"\x01"), "x265")
    sps = parse_sps(next(nal for nal in nals if nal_type(nal) == SPS))
    return CodedImage(sps, tuple(nal for nal in nals if nal_type(nal) in (PPS, *IDR_TYPES)))


def files() -> dict[str, bytes]:
    help_ = helpers()

    def coded(chroma_format: int, qp: int = 30, effort: str = "default", seed: int = 5) -> CodedImage:
        image = help_.draw_image(HEIGHT, WIDTH, seed)
        return encode_image(image, qp, PixelFormat(chroma_format), effort).image

    def build(image: CodedImage, pixel_format: int, **fields: object) -> bytes:
        payload: bytes = help_.build_file(WIDTH, HEIGHT, image, pixel_format=pixel_format, **fields)
        return payload

    made = {f"format{code}": build(coded(code), code) for code in range(4)}
    made |= {"format4": build(coded(1), 4), "format5": build(coded(2), 5)}
    made |= {f"colour{space}": build(coded(3, 28), 3, colour_space=space) for space in (1, 2, 3, 4)}
    made["limited"] = build(coded(1), 1, limited=1)
    made["limited-gray"] = build(coded(0), 0, limited=1)
    made["limited-ycgco"] = build(coded(3), 3, colour_space=2, limited=1)
    plane = coded(0, 22, "fast", 9)
    made["alpha-straight"] = build(coded(1), 1, alpha=plane, alpha_bits=(1, 0), length=0)
    made["alpha-premultiplied"] = build(coded(1), 1, alpha=plane, alpha_bits=(1, 1))
    made["alpha-cmyk"] = build(coded(1), 1, alpha=plane, alpha_bits=(0, 1))
    for depth in (10, 12):
        for code in range(4):
            made[f"depth{depth}-format{code}"] = build(deep(depth, code), code, depth_minus8=depth - 8)
    made["extension-open"] = build(coded(1, 35, "best"), 1, extension=b"\x03\x04<x/>", length=0)
    return made


def main() -> None:
    entries = {}
    for name, payload in files().items():
        decoded = decode_bpg(payload)
        planes = decoded.rgb if decoded.alpha is None else np.concatenate((decoded.rgb, decoded.alpha[None]))
        entries[name] = {
            "bpg": base64.b64encode(payload).decode(),
            "shape": list(planes.shape),
            "sha256": hashlib.sha256(np.ascontiguousarray(planes).tobytes()).hexdigest(),
        }
    (HERE / "vectors.json").write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()
