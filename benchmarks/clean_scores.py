"""What a trained preprocessor costs a task before any codec: the clean scores of docs/results.md.

    python benchmarks/clean_scores.py runs/camvid_jpeg runs/camvid_bpg

Every run's preprocessor is applied to its validation pictures at the mildest and the strongest quality of its ladder,
shrunk and enlarged where it asks for it, rounded to 8 bits, and judged as it is.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from precomp_sdk import Codec, QualityScale, Registry
from precomp_sdk.config import load_experiment
from precomp_sdk.evaluation import Measurer, PreprocessedRoute
from precomp_sdk.run import TASK_FILE, build_evaluation
from precomp_sdk.training import WEIGHTS_FILE, load_module


class Raw(Codec):
    """Keeps every sample, behind a quality scale of another codec."""

    name = "raw"
    source = "8-bit samples, row by row"

    def __init__(self, scale: QualityScale) -> None:
        self.quality_scale = scale  # type: ignore[misc]  # a class's, of codecs that have one of their own

    def _encode(self, image: Tensor, quality: float) -> bytes:
        height, width = image.shape[1:]
        return height.to_bytes(4, "big") + width.to_bytes(4, "big") + image.numpy().tobytes()

    def _decode(self, payload: bytes) -> Tensor:
        height, width = (int.from_bytes(payload[start : start + 4], "big") for start in (0, 4))
        return torch.frombuffer(bytearray(payload[8:]), dtype=torch.uint8).view(3, height, width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of precomp train")
    torch.set_num_threads(1)
    print("| run | clean | mildest quality | strongest quality |\n| --- | --- | --- | --- |")
    for run in parser.parse_args().runs:
        experiment = load_experiment(run)
        parts = build_evaluation(experiment, Registry())
        if experiment.task.fit is not None:
            load_module(run / TASK_FILE, parts.task, name=parts.task.name)
        load_module(run / WEIGHTS_FILE, parts.preprocessor, name=parts.preprocessor.name)
        scale = parts.codec.quality_scale
        ladder = sorted(experiment.train.ladder or scale.ladder, key=scale.strength)
        with Measurer(Raw(scale), parts.task, ladder=(ladder[0], ladder[-1]), workers=1) as measurer:
            clean = measurer.clean(parts.val).scores
            points = measurer.curve(parts.val, PreprocessedRoute(parts.preprocessor)).curve().points
        metric = parts.task.scorer.metrics[0]
        cells = [f"{scale.name} {point.quality:g}: {point.scores[metric]:.4f}" for point in points]
        print(f"| {run.name}, {metric} | {clean[metric]:.4f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
