import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from precomp_qacnn import FreeQACNN, GuidedQACNN, LightQACNN, PaperQACNN, SmoothQACNN
from precomp_sdk import OptionError, Preprocessor
from precomp_sdk.testing import FakeTask, PreprocessorSettings, check, natural_image
from precomp_torchvision import SmallClassifier

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
    with torch.no_grad():  # behind zero-initialised layers nothing would move in the first step
        for value in net.parameters():
            value.add_(torch.randn_like(value) * 0.02)
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
        for layer in (net.correction, net.local_weights):
            layer.weight.normal_()
    assert field_px(net) == 256  # the context sees the whole image
    for mixer in net.mixers:  # without the two things that average over the image: 5x5 convolutions on an 8x8 grid
        mixer.context.weight.data.zero_()
        mixer.norm = nn.Identity()
    net.norm = nn.Identity()
    assert field_px(net) == 8 * (2 * 2 * len(net.mixers) + 1) == 136


def field_px(net: LightQACNN) -> int:
    """Width of the area that one block of the output depends on."""
    images = torch.rand(1, 3, 256, 256, requires_grad=True)
    features = net.embed(nn.functional.pixel_unshuffle(images, 8))
    for mixer in net.mixers:
        features = mixer(features, torch.tensor([0.5]))
    net.correction(net.norm(features))[0, :, 16, 16].square().sum().backward()
    assert images.grad is not None
    columns = images.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    return int(columns.max() - columns.min()) + 1


def test_the_smoothing_branch_smooths_luma_and_chroma_apart() -> None:
    net = LightQACNN()
    images = torch.rand(1, 3, 32, 32)
    gray = torch.tensor([0.299, 0.587, 0.114])
    for plane in ("luma", "chroma"):
        with torch.no_grad():
            net.global_weights.bias.zero_()
            start = 0 if plane == "luma" else 4
            net.global_weights.bias[start + 1] = 1.0  # wholly replaced by the Gaussian of 1.2 px
            output = net(images, 0.5)
        change = (output - images).clamp(-1, 1)
        luma_change = (change * gray[:, None, None]).sum(dim=1)
        inside = (output > 0) & (output < 1)
        inside = inside.all(dim=1)
        if plane == "chroma":
            assert luma_change[inside].abs().max() < 1e-5
            assert change.abs().max() > 0.05
        else:
            assert (change - luma_change[:, None]).abs().amax(dim=1)[inside].max() < 1e-5


def test_it_fades_to_the_untouched_image() -> None:
    whole, fading = LightQACNN(width=8, depth=1).eval(), LightQACNN(width=8, depth=1, fade=(0.25, 0.75)).eval()
    with torch.no_grad():
        for value in whole.parameters():
            value.add_(torch.randn_like(value) * 0.02)
        fading.load_state_dict(whole.state_dict())
        images = torch.rand(5, 3, 32, 24) * 0.5 + 0.25
        strengths = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
        changes, faded = whole(images, strengths) - images, fading(images, strengths) - images
    assert changes.abs().amax(dim=(1, 2, 3)).min() > 0.01
    assert torch.equal(faded[:2], torch.zeros_like(faded[:2]))
    torch.testing.assert_close(faded[2], 0.5 * changes[2])
    torch.testing.assert_close(faded[3:], changes[3:])
    check(lambda: LightQACNN(width=8, depth=1, fade=(0.25, 0.75)), PreprocessorSettings())


@pytest.mark.parametrize("fade", [(0.5,), (0.5, 0.5), (0.7, 0.2), (-0.1, 0.5), (0.1, 1.5), ("a", "b"), 0.5])
def test_a_wrong_fade_is_refused(fade: object) -> None:
    with pytest.raises(OptionError, match=r"option 'fade'.*the first below the second"):
        LightQACNN(fade=fade)  # type: ignore[arg-type]


@pytest.mark.parametrize("network", BOTH)
def test_options_rebuild_it(network: type[Preprocessor]) -> None:
    net = network(residual_scale=0.1)  # type: ignore[call-arg]  # both have it
    again = network(**net.options)
    assert again.options == net.options
    again.load_state_dict(net.state_dict())


@pytest.mark.parametrize("height", [325, 336])  # the last strip is shorter than what smoothing sees of the next; or not
@pytest.mark.parametrize(
    "make",
    [
        lambda: LightQACNN(width=16, depth=2),
        lambda: LightQACNN(width=16, depth=2, fade=(0.3, 0.6)),
        lambda: GuidedQACNN(SmallClassifier(num_classes=4, width=8).eval(), width=16, depth=2),
    ],
    ids=["light", "fading", "guided"],
)
def test_the_light_networks_give_the_same_by_strips(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], LightQACNN], height: int
) -> None:
    network = make().eval()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    images = torch.rand(2, 3, height, 75)
    with torch.no_grad():
        monkeypatch.setattr("precomp_qacnn.light._STRIP_PX", 10**6)
        whole = network(images, [0.4, 0.5])
        monkeypatch.setattr("precomp_qacnn.light._STRIP_PX", 32)
        torch.testing.assert_close(network(images, [0.4, 0.5]), whole, rtol=0, atol=1e-6)
    assert (whole - images).abs().mean() > 1e-3


def smoothing_light() -> Preprocessor:
    network = LightQACNN(width=16, depth=1)
    network.global_weights.bias.data += 0.25
    return network


def smoothing_smooth() -> Preprocessor:
    network = SmoothQACNN(width=16, depth=1)
    network.decide.bias.data += 0.5
    return network


@pytest.mark.parametrize("make", [smoothing_light, smoothing_smooth])
def test_samples_are_smoothed_in_32_bits_under_mixed_precision(make: Callable[[], Preprocessor]) -> None:
    """Eight bits of mantissa would round each by up to a level."""
    network, images = make().eval(), natural_image(64, 80)[None].float() / 255
    with torch.no_grad():
        whole = network(images, 0.5)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = network(images, 0.5)
    assert (whole - images).abs().max() > 5 / 255
    assert (mixed - whole).abs().max() < 0.25 / 255


@pytest.mark.parametrize("network", [FreeQACNN, GuidedQACNN, LightQACNN, PaperQACNN, SmoothQACNN])
@pytest.mark.parametrize("number", [-1, float("nan"), float("inf"), 8.5, "8", True])
def test_numbers_out_of_range_are_refused(network: type[Preprocessor], number: object) -> None:
    taken = set(inspect.signature(network).parameters)
    needed = {"task": FakeTask()} if "task" in taken else {}
    for option in {"width", "depth", "map_depth", "reduced_px", "residual_scale"} & taken:
        if (option, number) != ("residual_scale", 8.5):
            with pytest.raises(OptionError, match=option):
                network(**needed, **{option: number})
