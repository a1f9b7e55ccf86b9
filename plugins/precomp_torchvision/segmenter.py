"""Any segmentation network of torchvision as a task, also on the backbone of any classification network."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import WeightsEnum
from torchvision.models.segmentation.deeplabv3 import ASPPPooling

from precomp_sdk import (
    MaskScorer,
    MaskTask,
    capture_layers,
    check_layer_names,
    pad_to_multiple,
)
from precomp_torchvision import _networks, _segmentation
from precomp_torchvision._classes import check_names, choose_classes
from precomp_torchvision._dense import (
    Backbone,
    backbone_of,
    build_network,
    check_head_options,
    check_normalization,
    freeze_batch_norms,
)

__all__ = ["Segmenter"]

_MINIMUM_SIDE = 64  # pixels: leaves 2 positions after a stride of 32
_MULTIPLE = 32


class Segmenter(MaskTask):
    """Semantic segmentation with any segmentation network of torchvision.

    ``network`` is torchvision's module; ``torch.save(task.network.state_dict(), path)`` writes a file for ``weights``.
    Class 0 is the first of the network's outputs, which in published weights is the background. The loss of an image
    is the mean over its labelled pixels, zero where it has none. A prediction is a label map of the image's size.

    Images go in at their own size; those below 64 x 64 pixels are upscaled to that, each side on its own. Before a
    network on a ``backbone`` they are padded on the right and below to a multiple of 32 pixels by repeating the border.
    ``input_size`` brings all to one size; the answer is brought back to the image's.

    Args:
        architecture: a name of ``torchvision.models.list_models(module=torchvision.models.segmentation)``; or, with a
            backbone, ``"fcn"``, ``"deeplabv3"`` or ``"lraspp"``.
        weights: of the whole network, as for `Classifier`; auxiliary heads are left out.
        num_classes: outputs of the network; default 21, or as many as the weights have.
        new_head: keep the weights but start the layers that depend on the classes anew, for fine-tuning.
        classes: choose from the network's classes, by name or number: class k of the task is its class ``classes[k]``.
        backbone: a convolutional classification network of torchvision.
        backbone_weights: of that network, as for `Classifier`.
        backbone_layers: its layers that the heads stand on; default: the last of each resolution from an eighth of the
            image down. LR-ASPP takes detail from the first and context from the last, the others the last alone.
        input_size: side of the square, or (height, width), that images are resized to before the network, in pixels.
        mean: of the network's training images, per channel; default: ImageNet's.
        std: their deviation.
        temperature: of the softmax in the model's pseudo-labels.
        loss: ``"cross-entropy"`` or ``"expected-error"``, one minus the probability of the right class; in training
            mode always the former.
        loss_temperature: of the softmax in the expected error.
        freeze_batch_norm: leave batch normalization in evaluation mode while the rest trains.
        feature_layers: layers whose outputs `features` returns; default: the maps the heads work on.

    Raises:
        OptionError: an option has a wrong value, or two contradict each other.
        CheckpointError: the weights cannot be downloaded or read, or are of another network.

    Source: torchvision's model zoo.
    """

    name = "torchvision-segmenter"
    source = "torchvision.models.segmentation (BSD-3-Clause)"

    def __init__(
        self,
        *,
        architecture: str = "lraspp_mobilenet_v3_large",
        weights: str | Path | WeightsEnum | None = None,
        num_classes: int | None = None,
        new_head: bool = False,
        classes: Sequence[str] | Sequence[int] | None = None,
        backbone: str | None = None,
        backbone_weights: str | Path | WeightsEnum | None = None,
        backbone_layers: Sequence[str] | None = None,
        input_size: int | Sequence[int] | None = None,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        temperature: float = 1.0,
        loss: str = "cross-entropy",
        loss_temperature: float = 1.0,
        freeze_batch_norm: bool = False,
        feature_layers: Sequence[str] | None = None,
    ) -> None:
        super().__init__(temperature=temperature, loss=loss, loss_temperature=loss_temperature)
        _segmentation.check_architecture(architecture, with_backbone=backbone is not None)
        check_head_options(num_classes, 2, "It is the number of outputs of the network.", weights, new_head)
        base = backbone_of(backbone, backbone_weights, backbone_layers)
        check_normalization(mean, std)
        self.architecture = architecture
        self._multiple = 1 if backbone is None else _MULTIPLE
        self._size = _networks.pair_of(input_size)
        self.network, names = build_network(
            _segmentation,
            architecture,
            weights,
            None if base is None else partial(_make_on, architecture, base),
            num_classes,
            new_head=new_head,
            default_outputs=_segmentation.DEFAULT_OUTPUTS,
            background=0,
        )
        outputs = _segmentation.outputs_of(self.network)
        self._outputs, self.class_names = choose_classes(classes, dict(enumerate(names or ("",) * outputs)))
        self.num_classes = len(self._outputs)
        self.scorer = MaskScorer(self.num_classes)
        self._mean: Tensor
        self._std: Tensor
        # not part of the state: they follow from the options
        self.register_buffer("_mean", torch.tensor(tuple(mean)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(tuple(std)).view(1, 3, 1, 1), persistent=False)
        self._frozen = freeze_batch_norm
        self._layers = None if feature_layers is None else check_layer_names(self.network, feature_layers)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; batch normalization that is frozen stays in evaluation mode."""
        super().train(mode)
        if self._frozen:
            freeze_batch_norms(self.network)
        return self

    def check_dataset(self, class_names: Sequence[str]) -> None:
        """Raise `TargetError` if the data set has another number of classes, or others where both are named."""
        check_names(self.name, self.class_names, self.num_classes, class_names)

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        prepared = self._prepare(images)
        if self._layers is None:
            maps: dict[str, Tensor] = self.network.get_submodule("backbone")(prepared)
            return list(maps.values())
        return capture_layers(self.network, self._layers, lambda: self.network(prepared), prepared.shape[0])

    def _logits(self, images: Tensor) -> Tensor:
        """Return class scores at the images' own size, (N, K, H, W)."""
        size = self._working_size(images)
        prepared = self._prepare(images)
        with _lone_image(self.network, prepared.shape[0]):
            logits: Tensor = self.network(prepared)["out"].float()[..., : size[0], : size[1]]
        if size != tuple(images.shape[-2:]):
            logits = functional.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)
        return logits if self.num_classes == logits.shape[1] and self._whole() else logits[:, list(self._outputs)]

    def _whole(self) -> bool:
        return self._outputs == tuple(range(self.num_classes))

    def _working_size(self, images: Tensor) -> tuple[int, int]:
        height, width = images.shape[-2:] if self._size is None else self._size
        return max(height, _MINIMUM_SIDE), max(width, _MINIMUM_SIDE)

    def _prepare(self, images: Tensor) -> Tensor:
        size = self._working_size(images)
        if size != tuple(images.shape[-2:]):
            images = functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        return (pad_to_multiple(images, self._multiple) - self._mean) / self._std


@contextmanager
def _lone_image(network: nn.Module, count: int) -> Iterator[None]:
    """Let DeepLab train on one image: its pooling branch leaves one position, which has no deviation."""
    alone = [
        layer
        for branch in network.modules()
        if isinstance(branch, ASPPPooling)
        for layer in branch.modules()
        if isinstance(layer, nn.BatchNorm2d) and layer.training and count == 1
    ]
    for layer in alone:
        layer.eval()
    try:
        yield
    finally:
        for layer in alone:
            layer.train()


def _make_on(family: str, base: Backbone, outputs: int) -> nn.Module:
    return _segmentation.build_on(family, base.stages(), outputs)
