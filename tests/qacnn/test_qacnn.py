import pytest
import torch
from precomp_qacnn import LightQACNN, PaperQACNN
from torch import Tensor, nn

from precomp_sdk import Preprocessor

BOTH = [LightQACNN, PaperQACNN]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def macs_per_pixel(network: Preprocessor, side: int = 128) -> float:
    """Multiply-accumulates of every convolution and linear layer, counted on a forward pass."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.ConvTranspose2d):
            total += inputs[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features

    for module in network.modules():
        module.register_forward_hook(count)  # type: ignore[arg-type]  # the hook reads what these layers return
    with torch.no_grad():
        network(torch.rand(1, 3, side, side), 0.5)
    return total / side**2


@pytest.mark.parametrize("network", BOTH)
@pytest.mark.parametrize("size", [(1, 1), (7, 30), (16, 16), (33, 17)])
def test_starts_as_the_identity_at_any_size(network: type[Preprocessor], size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    for mode in (True, False):
        output = network().train(mode)(images, torch.tensor([0.0, 1.0]))
        torch.testing.assert_close(output, images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("network", BOTH)
def test_every_parameter_learns(network: type[Preprocessor]) -> None:
    net = network()
    with torch.no_grad():  # behind the zero-initialised output nothing would move in the first step
        last = net.head if isinstance(net, LightQACNN) else net.out
        last.weight.normal_(std=0.1)
    images = torch.rand(3, 3, 32, 32) * 0.5 + 0.25
    (net(images, torch.tensor([0.1, 0.5, 0.9])) - torch.rand_like(images)).square().sum().backward()
    dead = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert dead == []


@pytest.mark.parametrize("network", BOTH)
def test_the_strength_changes_the_output(network: type[Preprocessor]) -> None:
    net = network().eval()
    with torch.no_grad():
        for value in net.parameters():
            value.add_(torch.randn_like(value) * 0.05)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        mild, strong = net(images, 0.1), net(images, 0.9)
    assert (mild - strong).abs().max() > 1e-4


def test_sizes_of_the_two_networks() -> None:
    assert parameters(PaperQACNN()) == pytest.approx(9.46e6, rel=0.02)
    assert parameters(LightQACNN()) < 300_000
    assert macs_per_pixel(LightQACNN()) < macs_per_pixel(PaperQACNN()) / 20


def test_receptive_field_of_the_light_network() -> None:
    net = LightQACNN().eval()
    with torch.no_grad():
        net.head.weight.normal_()
        for mixer in net.mixers:
            mixer.context.weight.zero_()  # its whole-picture context would hide the local field
            mixer.norm.weight.zero_()  # nor may the normalization, which averages over the picture
    images = torch.rand(1, 3, 256, 256)
    assert _field(LightQACNN(), images) == 256  # with context: all of it
    # without: five 5x5 depthwise convolutions on an 8x8 grid see 2 * 5 blocks to each side
    assert 8 * (2 * 2 * len(net.mixers) + 1) == 168


def _field(net: LightQACNN, images: Tensor) -> int:
    with torch.no_grad():
        net.head.weight.normal_()
    images = images.clone().requires_grad_()
    net(images, 0.5)[0, :, 128, 128].sum().backward()
    assert images.grad is not None
    columns = images.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    return int(columns.max() - columns.min()) + 1


@pytest.mark.parametrize("network", BOTH)
def test_options_rebuild_it(network: type[Preprocessor]) -> None:
    net = network(residual_scale=0.1)  # type: ignore[call-arg]  # both have it
    again = network(**net.options)
    assert again.options == net.options
    again.load_state_dict(net.state_dict())
