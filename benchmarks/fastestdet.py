"""A detector that is not torchvision's, as a user's own network: FastestDet on COCO images through JPEG or BPG.

    python benchmarks/fastestdet.py DATA --codec jpeg --output runs/fastestdet_jpeg

``DATA`` holds ``coco256`` (COCO format) and ``weights`` with ``FastestDet.param``, ``FastestDet.bin`` and
``ncnn_torch.py``, which reads them. The network is wrapped by `precomp_sdk.ModuleTask`: a loss, a prediction, a score.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import batched_nms, generalized_box_iou_loss

from precomp_data import CocoDetection, Geometry
from precomp_qacnn import LightQACNN
from precomp_sdk import Boxes, BoxScorer, ModuleTask, Registry, Target
from precomp_sdk.evaluation import EvaluateSettings, evaluate, write_report
from precomp_sdk.observers import ProgressObserver
from precomp_sdk.training import Trainer, TrainSettings

SIDE_PX, CELLS = 352, 22
LADDERS: dict[str, tuple[float, ...]] = {"jpeg": (5, 8, 12, 18, 26, 38), "bpg": (25, 28, 31, 34, 37, 40, 44)}


class FastestDet(nn.Module):
    """Stretches images to 352 pixels, BGR; answers with boxes in the image's pixels, objectness and classes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.net = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Answer for images (N, 3, H, W) in [0, 1]."""
        height, width = images.shape[-2:]
        inside = functional.interpolate(images, (SIDE_PX, SIDE_PX), mode="bilinear", antialias=height < SIDE_PX)
        maps = self.net(inside.flip(1))  # (N, 85, 22, 22)
        rows, columns = torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij")
        centre = torch.stack(
            [(maps[:, 1].tanh() + columns) / CELLS * width, (maps[:, 2].tanh() + rows) / CELLS * height], dim=1
        )
        half = torch.stack([maps[:, 3].sigmoid() * width, maps[:, 4].sigmoid() * height], dim=1) / 2
        limit = torch.tensor([width, height]).view(1, 2, 1, 1)
        corners = [(centre - half).clamp_min(0).minimum(limit), (centre + half).clamp_min(0).minimum(limit)]
        boxes = torch.cat(corners, dim=1).flatten(2).transpose(1, 2)  # (N, cells, 4)
        return boxes, maps[:, 0].flatten(1), maps[:, 5:].flatten(2).transpose(1, 2)


def predict(answer: tuple[Tensor, Tensor, Tensor]) -> list[Boxes]:
    """Return the boxes of every image after non-maximum suppression."""
    found = []
    for boxes, objectness, classes in zip(*answer, strict=True):
        best, labels = classes.max(dim=1)
        scores = objectness**0.6 * best**0.4
        kept = (scores > 0.01).nonzero()[:, 0]
        kept = kept[batched_nms(boxes[kept], scores[kept], labels[kept], 0.45)[:100]]
        found.append(Boxes(boxes[kept], labels[kept], scores=scores[kept]))
    return found


def loss(answer: tuple[Tensor, Tensor, Tensor], targets: Sequence[Target]) -> Tensor:
    """Return one loss per image: objectness of every cell; class and overlap where an object has its centre."""
    losses = []
    for boxes, objectness, classes, target in zip(*answer, targets, strict=True):
        assert isinstance(target, Boxes)
        wanted, terms = torch.zeros_like(objectness), []
        for box, label in zip(target.boxes, target.labels, strict=True):
            middle = (box[:2] + box[2:]) / 2
            cell = ((boxes[:, :2] + boxes[:, 2:]) / 2 - middle).square().sum(dim=1).argmin()
            wanted[cell] = 1.0
            terms.append(generalized_box_iou_loss(boxes[cell], box) - classes[cell, label].clamp_min(1e-6).log())
        terms.append(functional.binary_cross_entropy(objectness.clamp(0, 1), wanted))
        losses.append(torch.stack(terms).mean())
    return torch.stack(losses)


def read_network(folder: Path) -> nn.Module:
    """Read the network's files with the reader beside them."""
    spec = importlib.util.spec_from_file_location("ncnn_torch", folder / "ncnn_torch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ncnn_torch"] = module
    spec.loader.exec_module(module)
    network: nn.Module = module.NcnnNet(str(folder / "FastestDet.param"), str(folder / "FastestDet.bin")).eval()
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--codec", choices=sorted(LADDERS), default="jpeg")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    registry = Registry()
    codec = registry.create("codec", arguments.codec)
    proxy = registry.proxy_for(codec, rounding=0.3)
    task = ModuleTask(
        FastestDet(read_network(arguments.data / "weights")),
        loss=loss, predict=predict, scorer=BoxScorer(80), target_kind="boxes", name="fastestdet",
    )  # fmt: skip
    root = arguments.data / "coco256"
    images = CocoDetection(root=root, split="train", geometry=Geometry(crop=224, augment=True))
    preprocessor, ladder = LightQACNN(), LADDERS[arguments.codec]
    settings = TrainSettings(
        steps=arguments.steps, batch_size=8, warmup_steps=50, ladder=ladder, targets="dataset", lambda_scale=2.0,
        held_out_images=24, held_out_every=100, calibration_images=64,
    )  # fmt: skip
    with ProgressObserver() as progress:
        trainer = Trainer(
            codec=codec, proxy=proxy, preprocessor=preprocessor, task=task, settings=settings, observer=progress
        )
        trainer.run(images, folder=arguments.output)
        evaluation = evaluate(
            codec, task, CocoDetection(root=root, split="val"), preprocessors=preprocessor,
            settings=EvaluateSettings(ladder=ladder, tuning_images=48), observer=progress,
        )  # fmt: skip
    evaluation = replace(evaluation, dataset="coco256")
    write_report(evaluation, arguments.output)
    print(evaluation.summary())


if __name__ == "__main__":
    main()
