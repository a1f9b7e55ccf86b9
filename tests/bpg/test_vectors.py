"""What bpgenc wrote decodes to what bpgdec makes of it, and so do a few files kept here."""

import base64
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from precomp_bpg import Alpha, BPGCodec, ColourSpace, decode_bpg, parse_bpg, slice_qp
from precomp_bpg.hevc import parse_pps
from precomp_bpg.hevc.nal import nal_type
from precomp_sdk import BitstreamError

HERE = Path(__file__).resolve().parent
REFUSED = "jctvc_lossless_rangeext_64x48.bpg"  # FFmpeg decodes it wrongly, as its manifest says
ALPHA = {(0, 0): Alpha.NONE, (1, 0): Alpha.STRAIGHT, (1, 1): Alpha.PREMULTIPLIED, (0, 1): Alpha.CMYK_W}


@pytest.fixture(scope="module")
def manifest(vectors: Path) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = json.loads((vectors / "manifest.json").read_text())["vectors"]
    assert len(entries) >= 20
    return entries


def test_headers(vectors: Path, manifest: list[dict]) -> None:
    for entry in manifest:
        file = parse_bpg((vectors / entry["file"]).read_bytes())
        got = (file.width, file.height, file.pixel_format, file.bit_depth, file.colour_space)
        assert got == tuple(entry[k] for k in ("width", "height", "pixel_format", "bit_depth", "color_space"))
        assert (file.limited_range, file.animation) == (bool(entry["limited_range"]), bool(entry["animation"]))
        assert file.alpha is ALPHA[entry["alpha1"], entry["alpha2"]]
        tools, wanted = file.colour.sps.tools, entry["hevc_header"]
        assert (tools.log2_min_cb, tools.log2_ctb) == (3 + wanted["min_cb"], 3 + wanted["min_cb"] + wanted["diff_cb"])
        assert (tools.intra_depth, tools.sao, tools.strong_smoothing) == (
            wanted["depth_intra"], bool(wanted["sao"]), bool(wanted["strong"]),
        )  # fmt: skip
        assert [bool(flag) for flag in tools.range_flags or [0] * 9] == [bool(flag) for flag in wanted["range"]]
        first = [(kind, size) for kind, layer, size in entry["nals"] if layer == 0 and kind in (34, 19, 20)]
        assert [(nal_type(nal), len(nal)) for nal in file.colour.nals] == first
        words = entry["bpgenc_options"].split()
        if "-lossless" not in words:
            q = int(words[words.index("-q") + 1])
            assert slice_qp(file.colour) == (q if "jctvc" in words else q - 3)


def test_pixels(vectors: Path, manifest: list[dict]) -> None:
    exact = 0
    for entry in manifest:
        payload = (vectors / entry["file"]).read_bytes()
        assert hashlib.sha256(payload).hexdigest() == entry["sha256_bpg"]
        if entry["file"] == REFUSED:
            continue
        wanted = np.asarray(Image.open(vectors / entry["png"])).transpose(2, 0, 1)
        decoded = decode_bpg(payload)
        # The manifest allows a few samples that differ by one; none does.
        assert np.array_equal(decoded.rgb, wanted[:3]), entry["file"]
        assert (decoded.alpha is not None) == (len(wanted) == 4)
        if decoded.alpha is not None:
            assert np.array_equal(decoded.alpha, wanted[3]), entry["file"]
        assert torch.equal(BPGCodec().decode(payload), torch.from_numpy(decoded.rgb))
        exact += 1
    assert exact == len(manifest) - 1


def test_lossless_of_jctvc_is_refused(vectors: Path) -> None:
    payload = (vectors / REFUSED).read_bytes()
    file = parse_bpg(payload)
    assert file.colour.sps.tools.implicit_rdpcm
    assert parse_pps(file.colour.nals[0]).transquant_bypass
    with pytest.raises(BitstreamError, match="implicit RDPCM in lossless blocks, which FFmpeg decodes wrongly"):
        decode_bpg(payload)


def test_truncation(vectors: Path, manifest: list[dict]) -> None:
    """The vectors give no length: a cut is known by its image depending on what would follow."""
    whole = 0
    for entry in manifest:
        payload = (vectors / entry["file"]).read_bytes()
        if entry["file"] == REFUSED or entry["animation"]:
            continue
        image = decode_bpg(payload).rgb
        lengths = {*range(40), *range(40, len(payload), len(payload) // 12 + 1), *range(len(payload) - 4, len(payload))}
        for length in lengths:
            if length >= len(payload) or length < 0:
                continue
            try:
                decoded = decode_bpg(payload[:length])
            except BitstreamError:
                continue
            # Nothing but the stop bit of the slice, or a message behind it, can be missing here.
            assert np.array_equal(decoded.rgb, image), (entry["file"], length)
            assert length >= len(payload) - (1 if len(entry["nals"]) == 2 else 57)
            whole += 1
    assert whole < 12


def kept() -> dict[str, dict[str, str]]:
    files: dict[str, dict[str, str]] = json.loads((HERE / "vectors.json").read_text())
    return files


@pytest.mark.parametrize("name", kept())
def test_kept_files(name: str) -> None:
    entry = kept()[name]
    payload = base64.b64decode(entry["bpg"])
    decoded = decode_bpg(payload)
    rgb = decoded.rgb if decoded.alpha is None else np.concatenate((decoded.rgb, decoded.alpha[None]))
    assert list(rgb.shape) == entry["shape"]
    assert hashlib.sha256(np.ascontiguousarray(rgb).tobytes()).hexdigest() == entry["sha256"]


def test_kept_files_are_of_many_kinds() -> None:
    files = [parse_bpg(base64.b64decode(entry["bpg"])) for entry in kept().values()]
    assert {int(file.pixel_format) for file in files} == set(range(6))
    assert {file.colour_space for file in files} == set(ColourSpace)
    assert {file.alpha for file in files} == set(Alpha)
    assert {file.bit_depth for file in files} == {8, 10, 12}
    assert any(file.limited_range for file in files)
