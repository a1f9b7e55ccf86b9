"""What a trained network does itself, for docs/results.md: to clean images, and beyond coding fewer pixels.

    python benchmarks/network_share.py runs/camvid_jpeg runs/camvid_bpg

Of every run, on its validation images: the main score without a codec, of the untouched images and of the
preprocessed ones (coded at the resolution the network asks for) at the mildest and the strongest quality of its
ladder; and where it codes at a lower resolution, the BD-rates of the resolutions alone against the anchor, and of
the network against the resolutions alone.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from precomp_sdk import Channel, ModuleReference, Preprocessor, Registry
from precomp_sdk.config import load_experiment
from precomp_sdk.evaluation import EvaluateSettings, MeasuredCurve, Measurer, compare
from precomp_sdk.run import build_evaluation, load_fitted
from precomp_sdk.training import WEIGHTS_FILE, load_module


class Untouched(Preprocessor):
    """Leaves images alone and has them coded at another preprocessor's resolutions."""

    name = "resolutions"
    source = "nothing"

    def __init__(self, other: Preprocessor) -> None:
        super().__init__()
        self._other = ModuleReference(other)

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return images

    def resolution(self, strength: float) -> float:
        """Return the other's."""
        return self._other.module.resolution(strength)


def told(anchor: MeasuredCurve, test: MeasuredCurve, metric: str) -> str:
    """Return a BD-rate with its interval and the share of the score range."""
    (found,) = compare(anchor, [test], metrics=[metric])
    if found.value_percent is None or found.interval is None:
        return found.reason
    ends = (found.interval.low_percent, found.interval.high_percent)
    low, high = ("?" if end is None else f"{end:+.1f}" for end in ends)
    return f"{found.value_percent:+.1f}% [{low}, {high}], {found.overlap:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of precomp train")
    torch.set_num_threads(1)
    print("| run | clean | mildest quality | strongest quality | resolutions alone | network beyond them |")
    print("| --- | --- | --- | --- | --- | --- |")
    for run in parser.parse_args().runs:
        experiment = load_experiment(run)
        parts = build_evaluation(experiment, Registry())
        load_fitted(experiment, parts.task, parts.proxy, run)
        network, scale = parts.preprocessor, parts.codec.quality_scale
        load_module(run / WEIGHTS_FILE, network, name=network.name)
        metric = parts.task.scorer.metrics[0]
        trained = sorted(scale.ladder_of(experiment.train.ladder), key=scale.strength)
        with Measurer(
            parts.codec, parts.task, settings=EvaluateSettings(ladder=experiment.evaluate.ladder, workers=1)
        ) as measurer:
            channel = Channel(measurer.transcoder, network)
            cells = [f"{measurer.clean(parts.val).scores[metric]:.4f}"]
            for quality in (trained[0], trained[-1]):
                score = measurer.clean(parts.val, channel, quality).scores[metric]
                cells.append(f"{scale.name} {quality:g}: {score:.4f}")
            if min(network.resolution(scale.strength(quality)) for quality in trained) < 1.0:
                channels = (None, Channel(measurer.transcoder, Untouched(network)), channel)
                anchor, alone, whole = (measurer.curve(parts.val, item) for item in channels)
                cells += [told(anchor, alone, metric), told(alone, whole, metric)]
        print(f"| {run.name}, {metric} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
