"""Any detection network of torchvision as a task, also on the backbone of any classification network."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from precomp_sdk import (
    Boxes,
    BoxScorer,
    Target,
    TargetError,
    TaskModel,
    capture_layers,
    check_layer_names,
)
from precomp_torchvision import _backbones, _detection
from precomp_torchvision._classes import check_names, choose_classes, without_background
from precomp_torchvision._dense import (
    Backbone,
    backbone_of,
    build_network,
    check_head_options,
    check_normalization,
    freeze_batch_norms,
    wrong,
)
from precomp_torchvision._detection_run import Pass, make_steady

__all__ = ["Detector"]

_SHARE_OF_NATIVE = 1333 / 800  # torchvision's own longest side over its own shortest


class Detector(TaskModel):
    """Object detection with any detection network of torchvision; Mask R-CNN and Keypoint R-CNN give their boxes.

    ``network`` is torchvision's module; ``torch.save(task.network.state_dict(), path)`` writes a file for ``weights``.
    Classes are numbered from 0; torchvision's own number 0, the background, stays inside. The loss of an image is the
    sum of torchvision's losses on that image alone, without its crowd regions; an image without objects has that of
    its background. In evaluation mode it is a function of the image: the regions that a two-stage network learns from
    are then the same each time.

    torchvision's networks resize images as they were trained to, unless ``min_size`` says otherwise (SSD takes one
    size only); a network on a ``backbone`` takes them as they are.

    Args:
        architecture: a name of ``torchvision.models.list_models(module=torchvision.models.detection)``; or, with a
            backbone, ``"fcos"``, ``"retinanet"`` or ``"fasterrcnn"``.
        weights: of the whole network, as for `Classifier`.
        num_classes: without the background; default 90, or as many as the weights have.
        new_head: keep the weights but start the layers that depend on the classes anew, for fine-tuning.
        classes: choose from the network's classes, by name or number: class k of the task is its class ``classes[k]``.
        backbone: a convolutional classification network of torchvision.
        backbone_weights: of that network, as for `Classifier`.
        backbone_layers: its layers that the feature pyramid stands on; default: the last of each resolution from an
            eighth of the image down.
        pyramid_channels: of the feature pyramid, a multiple of 32 from 64 on; fewer are faster.
        min_size: length that the shorter side is brought to, in pixels.
        max_size: limit to the longer side, in pixels; default: 5/3 of ``min_size``.
        mean: of the network's training images, per channel; default: torchvision's for the network.
        std: their deviation.
        score_threshold: detections below it are dropped; default: torchvision's (0.05 for FCOS on a backbone).
        own_threshold: detections from this score on are the model's pseudo-labels.
        freeze_batch_norm: leave batch normalization in evaluation mode while the rest trains; default: if there are
            weights.
        feature_layers: layers whose outputs `features` returns; default: the maps the heads work on.

    Raises:
        OptionError: an option has a wrong value, or two contradict each other.
        CheckpointError: the weights cannot be downloaded or read, or are of another network.

    Source: torchvision's model zoo.
    """

    name = "torchvision-detector"
    source = "torchvision.models.detection (BSD-3-Clause)"
    target_kind = Boxes.kind
    num_classes: int  #: labels are below this

    def __init__(
        self,
        *,
        architecture: str = "fasterrcnn_resnet50_fpn",
        weights: str | Path | WeightsEnum | None = None,
        num_classes: int | None = None,
        new_head: bool = False,
        classes: Sequence[str] | Sequence[int] | None = None,
        backbone: str | None = None,
        backbone_weights: str | Path | WeightsEnum | None = None,
        backbone_layers: Sequence[str] | None = None,
        pyramid_channels: int = 256,
        min_size: int | None = None,
        max_size: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        score_threshold: float | None = None,
        own_threshold: float = 0.5,
        freeze_batch_norm: bool | None = None,
        feature_layers: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        _detection.check_architecture(architecture, with_backbone=backbone is not None)
        check_head_options(num_classes, 1, "It does not count the background.", weights, new_head)
        base = backbone_of(backbone, backbone_weights, backbone_layers)
        if pyramid_channels < 64 or pyramid_channels % 32:
            raise wrong("pyramid_channels", "a multiple of 32 from 64 on", pyramid_channels, "64 is small, 256 usual.")
        if not 0.0 <= own_threshold <= 1.0:
            raise wrong("own_threshold", "0 to 1", own_threshold, "0.5 is usual.")
        self.architecture = architecture
        self._own_threshold = own_threshold
        self.network, names = build_network(
            _detection,
            architecture,
            weights,
            None if base is None else partial(_make_on, architecture, base, pyramid_channels),
            num_classes,
            new_head=new_head,
            default_outputs=_detection.DEFAULT_OUTPUTS,
            background=1,
        )
        outputs = _detection.outputs_of(self.network)
        whole = without_background(names, outputs)
        labels, self.class_names = choose_classes(classes, whole)
        self.num_classes = len(labels)
        self._labels = labels  # the network's number of each class
        self.scorer = BoxScorer(self.num_classes)
        self._class_of: Tensor
        class_of = torch.full((outputs,), -1)
        class_of[torch.tensor(labels)] = torch.arange(len(labels))
        self.register_buffer("_class_of", class_of, persistent=False)
        make_steady(self.network)
        self._set_size(min_size, max_size)
        self._set_normalization(mean, std)
        self._set_threshold(score_threshold)
        any_weights = weights is not None or backbone_weights is not None
        self._frozen = any_weights if freeze_batch_norm is None else freeze_batch_norm
        self._layers = None if feature_layers is None else check_layer_names(self.network, feature_layers)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; the input transform, and batch normalization that is frozen, stay in evaluation mode."""
        super().train(mode)
        self.network.transform.eval()
        if self._frozen:
            freeze_batch_norms(self.network)
        return self

    def check_dataset(self, class_names: Sequence[str]) -> None:
        """Raise `TargetError` if the data set has another number of classes, or others where both are named."""
        check_names(self.name, self.class_names, self.num_classes, class_names)

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return Pass(self.network, images, self._wanted(images, targets)).losses(random=self.training)

    def _predict(self, images: Tensor) -> Sequence[Boxes]:
        return self._answers(Pass(self.network, images))

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Boxes], Tensor]:
        once = Pass(self.network, images, self._wanted(images, targets))
        return self._answers(once), once.losses(random=self.training)

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        own = []
        for found in self._predict(images):
            assert found.scores is not None  # _answers has set it
            solid = (found.boxes[:, 2:] > found.boxes[:, :2]).all(dim=1) & (found.scores >= self._own_threshold)
            own.append(Boxes(found.boxes[solid], found.labels[solid]))
        return own

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        if self._layers is None:
            return list(Pass(self.network, images).maps.values())
        return capture_layers(
            self.network, self._layers, lambda: Pass(self.network, images).run_heads(), images.shape[0]
        )

    def _answers(self, once: Pass) -> list[Boxes]:
        """Return the detections of the chosen classes, best first."""
        answers = []
        for found in once.detections():
            labels = self._class_of[found["labels"]]
            kept = labels >= 0
            answers.append(Boxes(found["boxes"][kept], labels[kept], scores=found["scores"][kept]))
        return answers

    def _wanted(self, images: Tensor, targets: Sequence[Target]) -> list[dict[str, Tensor]]:
        """Return targets as torchvision wants them: no crowd regions, its own class numbers, on the images' device."""
        wanted = []
        numbers = torch.tensor(self._labels)
        for target in targets:
            assert isinstance(target, Boxes)  # losses() has checked the kind
            boxes, labels = target.boxes.detach().float().reshape(-1, 4), target.labels.detach().long()
            if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < self.num_classes):
                raise self._target_error(
                    f"labels from 0 to {self.num_classes - 1}", f"{int(labels.min())} to {int(labels.max())}"
                )
            if len(labels) != len(boxes) or not bool((boxes[:, 2:] > boxes[:, :2]).all()):
                flat = boxes[(boxes[:, 2:] <= boxes[:, :2]).any(dim=1)]
                got = str(flat[0].tolist()) if len(flat) else f"{len(boxes)} boxes and {len(labels)} labels"
                raise self._target_error("one label per box, x1 < x2 and y1 < y2", got)
            if target.crowd is not None:
                single = ~target.crowd.to(labels.device)
                boxes, labels = boxes[single], labels[single]
            wanted.append({"boxes": boxes.to(images.device), "labels": numbers[labels.cpu()].to(images.device)})
        return wanted

    def _set_size(self, min_size: int | None, max_size: int | None) -> None:
        if min_size is None:
            if max_size is not None:
                raise wrong("max_size", "min_size beside it", max_size, "Give both.")
            return
        longest = round(_SHARE_OF_NATIVE * min_size) if max_size is None else max_size
        if min_size < 1 or longest < min_size:
            raise wrong("min_size", "1 up to max_size", f"{min_size} and {longest}", "Correct them.")
        transform: Any = self.network.transform
        if transform.fixed_size is not None:
            raise wrong("min_size", f"none: {self.architecture} takes one size", min_size, "Leave it out.")
        self.network.transform = GeneralizedRCNNTransform(min_size, longest, transform.image_mean, transform.image_std)

    def _set_normalization(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        transform: Any = self.network.transform
        check_normalization(mean, std)
        for option, values in (("mean", mean), ("std", std)):
            if values is not None:
                setattr(transform, f"image_{option}", list(values))

    def _set_threshold(self, threshold: float | None) -> None:
        if threshold is None:
            return
        if not 0.0 <= threshold < 1.0:
            raise wrong("score_threshold", "0 to below 1", threshold, "Low values serve mAP: 0.05 is usual.")
        part: Any = self.network.roi_heads if hasattr(self.network, "roi_heads") else self.network
        part.score_thresh = threshold

    def _target_error(self, expected: str, got: str) -> TargetError:
        return TargetError(
            where=f"task {self.name!r}", expected=expected, got=got, remedy="Look at the data set's annotations."
        )


def _make_on(family: str, base: Backbone, channels: int, outputs: int) -> nn.Module:
    return _detection.build_on(family, _backbones.Pyramid(base.stages(), channels), outputs)
