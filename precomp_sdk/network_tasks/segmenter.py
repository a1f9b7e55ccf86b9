"""Semantic segmentation with a network of your own."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_sdk.errors import OptionError, TargetError
from precomp_sdk.features import capture_layers, check_layer_names
from precomp_sdk.images import pad_to_multiple
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
from precomp_sdk.scoring import MaskScorer
from precomp_sdk.targets import Mask, Target
from precomp_sdk.task import TaskModel

__all__ = ["MaskTask", "SegmenterTask"]

_LOSSES = ("cross-entropy", "expected-error")


class MaskTask(TaskModel):
    """One class per pixel: a loss, label maps, mIoU. Write ``_logits``; set ``num_classes`` and ``scorer``.

    The loss of an image is the mean over its labelled pixels, zero where it has none. A prediction is a label map of
    the image's size.

    Args:
        temperature: of the softmax in the model's pseudo-labels.
        loss: ``"cross-entropy"`` or ``"expected-error"``, one minus the probability of the right class; in training
            mode always the former. See `LabelTask`.
        loss_temperature: of the softmax in the expected error.

    Raises:
        OptionError: an option has a wrong value.
    """

    target_kind: str = Mask.kind
    num_classes: int  #: labels are below this

    def __init__(self, *, temperature: float = 1.0, loss: str = "cross-entropy", loss_temperature: float = 1.0) -> None:
        super().__init__()
        where = type(self).__name__
        if loss not in _LOSSES:
            raise OptionError.choice(where, "loss", _LOSSES, loss)
        self._loss = loss
        self._temperature = check_temperature(where, "temperature", temperature)
        self._loss_temperature = check_temperature(where, "loss_temperature", loss_temperature)

    @abstractmethod
    def _logits(self, images: Tensor) -> Tensor:
        """Return class scores at the images' own size, (N, K, H, W)."""

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return self._losses_of(self._logits(images).float(), targets)

    def _predict(self, images: Tensor) -> Sequence[Tensor]:
        return self._labels_of(self._logits(images))

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Tensor], Tensor]:
        logits = self._logits(images).float()
        return self._labels_of(logits), self._losses_of(logits, targets)

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        soft = (self._logits(images).float() / self._temperature).softmax(dim=1)  # (N, K, H, W)
        return [Mask(item.argmax(dim=0), probabilities=item) for item in soft]

    @staticmethod
    def _labels_of(logits: Tensor) -> Sequence[Tensor]:
        """Return label maps; or the scores, where one is NaN: argmax would call it a class."""
        return [item if bool(item.isnan().any()) else item.argmax(dim=0) for item in logits]

    def _losses_of(self, logits: Tensor, targets: Sequence[Target]) -> Tensor:
        """Return the mean loss over each image's labelled pixels, (N,)."""
        losses = []
        for scores, target in zip(logits, targets, strict=True):  # (K, H, W)
            assert isinstance(target, Mask)  # losses() has checked the kind
            labels = self._checked(target, scores)
            counted = labels != target.ignore_index
            if target.probabilities is not None:
                wanted = target.probabilities.detach().to(scores)
            else:
                wanted = functional.one_hot(torch.where(counted, labels, 0), self.num_classes).permute(2, 0, 1)
            if self._loss == "expected-error" and not self.training:
                each = 1.0 - (wanted * (scores / self._loss_temperature).softmax(dim=0)).sum(dim=0)
            elif target.probabilities is not None:
                each = -(wanted * scores.log_softmax(dim=0)).sum(dim=0)
            else:
                hard = torch.where(counted, labels, 0)[None]
                each = functional.cross_entropy(scores[None], hard, reduction="none")[0]
            losses.append((each * counted).sum() / counted.sum().clamp_min(1))
        return torch.stack(losses)

    def _checked(self, target: Mask, scores: Tensor) -> Tensor:
        """Return the target's labels, (H, W) int64, on the scores' device."""
        size = tuple(scores.shape[-2:])
        labels = target.labels.detach().to(scores.device, torch.int64)
        if tuple(labels.shape) != size:
            raise self._target_error(f"a mask of the image's size, {size}", str(tuple(labels.shape)))
        soft = target.probabilities
        if soft is not None:
            if tuple(soft.shape) != (self.num_classes, *size):
                raise self._target_error(f"probabilities {(self.num_classes, *size)}", str(tuple(soft.shape)))
            return labels
        known = labels[labels != target.ignore_index]
        if known.numel() and not (int(known.min()) >= 0 and int(known.max()) < self.num_classes):
            raise self._target_error(
                f"labels from 0 to {self.num_classes - 1}, or {target.ignore_index} to ignore",
                f"{int(known.min())} to {int(known.max())}",
            )
        return labels

    def _target_error(self, expected: str, got: str) -> TargetError:
        return TargetError(
            where=f"task {self.name!r}", expected=expected, got=got, remedy="Look at the data set's masks and options."
        )


