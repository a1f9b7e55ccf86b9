"""The kinds of judges: classifiers, detectors and segmenters whose truth is their own clean answer.

Every judge is a `TaskModel` whose loss is the divergence of its answer from the one it gave on the clean image, and 0
on that image itself:

    classifiers  Kullback-Leibler divergence of the class probabilities, in nats
    detectors    Bernoulli divergence of every class at every cell, plus the boxes' distributions where there are any,
                 over the clean answer's sum of objects, 1 at least
    segmenters   Kullback-Leibler divergence of the class probabilities, mean over the image's pixels

so that a loss has a gradient for training and a panel, and nothing needs labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import batched_nms

from precomp_sdk import Boxes, BoxScorer, Label, LabelScorer, Mask, MaskScorer, Target, TaskModel
from precomp_sdk.training import feature_distances

__all__ = [
    "Classifier",
    "DenseBoxes",
    "Detail",
    "Detector",
    "FastestDet",
    "NanoDet",
    "Segmenter",
    "SizedSegmenter",
    "StreetSegmenter",
]

TINY = 1e-6


@dataclass(frozen=True, slots=True)
class DenseBoxes(Boxes):
    """A detector's own answer: its boxes, and the maps they were read from."""

    maps: tuple[Tensor, ...] = ()


class Classifier(TaskModel):
    """A classifier's own answer is its probabilities; scored by top-1 and top-5."""

    source = "see load_judge"
    target_kind = "label"

    def __init__(self, name: str, network: nn.Module, norm: Any, side_px: int | None = None) -> None:
        super().__init__()
        self.name, self.network, self.side_px = name, network, side_px
        self.scorer = LabelScorer()
        for key, value in zip(("mean", "std"), norm, strict=True):
            self.register_buffer(key, torch.tensor(value)[:, None, None])

    def logits(self, images: Tensor) -> Tensor:
        if self.side_px:
            images = _resize(images, (self.side_px, self.side_px))
        result: Tensor = self.network((images - self.mean) / self.std).float()
        return result

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return self._divergence(self.logits(images), targets)

    def _divergence(self, logits: Tensor, targets: Sequence[Target]) -> Tensor:
        own = torch.stack([target.probabilities for target in targets])  # type: ignore[union-attr,misc]
        return functional.kl_div(logits.log_softmax(1), own, reduction="none").sum(1)

    def _predict(self, images: Tensor) -> Sequence[Tensor]:
        return list(self.logits(images))

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Any], Tensor]:
        logits = self.logits(images)
        return list(logits), self._divergence(logits, targets)

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        return [Label(int(row.argmax()), row) for row in self.logits(images).softmax(1)]


@dataclass(frozen=True, slots=True)
class Seen(Label):
    """What early layers make of the clean image; no class is read from it."""

    maps: tuple[Tensor, ...] = ()


class Detail(Classifier):
    """What a classifier's early layers see, at a quarter and an eighth of the image: any dense task's first needs.

    Its loss is the distance of those features over their power, which no answer is read from.
    """

    layers = (4, 7)  # of SqueezeNet 1.1

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        found, kept = (images - self.mean) / self.std, []
        for place, layer in enumerate(self.network.features[: max(self.layers) + 1]):
            found = layer(found)
            if place in self.layers:
                kept.append(found)
        return tuple(kept)

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        own = [torch.stack(part) for part in zip(*(target.maps for target in targets), strict=True)]  # type: ignore[attr-defined]
        return feature_distances(self.maps(images), own)

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Any], Tensor]:
        return [torch.zeros(2)] * len(images), self._losses(images, targets)

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        return [Seen(0, None, maps) for maps in zip(*self.maps(images), strict=True)]


