"""What `qa-smooth` and `qa-free` see of the whole image."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from precomp_qacnn import FreeQACNN, SmoothQACNN
from precomp_qacnn._overview import Overview
from precomp_sdk import CheckpointError, OptionError, Window, deploy

BOTH = (SmoothQACNN, FreeQACNN)
Network = SmoothQACNN | FreeQACNN


def stirred(make: Callable[..., Network], **options: object) -> Network:
    """Return a network that changes images from place to place."""
    torch.manual_seed(3)
    network = make(**{"width": 16, "depth": 1, **options}).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn_like(value) * 0.1)
        if isinstance(network, SmoothQACNN):
            network.decide.bias.add_(0.5)  # its decisions are clipped to [0, 1]
    return network


def photograph(height: int, width: int) -> Tensor:
    torch.manual_seed(5)
    coarse = functional.interpolate(torch.rand(1, 3, height // 8, width // 8), (height, width), mode="bilinear")
    return (0.7 * coarse + 0.3 * torch.rand(1, 3, height, width)).clamp(0.02, 0.98)


def guide_of(network: Network) -> torch.nn.Module:
    assert network.overview.guide is not None
    return network.overview.guide


@pytest.mark.parametrize("make", BOTH)
def test_it_costs_the_same_at_any_size(make: Callable[..., Network]) -> None:
    network = stirred(make)
    sizes: list[tuple[int, ...]] = []
    guide_of(network).register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape)))
    for size in ((64, 64), (240, 320), (480, 128)):
        network(photograph(*size), 0.5)
    assert sizes == [(1, 3, 224, 224)] * 3


def test_a_tile_gets_its_part_of_the_map() -> None:
    seen = torch.rand(1, 4, 27, 13)
    whole = functional.interpolate(seen, (40, 90), mode="bilinear", align_corners=False)
    part = Overview.of_window(seen, Window(top=64, left=320, height=128, width=400, size=(320, 720)))
    torch.testing.assert_close(part, whole[:, :, 8:24, 40:90], rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", BOTH)
def test_a_tiles_change_depends_on_the_whole_image(make: Callable[..., Network]) -> None:
    """The same tile, at the same place, in images that differ far away."""
    network, image = stirred(make), photograph(64, 512)
    other = image.clone()
    other[..., 400:] = 0.9
    with torch.no_grad():
        changes = [network(one, 0.6)[..., :128] - one[..., :128] for one in (image, other)]
    assert float((changes[0] - changes[1]).abs().max()) > 1e-4


@pytest.mark.parametrize("make", BOTH)
def test_what_lies_beyond_the_overlap_counts_by_the_map_alone(make: Callable[..., Network]) -> None:
    network, image = stirred(make), photograph(64, 512)
    tiling = network.tiling
    assert tiling is not None
    seen = network.look(functional.interpolate(image, (224, 224), mode="bilinear", antialias=True))
    window, strengths = Window(0, 0, 64, 512, (64, 512)), torch.tensor([0.6])
    with torch.no_grad():
        expected = network.process_tile(image, seen, window, strengths)
        for distance_px, counts in ((tiling.overlap_px, False), (8, True)):
            other = image.clone()
            other[..., 128 + distance_px :] = 1 - other[..., 128 + distance_px :]
            found = network.process_tile(other, seen, window, strengths)
            assert bool((found[..., :128] != expected[..., :128]).any()) is counts


@pytest.mark.parametrize("make", BOTH)
def test_the_guide_is_frozen_and_in_no_weights_file(make: Callable[..., Network]) -> None:
    network = stirred(make).train()
    guide = dict(guide_of(network).named_buffers())
    assert guide["0_weight"].dtype == torch.float16
    assert not any(".guide" in name for name in (*dict(network.named_parameters()), *network.state_dict()))
    before = {name: value.clone() for name, value in guide.items()}
    network(photograph(64, 64), 0.5).sum().backward()
    torch.optim.SGD(network.parameters(), lr=1.0).step()
    assert all(torch.equal(dict(guide_of(network).named_buffers())[name], value) for name, value in before.items())


@pytest.mark.parametrize("make", BOTH)
def test_without_its_guide_it_looks_for_itself(make: Callable[..., Network]) -> None:
    image = photograph(64, 96)
    network = stirred(make, guide=False)
    assert network.overview.guide is None
    assert (network(image, 0.5) - image).abs().mean() > 1e-3


@pytest.mark.parametrize("make", BOTH)
def test_a_missing_guide_file_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[..., Network]
) -> None:
    known = load_file(deploy.shipped_network_file("squeezenet"))
    file = tmp_path / "gone.safetensors"
    monkeypatch.setattr(deploy, "shipped_network_file", lambda _: file)
    with pytest.raises(CheckpointError, match=r"(?i)no such file"):
        make()
    save_file({"network.features.0.weight": known["network.features.0.weight"]}, file)
    with pytest.raises(CheckpointError, match=r"network\.features"):
        make()
    save_file({name: torch.zeros(1) for name in known}, file)
    with pytest.raises(CheckpointError, match="other tensors"):
        make()


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("wrong", [{"width": 0}, {"depth": -1}, {"reduced_px": 32}, {"fade": [0.5, 0.2]}])
def test_options_out_of_range_are_refused(make: Callable[..., Network], wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        make(**wrong)


@pytest.mark.parametrize("make", BOTH)
def test_fade_leaves_mild_qualities_alone(make: Callable[..., Network]) -> None:
    image = photograph(64, 64)
    with torch.no_grad():
        faded, whole = (
            [float((network(image, strength) - image).abs().mean()) for strength in (0.1, 0.3, 0.9)]
            for network in (stirred(make, fade=[0.2, 0.6]), stirred(make))  # of the same weights
        )
    assert faded[0] == 0.0 < whole[0]
    assert 0.0 < faded[1] < whole[1]
    assert faded[2] == whole[2]


@pytest.mark.slow
@pytest.mark.parametrize("make", BOTH)
def test_it_becomes_onnx(tmp_path: Path, make: Callable[..., Network]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from precomp_sdk.deploy import export_onnx

    network = stirred(make)
    export_onnx(network, tmp_path / "one.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "one.onnx"))
    for size in ((37, 51), (130, 64)):
        image = photograph(size[0] // 8 * 8 + 8, size[1] // 8 * 8 + 8)[..., : size[0], : size[1]].contiguous()
        with torch.no_grad():
            expected = network(image, 0.6)
        got = session.run(None, {"images": image.numpy(), "strengths": torch.tensor([0.6]).numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(got), expected, rtol=0, atol=1 / 510)  # half a level
