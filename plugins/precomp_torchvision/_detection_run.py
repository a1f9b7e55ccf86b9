"""Running torchvision's detection networks: losses image by image, and detections, from one pass of the backbone.

torchvision's own forward pass returns losses averaged over the batch, only in training mode, and with a new random
sample of regions every time. Here each image has its own, in either mode, from parts torchvision has public::

    images ─▶ transform ─▶ backbone ─▶ maps ─┬─▶ dense head (FCOS, RetinaNet, SSD) ─▶ losses or detections
                                               └─▶ region proposals ─▶ region heads (R-CNN) ─▶ losses or detections
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

__all__ = ["Pass", "SteadySampler", "make_steady"]


class SteadySampler:
    """Chooses which regions a loss is computed on, with torchvision's share of positive ones.

    In training the choice is random. Otherwise every place has a fixed rank, and the positive and the negative ones of
    lowest rank are taken: the same image gives the same loss, and two similar images compare on nearly the same
    regions.

    Args:
        size: how many regions of an image are chosen.
        positive_fraction: at most this share of them is positive.
    """

    def __init__(self, size: int, positive_fraction: float) -> None:
        self.size, self.positive_fraction = size, positive_fraction
        self.random = False

    def __call__(self, matched: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return which are chosen as positive and as negative, each (R,) per image, of those matched 1 up and 0."""
        positives, negatives = [], []
        for places in matched:
            positive = places >= 1
            positive_count = min(int(self.size * self.positive_fraction), int(positive.sum()))
            positives.append(self._choose(positive, positive_count))
            negatives.append(self._choose(places == 0, self.size - positive_count))
        return positives, negatives

    def _choose(self, among: Tensor, count: int) -> Tensor:
        generator = None if self.random else torch.Generator().manual_seed(0)
        ranks = torch.rand(len(among), generator=generator).to(among.device)
        places = among.nonzero()[:, 0]
        chosen = torch.zeros_like(among)
        chosen[places[ranks[places].argsort()[:count]]] = True
        return chosen


def make_steady(network: nn.Module) -> None:
    """Give a two-stage network samplers that can be steady."""
    for part in _region_parts(network):
        old: Any = part.fg_bg_sampler
        part.fg_bg_sampler = SteadySampler(old.batch_size_per_image, old.positive_fraction)


