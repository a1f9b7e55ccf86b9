"""Time of a training step with the real codec in the loop over one with the proxy both ways, in one run.

    python benchmarks/training_step.py [--steps 30] [--size 160] [--batch 16]

Both kinds of step alternate, so that whatever else the machine does meets both alike.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from lightning_fabric import Fabric

from precomp_data import Scenes
from precomp_jpeg import JPEGCodec, JPEGProxy
from precomp_qacnn import LightQACNN
from precomp_sdk import Channel
from precomp_sdk.training import AnchorPoint, Calibration, TrainSettings
from precomp_sdk.training.nan_guard import NaNGuard
from precomp_sdk.training.step import training_step
from precomp_torchvision import Classifier


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=30)
    arguments.add_argument("--size", type=int, default=160)
    arguments.add_argument("--batch", type=int, default=16)
    options = arguments.parse_args()
    codec = JPEGCodec()
    proxy, network = JPEGProxy(codec), LightQACNN()
    task = Classifier(architecture="squeezenet1_1", num_classes=10).eval().requires_grad_(False)
    images = Scenes(count=options.batch, size=options.size)
    samples = [images[index] for index in range(options.batch)]
    qualities = [(5.0, 12.0, 26.0, 38.0)[index % 4] for index in range(options.batch)]
    points = tuple(AnchorPoint(quality, 0.5, 1.0, 1.0, 0.1) for quality in (5.0, 12.0, 26.0, 38.0))
    fabric = Fabric(accelerator="auto", devices=1)
    network, task, proxy = (module.to(fabric.device) for module in (network, task, proxy))
    seconds: dict[str, list[float]] = {"codec": [], "proxy": []}
    with Channel(codec, network, proxy=proxy) as channel:
        for step in range(options.steps + 3):
            for forward in ("codec", "proxy"):
                settings = TrainSettings(forward=forward)  # type: ignore[arg-type]
                started = time.perf_counter()
                terms = training_step(
                    samples,
                    qualities,
                    channel=channel,
                    task=task,
                    calibration=Calibration(points),
                    settings=settings,
                    fabric=fabric,
                    guard=NaNGuard("benchmark"),
                )
                terms.loss.backward()
                if fabric.device.type == "cuda":
                    torch.cuda.synchronize()
                if step >= 3:  # the first steps warm caches up
                    seconds[forward].append(time.perf_counter() - started)
    median = {forward: 1e3 * statistics.median(times) for forward, times in seconds.items()}
    result = {
        "command": f"python benchmarks/training_step.py --steps {options.steps} --size {options.size} "
        f"--batch {options.batch}",
        "device": str(fabric.device),
        "threads": torch.get_num_threads(),
        "with_codec_ms": round(median["codec"], 1),
        "proxy_only_ms": round(median["proxy"], 1),
        "ratio": round(median["codec"] / median["proxy"], 3),
    }
    target = Path(__file__).parent / "results" / "training_step.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
