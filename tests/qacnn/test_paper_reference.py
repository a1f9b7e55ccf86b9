"""The paper's network against a computation of its own: plain functions of the weights, written from the figure."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from precomp_qacnn import PaperQACNN

Weights = dict[str, Tensor]


def convolved(x: Tensor, w: Weights, name: str, stride: int = 1) -> Tensor:
    weight = w[f"{name}.weight"]
    return functional.conv2d(x, weight, w.get(f"{name}.bias"), stride=stride, padding=weight.shape[-1] // 2)


def normalized(x: Tensor, w: Weights, name: str) -> Tensor:
    mean, variance, scale, shift = (
        w[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def double(x: Tensor, w: Weights, name: str) -> Tensor:
    """Convolution, batch normalization and ReLU, twice."""
    x = normalized(convolved(x, w, f"{name}.0"), w, f"{name}.1").clamp_min(0.0)
    return normalized(convolved(x, w, f"{name}.3"), w, f"{name}.4").clamp_min(0.0)


def reference(network: PaperQACNN, images: Tensor, strengths: Tensor) -> Tensor:
    """The whole network in evaluation mode; only the gains themselves are taken from it."""
    w = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    point = network.point_gain1(convolved(images, w, "point1"), strengths).clamp_min(0.0)
    point = network.point_gain2(convolved(point, w, "point2"), strengths)
    x, skips = images, []
    for level in range(4):
        x = network.gains[level](double(x, w, f"down.{level}"), strengths)
        skips.append(x)
        x = convolved(x, w, f"downscale.{level}", stride=2)
    x = network.gains[4](double(x, w, "bottom"), strengths)
    for level in range(4):
        weight, bias = w[f"grow.{level}.weight"], w[f"grow.{level}.bias"]
        x = functional.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1)
        x = double(torch.cat((x, skips[3 - level]), dim=1), w, f"up.{level}")
    x = network.gains[5](x, strengths)
    return (point + network.residual_scale * convolved(x, w, "out")).clamp(0.0, 1.0)


@pytest.fixture(scope="module")
def network() -> PaperQACNN:
    """With every weight and statistic set at random, so that nothing cancels."""
    torch.manual_seed(5)
    network = PaperQACNN(residual_scale=0.2)
    with torch.no_grad():
        for name, value in [*network.named_parameters(), *network.named_buffers()]:
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point() and value.ndim < 2:
                value.add_(0.3 * torch.randn_like(value))
        network.out.weight.normal_(0.0, 0.3)
        for gain in (network.point_gain1, network.point_gain2):
            gain.mix.weight.normal_(0.0, 0.3)
    return network.double().eval()  # 64 bits, so that the deepest layer's part is told from rounding


def test_it_computes_what_the_figure_shows(network: PaperQACNN) -> None:
    images, strengths = torch.rand(2, 3, 32, 48).double(), torch.tensor([0.2, 0.9]).double()
    with torch.no_grad():
        found, wanted = network._process(images, strengths).clamp(0.0, 1.0), reference(network, images, strengths)
    assert torch.allclose(found, wanted, rtol=0.0, atol=1e-10)
    assert (found - images).abs().mean() > 0.02  # it is far from the identity
    assert ((found > 0.0) & (found < 1.0)).float().mean() > 0.2  # and the clamp does not hide it


def test_the_reference_notices_each_missing_relu(network: PaperQACNN) -> None:
    """Nine pairs of ReLUs in the U-Net: without any one of them the output is another."""
    images, strengths = torch.rand(1, 3, 32, 32).double(), torch.tensor([0.5]).double()
    blocks = [*network.down, network.bottom, *network.up]
    with torch.no_grad():
        wanted = reference(network, images, strengths)
        for block in blocks:
            for position in (2, 5):
                relu = block[position]
                block[position] = torch.nn.Identity()
                try:
                    assert not torch.allclose(
                        network._process(images, strengths).clamp(0.0, 1.0), wanted, rtol=0.0, atol=1e-10
                    ), (block, position)
                finally:
                    block[position] = relu
        assert torch.allclose(network._process(images, strengths).clamp(0.0, 1.0), wanted, rtol=0.0, atol=1e-10)
