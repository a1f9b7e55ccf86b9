"""Checks this package on a GPU in a few minutes: is the JPEG proxy exact there, and is a training step right and fast?

    python benchmarks/gpu_check.py [--device cuda] [--steps 20] [--size 224] [--batch 32] [--output gpu_check.json]

- **Proxy**: its pixels are libjpeg's, on every image, quality and subsampling, and its gradient is the CPU's.
- **Training step**: its terms are those of the CPU, and its time in 32 bits, with ``bf16-mixed``, and compiled.
- **Memory** that a step takes.

Ends with 1 where a check fails; says so and ends with 0 where the device is not there.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from precomp_jpeg import JPEGCodec, JPEGProxy
from precomp_qacnn import LightQACNN
from precomp_sdk import Channel, Sample, to_uint8
from precomp_sdk.modules import compiled
from precomp_sdk.training import AnchorPoint, Calibration, TrainSettings
from precomp_sdk.training.nan_guard import NaNGuard
from precomp_sdk.training.step import training_step
from precomp_torchvision import Classifier

QUALITIES = (5.0, 12.0, 26.0, 38.0)
GRADIENT_COSINE = 0.999  # rounding near a threshold may fall to the other side
TERM_TOLERANCE = 0.02  # relative, of a step's terms: other convolutions sum in another order


def drawn(count: int, height: int, width: int) -> Tensor:
    """Return smooth colours with grain on them, (N, 3, H, W) uint8."""
    chance = torch.Generator().manual_seed(0)
    colours = torch.rand(count, 3, 9, 13, generator=chance)
    smooth = torch.nn.functional.interpolate(colours, (height, width), mode="bicubic")
    return to_uint8((smooth + 0.1 * torch.randn(smooth.shape, generator=chance)).clamp(0, 1))


def check_proxy(device: torch.device) -> dict[str, Any]:
    """Compare the proxy's pixels with the codec's, and its gradient with the CPU's."""
    images = drawn(8, 97, 130)
    qualities = [1.0, 5.0, 12.0, 26.0, 50.0, 75.0, 95.0, 100.0]
    wrong, cosines = 0, []
    for subsampling in ("4:2:0", "4:2:2", "4:4:4", "gray"):
        codec = JPEGCodec(subsampling=subsampling)
        real = torch.stack([codec.transcode(*pair).image for pair in zip(images, qualities, strict=True)])
        gradients = []
        for place in (torch.device("cpu"), device):
            proxy = JPEGProxy(codec).to(place)
            source = (images.float() / 255).to(place).requires_grad_()
            output = proxy(source, qualities)
            if place == device:
                wrong += int((to_uint8(output.images.detach()).cpu() != real).sum())
            (output.images.square().mean() + output.bits.mean() / 1e6).backward()
            assert source.grad is not None
            gradients.append(source.grad.cpu().flatten())
        cosines.append(float(torch.nn.functional.cosine_similarity(*gradients, dim=0)))
    passed = wrong == 0 and min(cosines) > GRADIENT_COSINE
    return {"wrong_samples": wrong, "gradient_cosine": min(cosines), "passed": passed}


class Step:
    """A training step of `qa-light` in front of JPEG for a ResNet, with equal weights wherever it is made."""

    def __init__(self, device: torch.device, size: int, batch: int, precision: Any = "32-true") -> None:
        torch.manual_seed(0)
        self.codec = JPEGCodec()
        self.preprocessor, self.proxy = LightQACNN().to(device), JPEGProxy(self.codec).to(device)
        task = Classifier(architecture="resnet50", num_classes=10)
        self.task = task.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self.samples = [Sample(image, None, str(index)) for index, image in enumerate(drawn(batch, size, size))]
        self.fabric = Fabric(accelerator=device.type, devices=1, precision=precision)

    def __call__(self, channel: Channel) -> tuple[dict[str, float], Tensor]:
        """Run it; return its terms and its gradient's norm."""
        self.preprocessor.zero_grad()
        terms = training_step(
            self.samples,
            [QUALITIES[index % len(QUALITIES)] for index in range(len(self.samples))],
            channel=channel,
            task=self.task,
            calibration=Calibration(tuple(AnchorPoint(quality, 0.5, 1.0, 1.0, 0.1) for quality in QUALITIES)),
            settings=TrainSettings(),
            fabric=self.fabric,
            guard=NaNGuard("gpu-check"),
        )
        terms.loss.backward()
        grown = [item.grad.square().sum() for item in self.preprocessor.parameters() if item.grad is not None]
        return terms.scalars, torch.stack(grown).sum().sqrt()

    def milliseconds(self, steps: int) -> float:
        """Return a step's median duration, after some to warm up."""
        times = []
        with Channel(self.codec, self.preprocessor, proxy=self.proxy) as channel:
            for step in range(steps + 3):
                started = time.perf_counter()
                float(self(channel)[1])  # waits for the GPU
                if step >= 3:
                    times.append(1e3 * (time.perf_counter() - started))
        return statistics.median(times)


def check_step(device: torch.device, steps: int, size: int, batch: int) -> dict[str, Any]:
    """Compare a step's terms with the CPU's, and time it."""
    told = []
    for place in (torch.device("cpu"), device):
        step = Step(place, size, min(batch, 4))
        with Channel(step.codec, step.preprocessor, proxy=step.proxy) as channel:
            terms, norm = step(channel)
        told.append({**terms, "gradient_norm": float(norm)})
    off = {name: abs(told[1][name] - value) / max(abs(value), 1e-6) for name, value in told[0].items()}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    found: dict[str, Any] = {"off": max(off.values()), "passed": max(off.values()) < TERM_TOLERANCE}
    found["step_ms"] = round(Step(device, size, batch).milliseconds(steps), 1)
    if device.type == "cuda":
        found["step_bytes"] = torch.cuda.max_memory_reserved()
    found["step_bf16_ms"] = round(Step(device, size, batch, "bf16-mixed").milliseconds(steps), 1)
    try:
        step = Step(device, size, batch)
        with compiled(step.preprocessor, step.task):
            found["step_compiled_ms"] = round(step.milliseconds(steps), 1)
    except Exception as error:  # torch.compile wants a compiler that not every machine has
        found["step_compiled_ms"] = f"not compiled: {type(error).__name__}"
    return found


def main() -> int:
    """Check, print, and say whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("gpu-check: skipped, there is no CUDA device here")
        return 0
    started = time.perf_counter()
    found = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "torch": torch.__version__,
        "images": f"{options.batch} of {options.size} x {options.size}",
        "proxy": check_proxy(device),
        "training_step": check_step(device, options.steps, options.size, options.batch),
    }
    found["seconds"] = round(time.perf_counter() - started, 1)
    text = json.dumps(found, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    failed = [name for name in ("proxy", "training_step") if not found[name]["passed"]]
    print(f"gpu-check: {' and '.join(failed)} failed" if failed else "gpu-check: passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
