import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from precomp_qacnn import GuidedQACNN, SmoothQACNN
from precomp_sdk import Compressor, Identity, OptionError, Preprocessor, cli, explain
from precomp_sdk.image_io import write_image
from precomp_sdk.testing import FakeCodec, FakePreprocessor, FakeTask, natural_image


class Window(Preprocessor):
    """Flattens the right half, and looks at the left; codes at half size where it is strong."""

    name = "window"
    source = "a double"

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        kept = images.shape[3] // 2
        return torch.cat([images[..., :kept], torch.full_like(images[..., kept:], 0.5)], dim=3)

    def resolution(self, strength: float) -> float:
        return 0.5 if strength > 0.5 else 1.0

    def guide_map(self, images: Tensor, strength: float) -> Tensor:
        map_ = torch.zeros(len(images), 4, 6)
        map_[..., :3] = 7.0
        return map_


@pytest.fixture(scope="module")
def image() -> Tensor:
    return natural_image(64, 96)


def test_everything_that_can_be_seen_is_what_was_sent(image: Tensor) -> None:
    sender = Compressor(FakeCodec(), Window())
    found = explain(sender, image, 30)
    assert found.resolution == 0.5
    payload = sender.compress(image, 30)
    assert found.bits == 8 * len(payload)
    assert found.anchor_bits == 8 * len(sender.codec.encode(image, 30))
    assert torch.equal(found.received, sender.decompress(payload, (64, 96)))
    assert torch.equal(found.processed[..., :48], image[..., :48])
    assert set(found.processed[..., 48:].unique().tolist()) <= {127, 128}
    assert found.guide is not None
    assert (found.guide[:, :3].min(), found.guide[:, 3:].max()) == (1.0, 0.0)
    before, after = np.array(found.source_tile_bits), np.array(found.sent_tile_bits)
    half = before.shape[1] // 2
    assert (after[:, half:] < before[:, half:]).all()
    assert "30 at 0.5 of height and width" in found.summary
    assert f"{len(payload)} bytes" in found.summary


def test_the_figure_is_a_picture_of_six_panels(image: Tensor, tmp_path: Path) -> None:
    for preprocessor in (Window(), FakePreprocessor(), Identity()):
        found = explain(Compressor(FakeCodec(), preprocessor), image, 70)
        found.save(tmp_path / "one.png")
        opened = Image.open(io.BytesIO((tmp_path / "one.png").read_bytes()))
        assert opened.width > 1000
        assert len([axes for axes in found.figure().axes if axes.get_title()]) == 6
    with pytest.raises(OptionError, match=r"\.png"):
        found.save(tmp_path / "one.gif")


def test_guided_preprocessors_say_where_they_look(image: Tensor) -> None:
    floats = image[None, :, :50, :90].float() / 255
    smooth = SmoothQACNN(width=8, depth=0)
    kept = smooth.guide_map(floats, 0.5)
    assert kept is not None
    assert kept.shape == (1, 7, 12)
    assert bool((kept == 1).all())  # it starts as the identity
    with torch.no_grad():
        smooth.decide.bias[0] = 2.0  # type: ignore[index]
    removed = smooth.guide_map(floats, 0.5)
    assert removed is not None
    assert bool((removed < 1).all())
    guided = GuidedQACNN(FakeTask(), width=8, depth=0).guide_map(floats, 0.5)
    assert guided is not None
    assert guided.ndim == 3
    assert guided.min() >= 0


def test_on_the_command_line(image: Tensor, tmp_path: Path) -> None:
    write_image(image, tmp_path / "photo.png")
    command = [
        "explain",
        str(tmp_path / "photo.png"),
        "general",
        "--quality",
        "20",
        "--output",
        str(tmp_path / "e.png"),
    ]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0, done.output
    assert "of the codec alone at 20" in done.stdout
    assert (tmp_path / "e.png").stat().st_size > 10_000
    told = json.loads(CliRunner().invoke(cli.app, [*command, "--json"]).stdout)
    assert (told["output"], told["asked"]) == (str(tmp_path / "e.png"), 20.0)
    assert f"{told['bits'] // 8} bytes, {100 * (told['bits'] / told['anchor_bits'] - 1):+.0f}%" in done.stdout
