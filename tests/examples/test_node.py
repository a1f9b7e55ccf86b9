"""The example in Node: sender and receiver without Python."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from precomp_jpeg import JPEGCodec
from precomp_qacnn import LightQACNN
from precomp_sdk import Compressor
from precomp_sdk.deploy import export_onnx_pair
from precomp_sdk.image_io import read_image, write_image
from precomp_sdk.testing import natural_image

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "node"
pytestmark = [pytest.mark.slow, pytest.mark.interop]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with its packages; skipped where there is no Node, or no registry to get them from."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node.js here")
    folder = tmp_path_factory.mktemp("node") / "example"
    shutil.copytree(FOLDER, folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        pytest.skip(f"npm install: {done.stderr[-300:]}")
    return folder


def test_an_image_goes_from_sender_to_receiver(node: Path) -> None:
    network = LightQACNN(width=16, depth=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    sender = Compressor(JPEGCodec(), network, ladder=(5, 90))
    export_onnx_pair(sender, node / "pair")
    image = natural_image(61, 91)
    write_image(image, node / "photo.png")

    send, receive = (
        "send.mjs pair/sender.onnx photo.png 90 small.jpg",
        "receive.mjs pair/receiver.onnx small.jpg 61 91 x.f32",
    )
    for script in (send, receive):
        subprocess.run(["node", *script.split()], cwd=node, check=True, capture_output=True, timeout=120)

    decoded = read_image(node / "small.jpg")
    seen = torch.from_numpy(np.fromfile(node / "x.f32", np.float32).reshape(3, 61, 91))
    expected = sender.channel.receive([decoded], [(61, 91)])[0]
    assert (255 * seen - expected).abs().mean() < 1.0  # two decoders round differently
    sent = sender.preprocess(image, 90)
    mse = (sent.float() - decoded.float()).square().mean()
    assert 10 * torch.log10(255**2 / mse) > 30.0  # quality 90: what was encoded is what the network made


def test_the_scripts_are_short() -> None:
    assert sum(len(path.read_text().splitlines()) for path in FOLDER.glob("*.mjs")) <= 100
