import pytest
import torch

from precomp_sdk import straight_through_bits, straight_through_images
from precomp_sdk.training import (
    AnchorPoint,
    Calibration,
    ObjectiveTerms,
    feature_distances,
)

POINTS = (
    AnchorPoint(quality=10.0, bpp=0.5, task_loss=2.0, feature_loss=0.4, trade_off=0.1, clean_loss=0.3),
    AnchorPoint(quality=40.0, bpp=1.5, task_loss=0.5, feature_loss=0.1, trade_off=1.0, clean_loss=0.3),
)


def test_plain_codec_scores_one_at_every_quality() -> None:
    calibration = Calibration(POINTS, task_weight=1.0, feature_weight=0.5, beta=3.0, clean_weight=0.7)
    anchor = ObjectiveTerms(
        bpps=torch.tensor([0.5, 1.5]),
        task_losses=torch.tensor([2.0, 0.5]),
        feature_losses=torch.tensor([0.4, 0.1]),
        clean_losses=torch.tensor([0.3, 0.3]),
        mses=torch.zeros(2),
    )
    torch.testing.assert_close(calibration.objectives([10.0, 40.0], anchor), torch.ones(2))


def test_each_term_has_its_weight() -> None:
    calibration = Calibration(POINTS, task_weight=2.0, feature_weight=0.5, beta=3.0, clean_weight=0.7)
    anchor = 0.5 + 0.1 * (2.5 * 2.0 + 0.7 * 0.3)
    nothing = ObjectiveTerms(*torch.zeros(5, 1))
    assert calibration.objectives([10.0], nothing).item() == 0.0
    for name, expected in (
        ("bpps", 1.0),
        ("task_losses", 0.1 * 2.0),
        ("feature_losses", 0.1 * 0.5 * (2.0 / 0.4)),
        ("clean_losses", 0.1 * 0.7),
        ("mses", 3.0),
    ):
        one = calibration.objectives([10.0], nothing._replace(**{name: torch.ones(1)}))
        assert one.item() == pytest.approx(expected / anchor), name


def test_composite_has_the_codecs_value_and_the_proxys_gradient() -> None:
    source = torch.rand(2, 3, 4, 4, requires_grad=True)
    real = torch.rand(2, 3, 4, 4)
    images = straight_through_images(real, 3.0 * source)
    assert torch.equal(images.detach(), real + (3.0 * source - 3.0 * source).detach())
    torch.testing.assert_close(torch.autograd.grad(images.sum(), source)[0], torch.full_like(source, 3.0))
    real_bits = torch.tensor([1000.0, 2000.0])
    predicted = 500.0 * source.mean(dim=(1, 2, 3))
    bits = straight_through_bits(real_bits, predicted)
    torch.testing.assert_close(bits.detach(), real_bits)
    slope = torch.autograd.grad(bits.sum(), source, retain_graph=True)[0]
    log_slope = torch.autograd.grad((real_bits * predicted.log()).sum(), source)[0]
    torch.testing.assert_close(slope, log_slope)


def test_feature_distance_is_zero_on_itself_and_one_from_nothing() -> None:
    clean = [torch.randn(3, 4, 5, 5), torch.randn(3, 8, 2, 2)]
    torch.testing.assert_close(feature_distances(clean, clean), torch.zeros(3))
    torch.testing.assert_close(feature_distances([torch.zeros_like(item) for item in clean], clean), torch.ones(3))
    one_off = [clean[0] * torch.tensor([1.0, 2.0, 1.0])[:, None, None, None], clean[1]]
    assert feature_distances(one_off, clean).tolist() == pytest.approx([0.0, 0.5, 0.0])