class SegmenterTask(MaskTask):
    """Any network that returns class scores per pixel as a task.

    The network returns logits (N, K, H', W'), a mapping with them as ``"out"`` (torchvision), or an output that has
    them as ``logits`` (transformers); they are brought to the image's size. It is run once, on a gray image, to count
    the classes. Offers pseudo-labels, and features where ``feature_layers`` names layers.

    Args:
        network: any module.
        mean: of its training images in [0, 1], one number or one per channel; 0 where it normalizes by itself.
        std: their deviation, likewise; 1 where it normalizes by itself.
        input_size: side of the square, or (height, width), that it takes; None: any size.
        multiple: images are padded right and below, by repeating the border, to sizes divisible by this; the padding
            is taken off the answer. Encoder-decoder networks often want 32.
        class_names: of its outputs, where they have names; a data set must then have the same, in this order.
        feature_layers: names of layers whose outputs are matched, as ``network.named_modules()`` has them.
        temperature: see `MaskTask`.
        loss: ``"cross-entropy"`` or ``"expected-error"``, see `MaskTask`.
        loss_temperature: see `MaskTask`.
        name: for messages and result files.

    Raises:
        OptionError: an option has a wrong value, or the network does not take an image.
        ContractError: the network's answer holds no class scores.

    Example:
        >>> task = SegmenterTask(nn.Conv2d(3, 5, 4, stride=4), mean=0.5, std=0.25, multiple=4)
        >>> task.num_classes, task.predict(torch.rand(1, 3, 10, 15))[0].shape
        (5, torch.Size([10, 15]))
    """

    name: str = "segmenter"
    source = "a network of the user's own"

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        input_size: int | Sequence[int] | None = None,
        multiple: int = 1,
        class_names: Sequence[str] = (),
        feature_layers: Sequence[str] | None = None,
        temperature: float = 1.0,
        loss: str = "cross-entropy",
        loss_temperature: float = 1.0,
        name: str | None = None,
    ) -> None:
        super().__init__(temperature=temperature, loss=loss, loss_temperature=loss_temperature)
        where = type(self).__name__
        if type(multiple) is not int or multiple < 1:
            raise OptionError.number(where, "multiple", "a whole number from 1 on", multiple)
        self.name = self.name if name is None else name
        self.network: nn.Module = check_network(network, where)
        self.prepare: NetworkInput = NetworkInput(mean=mean, std=std, size=input_size).to(device_of(network))
        self.multiple = multiple
        self.num_classes: int = probe(network, self.prepare, 4, where)
        self.scorer: MaskScorer = MaskScorer(self.num_classes)
        self.class_names: tuple[str, ...] = check_names(class_names, self.num_classes, where)
        self._layers = None if feature_layers is None else check_layer_names(network, feature_layers)

    def check_dataset(self, class_names: Sequence[str]) -> None:
        """Raise `TargetError` if the data set has another number of classes, or others where both are named."""
        if class_names and len(class_names) != self.num_classes:
            raise self._target_error(f"a data set of {self.num_classes} classes", str(len(class_names)))
        check_same_names(self, class_names)

    def _padded(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return what the network gets, and its height and width before the padding."""
        prepared = self.prepare(images)
        height, width = prepared.shape[-2:]
        return pad_to_multiple(prepared, self.multiple), (height, width)

    def _logits(self, images: Tensor) -> Tensor:
        prepared, (height, width) = self._padded(images)
        logits = logits_of(self.network(prepared), 4, f"task {self.name!r}").float()
        if logits.shape[-2:] != prepared.shape[-2:]:  # many networks answer at a quarter or an eighth of the size
            logits = functional.interpolate(logits, prepared.shape[-2:], mode="bilinear", align_corners=False)
        logits = logits[..., :height, :width]
        if logits.shape[-2:] != images.shape[-2:]:
            logits = functional.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)
        return logits

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        if self._layers is None:
            raise self._missing("feature_layers", "intermediate features")
        prepared, _ = self._padded(images)
        return capture_layers(self.network, self._layers, lambda: self.network(prepared), len(images))
