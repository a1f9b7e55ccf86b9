"""backend="bpgenc": programs that work, fail, crash, hang, lie or are not there."""

import os
import stat
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from precomp_bpg import BPGCodec, parse_bpg, slice_qp
from precomp_sdk import BitstreamError, CodecError, MissingDependencyError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the proxies for the programs are shell scripts")
Program = Callable[[str, str], str]

# Copies the file that the test put beside it to the argument behind -o, and notes the other arguments.
WORKS = """
if [ "$1" = -h ]; then echo "BPG Image Encoder version 0.9.8"; exit 1; fi
here=$(dirname "$0")
echo "$@" >> "$here/$(basename "$0").arguments"
while [ $# -gt 0 ]; do
  if [ "$1" = -o ]; then cp "$here/$(basename "$0").result" "$2"; fi
  for last; do true; done
  shift
done
cp "$last" "$here/$(basename "$0").source"
"""
FAILS = 'echo "no such chroma format, says the program" >&2; exit 3'
CRASHES = "echo before the end; kill -SEGV $$"
HANGS = "echo still there; sleep 300 & sleep 300"
SILENT = "exit 0"
EMPTY = 'while [ $# -gt 0 ]; do if [ "$1" = -o ]; then : > "$2"; fi; shift; done'


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Writes a program and puts it on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def write(name: str, script: str) -> str:
        path = tmp_path / name
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return write


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go; empty again after every test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def both(program: Program, encoder: str = WORKS, decoder: str = WORKS) -> None:
    program("bpgenc", encoder)
    program("bpgdec", decoder)


@pytest.mark.parametrize(
    ("options", "quality", "arguments"),
    [
        ({}, 30, "-q 33 -e x265 -m 8 -f 420"),
        ({"qp_scale": "bpgenc", "effort": "fast"}, 33, "-q 33 -e x265 -m 1 -f 420"),
        ({"encoder": "jctvc", "chroma": "444", "effort": "best"}, 30, "-q 30 -e jctvc -m 9 -f 444"),
        ({"encoder": "jctvc", "qp_scale": "bpgenc", "chroma": "422"}, 30, "-q 30 -e jctvc -m 8 -f 422"),
        ({"chroma": "gray"}, 30, "-q 33 -e x265 -m 8"),
    ],
)
def test_a_round_trip_without_pyav(
    options: dict[str, str],
    quality: int,
    arguments: str,
    program: Program,
    image: Callable[..., Tensor],
    tmp_path: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = image(17, 26)
    payload = BPGCodec(chroma=options.get("chroma", "420")).encode(source, 30)  # type: ignore[arg-type]
    shown = BPGCodec().decode(payload)
    (tmp_path / "bpgenc.result").write_bytes(payload)
    Image.fromarray(shown.permute(1, 2, 0).numpy()).save(tmp_path / "bpgdec.result", "PNG")
    both(program)
    monkeypatch.setitem(sys.modules, "av", None)
    codec = BPGCodec(backend="bpgenc", **options)  # type: ignore[arg-type]
    done = codec.transcode(source, quality)
    assert torch.equal(done.image, shown)
    assert done.bits == 8 * len(payload)
    assert (tmp_path / "bpgenc.arguments").read_text().startswith(f"{arguments} -o ")
    given = np.asarray(Image.open(tmp_path / "bpgenc.source"))
    if options.get("chroma") == "gray":
        assert given.shape == (17, 26)
    else:
        assert np.array_equal(given.transpose(2, 0, 1), source.numpy())
    assert (tmp_path / "bpgdec.source").read_bytes() == payload
    assert codec.version == "bpgenc 0.9.8"
    assert codec.options["backend"] == "bpgenc"
    assert codec.options["encoder"] == options.get("encoder", "x265")
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (FAILS, "exit status 3; no such chroma format, says the program"),
        (CRASHES, "killed by SIGSEGV; before the end"),
        (SILENT, "exit status 0; it said nothing"),
        (EMPTY, "exit status 0; it said nothing"),
    ],
)
def test_programs_that_fail(
    script: str, message: str, program: Program, image: Callable[..., Tensor], temporary: Path
) -> None:
    both(program, script, script)
    codec = BPGCodec(backend="bpgenc")
    with pytest.raises(CodecError, match=f"bpgenc: .*{message}"):
        codec.encode(image(9, 9), 30)
    payload = BPGCodec().encode(image(9, 9), 30)
    if script is EMPTY or script is SILENT:
        message = "a BPG file that it decodes to a PNG"
    with pytest.raises(BitstreamError, match=f"bpgdec: .*{message}"):
        codec.decode(payload)
    assert not list(temporary.iterdir())


