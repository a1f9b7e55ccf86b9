"""What a sender needs is told before the work, and what cannot fit is refused."""

import subprocess
import sys

import psutil
import pytest

from precomp_qacnn import LightQACNN, PaperQACNN
from precomp_sdk import Preprocessor, ResourceError
from precomp_sdk.allocator import KEPT_BYTES
from precomp_sdk.deploy.resources import bytes_per_pixel, check_memory, memory_needed
from precomp_sdk.testing import FakePreprocessor

MEASURE = """
import sys, torch
import precomp_qacnn
def peak():
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
torch.set_num_threads(1)
network = getattr(precomp_qacnn, sys.argv[1])().eval()
images = torch.zeros(1, 3, 1024, 1024)
with torch.no_grad():
    network(images[..., :64, :64], 0.5)
    before = peak()
    network(images, 0.5)
print((peak() - before) / 1024**2)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")
@pytest.mark.parametrize("cls", [LightQACNN, PaperQACNN])
def test_the_estimate_holds_what_a_process_really_takes(cls: type[Preprocessor]) -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE, cls.__name__], capture_output=True, text=True, check=True)
    measured = float(done.stdout)
    assert measured <= 1.05 * bytes_per_pixel(cls()) <= 1.6 * measured


def test_memory_grows_with_the_image_without_a_tiling() -> None:
    network = FakePreprocessor()
    assert memory_needed(network, (200, 400)) == pytest.approx(4 * memory_needed(network, (100, 200)), rel=1e-6)


def test_what_the_allocator_keeps_of_freed_memory_is_foretold_up_to_its_bound() -> None:
    network = FakePreprocessor()
    taken = bytes_per_pixel(network)
    small, large = (100, 100), (5000, 5000)
    image_bytes = memory_needed(network, small) / 100**2 - 2 * taken  # of a pixel, whatever the network
    kept = memory_needed(network, large) - (image_bytes + taken) * 5000**2
    assert kept == pytest.approx(KEPT_BYTES, rel=1e-3)


def test_what_cannot_fit_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    network = FakePreprocessor()
    check_memory(network, (100, 100))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 10_000_000})())
    check_memory(network, (100, 100))
    with pytest.raises(
        ResourceError, match=r"of 2000 x 1000: expected .* GB of free memory, \d+ bytes a pixel; got 0.0 GB"
    ):
        check_memory(network, (1000, 2000))


def test_the_mode_and_the_weights_stay_as_they_were() -> None:
    network = FakePreprocessor(gain=0.3).train()
    bytes_per_pixel(network)
    assert network.training
    assert network.gain.grad is None
