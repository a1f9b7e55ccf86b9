"""Any classification network of torchvision as a task."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import WeightsEnum

from precomp_sdk import LabelTask, OptionError, TargetError, capture_layers
from precomp_torchvision import _features, _networks, _weights
from precomp_torchvision._labels import read_classes

__all__ = ["Classifier"]


class Classifier(LabelTask):
    """Image classification with any classification network of torchvision.

    ``network`` is torchvision's module; ``torch.save(task.network.state_dict(), path)`` writes a file for ``weights``.

    Images below 64 x 64 pixels (75 x 75 for Inception) are upscaled to that, each side on its own; ViT and MaxViT
    take one size only, and every image is resized to it. Everything else goes in as it is, unless ``input_size`` says
    otherwise. Resizing is bilinear with antialiasing and passes gradients.

    Args:
        architecture: a name of ``torchvision.models.list_models(module=torchvision.models)``.
        weights: None for random ones; ``"DEFAULT"`` or another member of torchvision's weights enum, downloaded by
            torchvision at the first use; or a file: a state dict of any float type (.pth, .pt), or .safetensors.
        num_classes: outputs of the network; default 1000, or as many as the weights have.
        new_head: keep the weights but start the last layer anew, with ``num_classes`` outputs, for fine-tuning.
        classes: restrict the network to some of its outputs, so that label k means output ``classes[k]``; or a JSON
            file that maps class names to outputs, whose classes are numbered in the order of their names.
        input_size: side of the square, or (height, width), that images are resized to before the network, in pixels.
        mean: of the network's training images, per channel; default: that of the architecture's published weights.
        std: their deviation.
        label_smoothing: share of a hard label that is spread over all classes.
        temperature: of the softmax in the model's pseudo-labels.
        loss: ``"cross-entropy"`` or ``"expected-error"``, one minus the probability of the right class, which follows
            the accuracy where a codec makes the network confidently wrong; in training mode always the former.
        loss_temperature: of the softmax in the expected error.
        feature_layers: layers whose outputs `features` returns; default: the last stage of each resolution.

    Raises:
        OptionError: an option has a wrong value, or two contradict each other.
        CheckpointError: the weights cannot be downloaded or read, or are of another network.

    Source: torchvision's model zoo.
    """

    name = "torchvision-classifier"
    source = "torchvision.models (BSD-3-Clause)"

    def __init__(
        self,
        *,
        architecture: str = "resnet18",
        weights: str | Path | WeightsEnum | None = None,
        num_classes: int | None = None,
        new_head: bool = False,
        classes: Sequence[int] | str | Path | None = None,
        input_size: int | Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        temperature: float = 1.0,
        loss: str = "cross-entropy",
        loss_temperature: float = 1.0,
        feature_layers: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            label_smoothing=label_smoothing, temperature=temperature, loss=loss, loss_temperature=loss_temperature
        )
        _networks.check_architecture(architecture)
        if num_classes is not None and num_classes < 1:
            raise OptionError.value(
                "", "num_classes", "1 or more", num_classes, "It is the number of outputs of the network."
            )
        if new_head and (weights is None or num_classes is None):
            raise OptionError.value(
                "", "new_head", "weights and num_classes beside it", new_head, "Set both, or leave it out."
            )
        self.architecture = architecture
        self._size = _networks.pair_of(input_size)
        published = self._build(weights, num_classes)
        outputs = _networks.outputs_of(self.network)
        if new_head and num_classes is not None:
            _networks.renew_head(self.network, num_classes)
            outputs = num_classes
        elif num_classes not in (None, outputs):
            raise OptionError.value(
                "", "num_classes", f"{outputs}, as the weights have", num_classes, "Leave it out, or set new_head."
            )
        elif published is not None:
            self.class_names = tuple(published.meta["categories"])
        self._classes: tuple[int, ...] | None = None
        self._own_names: tuple[str, ...] = ()
        if classes is not None:
            self._classes, self._own_names = read_classes(classes, outputs)
            names = self.class_names
            self.class_names = self._own_names or tuple(names[index] for index in self._classes if names)
        self.num_classes = outputs if self._classes is None else len(self._classes)
        self._register_normalization(mean, std, published)
        self._layers: tuple[str, ...] | None = None
        if feature_layers is not None:
            self._layers = _features.check_layers(feature_layers, self._map_layers())

    def check_dataset(self, class_names: Sequence[str]) -> None:
        """Raise `TargetError` if a data set has another number of classes, or others than the file of classes names.

        A data set without class names is accepted.
        """
        super().check_dataset(class_names)
        if class_names and self._own_names and tuple(class_names) != self._own_names:
            raise TargetError(
                where=f"task {self.name!r}",
                expected=f"the classes {', '.join(self._own_names)}, in this order",
                got=", ".join(class_names),
                remedy="Make the names in the file of classes those of the data set.",
            )

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(self._prepare(images))  # (N, outputs)
        return logits if self._classes is None else logits[:, list(self._classes)]

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """The layers whose outputs `features` returns, in its order.

        Raises:
            OptionError: none was chosen and the network has no feature maps.
        """
        if self._layers is None:
            self._layers = _features.default_layers(self.network, self._map_layers())
        return self._layers

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        prepared = self._prepare(images)
        return capture_layers(self.network, self.feature_layers, lambda: self.network(prepared), prepared.shape[0])

    def _prepare(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:] if self._size is None else self._size
        size = (max(height, self._minimum), max(width, self._minimum))
        if size != tuple(images.shape[-2:]):
            images = functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        return (images - self._mean) / self._std

    def _map_layers(self) -> dict[str, tuple[int, int]]:
        return _features.map_layers(self.network, self._side)

    def _build(self, weights: str | Path | WeightsEnum | None, num_classes: int | None) -> WeightsEnum | None:
        """Set the network and the sizes it takes; return the published weights, if it has any."""
        found = None if weights is None else _weights.find_weights(self.architecture, weights)
        self._side: int | None = None  # the one side a network takes, if it takes only one
        if _networks.takes_one_size(self.architecture):
            height, width = self._size or (224, 224)
            if height != width:
                raise OptionError.value(
                    "", "input_size", f"a square for {self.architecture!r}", self._size, "Give one number."
                )
            self._side = height
        self.network: nn.Module
        if found is None:
            self.network = _networks.build(self.architecture, num_classes, self._side)
        elif isinstance(found, Path):
            self.network = _networks.load_file_into(self.architecture, found, self._side)
        else:
            self.network = _networks.load_enum(self.architecture, found)
            if self._side is not None:
                needed = int(getattr(self.network, "image_size", 224))  # some weights are of a larger size
                if self._size is not None and self._side != needed:
                    raise OptionError.value(
                        "", "input_size", f"{needed}, as the weights need", self._side, "Leave it out."
                    )
                self._side = needed
        if self._side is not None:
            self._size = (self._side, self._side)
        self._minimum = 1 if self._side is not None else _networks.minimum_side(self.architecture)
        return found if isinstance(found, WeightsEnum) else None

    def _register_normalization(
        self, mean: Sequence[float] | None, std: Sequence[float] | None, published: WeightsEnum | None
    ) -> None:
        default_mean, default_std = _networks.normalization(self.architecture, published)
        means = tuple(default_mean if mean is None else mean)
        deviations = tuple(default_std if std is None else std)
        for option, values, right in (("mean", means, True), ("std", deviations, min(deviations, default=0.0) > 0.0)):
            if len(values) != 3 or not right:
                raise OptionError.value(
                    "", option, "three numbers, for a std above 0", values, "They are for images in [0, 1]."
                )
        self._mean: Tensor
        self._std: Tensor
        # not part of the state: they follow from the options
        self.register_buffer("_mean", torch.tensor(means).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(deviations).view(1, 3, 1, 1), persistent=False)
