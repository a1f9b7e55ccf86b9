"""What refinement at the sender saves for the backbones in its loop, and for one outside: docs/refinement.md.

    python benchmarks/refinement.py fit --data IMAGENETTE --fastestdet DIR --output runs/backbones
    python benchmarks/refinement.py measure --data IMAGENETTE --fastestdet DIR --squeezenet FILE \
        --backbones runs/backbones --rows task features --images 160 --output runs/refinement/one
    python benchmarks/refinement.py merge runs/refinement/one runs/refinement/two --output runs/refinement

``fit`` makes two further backbones on the training images: ``fastestdet``, a linear head on the frozen features of a
detector that was trained on COCO (FastestDet, from a folder with its module), and ``small``, a small classifier that is
trained from nothing. ``measure`` refines images by some of the settings below and shows what is decoded to all three
backbones; ``--split train`` is for choosing settings. ``merge`` puts the rows of several runs into one figure.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from precomp_data import Geometry, ImageFolder
from precomp_jpeg import JPEGCodec, JPEGProxy
from precomp_refine import Refiner
from precomp_sdk import Label, LabelScorer, Preprocessor, Subset, Target, TaskDataset, TaskModel, to_float
from precomp_sdk.evaluation import EvaluateSettings, TrainedWith, read_transfer, transfer_matrix, write_transfer
from precomp_sdk.training import FitTaskSettings, fit_task, load_module, save_module
from precomp_torchvision import Classifier, SmallClassifier

LADDER = (5.0, 8.0, 12.0, 18.0, 26.0)
PLAIN_LADDER = (3.0, 5.0, 8.0, 12.0, 18.0, 26.0, 38.0, 60.0, 80.0, 92.0)  # to where it reaches what refinement does
TRANSFORMS: dict[str, Any] = {"shift_px": 4, "scale": 0.15, "flip": True}
ROWS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {  # label: further backbones in the loop, options
    "task": ((), {}),
    "cheap task": ((), {"lambda_scale": 0.3}),
    "features": ((), {"task_weight": 0.0, "feature_weight": 1.0}),
    "cheap features": ((), {"task_weight": 0.0, "feature_weight": 1.0, "lambda_scale": 0.3}),
    "task + features": ((), {"feature_weight": 1.0}),
    "transforms": ((), TRANSFORMS),
    "bound 4": ((), {"max_change": 4}),
    "ensemble": (("small",), {}),
    "ensemble, features, transforms": (("small",), {"feature_weight": 1.0, **TRANSFORMS}),
}
_BLOBS = ("input.376", "input.504", "onnx::Conv_712_splitncnn_3")  # FastestDet's maps of stride 16, 32 and 16


class DetectorProbe(TaskModel):
    """A linear head on the pooled maps of FastestDet's frozen network."""

    name = "fastestdet-probe"
    source = "FastestDet (BSD-3-Clause), COCO weights; head of this script"
    target_kind = Label.kind
    scorer = LabelScorer()

    def __init__(self, folder: Path) -> None:
        super().__init__()
        sys.path.insert(0, str(folder))
        from ncnn_torch import NcnnNet  # lies beside the weights

        self.network = NcnnNet(str(folder / "FastestDet.param"), str(folder / "FastestDet.bin"))
        self.head = torch.nn.Linear(768, 10)
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(768))
        self.register_buffer("deviation", torch.ones(768))

    def pooled(self, images: Tensor) -> Tensor:
        """Return mean and maximum of every channel, (N, 768)."""
        maps = self.network(images.flip(1), _BLOBS)  # BGR
        return torch.cat([part for item in maps for part in (item.mean((2, 3)), item.amax((2, 3)))], dim=1)

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head((self.pooled(images) - self.mean) / self.deviation)
        return logits

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return self._predict_with_losses(images, targets)[1]

    def _predict(self, images: Tensor) -> Sequence[Tensor]:
        return self._logits(images).unbind()

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Tensor], Tensor]:
        logits = self._logits(images)
        labels = torch.tensor([target.index for target in targets if isinstance(target, Label)])
        return logits.unbind(), functional.cross_entropy(logits, labels, reduction="none")


def fit(options: argparse.Namespace) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    small = SmallClassifier(num_classes=10, width=32)
    images = ImageFolder(root=options.data, geometry=Geometry(crop=128, augment=True, seed=1))
    val = ImageFolder(root=options.data, split="val", geometry=Geometry(crop=160))
    result = fit_task(
        small, images, settings=FitTaskSettings(epochs=12, learning_rate=2e-3, weight_decay=0.05), validation=val
    )
    save_module(
        options.output / "small.safetensors", small, name=small.name, options={"num_classes": 10, "width": 32}, facts={}
    )
    print("small:", dict(result.scores))
    probe = fit_probe(DetectorProbe(options.fastestdet), ImageFolder(root=options.data, geometry=Geometry(crop=160)))
    save_module(options.output / "fastestdet.safetensors", probe, name=probe.name, options={}, facts={})
    with torch.no_grad():
        batches = [[val[index] for index in range(start, start + 50)] for start in range(0, len(val), 50)]
        right = [
            float(answer.argmax() == sample.target.index)  # type: ignore[union-attr]
            for batch in batches
            for answer, sample in zip(probe.predict([to_float(item.image) for item in batch]), batch, strict=True)
        ]
    print("fastestdet:", {"top1": float(np.mean(right))})