def test_programs_that_hang(program: Program, image: Callable[..., Tensor], temporary: Path) -> None:
    both(program, HANGS, HANGS)
    codec = BPGCodec(backend="bpgenc", timeout_s=0.5)
    payload = BPGCodec().encode(image(9, 9), 30)
    start = time.monotonic()
    with pytest.raises(CodecError, match=r"bpgenc: expected an end within 0\.5 s; got none; still there"):
        codec.encode(image(9, 9), 30)
    with pytest.raises(BitstreamError, match=r"bpgdec: expected an end within 0\.5 s"):
        codec.decode(payload)
    assert time.monotonic() - start < 30
    assert not list(temporary.iterdir())


def test_a_program_that_cannot_start(program: Program, image: Callable[..., Tensor], tmp_path: Path) -> None:
    both(program)
    codec = BPGCodec(backend="bpgenc")
    (tmp_path / "bpgenc").write_bytes(b"\x7fELF of another machine")
    with pytest.raises(CodecError, match="bpgenc: expected a program that starts"):
        codec.encode(image(9, 9), 30)


def test_long_messages_are_cut(program: Program, image: Callable[..., Tensor]) -> None:
    both(program, "i=0; while [ $i -lt 900 ]; do echo line $i; i=$((i+1)); done; exit 1")
    with pytest.raises(CodecError, match="line 899") as caught:
        BPGCodec(backend="bpgenc").encode(image(9, 9), 30)
    assert len(str(caught.value)) < 2600


@pytest.mark.parametrize("ending", ["exit 1", "yes 0123456789 | head -c 64M; sleep 300"])
def test_a_program_that_never_stops_talking_takes_no_room(
    ending: str, program: Program, image: Callable[..., Tensor], temporary: Path
) -> None:
    both(program, f"yes 0123456789 | head -c 64M; echo; echo the end; {ending}")
    codec = BPGCodec(backend="bpgenc", timeout_s=60 if ending == "exit 1" else 2)
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="the end" if ending == "exit 1" else "an end within 2 s"):
            codec.encode(image(9, 9), 30)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert not list(temporary.iterdir())


def test_results_that_are_not_what_was_asked_for(
    program: Program, image: Callable[..., Tensor], tmp_path: Path
) -> None:
    both(program)
    codec = BPGCodec(backend="bpgenc")
    result = tmp_path / "bpgenc.result"
    result.write_bytes(BPGCodec().encode(image(9, 9), 33))
    with pytest.raises(CodecError, match=r"slice QP \(9, 9, 30\); got \(9, 9, 33\)"):
        codec.encode(image(9, 9), 30)
    assert slice_qp(parse_bpg(BPGCodec(backend="bpgenc", qp_scale="bpgenc").encode(image(9, 9), 30)).colour) == 33
    result.write_bytes(BPGCodec().encode(image(9, 10), 30))
    with pytest.raises(CodecError, match=r"got \(9, 10, 30\)"):
        codec.encode(image(9, 9), 30)
    result.write_bytes(b"rubbish")
    with pytest.raises(CodecError, match="it to write a BPG file"):
        codec.encode(image(9, 9), 30)


def test_qp_that_bpgencs_x265_does_not_reach(program: Program, image: Callable[..., Tensor]) -> None:
    both(program)
    with pytest.raises(CodecError, match="a slice QP up to 48"):
        BPGCodec(backend="bpgenc").encode(image(9, 9), 49)


def test_truncated_files_never_reach_the_program(
    program: Program, image: Callable[..., Tensor], tmp_path: Path
) -> None:
    both(program)
    payload = BPGCodec().encode(image(9, 9), 30)
    with pytest.raises(BitstreamError, match="image data up to byte"):
        BPGCodec(backend="bpgenc").decode(payload[:-1])
    assert not (tmp_path / "bpgdec.arguments").exists()


def test_programs_that_are_not_there(program: Program, tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match="the program 'no-such-bpgenc'"):
        BPGCodec(backend="bpgenc", bpgenc="no-such-bpgenc")
    path = program("mybpgenc", WORKS)
    with pytest.raises(MissingDependencyError, match=r"bellard\.org/bpg"):
        BPGCodec(backend="bpgenc", bpgenc=path, bpgdec=str(tmp_path / "nothing"))


def test_a_program_without_version(program: Program) -> None:
    both(program, SILENT)
    assert BPGCodec(backend="bpgenc").version == "bpgenc of unknown version"


def test_a_image_of_another_size_than_the_file_says(
    program: Program, image: Callable[..., Tensor], tmp_path: Path
) -> None:
    both(program)
    Image.new("RGB", (300, 200)).save(tmp_path / "bpgdec.result", "PNG")
    with pytest.raises(BitstreamError, match="bpgdec: expected an image of 26x17, as the file says; got 300x200"):
        BPGCodec(backend="bpgenc").decode(BPGCodec().encode(image(17, 26), 30))
