"""Preprocessors in tiles: any size, bounded memory, the same samples."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_sdk import Channel, OptionError, Preprocessor, to_float, to_uint8
from precomp_sdk.preprocessor import Tiling, Window
from precomp_sdk.testing import FakeCodec, FakePreprocessor, check, natural_image
from precomp_sdk.tiles import preprocess_in_tiles, reduced_to_square

SIDE = 32


class Darkener(Preprocessor):
    """Blurs by 5x5 and takes away a share of the whole image's mean: what is near, and what is far."""

    name = "darkener"
    source = "a double"
    multiple = 4
    overlap_px = 2

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(2))

    @property
    def tiling(self) -> Tiling:
        return Tiling(overlap_px=self.overlap_px, reduced_px=SIDE)

    def look(self, reduced: Tensor) -> Tensor:
        return reduced.mean(dim=(2, 3))

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        reduced = functional.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        window = Window(0, 0, images.shape[2], images.shape[3], (images.shape[2], images.shape[3]))
        return self._process_tile(images, self.look(reduced), window, strengths)

    def _process_tile(self, tiles: Tensor, seen: Tensor, window: Window, strengths: Tensor) -> Tensor:
        blurred = functional.avg_pool2d(functional.pad(tiles, (2, 2, 2, 2)), 5, stride=1)
        weight = strengths[:, None, None, None]
        return tiles + weight * (self.gain[0] * (blurred - tiles) - self.gain[1] * seen[:, :, None, None])


class Near(Darkener):
    """Its overlap is too small."""

    overlap_px = 0


class Far(Darkener):
    """Averages the tile, not the image."""

    def _process_tile(self, tiles: Tensor, seen: Tensor, window: Window, strengths: Tensor) -> Tensor:
        return super()._process_tile(tiles, tiles.mean(dim=(2, 3)), window, strengths)


class Shrunken(Darkener):
    """Returns another shape."""

    def _process_tile(self, tiles: Tensor, seen: Tensor, window: Window, strengths: Tensor) -> Tensor:
        return tiles[..., 1:]


def trained(cls: type[Darkener] = Darkener) -> Darkener:
    network = cls().eval()
    network.gain.data = torch.tensor([0.8, 0.2])
    return network


@pytest.mark.parametrize("size", [(1, 1), (37, 1), (61, 90), (128, 128), (130, 257)])
@pytest.mark.parametrize("tile_px", [16, 50, 64, 1000])
def test_tiles_of_any_side_give_the_whole_images_samples(size: tuple[int, int], tile_px: int) -> None:
    image, network = natural_image(*size), trained()
    with torch.no_grad():
        whole = to_uint8(network(to_float(image)[None], 0.9))[0]
    off = (preprocess_in_tiles(network, image, 0.9, tile_px=tile_px).int() - whole.int()).abs()
    assert int(off.max()) <= 1
    assert int((off > 0).sum()) <= max(1, off.numel() // 10_000)


@pytest.mark.parametrize("size", [(300, 40), (513, 700), (5, 3)])
def test_the_reduced_image_is_that_of_the_whole(size: tuple[int, int]) -> None:
    image = natural_image(*size)
    padded = functional.pad(to_float(image)[None], (0, -size[1] % 16, 0, -size[0] % 16), mode="replicate")
    expected = functional.interpolate(padded, (64, 64), mode="bilinear", antialias=True, align_corners=False)
    assert torch.allclose(reduced_to_square(image, 64, 16), expected, atol=1e-6)


def test_the_kit_holds_it_to_that() -> None:
    outcomes = {item.check.number: item.outcome for item in check(trained, on_fail="report").findings}
    assert outcomes["N14"] == "passed"


@pytest.mark.parametrize("cls", [Near, Far, Shrunken])
def test_the_kit_sees_an_overlap_too_small_and_statistics_of_a_tile(cls: type[Darkener]) -> None:
    failed = {item.check.number for item in check(lambda: trained(cls), on_fail="report").failures}
    assert "N14" in failed


def test_one_without_a_tiling_is_not_held_to_it_and_refused() -> None:
    outcomes = {item.check.number: item.outcome for item in check(FakePreprocessor).findings}
    assert outcomes["N14"] == "not applicable"
    with pytest.raises(OptionError, match="one that works in tiles"):
        preprocess_in_tiles(FakePreprocessor(), natural_image(40, 40), 0.5)
    with pytest.raises(OptionError, match="tile_px"):
        preprocess_in_tiles(trained(), natural_image(40, 40), 0.5, tile_px=0)


def test_a_channel_works_in_tiles_where_the_image_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    network = trained()
    image, small = natural_image(90, 120), natural_image(30, 40)
    calls: list[tuple[int, int]] = []
    process = Darkener._process_tile

    def counted(self: Darkener, tiles: Tensor, *rest: object) -> Tensor:
        calls.append((tiles.shape[2], tiles.shape[3]))
        return process(self, tiles, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Darkener, "_process_tile", counted)
    with torch.no_grad(), Channel(FakeCodec(), network, tile_px=64) as tiled, Channel(FakeCodec(), network) as whole:
        sent, expected = tiled.send([image, small], [30, 30]), whole.send([image, small], [30, 30])
    assert len(calls) == 4 + 1 + 2  # four tiles and a whole image, then both whole
    assert max(calls[:4]) < (90, 120)
    for one, other in zip(sent, expected, strict=True):
        assert int((one.int() - other.int()).abs().max()) <= 1


def test_an_image_that_is_downscaled_is_rounded_once() -> None:
    class Small(Darkener):
        def resolution(self, strength: float) -> float:
            return 0.5

    network = Small().eval()
    network.gain.data = torch.tensor([0.8, 0.2])
    image = natural_image(90, 120)
    with torch.no_grad(), Channel(FakeCodec(), network, tile_px=64) as tiled, Channel(FakeCodec(), network) as whole:
        sent, expected = tiled.send([image], [30])[0], whole.send([image], [30])[0]
    off = (sent.int() - expected.int()).abs()
    assert int(off.max()) <= 1
    assert int((off > 0).sum()) <= 2  # rounding twice moves one in ten


def test_gradients_go_through_the_whole_image() -> None:
    network = trained()
    with Channel(FakeCodec(), network, tile_px=16) as channel:
        (processed,) = channel.preprocess([natural_image(40, 40)], [30])
    assert processed.requires_grad
