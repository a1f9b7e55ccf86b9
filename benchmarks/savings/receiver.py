"""The receiver adapts: its network is fine-tuned on what it decodes, alone and with our preprocessor at the sender.

    python benchmarks/savings/receiver.py DATA --codec bpg --output benchmarks/results/savings/receiver_bpg.json

SqueezeNet 1.1 with Imagenette's ten outputs, fine-tuned by the labels on crops of ``imagenette/train`` (`Trainer` with
``train = ("task",)``, the codec's ladder, real codec), scored by top-1 and its loss on ``imagenette/val``. Rows, each
against the published network behind the codec alone: fine-tuned on images as good as clean (the control: it knows the
ten classes better and no codec), fine-tuned on decoded images, our preprocessor before the published network, before
the one fine-tuned on decoded images, and before one fine-tuned on what it made. The preprocessor is the one that ships
for BPG; the published network was in its panel.
"""

import argparse
import copy
import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from measure import make_codec
from sets import imagenette, imagenette_files, read
from torch import Tensor

from precomp_sdk import (
    Codec,
    Compressor,
    EvaluateSettings,
    Label,
    Preprocessor,
    Registry,
    TaskDataset,
    TaskModel,
    Trainer,
    TrainSettings,
)
from precomp_sdk.evaluation import TASK_LOSS, MeasuredCurve, compare, measure_curve

FIRST = 72  # of a class: those before tune, or fitted a judge's head
CROP_PX = 192
MILD = {"jpeg": 95.0, "bpg": 10.0}  # what a network fine-tuned on "clean" images sees


class Crops(TaskDataset):
    """Photographs with their labels, cropped and flipped anew in every epoch, so that JPEG's grid falls anywhere."""

    name = "labelled-crops"
    source = "imagenette/train"
    target_kind = "label"

    def __init__(self, rows: Sequence[tuple[Path, ...]], seed: int = 0) -> None:
        super().__init__()
        self._files = [(file, label) for row in rows for label, file in enumerate(row)]
        self.class_names = tuple(file.parent.name for file in rows[0])
        self._seed, self._epoch = seed, 0

    def __len__(self) -> int:
        return len(self._files)

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def _sample(self, index: int) -> tuple[Tensor, Label]:
        file, label = self._files[index]
        draw = random.Random(f"{self._seed}/{self._epoch}/{index}")
        image = read(file)
        top, left = (draw.randint(0, side - CROP_PX) for side in image.shape[1:])
        crop = image[:, top : top + CROP_PX, left : left + CROP_PX]
        return (crop.flip(2) if draw.random() < 0.5 else crop).contiguous(), Label(label)


def fine_tuned(
    task: TaskModel,
    codec: Codec,
    ladder: Sequence[float],
    preprocessor: Preprocessor,
    data: Path,
    steps: int,
    seed: int,
) -> TaskModel:
    """Return a copy of the network that saw ``steps`` batches of 16 behind this codec."""
    mine = copy.deepcopy(task)
    settings = TrainSettings(
        steps=steps, batch_size=16, learning_rate=1e-4, warmup_steps=20, ladder=tuple(ladder), targets="dataset",
        lambdas=dict.fromkeys(ladder, 1.0), train=("task",), seed=seed, held_out_images=60, held_out_every=steps,
        calibration_images=64, codec_workers=1,
    )  # fmt: skip
    rows = imagenette_files(data, "train")[FIRST:]
    trainer = Trainer(codec=codec, preprocessor=preprocessor, task=mine, settings=settings, observer=None)
    trainer.run(Crops(rows[6:], seed), held_out=Crops(rows[:6]))
    return mine.eval().requires_grad_(False)


def points(curve: MeasuredCurve) -> list[tuple[float, ...]]:
    """Return quality, bits per pixel, top-1 and loss."""
    return [(point.quality, point.bpp, point.scores["top1"], point.task_loss) for point in curve.curve().points]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--codec", required=True, choices=sorted(MILD))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--images", type=int, default=240, help="of imagenette/val")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    registry = Registry()
    codec, ladder = make_codec(options.codec)
    nothing = registry.create("preprocessor", "identity")
    ours = Compressor.load("general", codec="bpg").preprocessor
    published = registry.create(
        "task",
        "torchvision-classifier",
        architecture="squeezenet1_1",
        weights=str(options.data / "weights" / "squeezenet1_1_torchvision_fp16.pth"),
        classes=str(options.data / "imagenette" / "imagenet_index.json"),
    ).eval()

    def tuned(ladder: Sequence[float], preprocessor: Preprocessor) -> TaskModel:
        return fine_tuned(published, codec, ladder, preprocessor, options.data, options.steps, options.seed)

    images, labels = imagenette(options.data, "val", options.images // 10)
    scored = TaskDataset.of(list(zip(images, labels, strict=True)), lambda row: row)
    settings = EvaluateSettings(ladder=ladder, workers=1)

    def curve(label: str, task: TaskModel, preprocessor: Preprocessor | None) -> MeasuredCurve:
        found = measure_curve(codec, task, scored, preprocessor=preprocessor, settings=settings, label=label)
        print(label, points(found), flush=True)
        return found

    adapted = tuned(ladder, nothing)
    curves = [
        curve("published", published, None),
        curve("fine-tuned on clean images", tuned((MILD[options.codec],), nothing), None),
        curve("fine-tuned on decoded images", adapted, None),
        curve("ours", published, ours),
        curve("ours, fine-tuned on decoded images", adapted, ours),
        curve("ours, fine-tuned on what it made", tuned(ladder, ours), ours),
    ]
    metrics = ["top1", TASK_LOSS]
    result = {
        "command": f"python benchmarks/savings/receiver.py DATA --codec {options.codec}",
        "steps": options.steps,
        "images": len(images),
        "seed": options.seed,
        "curves": {
            item.label: [
                [point.quality, point.bpp, point.scores["top1"], point.task_loss] for point in item.curve().points
            ]
            for item in curves
        },
        "against_published": [asdict(item) for item in compare(curves[0], curves[1:], metrics=metrics)],
        "against_fine_tuned_on_clean": [asdict(item) for item in compare(curves[1], curves[2:], metrics=metrics)],
        "against_fine_tuned_on_decoded": [asdict(item) for item in compare(curves[2], curves[4:], metrics=metrics)],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "curves"}, indent=1))


if __name__ == "__main__":
    main()
