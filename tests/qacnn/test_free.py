from pathlib import Path

import pytest
import torch
from torch import Tensor

from precomp_qacnn import FreeQACNN, SmoothQACNN
from precomp_sdk import OptionError, Preprocessor
from precomp_sdk.deploy import Compressor
from precomp_sdk.testing import check


def stirred(**options: object) -> FreeQACNN:
    """Return a network that changes images from place to place, by smoothing and by writing."""
    torch.manual_seed(3)
    network = FreeQACNN(**{"width": 16, "depth": 1, **options}).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    return network


def test_it_keeps_every_promise_of_a_preprocessor() -> None:
    check(FreeQACNN(width=8, depth=1))


def test_its_file_says_all_there_is(tmp_path: Path) -> None:
    from precomp_jpeg import JPEGCodec

    network = stirred(map_depth=1, reduced_px=96, fade=[0.1, 0.5])
    Compressor(JPEGCodec(), network, ladder=(5, 40)).save(tmp_path / "sender.safetensors")
    loaded = Compressor.load(tmp_path / "sender.safetensors").preprocessor
    image = torch.rand(1, 3, 40, 56)
    assert loaded.options == network.options
    with torch.no_grad():
        assert torch.equal(loaded(image, 0.6), network(image, 0.6))


def stripes(flip: bool) -> tuple[Tensor, Tensor]:
    """Return noisy stripes of seven pixels, so that no cell is without an edge, and the same without the noise."""
    shifts = torch.randint(0, 14, (4, 1, 1, 1))
    wanted = (0.25 + 0.5 * ((torch.arange(64) + shifts) // 7 % 2)).expand(-1, 3, 64, -1)
    wanted = wanted.transpose(2, 3) if flip else wanted
    return (wanted + 0.04 * torch.randn(4, 3, 64, 64)).clamp(0, 1), wanted


def trained(network: Preprocessor) -> float:
    """Return how much of the noise between edges it leaves after a little training; 1: all of it."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(60):
        images, wanted = stripes(bool(step % 2))
        loss = (network(images, 0.5) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        pairs = [stripes(flip) for flip in (False, True)]
        left = sum(float((network(images, 0.5) - wanted).square().mean()) for images, wanted in pairs)
        return left / sum(float((images - wanted).square().mean()) for images, wanted in pairs)


def test_it_can_flatten_what_lies_beside_an_edge_and_keep_the_edge() -> None:
    """What removal by cells of 8 x 8 pixels cannot."""
    free, smooth = trained(FreeQACNN(width=32, depth=2)), trained(SmoothQACNN(width=32, depth=2))
    assert free < 0.6
    assert free < 0.8 * smooth


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_overlap_grows_with_the_mixers(depth: int) -> None:
    assert FreeQACNN(width=8, depth=depth).tiling.overlap_px == 16 * depth + 8 + 9


def test_it_says_where_its_guide_looks() -> None:
    image = torch.rand(1, 3, 50, 90)
    found = stirred().guide_map(image, 0.5)
    assert found is not None
    assert found.ndim == 3
    assert found.std() > 0
    assert stirred(guide=False).guide_map(image, 0.5) is None


def test_a_map_depth_out_of_range_is_refused() -> None:
    with pytest.raises(OptionError, match="map_depth"):
        FreeQACNN(map_depth=-1)
