"""Detection with a network of your own that is called as torchvision's are."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from precomp_sdk.errors import ContractError, OptionError, TargetError
from precomp_sdk.features import capture_layers, check_layer_names
from precomp_sdk.modules import device_of, evaluation_mode
from precomp_sdk.network_tasks._input import NetworkInput, check_names, check_network, check_same_names
from precomp_sdk.scoring import BoxScorer
from precomp_sdk.targets import Boxes, Target
from precomp_sdk.task import TaskModel

__all__ = ["DetectorTask"]

_SWITCHING = threading.RLock()  # the mode is the network's, whichever thread calls it


class DetectorTask(TaskModel):
    """Any network with the calling convention of torchvision's detection networks as a task.

    ``network(images, targets)`` takes a list of images (3, H, W) in [0, 1] and, in training mode, a list of
    ``{"boxes": (M, 4) x1 y1 x2 y2 in pixels, "labels": (M,)}``. In training mode it returns a mapping of losses, whose
    sum counts; in evaluation mode a list of ``{"boxes", "labels", "scores"}``. Its labels count from ``first_label``.

    A loss of its own for every image takes a pass for every image. While losses are computed for a task in evaluation
    mode, only modules with parts are in training mode: dropout and batch normalization, which have none, are not, and
    what the network draws at random, such as regions, is drawn from one seed. `precomp_torchvision.Detector` does the
    same for torchvision's own networks in one pass for all.

    Offers pseudo-labels, and features where ``feature_layers`` names layers.

    Args:
        network: any such module.
        num_classes: how many classes it tells apart, without a background.
        first_label: the network's number of class 0; 1 where 0 is its background, as in torchvision.
        mean: subtracted from images before the network; default: it normalizes by itself, as torchvision's do.
        std: images are divided by it after that.
        own_threshold: detections from this score on are the model's pseudo-labels.
        class_names: where the classes have names; a data set must then have the same, in this order.
        feature_layers: names of layers whose outputs are matched, as ``network.named_modules()`` has them.
        name: for messages and result files.

    Raises:
        OptionError: an option has a wrong value.
    """

    name: str = "detector"
    source = "a network of the user's own"
    target_kind: str = Boxes.kind
    num_classes: int  #: labels are below this

    def __init__(
        self,
        network: nn.Module,
        *,
        num_classes: int,
        first_label: int = 1,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        own_threshold: float = 0.5,
        class_names: Sequence[str] = (),
        feature_layers: Sequence[str] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        where = type(self).__name__
        if type(num_classes) is not int or num_classes < 1:
            raise OptionError.number(where, "num_classes", "a whole number from 1 on", num_classes)
        if type(first_label) is not int or first_label < 0:
            raise OptionError.number(where, "first_label", "a whole number from 0 on", first_label)
        if not 0.0 <= own_threshold <= 1.0:
            raise OptionError.number(where, "own_threshold", "a number from 0 to 1", own_threshold)
        self.name = self.name if name is None else name
        self.network: nn.Module = check_network(network, where)
        self.prepare: NetworkInput = NetworkInput(mean=mean, std=std).to(device_of(network))
        self.num_classes: int = num_classes
        self.first_label: int = first_label
        self.scorer: BoxScorer = BoxScorer(num_classes)
        self.class_names: tuple[str, ...] = check_names(class_names, num_classes, where)
        self._own_threshold = own_threshold
        self._layers = None if feature_layers is None else check_layer_names(network, feature_layers)

    def check_dataset(self, class_names: Sequence[str]) -> None:
        """Raise `TargetError` if the data set has another number of classes, or others where both are named."""
        if class_names and len(class_names) != self.num_classes:
            raise TargetError(
                where=f"task {self.name!r}",
                expected=f"a data set of {self.num_classes} classes",
                got=str(len(class_names)),
                remedy="Set num_classes to the number of the network's classes, without a background.",
            )
        check_same_names(self, class_names)

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        losses = []
        with _returning_losses(self.network, self.training, images.device):
            for image, target in zip(self.prepare(images), targets, strict=True):
                if not self.training:
                    torch.manual_seed(0)
                losses.append(self._sum(self.network([image], [self._wanted(target, image)])))
        return torch.stack(losses)

    def _predict(self, images: Tensor) -> Sequence[Boxes]:
        with evaluation_mode(self.network):
            found = self.network(list(self.prepare(images)))
        if not isinstance(found, Sequence) or len(found) != len(images):
            raise self._broken(f"a list of {len(images)} detections", type(found).__name__)
        return [self._boxes(item) for item in found]

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        own = []
        for found in self._predict(images):
            assert found.scores is not None
            solid = (found.boxes[:, 2:] > found.boxes[:, :2]).all(dim=1) & (found.scores >= self._own_threshold)
            own.append(Boxes(found.boxes[solid], found.labels[solid]))
        return own

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        if self._layers is None:
            raise self._missing("feature_layers", "intermediate features")
        with evaluation_mode(self.network):
            return capture_layers(
                self.network, self._layers, lambda: self.network(list(self.prepare(images))), len(images)
            )

    def _wanted(self, target: Target, image: Tensor) -> dict[str, Tensor]:
        """Return a target as the network wants it: no crowd regions, its own numbers of classes."""
        assert isinstance(target, Boxes)  # losses() has checked the kind
        single = slice(None) if target.crowd is None else ~target.crowd
        boxes, labels = target.boxes.detach()[single], target.labels.detach()[single]
        return {"boxes": boxes.to(image), "labels": labels.to(image.device) + self.first_label}

    def _sum(self, parts: Any) -> Tensor:
        """Return the sum of the losses that the network returns for one image."""
        if not isinstance(parts, Mapping) or not parts or not all(isinstance(part, Tensor) for part in parts.values()):
            raise self._broken("a mapping of losses in training mode", type(parts).__name__)
        total: Tensor = torch.stack([part.float().sum() for part in parts.values()]).sum()
        return total

    def _boxes(self, found: Any) -> Boxes:
        names = ("boxes", "labels", "scores")
        if not isinstance(found, Mapping) or not all(isinstance(found.get(name), Tensor) for name in names):
            got = f"{type(found).__name__}{f' with {sorted(map(str, found))}' if isinstance(found, Mapping) else ''}"
            raise self._broken("a mapping with tensors 'boxes', 'labels' and 'scores' per image", got)
        labels = found["labels"].long() - self.first_label
        known = (labels >= 0) & (labels < self.num_classes)
        return Boxes(found["boxes"].float()[known], labels[known], scores=found["scores"].float()[known])

    def _broken(self, expected: str, got: str) -> ContractError:
        return ContractError(
            where=f"task {self.name!r}, network {type(self.network).__name__}",
            expected=f"{expected}, as torchvision's detection networks return",
            got=got,
            remedy="Wrap the network in a module that does, or take ModuleTask.",
        )


@contextmanager
def _returning_losses(network: nn.Module, training: bool, device: torch.device) -> Iterator[None]:
    """Let a network return losses; for a task in evaluation mode leave its leaves and the random state alone."""
    if training:
        yield
        return
    with _SWITCHING, torch.random.fork_rng([device] if device.type == "cuda" else []):
        before = [(module, module.training) for module in network.modules()]
        for module, _ in before:
            module.training = next(module.children(), None) is not None
        try:
            yield
        finally:
            for module, mode in before:
                module.training = mode
