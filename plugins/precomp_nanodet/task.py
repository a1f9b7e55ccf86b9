"""NanoDet-m as a task: its own answers, softly, or boxes as truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import batched_nms

from precomp_nanodet.network import BINS, CLASSES, STRIDES, NanoDetM
from precomp_sdk import Boxes, BoxScorer, OptionError, Target, TargetError, TaskModel

__all__ = ["NanoDet"]

_SIDE_PX = 320  # of the longer side, as the weights were trained
_MULTIPLE = 32
_MEAN = (103.53, 116.28, 123.675)  # BGR, 0 to 255
_SCALE = (0.017429, 0.017507, 0.017125)
_LEAST_SCORE = 0.05
_OVERLAP = 0.6
_MOST = 100  # boxes of an image
_TINY = 1e-6
_INNER = 0.5  # of a box's side: cells whose centre lies within it stand for the object
_CELLS_WIDE = 8.0  # strides: a box is seen at the stride at which its longer side is about as wide


@dataclass(frozen=True, slots=True)
class _SoftBoxes(Boxes):
    """The detector's own answer: its boxes, and the maps that they were read from."""

    maps: tuple[Tensor, Tensor] | None = None  # scores (cells, 80), and sides (cells, 4, 8)

    def resized(self, before: tuple[int, int], after: tuple[int, int]) -> Any:
        return self._plain().resized(before, after)

    def cropped(self, top: int, left: int, height: int, width: int) -> Any:
        return self._plain().cropped(top, left, height, width)

    def flipped(self, width: int) -> Any:
        return self._plain().flipped(width)

    def _plain(self) -> Boxes:
        """Return the boxes alone: the maps are those of the image as it was."""
        return Boxes(self.boxes, self.labels, self.crowd, self.scores)


