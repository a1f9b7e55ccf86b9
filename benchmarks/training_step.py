"""Time of a training step with the real codec in the loop over one with the proxy both ways, in one run.

    python benchmarks/training_step.py [--codec bpg] [--steps 30] [--size 160] [--batch 16] [--workers N]

``--workers``: threads of the codec, one per core by default. Writes ``results/training_step.json``, a row a codec.

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
from precomp_qacnn import LightQACNN
from precomp_sdk import Channel, Registry, Transcoder
from precomp_sdk.training import AnchorPoint, Calibration, TrainSettings
from precomp_sdk.training.nan_guard import NaNGuard
from precomp_sdk.training.step import training_step
from precomp_torchvision import Classifier

QUALITIES = {"jpeg": (5.0, 12.0, 26.0, 38.0), "bpg": (44.0, 38.0, 32.0, 26.0)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=30)
    arguments.add_argument("--size", type=int, default=160)
    arguments.add_argument("--batch", type=int, default=16)
    arguments.add_argument("--codec", choices=sorted(QUALITIES), default="jpeg")
    arguments.add_argument("--workers", type=int)
    options = arguments.parse_args()
    registry = Registry()
    codec = registry.create("codec", options.codec)
    proxy, network = registry.proxy_for(codec), LightQACNN()
    task = Classifier(architecture="squeezenet1_1", num_classes=10).eval().requires_grad_(False)
    images = Scenes(count=options.batch, size=options.size)
    samples = [images[index] for index in range(options.batch)]
    ladder = QUALITIES[options.codec]
    qualities = [ladder[index % 4] for index in range(options.batch)]
    points = tuple(AnchorPoint(quality, 0.5, 1.0, 1.0, 0.1) for quality in ladder)
    fabric = Fabric(accelerator="auto", devices=1)
    network, task, proxy = (module.to(fabric.device) for module in (network, task, proxy))
    seconds: dict[str, list[float]] = {"codec": [], "proxy": []}
    with Channel(Transcoder(codec, workers=options.workers), network, proxy=proxy) as channel:
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
        f"--batch {options.batch} --codec {options.codec}"
        + (f" --workers {options.workers}" if options.workers else ""),
        "device": str(fabric.device),
        "threads": torch.get_num_threads(),
        "with_codec_ms": round(median["codec"], 1),
        "proxy_only_ms": round(median["proxy"], 1),
        "ratio": round(median["codec"] / median["proxy"], 3),
    }
    target = Path(__file__).parent / "results" / "training_step.json"
    target.parent.mkdir(exist_ok=True)
    rows = json.loads(target.read_text()) if target.exists() else []
    rows = [row for row in rows if row["command"] != result["command"]] + [result]
    target.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