class Detector(TaskModel):
    """Maps of objects (N, cells, classes) and boxes; own answers of a score of 0.3 and more are the truth."""

    source = "see load_judge"
    target_kind = "boxes"
    truth_score = 0.3

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__()
        self.name, self.network = name, network
        self.scorer = BoxScorer(80)

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return probabilities (N, cells, classes), and distributions of box sides (N, cells, sides, bins) or none."""
        raise NotImplementedError

    def boxes(self, maps: tuple[Tensor, ...], size: tuple[int, int]) -> Sequence[Boxes]:
        raise NotImplementedError

    def _divergence(self, maps: tuple[Tensor, ...], targets: Sequence[Target]) -> Tensor:
        own = [torch.stack(part) for part in zip(*(target.maps for target in targets), strict=True)]  # type: ignore[union-attr]
        clean, found = own[0].clamp(TINY, 1 - TINY), maps[0].clamp(TINY, 1 - TINY)
        bits = clean * (clean / found).log() + (1 - clean) * ((1 - clean) / (1 - found)).log()
        total = bits.sum(dim=(1, 2))
        objects = own[0].amax(dim=2)  # (N, cells)
        if len(own) > 1:
            sides = (own[1] * (own[1].clamp_min(TINY) / maps[1].clamp_min(TINY)).log()).sum(dim=3).mean(dim=2)
            total = total + (objects * sides).sum(dim=1)
        return total / objects.sum(dim=1).clamp_min(1.0)

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return self._divergence(self.maps(images), targets)

    def _predict(self, images: Tensor) -> Sequence[Boxes]:
        return self.boxes(self.maps(images), (images.shape[2], images.shape[3]))

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Any], Tensor]:
        maps = self.maps(images)
        return self.boxes(maps, (images.shape[2], images.shape[3])), self._divergence(maps, targets)

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        maps = self.maps(images)
        found = self.boxes(maps, (images.shape[2], images.shape[3]))
        result = []
        for index, boxes in enumerate(found):
            kept = boxes.scores >= self.truth_score  # type: ignore[operator]
            result.append(DenseBoxes(boxes.boxes[kept], boxes.labels[kept], maps=tuple(part[index] for part in maps)))
        return result


class FastestDet(Detector):
    """352 x 352 stretched, BGR; score = objectness^.6 class^.4 as its authors have it."""

    side_px = 352  # a multiple of 16; a panel that trains on crops takes less

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        raw = self.network(_resize(images, (self.side_px,) * 2).flip(1)).float()  # (N, 85, 22, 22)
        scores = raw[:, :1].clamp(TINY, 1) ** 0.6 * raw[:, 5:].clamp(TINY, 1) ** 0.4
        return scores.flatten(2).transpose(1, 2), raw[:, 1:5].flatten(2).transpose(1, 2)

    def _divergence(self, maps: tuple[Tensor, ...], targets: Sequence[Target]) -> Tensor:
        own = [torch.stack(part) for part in zip(*(target.maps for target in targets), strict=True)]  # type: ignore[union-attr]
        clean, found = own[0].clamp(TINY, 1 - TINY), maps[0].clamp(TINY, 1 - TINY)
        bits = clean * (clean / found).log() + (1 - clean) * ((1 - clean) / (1 - found)).log()
        objects = own[0].amax(dim=2)
        moved = (own[1] - maps[1]).abs().mean(dim=2)  # offsets and log sides: no distributions here
        return (bits.sum(dim=(1, 2)) + (objects * moved).sum(dim=1)) / objects.sum(dim=1).clamp_min(1.0)

    def boxes(self, maps: tuple[Tensor, ...], size: tuple[int, int]) -> Sequence[Boxes]:
        scores, raw = maps
        rows, columns = torch.meshgrid(*[torch.arange(self.side_px // 16)] * 2, indexing="ij")
        cells = self.side_px // 16
        height, width = size
        x = (raw[..., 0].tanh() + columns.flatten()) / cells * width
        y = (raw[..., 1].tanh() + rows.flatten()) / cells * height
        w, h = raw[..., 2].sigmoid() * width, raw[..., 3].sigmoid() * height
        corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dim=-1)
        best, labels = scores.max(dim=2)
        return [
            _suppress(box, score, label, size, 0.45, 0.05)
            for box, score, label in zip(corners, best, labels, strict=True)
        ]


class NanoDet(Detector):
    """Long side 320, padded to multiples of 32, BGR; quality-focal scores and distributions of box sides."""

    side_px = 320

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        inside, _, _ = self._frame(images)
        names = [f"{key}_pred_stride_{stride}" for stride in (8, 16, 32) for key in ("cls", "dis")]
        out = [part.float() for part in self.network(inside, names)]
        sides = torch.cat(out[1::2], dim=1)  # (N, cells, 32)
        return torch.cat(out[0::2], dim=1), sides.unflatten(2, (4, 8)).softmax(3)

    def _frame(self, images: Tensor) -> tuple[Tensor, float, tuple[int, int]]:
        height, width = images.shape[2:]
        ratio = self.side_px / max(height, width)
        inner = (max(1, int(height * ratio)), max(1, int(width * ratio)))
        found = _resize(images, inner).flip(1) * 255
        down, right = -inner[0] % 32, -inner[1] % 32
        found = functional.pad(found, (right // 2, right - right // 2, down // 2, down - down // 2))
        mean = torch.tensor([103.53, 116.28, 123.675])[:, None, None]
        scale = torch.tensor([0.017429, 0.017507, 0.017125])[:, None, None]
        return (found - mean) * scale, ratio, (right // 2, down // 2)

    def boxes(self, maps: tuple[Tensor, ...], size: tuple[int, int]) -> Sequence[Boxes]:
        height, width = size
        ratio = self.side_px / max(height, width)
        inner = (max(1, int(height * ratio)), max(1, int(width * ratio)))
        down, right = -inner[0] % 32, -inner[1] % 32
        full = (inner[0] + down, inner[1] + right)
        centres, strides = [], []
        for stride in (8, 16, 32):
            rows, columns = torch.meshgrid(
                torch.arange(full[0] // stride), torch.arange(full[1] // stride), indexing="ij"
            )
            centres.append((torch.stack([columns.flatten(), rows.flatten()], dim=1) + 0.5) * stride)
            strides.append(torch.full((rows.numel(),), float(stride)))
        centre, step = torch.cat(centres), torch.cat(strides)
        results = []
        for scores, sides in zip(*maps, strict=True):
            reach = (sides * torch.arange(8.0)).sum(dim=2) * step[:, None]
            corners = torch.cat([centre - reach[:, :2], centre + reach[:, 2:]], dim=1)
            corners = (corners - torch.tensor([right // 2, down // 2] * 2)) / ratio
            cells, labels = (scores > 0.05).nonzero(as_tuple=True)
            results.append(_suppress(corners[cells], scores[cells, labels], labels, size, 0.6, 0.05))
        return results


class Segmenter(TaskModel):
    """TensorFlow's DeepLab on a canvas of 513; its own answer is its class probabilities there."""

    source = "see load_judge"
    target_kind = "mask"

    def __init__(self, name: str, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.name, self.network = name, network
        self.scorer = MaskScorer(classes)

    def logits(self, images: Tensor) -> Tensor:
        """Return (N, K, h, w): at a quarter of the canvas, cut to the image, long side 513."""
        height, width = images.shape[2:]
        ratio = 513 / max(height, width)
        inner = (round(height * ratio), round(width * ratio))
        found = _resize(images, inner) * 255
        found = functional.pad(found, (0, 513 - inner[1], 0, 513 - inner[0]), value=127.5)
        answer: Tensor = self.network(found).float()
        coarse = functional.avg_pool2d(answer, 4)  # 128 x 128: logits are interpolated from 33 or 65 anyway
        return coarse[:, :, : inner[0] // 4, : inner[1] // 4]

    def _divergence(self, logits: Tensor, targets: Sequence[Target]) -> Tensor:
        own = torch.stack([target.probabilities for target in targets]).float()  # type: ignore[union-attr,misc]
        return functional.kl_div(logits.log_softmax(1), own, reduction="none").sum(1).mean(dim=(1, 2))

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return self._divergence(self.logits(images), targets)

    def _predict(self, images: Tensor) -> Sequence[Tensor]:
        return list(self.logits(images).argmax(1))

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Any], Tensor]:
        logits = self.logits(images)
        return list(logits.argmax(1)), self._divergence(logits, targets)

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        soft = self.logits(images).softmax(1)
        return [Mask(row.argmax(0), probabilities=row) for row in soft]


class SizedSegmenter(Segmenter):
    """The same with answers of the image's size, as the public methods want them."""

    def logits(self, images: Tensor) -> Tensor:
        """Return (N, K, H, W)."""
        size = (images.shape[2], images.shape[3])
        return functional.interpolate(super().logits(images), size, mode="bilinear", align_corners=False)


class StreetSegmenter(Segmenter):
    """A segmenter of ours, at the image's own size."""

    def logits(self, images: Tensor) -> Tensor:
        found: Tensor = self.network._logits(images).float()  # type: ignore[operator]
        return found


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[2:]) == size:
        return images
    smaller = size[0] < images.shape[2]
    return functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=smaller)


def _suppress(
    boxes: Tensor, scores: Tensor, labels: Tensor, size: tuple[int, int], overlap: float, least: float
) -> Boxes:
    kept = scores > least
    boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    limit = torch.tensor([size[1], size[0]] * 2, dtype=boxes.dtype)
    boxes = boxes.clamp_min(0).minimum(limit)
    chosen = batched_nms(boxes, scores, labels, overlap)[:100]
    return Boxes(boxes[chosen], labels[chosen], scores=scores[chosen])