def fit_probe(probe: DetectorProbe, images: TaskDataset) -> DetectorProbe:
    """Fit the head by logistic regression, on every image and its mirror image."""
    features, labels = [], []
    with torch.no_grad():
        for start in range(0, len(images), 50):
            samples = [images[index] for index in range(start, min(start + 50, len(images)))]
            batch = to_float(torch.stack([sample.image for sample in samples]))
            for turned in (batch, batch.flip(-1)):
                features.append(probe.pooled(turned))
                labels += [sample.target.index for sample in samples]  # type: ignore[union-attr]
    table, wanted = torch.cat(features), torch.tensor(labels)
    probe.mean.copy_(table.mean(0))
    probe.deviation.copy_(table.std(0) + 1e-6)
    table = (table - probe.mean) / probe.deviation
    torch.nn.init.zeros_(probe.head.weight)
    torch.nn.init.zeros_(probe.head.bias)
    optimizer = torch.optim.LBFGS(probe.head.parameters(), max_iter=60)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(probe.head(table), wanted) + 1e-2 * probe.head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return probe


def backbones(options: argparse.Namespace) -> dict[str, TaskModel]:
    small = SmallClassifier(num_classes=10, width=32)
    load_module(options.backbones / "small.safetensors", small, name=small.name)
    probe = DetectorProbe(options.fastestdet)
    load_module(options.backbones / "fastestdet.safetensors", probe, name=probe.name)
    squeezenet = Classifier(
        architecture="squeezenet1_1", weights=options.squeezenet, classes=options.data / "imagenet_index.json"
    )
    tasks: dict[str, TaskModel] = {"squeezenet": squeezenet, "small": small, "fastestdet": probe}
    for task in tasks.values():
        task.eval().requires_grad_(False)
    return tasks


def measure(options: argparse.Namespace) -> None:
    tasks, codec = backbones(options), JPEGCodec()
    train = ImageFolder(root=options.data, geometry=Geometry(crop=160))
    scored = spread(ImageFolder(root=options.data, split=options.split, geometry=Geometry(crop=160)), options.images)
    rows: dict[str, Preprocessor] = {}
    for label in options.rows:
        others, choices = ROWS[label]
        rows[label] = Refiner(
            codec,
            JPEGProxy(codec, rounding=0.3),
            tasks["squeezenet"],
            others=[tasks[name] for name in others],
            **{"steps": options.steps, "calibration_images": 96, **choices},
        )
        rows[label].prepare(train, options.ladder)
    matrix = transfer_matrix(
        rows,
        {"jpeg": codec},
        tasks,
        scored,
        trained_with={label: TrainedWith(("jpeg",), ("squeezenet", *ROWS[label][0])) for label in rows},
        settings=EvaluateSettings(ladder=options.ladder, anchor_ladder=PLAIN_LADDER),
    )
    matrix = replace(matrix, dataset=f"imagenette {options.split}")
    write_transfer(matrix, options.output)
    print(matrix.summary())
    for cell in matrix.cells:
        for curve in (cell.anchor, cell.curve):
            told = (f"{point.quality:g}: {point.bpp:.3f} {point.scores['top1']:.1%}" for point in curve.points)
            print(f"{cell.preprocessor}, {cell.task}, {curve.label}: " + "; ".join(told))
    for label, row in rows.items():
        print(f"{label}: {row.cost.statement}")  # type: ignore[attr-defined]


def spread(dataset: TaskDataset, images: int) -> TaskDataset:
    """Return images spread evenly over a data set, which is sorted by class."""
    chosen = np.linspace(0, len(dataset) - 1, images).round().astype(int)
    return Subset(dataset, chosen.tolist())


def merge(options: argparse.Namespace) -> None:
    parts = [read_transfer(folder / "transfer.json") for folder in options.folders]
    whole = replace(
        parts[0],
        preprocessors=tuple(label for part in parts for label in part.preprocessors),
        cells=tuple(cell for part in parts for cell in part.cells),
        seconds=sum(part.seconds for part in parts),
    )
    write_transfer(whole, options.output)
    print(whole.summary())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function in (fit, measure, merge):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        command.add_argument("--output", type=Path, required=True)
        if function is not merge:
            command.add_argument("--data", type=Path, required=True, help="Imagenette, with imagenet_index.json")
            command.add_argument("--fastestdet", type=Path, required=True, help="folder with ncnn_torch.py and weights")
        if function is measure:
            command.add_argument("--squeezenet", type=Path, required=True, help="torchvision's weights")
            command.add_argument("--backbones", type=Path, required=True, help="folder that fit wrote")
            command.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
            command.add_argument("--images", type=int, default=160)
            command.add_argument("--split", choices=("train", "val"), default="val")
            command.add_argument("--steps", type=int, default=12)
            command.add_argument("--ladder", type=float, nargs="+", default=LADDER)
        if function is merge:
            command.add_argument("folders", type=Path, nargs="+")
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    main()
