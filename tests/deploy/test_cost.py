from typing import Any

import pytest
import torch
from torch import Tensor, nn

from precomp_qacnn import LightQACNN
from precomp_sdk import OptionError, Preprocessor
from precomp_sdk.deploy import measure_cost
from precomp_sdk.testing import FakePreprocessor


class OneConvolution(Preprocessor):
    name = "one-convolution"
    source = "this test"

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 5, padding=2)

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        out: Tensor = self.layer(images)
        return out


def test_a_convolution_costs_what_its_kernel_says() -> None:
    cost = measure_cost(OneConvolution(), height=10, width=12)
    assert cost.parameters == 3 * 3 * 25 + 3
    assert cost.macs_per_pixel == 3 * 3 * 25
    assert cost.milliseconds > 0
    assert "228 parameters, 225 multiply-accumulates per pixel" in str(cost)
    assert "10 x 12 on cpu" in str(cost)


def test_padding_costs_too() -> None:
    network = LightQACNN(width=16, depth=1)
    whole = measure_cost(network, height=16, width=16, repeats=1).macs_per_pixel
    assert measure_cost(network, height=9, width=9, repeats=1).macs_per_pixel == pytest.approx(
        whole * 256 / 81, rel=0.01
    )


def test_the_network_keeps_its_mode() -> None:
    network = FakePreprocessor().train()
    measure_cost(network, height=4, width=4, repeats=1)
    assert network.training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("wrong", [{"height": 0}, {"width": 0}, {"repeats": 0}])
def test_numbers_below_one(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="1 or more"):
        measure_cost(FakePreprocessor(), **wrong)
