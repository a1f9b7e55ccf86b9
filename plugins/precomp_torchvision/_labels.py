"""What every classifier of this plugin shares: the loss, the predictions and the choice of classes."""

import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from precomp_sdk import Label, LabelScorer, OptionError, Target, TargetError, TaskModel

__all__ = ["LabelTask", "read_classes"]

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
    """

    target_kind = Label.kind
    scorer = LabelScorer()
    num_classes: int  #: length of the logits

    def __init__(
        self,
        *,
        label_smoothing: float,
        temperature: float,
        loss: str = "cross-entropy",
        loss_temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise OptionError.value(
                "", "label_smoothing", "0 to below 1", label_smoothing, "0.1 is usual; 0 turns it off."
            )
        if not temperature > 0.0:
            raise OptionError.value(
                "", "temperature", "a number above 0", temperature, "1 leaves the softmax as it is."
            )
        if loss not in _LOSSES:
            raise OptionError.choice("", "loss", _LOSSES, loss)
        if not loss_temperature > 0.0:
            raise OptionError.value(
                "", "loss_temperature", "a number above 0", loss_temperature, "1 is the network's own."
            )
        self._loss = loss
        self._loss_temperature = loss_temperature
        self._label_smoothing = label_smoothing
        self._temperature = temperature

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
        """Raise `TargetError` if the data set names another number of classes, or other classes where both are known.

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


def read_classes(classes: Sequence[int] | str | Path, outputs: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return a subset of a network's outputs, and the classes' names where they come from a file.

    Args:
        classes: indices, or a JSON file that maps class (folder) name to index; its classes are sorted by name, as
            the folders of a data set are.
        outputs: how many outputs the network has.

    Raises:
        OptionError: the file cannot be read, or the indices are not distinct outputs of the network.
    """
    names: tuple[str, ...] = ()
    indices: tuple[object, ...]
    if isinstance(classes, str | Path):
        try:
            mapping = json.loads(Path(classes).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _classes_error("a readable JSON file", f"{classes}: {error}") from error
        if not isinstance(mapping, dict):
            raise _classes_error("a JSON object that maps names to indices", f"{classes}: {type(mapping).__name__}")
        names = tuple(sorted(mapping))
        indices = tuple(mapping[name] for name in names)
    else:
        indices = tuple(classes)
    whole = [index for index in indices if isinstance(index, int) and 0 <= index < outputs]
    if not indices or len(set(whole)) != len(indices):
        raise _classes_error(f"distinct whole numbers from 0 to {outputs - 1}", repr(list(indices)))
    return tuple(whole), names


def _classes_error(expected: str, got: str) -> OptionError:
    remedy = 'Give a list of output indices, or a file like {"tench": 0, "church": 497}.'
    return OptionError(where="option 'classes'", expected=expected, got=got[:300], remedy=remedy)
