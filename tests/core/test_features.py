"""Features are those of the caller's own pass, whichever thread runs the network beside it."""

import threading

import torch
from torch import Tensor, nn

from precomp_sdk import capture_layers


class Meeting(nn.Module):
    """A layer between two at which passes wait for each other, so that they overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.leave = threading.Event(), threading.Event()

    def forward(self, images: Tensor) -> Tensor:
        if not bool(images.gt(0).all()):  # only the caller's pass waits, for the stranger's to go through
            self.entered.set()
            assert self.leave.wait(20)
        return images


def test_a_pass_of_another_thread_leaves_the_features_alone() -> None:
    network = nn.Sequential(nn.Identity(), Meeting(), nn.Identity())
    meeting = network[1]
    assert isinstance(meeting, Meeting)

    def stranger() -> None:
        assert meeting.entered.wait(20)
        network(torch.ones(2, 3))  # runs all layers while the caller's pass stands in the middle
        meeting.leave.set()

    thread = threading.Thread(target=stranger)
    thread.start()
    own = torch.zeros(2, 3)
    first, last = capture_layers(network, ["0", "2"], lambda: network(own), 2)
    thread.join()
    assert torch.equal(first, own)
    assert torch.equal(last, own)


def test_two_threads_capture_their_own() -> None:
    network = nn.Sequential(nn.Identity(), nn.Identity())
    found: dict[int, list[Tensor]] = {}

    def capture(value: int) -> None:
        images = torch.full((1, 2), float(value))
        found[value] = capture_layers(network, ["0", "1"], lambda: network(images), 1)

    threads = [threading.Thread(target=capture, args=(value,)) for value in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(bool((layer == value).all()) for value, layers in found.items() for layer in layers)
    assert len(found) == 8
