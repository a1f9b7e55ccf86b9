"""Classification with a network of your own."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_sdk.errors import OptionError, TargetError
from precomp_sdk.features import capture_layers, check_layer_names
from precomp_sdk.modules import device_of
from precomp_sdk.network_tasks._input import (
    NetworkInput,
    check_names,
    check_network,
    check_same_names,
    check_temperature,
    logits_of,
    probe,
)
from precomp_sdk.scoring import LabelScorer
from precomp_sdk.targets import Label, Target
from precomp_sdk.task import TaskModel

__all__ = ["ClassifierTask", "LabelTask"]

_LOSSES = ("cross-entropy", "expected-error")


class LabelTask(TaskModel):
    """One label per image: a loss, logits, top-1 and top-5. Write ``_logits`` and set ``num_classes``.

    Args:
        label_smoothing: share of a hard label that is spread over all classes; soft targets stay as they are.
        temperature: of the softmax in the model's pseudo-labels; above 1 softens them.
        loss: ``"cross-entropy"``, or ``"expected-error"``, one minus the probability of the right class. Where a codec
            makes a network confidently wrong, cross entropy rewards whatever takes its confidence, such as removing
            the image; the expected error follows the accuracy. A network in training mode always learns by cross
            entropy, whose gradient does not vanish where it is wrong.
        loss_temperature: of the softmax in the expected error.

    Raises:
        OptionError: an option has a wrong value.
    """

    target_kind: str = Label.kind
    scorer: LabelScorer = LabelScorer()
    num_classes: int  #: length of the logits

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        temperature: float = 1.0,
        loss: str = "cross-entropy",
        loss_temperature: float = 1.0,
    ) -> None:
        super().__init__()
        where = type(self).__name__
        if not 0.0 <= label_smoothing < 1.0:
            raise OptionError.number(where, "label_smoothing", "a number from 0 to below 1", label_smoothing)
        if loss not in _LOSSES:
            raise OptionError.choice(where, "loss", _LOSSES, loss)
        self._loss = loss
        self._loss_temperature = check_temperature(where, "loss_temperature", loss_temperature)
        self._label_smoothing = label_smoothing
        self._temperature = check_temperature(where, "temperature", temperature)

    @abstractmethod
    def _logits(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) of images (N, 3, H, W) in [0, 1]."""

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return self._predict_with_losses(images, targets)[1]

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Tensor], Tensor]:
        logits = self._logits(images).float()
        wanted = torch.stack([self._distribution(target) for target in targets]).to(logits.device)
        if self._loss == "expected-error" and not self.training:
            losses = 1.0 - (wanted * (logits / self._loss_temperature).softmax(dim=1)).sum(dim=1)
        else:
            losses = functional.cross_entropy(logits, wanted, reduction="none")
        return logits.unbind(), losses

    def _predict(self, images: Tensor) -> Sequence[Tensor]:
        return self._logits(images).float().unbind()

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        soft = (self._logits(images).float() / self._temperature).softmax(dim=1)
        return [Label(int(row.argmax()), probabilities=row) for row in soft]

    def check_dataset(self, class_names: Sequence[str]) -> None:
        """Raise `TargetError` if the data set names another number of classes.

        A data set without class names is accepted.
        """
        if class_names and len(class_names) != self.num_classes:
            raise TargetError(
                where=f"task {self.name!r}",
                expected=f"a data set of {self.num_classes} classes",
                got=f"{len(class_names)}: {', '.join(class_names[:5])}{', ...' if len(class_names) > 5 else ''}",
                remedy="Set num_classes (a new network or head) or classes (a subset of the network's) to fit.",
            )

    def _distribution(self, target: Target) -> Tensor:
        """Return the target as probabilities (K,)."""
        assert isinstance(target, Label)  # losses() has checked the kind
        soft = target.probabilities
        if soft is not None:
            if soft.shape != (self.num_classes,):
                raise self._target_error(f"probabilities of shape {tuple(soft.shape)}")
            return soft.detach().float()
        if not 0 <= target.index < self.num_classes:
            raise self._target_error(f"class {target.index}")
        hard = torch.full((self.num_classes,), self._label_smoothing / self.num_classes)
        hard[target.index] += 1.0 - self._label_smoothing
        return hard

    def _target_error(self, got: str) -> TargetError:
        return TargetError(
            where=f"task {self.name!r}",
            expected=f"labels from 0 to {self.num_classes - 1}, or {self.num_classes} probabilities",
            got=got,
            remedy="Use a data set of as many classes as the network has.",
        )


class ClassifierTask(LabelTask):
    """Any network that returns class scores as a task: of torchvision, timm, transformers, or your own.

    The network returns logits (N, K), or an output that has them as ``logits``. It is run once, on a gray image, to
    count the classes. Offers pseudo-labels, and features where ``feature_layers`` names layers.

    Args:
        network: any module.
        mean: of its training images in [0, 1], one number or one per channel; 0 where it normalizes by itself.
        std: their deviation, likewise; 1 where it normalizes by itself.
        input_size: side of the square, or (height, width), that it takes; None: any size.
        class_names: of its outputs, where they have names; a data set must then have the same, in this order.
        feature_layers: names of layers whose outputs are matched, as ``network.named_modules()`` has them.
        label_smoothing: see `LabelTask`.
        temperature: see `LabelTask`.
        loss: ``"cross-entropy"`` or ``"expected-error"``, see `LabelTask`.
        loss_temperature: see `LabelTask`.
        name: for messages and result files.

    Raises:
        OptionError: an option has a wrong value, or the network does not take an image.
        ContractError: the network's answer holds no class scores.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> task = ClassifierTask(network, mean=0.5, std=0.25)
        >>> task.num_classes, task.losses(torch.rand(2, 3, 16, 16), [Label(0), Label(3)]).shape
        (4, torch.Size([2]))
    """

    name: str = "classifier"
    source = "a network of the user's own"

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        input_size: int | Sequence[int] | None = None,
        class_names: Sequence[str] = (),
        feature_layers: Sequence[str] | None = None,
        label_smoothing: float = 0.0,
        temperature: float = 1.0,
        loss: str = "cross-entropy",
        loss_temperature: float = 1.0,
        name: str | None = None,
    ) -> None:
        super().__init__(
            label_smoothing=label_smoothing, temperature=temperature, loss=loss, loss_temperature=loss_temperature
        )
        where = type(self).__name__
        self.name = self.name if name is None else name
        self.network: nn.Module = check_network(network, where)
        self.prepare: NetworkInput = NetworkInput(mean=mean, std=std, size=input_size).to(device_of(network))
        self.num_classes: int = probe(network, self.prepare, 2, where)
        self.class_names: tuple[str, ...] = check_names(class_names, self.num_classes, where)
        self._layers = None if feature_layers is None else check_layer_names(network, feature_layers)

    def check_dataset(self, class_names: Sequence[str]) -> None:
        """Raise `TargetError` if the data set has another number of classes, or others where both are named."""
        super().check_dataset(class_names)
        check_same_names(self, class_names)

    def _logits(self, images: Tensor) -> Tensor:
        return logits_of(self.network(self.prepare(images)), 2, f"task {self.name!r}")

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        if self._layers is None:
            raise self._missing("feature_layers", "intermediate features")
        prepared = self.prepare(images)
        return capture_layers(self.network, self._layers, lambda: self.network(prepared), len(images))
