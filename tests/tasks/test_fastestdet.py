"""FastestDet, a detector that is not torchvision's, as the user's own network; skipped where its weights are not."""

import contextlib
import importlib.util
import io
import json
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from torch.nn import functional
from torchvision.ops import batched_nms, generalized_box_iou_loss

from precomp_sdk import Boxes, BoxScorer, ModuleTask

IMAGES = 48


@pytest.fixture(scope="module")
def network(shared_data):
    folder = shared_data / "weights"
    if not (folder / "FastestDet.bin").exists():
        pytest.skip("no FastestDet")
    spec = importlib.util.spec_from_file_location("ncnn_torch", folder / "ncnn_torch.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["ncnn_torch"] = module
    spec.loader.exec_module(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its file open
        return module.NcnnNet(str(folder / "FastestDet.param"), str(folder / "FastestDet.bin")).eval()


class FastestDet(nn.Module):
    """Stretches to 352 pixels, BGR; gives boxes in the image's pixels, objectness and classes per grid cell."""

    def __init__(self, network):
        super().__init__()
        self.net = network

    def forward(self, images):
        height, width = images.shape[-2:]
        inside = functional.interpolate(images, (352, 352), mode="bilinear", antialias=height < 352)
        maps = self.net(inside.flip(1))  # (N, 85, 22, 22)
        rows, columns = torch.meshgrid(torch.arange(22), torch.arange(22), indexing="ij")
        centre = torch.stack([(maps[:, 1].tanh() + columns) / 22 * width, (maps[:, 2].tanh() + rows) / 22 * height], 1)
        half = torch.stack([maps[:, 3].sigmoid() * width, maps[:, 4].sigmoid() * height], 1) / 2
        limit = torch.tensor([width, height]).view(1, 2, 1, 1)
        corners = [(centre - half).clamp_min(0).minimum(limit), (centre + half).clamp_min(0).minimum(limit)]
        boxes = torch.cat(corners, dim=1).flatten(2).transpose(1, 2)  # (N, cells, 4)
        return boxes, maps[:, 0].flatten(1), maps[:, 5:].flatten(2).transpose(1, 2)


def predict(answer):
    found = []
    for boxes, objectness, classes in zip(*answer, strict=True):
        best, labels = classes.max(dim=1)
        scores = objectness**0.6 * best**0.4
        kept = (scores > 0.01).nonzero()[:, 0]
        kept = kept[batched_nms(boxes[kept], scores[kept], labels[kept], 0.45)[:100]]
        found.append(Boxes(boxes[kept], labels[kept], scores=scores[kept]))
    return found


def loss(answer, targets):
    """Objectness of every cell; class and overlap where an object has its centre."""
    losses = []
    for boxes, objectness, classes, target in zip(*answer, targets, strict=True):
        wanted = torch.zeros_like(objectness)
        terms = []
        for box, label in zip(target.boxes, target.labels, strict=True):
            middle = (box[:2] + box[2:]) / 2
            cell = ((boxes[:, :2] + boxes[:, 2:]) / 2 - middle).square().sum(dim=1).argmin()
            wanted[cell] = 1.0
            terms.append(generalized_box_iou_loss(boxes[cell], box) - classes[cell, label].clamp_min(1e-6).log())
        terms.append(functional.binary_cross_entropy(objectness.clamp(0, 1), wanted, reduction="mean"))
        losses.append(torch.stack(terms).mean())
    return torch.stack(losses)


@pytest.fixture(scope="module")
def task(network):
    return ModuleTask(
        FastestDet(network), loss=loss, predict=predict, scorer=BoxScorer(80), target_kind="boxes", name="fastestdet"
    ).eval()


@pytest.fixture(scope="module")
def truth(shared_data):
    return json.loads((shared_data / "coco256" / "annotations_val.json").read_text())


def read(shared_data, record):
    with Image.open(shared_data / "coco256" / "images" / "val" / record["file_name"]) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).float() / 255


def target_of(truth, record):
    numbers = [category["id"] for category in truth["categories"]]
    own = [item for item in truth["annotations"] if item["image_id"] == record["id"]]
    boxes = torch.tensor([item["bbox"] for item in own]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = torch.tensor([numbers.index(item["category_id"]) for item in own], dtype=torch.int64)
    return Boxes(boxes, labels, crowd=torch.tensor([item["iscrowd"] == 1 for item in own], dtype=torch.bool))


def test_its_scores_equal_those_of_pycocotools_on_its_prediction_file(shared_data, task, truth, tmp_path):
    chosen = truth["images"][:IMAGES]
    images = [read(shared_data, record) for record in chosen]
    targets = [target_of(truth, record) for record in chosen]
    predictions = task.predict(images)
    statistics = [task.scorer.measure(*both) for both in zip(predictions, targets, strict=True)]
    scores = task.scorer.combine(statistics, np.ones(IMAGES))

    rows = [
        {"image_id": record["id"], "category_id": truth["categories"][int(label)]["id"], "score": float(score),
         "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]}
        for record, found in zip(chosen, predictions, strict=True)
        for box, label, score in zip(found.boxes.double().tolist(), found.labels, found.scores.double(), strict=True)
    ]  # fmt: skip
    file = tmp_path / "predictions.json"
    file.write_text(json.dumps(rows))
    with contextlib.redirect_stdout(io.StringIO()):
        whole = COCO(str(shared_data / "coco256" / "annotations_val.json"))
        evaluation = COCOeval(whole, whole.loadRes(str(file)), "bbox")
        evaluation.params.imgIds = [record["id"] for record in chosen]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert scores == pytest.approx(dict(zip(("mAP", "mAP50", "mAP75"), evaluation.stats[:3], strict=True)), abs=1e-6)
    assert scores["mAP50"] > 0.25  # 0.342 over all 128 images


def test_its_loss_has_a_gradient_to_the_image(shared_data, task, truth):
    record = truth["images"][0]
    image = read(shared_data, record)[None].requires_grad_()
    losses = task.losses(image, [target_of(truth, record)])
    (gradient,) = torch.autograd.grad(losses.sum(), image)
    assert gradient.abs().sum() > 0
    empty = Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert bool(torch.isfinite(task.losses(image.detach(), [empty])).all())
