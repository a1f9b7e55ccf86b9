"""What refinement saves for the network in its loop, for any experiment: the refinement table of docs/results.md.

    python benchmarks/refine_cells.py runs/bccd_jpeg --images 36 --ladder 1 5 12 26 --anchor 1 3 5 8 12 26 60 80 \
        --set preprocessor.lambda_scale=0.3 --output docs/results/refine_bccd_jpeg.json

The experiment's preprocessor is replaced by ``refine``; codec, proxy, task (with the weights its run fitted) and
images are its own. The validation images are taken evenly from the whole set, the anchor is measured on a
ladder of its own that reaches further, so that the curves share their scores, and lambda is measured on training
images.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from precomp_refine import Refiner
from precomp_sdk import Channel, Registry, Subset
from precomp_sdk.config import load_experiment
from precomp_sdk.evaluation import TASK_LOSS, EvaluateSettings, Measurer, compare
from precomp_sdk.run import build, load_fitted
from precomp_sdk.training import shuffled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path, help="a run's folder, or an experiment file")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--ladder", type=float, nargs="+", required=True)
    parser.add_argument("--anchor", type=float, nargs="+", required=True)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    plain_options = ["preprocessor.steps=12", "preprocessor.calibration_images=32"]
    experiment = load_experiment(
        options.experiment, ['preprocessor={name="refine"}', *plain_options, *options.settings]
    )
    parts = build(experiment, Registry())
    load_fitted(experiment, parts.task, parts.proxy, options.experiment)
    refiner = parts.preprocessor
    assert isinstance(refiner, Refiner)
    total = len(parts.val)
    options.images = min(options.images, total)
    chosen = Subset(parts.val, [index * total // options.images for index in range(options.images)])
    calibration = Subset(parts.train, shuffled(parts.train, 0)[:64])
    with Measurer(parts.codec, parts.task, settings=EvaluateSettings(ladder=options.anchor, workers=1)) as measurer:
        clean = measurer.clean(chosen)
        anchor = measurer.curve(chosen)
    refiner.prepare(calibration, sorted(set(options.anchor)))
    started = time.perf_counter()
    with Measurer(
        parts.codec, parts.task, settings=EvaluateSettings(ladder=options.ladder, batch_size=12, workers=1)
    ) as measurer:
        refined = measurer.curve(chosen, Channel(measurer.transcoder, refiner))
    seconds = time.perf_counter() - started
    rates: dict[str, Any] = {}
    for found in compare(anchor, [refined], min_overlap=0.1):
        interval = found.interval
        rates[found.metric] = {
            "percent": found.value_percent,
            "low": interval and interval.low_percent,
            "high": interval and interval.high_percent,
            "overlap": found.overlap,
            "reason": found.reason,
        }
    cost = refiner.cost
    count = max(1, cost.images)
    result = {
        "codec": [parts.codec.name, parts.codec.version],
        "task": parts.task.name,
        "images": options.images,
        "options": {name: value for name, value in experiment.preprocessor.options.items() if value is not None},
        "clean": dict(clean.scores),
        "curves": {
            label: [
                {"quality": p.quality, "bpp": p.bpp, **p.scores, TASK_LOSS: p.task_loss} for p in curve.curve().points
            ]
            for label, curve in (("anchor", anchor), ("refined", refined))
        },
        "bd_rate": rates,
        "per_image_and_quality": {
            "task_forward": cost.task_forward / count,
            "task_backward": cost.task_backward / count,
            "encodes": cost.encodes / count,
            "milliseconds": cost.milliseconds_per_image,
        },
        "seconds": seconds,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("curves", "bd_rate", "per_image_and_quality")}, indent=1))


if __name__ == "__main__":
    main()
