import torch
from torch import Tensor
from torch.nn import functional

from precomp_qacnn import SmoothQACNN
from precomp_sdk.testing import check


def stirred(*, strong: float = 0.5, **options: object) -> SmoothQACNN:
    """Return a network whose decisions differ from place to place and level to level."""
    torch.manual_seed(3)
    network = SmoothQACNN(**{"width": 16, "depth": 1, **options}).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn_like(value) * 0.1)
        network.decide.weight.add_(torch.randn_like(network.decide.weight) * strong)
        network.decide.bias.add_(0.5)
    return network


def photograph(height: int, width: int, *, grey: bool = False) -> Tensor:
    torch.manual_seed(5)
    coarse = functional.interpolate(torch.rand(1, 3, height // 8, width // 8), (height, width), mode="bilinear")
    image = (0.7 * coarse + 0.3 * torch.rand(1, 3, height, width)).clamp(0.02, 0.98)
    return image[:, :1].expand(-1, 3, -1, -1).contiguous() if grey else image


def test_it_keeps_every_promise_of_a_preprocessor() -> None:
    check(SmoothQACNN(width=8, depth=1))


def test_contrast_can_be_lost_and_not_gained() -> None:
    network = stirred(strong=3.0)
    image = photograph(96, 160, grey=True)
    with torch.no_grad():
        result = network(image, 0.7)
    assert (result - image).abs().mean() > 0.01  # something was removed
    reach = 65  # pixels around, on both sides
    highest = functional.max_pool2d(image, reach, 1, reach // 2)
    lowest = -functional.max_pool2d(-image, reach, 1, reach // 2)
    assert bool((result <= highest + 1e-5).all())
    assert bool((result >= lowest - 1e-5).all())
    flat = torch.full((1, 3, 64, 64), 0.3)
    torch.testing.assert_close(network(flat, 0.7).detach(), flat, rtol=0, atol=1e-5)
    for axis in (2, 3):  # no step is made steeper by anything that was not there: total variation falls
        assert float(result.diff(dim=axis).abs().sum()) < float(image.diff(dim=axis).abs().sum())


def test_a_tiles_border_depends_on_what_lies_around() -> None:
    network, image = stirred(strong=3.0), photograph(64, 256)
    with torch.no_grad():
        whole = network(image, 0.6)
        seen = network.look(functional.interpolate(image, (224, 224), mode="bilinear", antialias=True))
        from precomp_sdk import Window

        tile = network.process_tile(image[..., 128:], seen, Window(0, 128, 64, 128, (64, 256)), torch.tensor([0.6]))
    torch.testing.assert_close(tile[..., 64:], whole[..., 192:], rtol=0, atol=1e-5)
    assert float((tile[..., :8] - whole[..., 128:136]).abs().max()) > 1e-4


def test_outside_the_unit_only_gradients_pass_that_lead_back() -> None:
    from precomp_qacnn.smooth import _Unit

    raw = torch.tensor([-0.5, -0.5, 0.4, 1.5, 1.5], requires_grad=True)
    (_Unit.apply(raw) * torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])).sum().backward()
    assert raw.grad is not None
    assert raw.grad.tolist() == [0.0, -1.0, 1.0, 1.0, 0.0]