class NanoDet(TaskModel):
    """Detects COCO's 80 classes on the image reduced to 320 pixels of its longer side, so at one cost for all sizes.

    The loss of an image is the divergence of the maps from those of the target: of every class at every cell, and of
    the distributions of box sides where there are objects, over the sum of objects. Its own clean answers are whole
    maps; plain boxes stand for cells in their middle, at the stride that fits their size.

    Args:
        own_score: boxes of this score or more are the answer that serves as a target.

    Raises:
        OptionError: ``own_score`` is not above 0 and below 1.
    """

    name = "nanodet-m"
    source = "RangiLyu/nanodet, nanodet-m (Apache-2.0); generalized focal loss, arXiv 2006.04388"
    target_kind = "boxes"
    num_classes = CLASSES

    def __init__(self, *, own_score: float = 0.3) -> None:
        super().__init__()
        if not 0.0 < own_score < 1.0:
            raise OptionError.number(f"task {self.name!r}", "own_score", "a number between 0 and 1", own_score)
        self._own_score = own_score
        self.network = NanoDetM()
        self.scorer = BoxScorer(CLASSES)
        for key, values in (("mean", _MEAN), ("scale", _SCALE)):
            self.register_buffer(key, torch.tensor(values)[:, None, None], persistent=False)

    def check_dataset(self, class_names: Sequence[str]) -> None:
        """Raise `TargetError` if the data set names another number of classes than COCO's 80."""
        if class_names and len(class_names) != CLASSES:
            raise TargetError(
                where=f"task {self.name!r}",
                expected=f"a data set of COCO's {CLASSES} classes",
                got=str(len(class_names)),
                remedy="Use its own answers instead of labels, or another detector.",
            )

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores (N, cells, 80) and distributions of sides (N, cells, 4, 8)."""
        frame = _Frame.of(images)
        found = images
        if frame.inner != frame.size:
            smaller = frame.inner[0] < frame.size[0]
            found = functional.interpolate(images, frame.inner, mode="bilinear", antialias=smaller, align_corners=False)
        top, left = frame.margins
        down, right = frame.full[0] - frame.inner[0], frame.full[1] - frame.inner[1]
        found = functional.pad(found.flip(1) * 255.0, (left, right - left, top, down - top))
        scores, sides = self.network((found - self.get_buffer("mean")) * self.get_buffer("scale"))
        return scores.float(), sides.float().softmax(dim=3)

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return self._divergence(self._maps(images), targets, _Frame.of(images))

    def _predict(self, images: Tensor) -> Sequence[Boxes]:
        return self._boxes(self._maps(images), _Frame.of(images))

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Any], Tensor]:
        maps, frame = self._maps(images), _Frame.of(images)
        return self._boxes(maps, frame), self._divergence(maps, targets, frame)

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        maps = self._maps(images)
        own = []
        for place, found in enumerate(self._boxes(maps, _Frame.of(images))):
            assert found.scores is not None
            kept = found.scores >= self._own_score
            own.append(_SoftBoxes(found.boxes[kept], found.labels[kept], maps=(maps[0][place], maps[1][place])))
        return own

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        first, second, _ = _Frame.of(images).counts
        scores = self._maps(images)[0]
        return [part.transpose(1, 2)[..., None] for part in torch.tensor_split(scores, (first, first + second), dim=1)]

    def _divergence(self, maps: tuple[Tensor, Tensor], targets: Sequence[Target], frame: "_Frame") -> Tensor:
        """Return (N,): Bernoulli divergence of scores, and divergence of sides where objects are, over the objects."""
        losses = []
        for target, scores, sides in zip(targets, *maps, strict=True):
            assert isinstance(target, Boxes)  # losses() has checked the kind
            own = target.maps if isinstance(target, _SoftBoxes) else None
            if own is None or own[0].shape != scores.shape:
                own = frame.maps_of(target)
            wanted, lengths = (part.detach().to(scores) for part in own)
            objects = wanted.amax(dim=1)  # (cells,)
            off_sides = _relative(lengths, sides).sum(dim=2).mean(dim=1)
            off_scores = _relative(wanted, scores) + _relative(1 - wanted, 1 - scores)
            losses.append((off_scores.sum() + (objects * off_sides).sum()) / objects.sum().clamp_min(1.0))
        return torch.stack(losses)

    def _boxes(self, maps: tuple[Tensor, Tensor], frame: "_Frame") -> list[Boxes]:
        centres, strides = frame.cells(maps[0])
        top, left = frame.margins
        limit = torch.tensor([frame.size[1], frame.size[0]] * 2).to(centres)
        margins = torch.tensor([left, top] * 2).to(centres)
        found = []
        for scores, sides in zip(*(part.detach() for part in maps), strict=True):
            reach = (sides * torch.arange(float(BINS)).to(sides)).sum(dim=2) * strides[:, None]
            corners = torch.cat([centres - reach[:, :2], centres + reach[:, 2:]], dim=1)
            corners = ((corners - margins) / frame.ratio).clamp_min(0.0).minimum(limit)
            cells, labels = (scores > _LEAST_SCORE).nonzero(as_tuple=True)
            boxes, values = corners[cells], scores[cells, labels]
            kept = batched_nms(boxes, values, labels, _OVERLAP)[:_MOST]
            found.append(Boxes(boxes[kept], labels[kept], scores=values[kept]))
        return found


@dataclass(frozen=True, slots=True)
class _Frame:
    """How an image lies in what the network sees."""

    size: tuple[int, int]  # of the image
    inner: tuple[int, int]  # of the image as it was resized
    full: tuple[int, int]  # of what the network sees

    @classmethod
    def of(cls, images: Tensor) -> "_Frame":
        size = (int(images.shape[2]), int(images.shape[3]))
        ratio = _SIDE_PX / max(size)
        inner = (max(1, int(size[0] * ratio)), max(1, int(size[1] * ratio)))
        full = (inner[0] + -inner[0] % _MULTIPLE, inner[1] + -inner[1] % _MULTIPLE)
        return cls(size, inner, full)

    @property
    def ratio(self) -> float:
        return _SIDE_PX / max(self.size)

    @property
    def margins(self) -> tuple[int, int]:
        """Rows above and columns left of the image."""
        return (self.full[0] - self.inner[0]) // 2, (self.full[1] - self.inner[1]) // 2

    @property
    def counts(self) -> list[int]:
        return [(self.full[0] // stride) * (self.full[1] // stride) for stride in STRIDES]

    def cells(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return centres (cells, 2), x and y, and strides (cells,), in the pixels that the network sees."""
        centres, strides = [], []
        for stride in STRIDES:
            rows, columns = torch.meshgrid(
                torch.arange(self.full[0] // stride), torch.arange(self.full[1] // stride), indexing="ij"
            )
            centres.append((torch.stack([columns.flatten(), rows.flatten()], dim=1) + 0.5) * stride)
            strides.append(torch.full((rows.numel(),), float(stride)))
        return torch.cat(centres).to(like), torch.cat(strides).to(like)

    def maps_of(self, target: Boxes) -> tuple[Tensor, Tensor]:
        """Return the maps that plain boxes ask for."""
        top, left = self.margins
        boxes = target.boxes.detach().float().cpu() * self.ratio + torch.tensor([left, top] * 2)
        centres, strides = self.cells(boxes)
        scores, sides = torch.zeros(len(centres), CLASSES), torch.full((len(centres), 4, BINS), 1.0 / BINS)
        single = target.crowd is None
        for place, (box, label) in enumerate(zip(boxes, target.labels.tolist(), strict=True)):
            if not single and bool(target.crowd[place]):  # type: ignore[index]
                continue
            middle, size = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).clamp_min(1.0)
            stride = min(STRIDES, key=lambda item: abs(float(size.max()) / (_CELLS_WIDE * item) - 1.0))
            own = strides == stride
            inside = own & ((centres - middle).abs() <= _INNER / 2 * size).all(dim=1)
            nearest = (centres - middle).abs().sum(dim=1).where(own, torch.inf).argmin()
            inside[nearest] = True
            scores[inside, label] = 1.0
            reach = torch.cat([centres[inside] - box[:2], box[2:] - centres[inside]], dim=1) / stride
            reach = reach.clamp(0.0, BINS - 1.0)
            bins = torch.arange(float(BINS))
            sides[inside] = (1.0 - (reach[..., None] - bins).abs()).clamp_min(0.0)
        return scores, sides


def _relative(wanted: Tensor, found: Tensor) -> Tensor:
    """Return ``wanted * log(wanted / found)``, bounded where either is 0."""
    return wanted * (wanted.clamp_min(_TINY) / found.clamp_min(_TINY)).log()
