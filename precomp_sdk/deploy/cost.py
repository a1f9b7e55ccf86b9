"""What a preprocessor costs its sender."""

import time
from dataclasses import dataclass
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from precomp_sdk.errors import OptionError
from precomp_sdk.modules import device_of, evaluation_mode
from precomp_sdk.preprocessor import Preprocessor

__all__ = ["Cost", "measure_cost"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one image costs.

    Args:
        parameters: how many numbers the network has learned.
        macs_per_pixel: multiply-accumulates of its convolutions and matrix products, over the image's pixels.
        milliseconds: wall time of one image, the median over the repeats.
        height: of the image, in pixels.
        width: likewise.
        device: where it was timed.
        threads: of PyTorch, where the device is a CPU.
    """

    parameters: int
    macs_per_pixel: float
    milliseconds: float
    height: int
    width: int
    device: str
    threads: int

    def __str__(self) -> str:
        return (
            f"{self.parameters:,} parameters, {self.macs_per_pixel:,.0f} multiply-accumulates per pixel, "
            f"{self.milliseconds:.1f} ms for {self.height} x {self.width} on {self.device}, {self.threads} thread(s)"
        )


def measure_cost(preprocessor: Preprocessor, *, height: int = 256, width: int = 256, repeats: int = 5) -> Cost:
    """Count and time a preprocessor on one image, where it is and as it is.

    Args:
        preprocessor: any; it keeps its mode.
        height: of the image, in pixels.
        width: likewise.
        repeats: how often it is timed, after one run that is not.

    Raises:
        OptionError: a number is below 1.
    """
    if min(height, width, repeats) < 1:
        raise OptionError(
            where="measure_cost",
            expected="height, width and repeats of 1 or more",
            got=f"{height}, {width} and {repeats}",
            remedy="Give the size of your images in pixels.",
        )
    device = device_of(preprocessor)
    image = torch.full((1, 3, height, width), 0.5, device=device)
    with evaluation_mode(preprocessor), torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            preprocessor(image, 0.5)
        times = [_seconds(preprocessor, image) for _ in range(repeats)]
    return Cost(
        parameters=sum(item.numel() for item in preprocessor.parameters()),
        macs_per_pixel=counter.get_total_flops() / 2 / (height * width),  # it counts two operations for each
        milliseconds=1000.0 * median(times),
        height=height,
        width=width,
        device=str(device),
        threads=torch.get_num_threads(),
    )


def _seconds(preprocessor: Preprocessor, image: torch.Tensor) -> float:
    _finish(image.device)
    start = time.perf_counter()
    preprocessor(image, 0.5)
    _finish(image.device)
    return time.perf_counter() - start


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
