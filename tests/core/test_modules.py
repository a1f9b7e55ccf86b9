"""Evaluation mode for a while, and where a module is."""

import threading
import warnings

import pytest
import torch
from torch import nn

from precomp_sdk.modules import device_of, evaluation_mode


class Counting(nn.Module):
    """Has a `train` of its own, which must not be called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.norm = nn.BatchNorm2d(3)

    def train(self, mode: bool = True) -> "Counting":
        self.calls += 1
        return super().train(mode)


def mixed() -> nn.Sequential:
    return nn.Sequential(nn.Dropout(), nn.BatchNorm2d(3).eval(), nn.Sequential(nn.Dropout().eval(), nn.ReLU()).eval())


def modes(network: nn.Module) -> list[bool]:
    return [part.training for part in network.modules()]


def test_every_submodule_gets_its_own_mode_back():
    network, other = mixed(), nn.Dropout()
    network[2][1].train()
    before = modes(network)
    assert before == [True, True, False, False, False, True]
    with evaluation_mode(network, other, network):
        assert not any(modes(network))
        assert not other.training
    assert modes(network) == before
    assert other.training


def test_a_module_in_evaluation_mode_stays_so():
    network = mixed().eval()
    with evaluation_mode(network):
        pass
    assert not any(modes(network))


def test_a_frozen_batch_normalization_keeps_its_statistics():
    network = nn.Sequential(nn.BatchNorm2d(3).eval()).train(True)
    network[0].eval()
    mean = network[0].running_mean.clone()
    with evaluation_mode(network):
        network(torch.rand(2, 3, 4, 4))
    network(torch.rand(2, 3, 4, 4))
    assert torch.equal(network[0].running_mean, mean)


def test_modes_come_back_after_an_error():
    network = mixed()
    before = modes(network)
    with pytest.raises(RuntimeError, match="inside"), evaluation_mode(network):
        raise RuntimeError("inside")
    assert modes(network) == before
    assert modes(network) == before  # and again: nothing is left of the first use
    with evaluation_mode(network):
        assert not any(modes(network))
    assert modes(network) == before


def test_what_happens_inside_does_not_remain():
    network = nn.Sequential(nn.Dropout()).eval()
    with evaluation_mode(network):
        network.train()
    assert not any(modes(network))


def test_train_of_a_subclass_is_not_called():
    network = Counting()
    with evaluation_mode(network):
        assert not network.norm.training
    assert network.calls == 0


def test_uses_nest():
    network, inner = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout())), None
    inner = network[1]
    with evaluation_mode(network):
        with evaluation_mode(inner):
            assert not any(modes(network))
        assert not any(modes(network))
        inner.train()  # by its owner, inside
        with evaluation_mode(inner):
            assert not any(modes(inner))
        assert all(modes(inner))
    assert all(modes(network))


def test_overlapping_uses_of_two_threads_keep_it_in_evaluation_mode():
    network = nn.Sequential(nn.Dropout())
    entered, leave, seen = threading.Event(), threading.Event(), []

    def first() -> None:
        with evaluation_mode(network):
            entered.set()
            assert leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(10)
    with evaluation_mode(network):
        leave.set()
        thread.join()
        seen.extend(modes(network))  # the other use ended, this one did not
    assert seen == [False, False]
    assert all(modes(network))


def test_device_of_a_parameter_a_buffer_or_nothing():
    buffered = nn.Module()
    buffered.register_buffer("table", torch.zeros(2, device="meta"))
    both = nn.Module()
    both.register_buffer("table", torch.zeros(2))
    both.weight = nn.Parameter(torch.zeros(2, device="meta"))
    assert device_of(nn.Linear(2, 2)) == torch.device("cpu")
    assert device_of(both) == torch.device("meta")
    assert device_of(buffered) == torch.device("meta")
    assert device_of(nn.ReLU()) == torch.device("cpu")
    assert device_of(nn.ReLU(), torch.device("meta")) == torch.device("meta")


def test_what_torchscript_has_frozen_has_no_mode() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch deprecates TorchScript, which is still in use
        traced = torch.jit.trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout()).eval(), torch.rand(1, 3, 8, 8))
        frozen = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    holder = nn.Sequential(frozen, nn.Dropout())
    with evaluation_mode(holder):
        assert not holder[1].training
    assert holder[1].training
