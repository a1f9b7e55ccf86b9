"""Sender and receiver as ONNX give what Python's channel gives."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from precomp_qacnn import LightQACNN
from precomp_sdk import Compressor, ExportError, OptionError, Preprocessor, to_float
from precomp_sdk.deploy import export_onnx_pair
from precomp_sdk.deploy.int8 import quantized
from precomp_sdk.testing import FakeCodec, FakePreprocessor, natural_image

SIZES = [(1, 1), (37, 51), (64, 24), (130, 97)]


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def moved(network: Preprocessor) -> Preprocessor:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


class Shrinking(FakePreprocessor):
    """Codes at a lower resolution, the stronger the lower."""

    name = "shrinking"

    def resolution(self, strength: float) -> float:
        return round(1.0 - 0.6 * strength, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [FakePreprocessor(gain=0.7), LightQACNN(width=16, depth=1), Shrinking(gain=0.3)],
    ids=["fake", "light", "lower resolution"],
)
def test_the_pair_is_pythons_channel(network: Preprocessor, tmp_path: Path) -> None:
    compressor = Compressor(FakeCodec(), moved(network), ladder=(5, 70))
    sender, receiver = map(session, export_onnx_pair(compressor, tmp_path / "pair"))
    off = total = 0
    for height, width in SIZES:
        image = natural_image(height, width)
        for quality in (5, 30, 70):
            (sent,) = sender.run(
                ["sent"], {"image": image.permute(1, 2, 0).numpy(), "quality": np.array(quality, np.float32)}
            )
            expected = compressor.preprocess(image, quality)
            assert sent.dtype == np.uint8
            assert sent.shape == (*expected.shape[1:], 3)
            apart = np.abs(sent.transpose(2, 0, 1).astype(int) - expected.numpy().astype(int))
            assert apart.max() <= 1
            off, total = off + int((apart > 0).sum()), total + apart.size

            decoded = compressor.codec.decode(compressor.codec.encode(expected, quality))
            (seen,) = receiver.run(
                ["input"],
                {"decoded": decoded.permute(1, 2, 0).numpy(), "size": np.array([height, width], np.int64)},
            )
            restored = compressor.channel.receive([decoded], [(height, width)])[0]
            apart = np.abs(np.rint(255 * seen[0]).astype(int) - restored.numpy().astype(int))
            assert apart.max() <= 1
            off, total = off + int((apart > 0).sum()), total + apart.size
    assert off <= max(1, total // 10_000)


@pytest.mark.slow
def test_the_receiver_normalizes_for_its_network(tmp_path: Path) -> None:
    compressor = Compressor(FakeCodec(), FakePreprocessor(gain=0.7))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    _, path = export_onnx_pair(compressor, tmp_path, mean=mean, std=std)
    image = natural_image(20, 30)
    (seen,) = session(path).run(
        ["input"], {"decoded": image.permute(1, 2, 0).numpy(), "size": np.array([20, 30], np.int64)}
    )
    expected = (to_float(image) - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    np.testing.assert_allclose(seen[0], expected.numpy(), atol=1e-5)


@pytest.mark.slow
def test_the_files_say_what_they_are_of(tmp_path: Path) -> None:
    compressor = Compressor(FakeCodec(level=3), FakePreprocessor(gain=0.7), ladder=(5, 30))
    for path in export_onnx_pair(compressor, tmp_path):
        told = session(path).get_modelmeta().custom_metadata_map
        assert told["codec"] == "fake"
        assert told["ladder"] == "[5.0, 30.0]"


@pytest.mark.parametrize("wrong", [{"mean": (0.5,)}, {"std": (1, 0, 1)}, {"std": (1, 1)}])
def test_wrong_normalization_is_refused(wrong: dict[str, tuple[float, ...]], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="mean and std of three channels"):
        export_onnx_pair(Compressor(FakeCodec(), FakePreprocessor()), tmp_path, **wrong)


@pytest.mark.slow
def test_eight_bit_convolutions_do_to_an_image_what_float_ones_do(tmp_path: Path) -> None:
    compressor = Compressor(FakeCodec(), moved(LightQACNN(width=32, depth=1)), ladder=(5, 70))
    images = [natural_image(64, 96, seed=seed) for seed in range(4)]
    small, receiver = export_onnx_pair(compressor, tmp_path, int8=images)
    model = onnx.load(small)
    quantized_to = {node.op_type for node in model.graph.node} & {"QuantizeLinear", "DequantizeLinear"}
    assert len(quantized_to) == 2
    assert any(item.data_type == onnx.TensorProto.INT8 and len(item.dims) == 4 for item in model.graph.initializer)
    image = natural_image(80, 72, seed=9)
    (sent,) = session(small).run(
        ["sent"], {"image": image.permute(1, 2, 0).numpy(), "quality": np.array(5, np.float32)}
    )
    expected = compressor.preprocess(image, 5).permute(1, 2, 0).numpy().astype(int)
    apart = np.abs(sent.astype(int) - expected).mean()
    assert 0.0 < apart < 0.3 * np.abs(expected - image.permute(1, 2, 0).numpy()).mean()
    with pytest.raises(OptionError, match="images to calibrate on"):
        quantized(model, [], [5.0])
    with pytest.raises(ExportError, match="convolutions of more than three channels"):
        quantized(onnx.load(receiver), images, [5.0])
