import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from precomp_qacnn import GuidedQACNN, LightQACNN
from precomp_sdk import ExportError, MissingDependencyError, Preprocessor
from precomp_sdk.deploy import Compressor, export, export_onnx
from precomp_sdk.testing import FakeCodec, FakePreprocessor
from precomp_torchvision import Classifier

SIZES = [(1, 1, 1), (3, 7, 1), (2, 33, 50), (1, 64, 24)]


class Counting(FakePreprocessor):
    """Takes the batch for a constant."""

    name = "counting"

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return images.view(len(images), 3, -1).view(images.shape) + strengths.mean()


class Unwilling(FakePreprocessor):
    """Branches on a value."""

    name = "unwilling"

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return images if float(images.mean()) > 0.5 else images * 0.5


def moved(network: Preprocessor) -> Preprocessor:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        FakePreprocessor(gain=0.7),
        LightQACNN(width=16, depth=1),
        GuidedQACNN(Classifier(architecture="squeezenet1_1", num_classes=4).eval(), width=16, depth=1),
    ],
    ids=["fake", "light", "guided by SqueezeNet"],
)
def test_onnx_says_what_the_network_says_at_any_size(network: Preprocessor, tmp_path: Path) -> None:
    moved(network).train()
    export_onnx(network, tmp_path / "sub" / "network.onnx")
    assert network.training  # as it was
    session = onnxruntime.InferenceSession(tmp_path / "sub" / "network.onnx", providers=["CPUExecutionProvider"])
    assert [(item.name, item.shape) for item in session.get_inputs()] == [
        ("images", ["batch", 3, "height", "width"]),
        ("strengths", ["batch"]),
    ]
    network.eval()
    for count, height, width in SIZES:
        images, strengths = torch.rand(count, 3, height, width), torch.rand(count)
        (processed,) = session.run(["processed"], {"images": images.numpy(), "strengths": strengths.numpy()})
        with torch.no_grad():
            expected = network(images, strengths)
        assert (expected - images).abs().max() > 1e-4 or min(height, width) == 1
        torch.testing.assert_close(torch.from_numpy(processed), expected, rtol=0, atol=1e-5)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["network.onnx"]


def test_a_compressor_says_codec_and_strengths(tmp_path: Path) -> None:
    Compressor(FakeCodec(), FakePreprocessor(), ladder=(1, 100)).export_onnx(tmp_path / "network.onnx")
    told = {item.key: item.value for item in onnx.load(tmp_path / "network.onnx").metadata_props}
    assert (told["name"], told["codec"]) == ("fake", "fake")
    assert json.loads(told["strengths"]) == {"1": 1.0, "100": 0.0}
    assert json.loads(told["codec_options"]) == {"level": 6}


@pytest.mark.slow
@pytest.mark.parametrize("network", [Counting(), Unwilling()], ids=lambda network: network.name)
def test_what_has_no_onnx_is_refused_and_leaves_no_file(network: Preprocessor, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=rf"preprocessor '{network.name}'.*images.shape\[0\]"):
        export_onnx(network, tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda package: None if package == "onnxscript" else "there")
    with pytest.raises(MissingDependencyError, match=r"no onnxscript\. .*precomp-sdk\[onnx\]"):
        export_onnx(FakePreprocessor(), tmp_path / "network.onnx")