class Pass:
    """One batch of images of one size on its way through a network.

    Args:
        network: one of torchvision's, with its transform in evaluation mode.
        images: (N, 3, H, W) in [0, 1].
        targets: per image boxes and labels as torchvision wants them, for losses.
    """

    def __init__(
        self, network: nn.Module, images: Tensor, targets: Sequence[Mapping[str, Tensor]] | None = None
    ) -> None:
        self._network = cast(Any, network)
        self._original = [(images.shape[-2], images.shape[-1])] * len(images)
        given = None if targets is None else [dict(target) for target in targets]
        with torch.autocast(images.device.type, enabled=False):
            self._images, self._targets = self._network.transform(list(images.float()), given)
        maps = self._network.backbone(self._images.tensors)
        maps = {"0": maps} if isinstance(maps, Tensor) else maps
        self.maps: dict[str, Tensor] = {name: value.float() for name, value in maps.items()}
        self._outputs: dict[str, Tensor] | None = None

    def dense_outputs(self) -> dict[str, Tensor]:
        """Return what the dense head gives, each (N, places, ...)."""
        if self._outputs is None:
            outputs = self._network.head(list(self.maps.values()))
            self._outputs = {name: value.float() for name, value in outputs.items()}
        return self._outputs

    def run_heads(self) -> None:
        """Run the heads that work on whole maps."""
        if hasattr(self._network, "rpn"):
            self._network.rpn.head(list(self.maps.values()))
        else:
            self.dense_outputs()

    def losses(self, *, random: bool) -> Tensor:
        """Return the sum of torchvision's losses for each image, (N,).

        Args:
            random: choose the regions at random, as for training.
        """
        two_stages = hasattr(self._network, "rpn")
        outputs = {} if two_stages else self.dense_outputs()
        with torch.autocast(self._images.tensors.device.type, enabled=False):
            parts = self._region_losses(random=random) if two_stages else self._dense_losses(outputs)
        return torch.stack([torch.stack(list(part.values())).sum() for part in parts])

    def detections(self) -> list[dict[str, Tensor]]:
        """Return torchvision's detections, boxes in pixels of the images as they came."""
        network, two_stages = self._network, hasattr(self._network, "rpn")
        outputs = {} if two_stages else self.dense_outputs()
        with torch.autocast(self._images.tensors.device.type, enabled=False):
            if two_stages:
                with _mode(network, training=False):
                    proposals, _ = network.rpn(self._images, self.maps)
                    found, _ = network.roi_heads(self.maps, proposals, self._images.image_sizes)
            else:
                anchors = network.anchor_generator(self._images, list(self.maps.values()))
                by_level: Any = outputs
                if not isinstance(network, detection.ssd.SSD):
                    counts = self._places_per_level()
                    by_level = {name: list(value.split_with_sizes(counts, dim=1)) for name, value in outputs.items()}
                    anchors = [list(item.split_with_sizes(counts)) for item in anchors]
                found = network.postprocess_detections(by_level, anchors, self._images.image_sizes)
            result: list[dict[str, Tensor]] = network.transform.postprocess(
                found, self._images.image_sizes, self._original
            )
        return result

    def _region_losses(self, *, random: bool) -> list[dict[str, Tensor]]:
        network, found = self._network, []
        for part in _region_parts(network):
            part.fg_bg_sampler.random = random
        with _mode(network, training=True):
            for index, target in enumerate(self._targets):
                maps = {name: value[index : index + 1] for name, value in self.maps.items()}
                size = [self._images.image_sizes[index]]
                image = ImageList(self._images.tensors[index : index + 1], size)
                proposals, first = network.rpn(image, maps, [target])
                _, second = network.roi_heads(maps, proposals, size, [target])
                found.append({**first, **second})
        return found

    def _dense_losses(self, outputs: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        network, found = self._network, []
        anchors = network.anchor_generator(self._images, list(self.maps.values()))
        for index, (target, places) in enumerate(zip(self._targets, anchors, strict=True)):
            more: tuple[Any, ...] = ()
            if isinstance(network, detection.FCOS):
                more = (self._places_per_level(),)
            elif isinstance(network, detection.ssd.SSD):
                more = ([self._match(target["boxes"], places)],)
            part = {name: value[index : index + 1] for name, value in outputs.items()}
            found.append(network.compute_loss([target], part, [places], *more))
        return found

    def _match(self, boxes: Tensor, places: Tensor) -> Tensor:
        """Return the object that each of SSD's default boxes answers for, -1 for none."""
        if not len(boxes):
            return torch.full((len(places),), -1, dtype=torch.int64, device=places.device)
        matched: Tensor = self._network.proposal_matcher(box_iou(boxes, places))
        return matched

    def _places_per_level(self) -> list[int]:
        per_cell = self._network.anchor_generator.num_anchors_per_location()
        return [value.shape[2] * value.shape[3] * n for value, n in zip(self.maps.values(), per_cell, strict=True)]


def _region_parts(network: nn.Module) -> list[Any]:
    return [network.get_submodule(name) for name in ("rpn", "roi_heads") if hasattr(network, name)]


@contextmanager
def _mode(network: nn.Module, *, training: bool) -> Iterator[None]:
    """Switch the two region parts between losses and detections; the layers inside them keep their modes."""
    parts = _region_parts(network)
    before = [part.training for part in parts]
    for part in parts:
        part.training = training
    try:
        yield
    finally:
        for part, mode in zip(parts, before, strict=True):
            part.training = mode
