"""The contract of a downstream network."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar, final

import torch
from torch import Tensor, nn

from precomp_sdk.data import TaskDataset
from precomp_sdk.described import Described
from precomp_sdk.errors import CheckpointError, ContractError, OptionError, TargetError, naming
from precomp_sdk.images import check_batch, group_by_size
from precomp_sdk.scorer import Scorer
from precomp_sdk.targets import Target
from precomp_sdk.weights import load_weights, read_name, read_state, save_weights, without_prefix

__all__ = ["TaskModel"]

T = TypeVar("T")
_NAMED = 4  # samples of a batch that a message names
_Groups: TypeAlias = list[tuple[list[int], Tensor]]  # images of one size: their places, their batch


class TaskModel(Described, nn.Module, ABC):
    """The network at the receiver: a per-image loss to train against, predictions, and a score.

    Write ``_losses`` and ``_predict`` for a batch of images of one size and set ``scorer``; the public methods take
    images of unequal sizes, group them by size and keep their order. Normalization of the input is the model's own.
    Gradients flow from the losses to the images.

    Shapes and units:
        images: a float tensor (N, 3, H, W) in [0, 1], or a sequence of N float tensors (3, H, W).
        targets: one per image, of ``target_kind``.
    """

    name: str  #: unique, kebab-case; set by the class, or in ``__init__`` where it is not registered
    source: ClassVar[str]  #: the paper or library of the network
    target_kind: str  #: the `Target.kind` that it takes; set by the class or in ``__init__``
    scorer: Scorer  #: set by the class or in ``__init__``
    class_names: tuple[str, ...] = ()  #: empty where the classes have no names
    num_classes: int | None = None  #: classes of targets are below this; None: as many as there are class names, or any
    fitted_classes: tuple[str, ...] = ()  #: those of the data set it was fitted to, where they have names

    @abstractmethod
    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        """Return one loss per image, (N,), with a gradient to the images (N, 3, H, W)."""

    @abstractmethod
    def _predict(self, images: Tensor) -> Sequence[Any]:
        """Return one prediction per image, as ``scorer`` reads them."""

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Any], Tensor]:
        """Return predictions and losses; override it where one pass through the network gives both."""
        return self._predict(images), self._losses(images, targets)

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        """Return the model's own answer as targets; override it to train on images without labels."""
        raise self._missing("_pseudo_labels", "its own predictions as targets")

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        """Return intermediate features, each (N, C, H', W'); override it to match features."""
        raise self._missing("_features", "intermediate features")

    def _takes(self, target: Target) -> bool:
        """Return whether a target is of a kind the model takes; override it where it takes several."""
        return target.kind == self.target_kind

    def check_dataset(self, class_names: Sequence[str]) -> None:
        """Raise `TargetError` if a data set with these classes does not fit. The default accepts any."""

    @final
    def check_targets(
        self, dataset: TaskDataset, where: str = "", *, remedy: str = "Use a data set that fits."
    ) -> None:
        """Raise `TargetError` if a data set's targets are of another kind, or its classes do not fit.

        Args:
            dataset: whose targets are to be used.
            where: who asks, for the message.
            remedy: what to do about another kind.
        """
        if dataset.target_kind != self.target_kind:
            of_both = f"data set {dataset.name!r} for task {self.name!r}"
            raise TargetError(
                where=f"{where}, {of_both}" if where else of_both,
                expected=f"targets of kind {self.target_kind!r}",
                got=f"targets of kind {dataset.target_kind!r}" if dataset.target_kind else "no targets",
                remedy=remedy,
            )
        self.check_classes(dataset.class_names)

    @final
    def check_classes(self, class_names: Sequence[str]) -> None:
        """Refuse a data set with classes that do not fit the network, or that number those it was fitted to otherwise.

        Raises:
            TargetError: as `check_dataset` raises it; or the classes are others than ``fitted_classes``.
        """
        self.check_dataset(class_names)
        if self.fitted_classes and class_names and tuple(class_names) != self.fitted_classes:
            raise TargetError(
                where=f"task {self.name!r}",
                expected=f"the classes it was fitted to, in this order: {', '.join(self.fitted_classes)}",
                got=", ".join(class_names),
                remedy="Labels are places in this list: number the classes alike (option classes), or fit it anew.",
            )

    @final
    def losses(
        self, images: Tensor | Sequence[Tensor], targets: Sequence[Target], *, keys: Sequence[str] | None = None
    ) -> Tensor:
        """Return one loss per image, (N,).

        Args:
            images: see the class.
            targets: one per image.
            keys: the samples' names, for the messages of errors; default: their places.

        Raises:
            TargetError: the targets are of another kind, not one per image, or of a class that the task does not know.
        """
        groups = self._groups(images, targets, keys)
        parts = []
        for indices, batch in groups:
            with naming(self._names(indices, keys)):
                parts.append(self._losses(batch, [targets[index] for index in indices]))
        return self._join(groups, parts)

    @final
    @torch.no_grad()
    def predict(self, images: Tensor | Sequence[Tensor]) -> list[Any]:
        """Return one prediction per image, in order."""
        return self._per_image(images, self._predict, f"{type(self).__name__}._predict")

    @final
    @torch.no_grad()
    def predict_with_losses(
        self, images: Tensor | Sequence[Tensor], targets: Sequence[Target], *, keys: Sequence[str] | None = None
    ) -> tuple[list[Any], Tensor]:
        """Return one prediction per image and one loss per image (N,), without gradients: what an evaluation needs.

        Raises:
            TargetError: as `losses` raises it.
        """
        groups = self._groups(images, targets, keys)
        losses: list[Tensor] = []

        def predictions(indices: list[int], batch: Tensor) -> Sequence[Any]:
            with naming(self._names(indices, keys)):
                answers, part = self._predict_with_losses(batch, [targets[index] for index in indices])
            losses.append(part)
            return answers

        answers = self._gather(groups, predictions, f"{type(self).__name__}._predict_with_losses")
        return answers, self._join(groups, losses)

    @final
    @torch.no_grad()
    def pseudo_labels(self, images: Tensor | Sequence[Tensor]) -> list[Target]:
        """Return the model's own answer on clean images as targets: training then needs no labels.

        Raises:
            OptionError: the model does not offer it.
        """
        return self._per_image(images, self._pseudo_labels, f"{type(self).__name__}._pseudo_labels")

    @final
    def save(self, path: Path | str) -> None:
        """Write the weights as safetensors, with the task's name: for `load`, and for ``load`` in an experiment file.

        Raises:
            CheckpointError: the file's name does not end in ``.safetensors``.
            OSError: its folder cannot be written to.
        """
        save_weights(path, self, name=self.name)

    @final
    def load(self, path: Path | str) -> None:
        """Load weights: a file of `save`, or a plain state dict (.pth, .pt, .safetensors) of the task or its network.

        Prefixes that wrappers such as nn.DataParallel put before every name are taken off. No code in it is executed.

        Raises:
            CheckpointError: it cannot be read, is another task's, or does not fit.
        """
        name = read_name(path)
        if name is not None and name != self.name:
            raise CheckpointError(
                where=str(path),
                expected=f"weights of {self.name!r}",
                got=f"weights of {name!r}",
                remedy="Load them into the task that wrote them.",
            )
        network = next((part for part in (getattr(self, "network", None), getattr(self, "module", None)) if part), None)
        if name is None and isinstance(network, nn.Module):
            own = self.state_dict().keys()
            if not without_prefix(read_state(path), own).keys() <= own:
                return load_weights(network, path)
        return load_weights(self, path)

    @final
    def features(self, images: Tensor) -> list[Tensor]:
        """Return intermediate features of a batch, each (N, C, H', W'), with gradients to the images.

        Raises:
            OptionError: the model does not offer any.
        """
        return list(self._features(check_batch(images, f"task {self.name!r}")))

    def feature_weights(self) -> tuple[float, ...] | None:
        """Return the factor of each layer where features are matched; None, the default, weighs all layers alike."""
        return None

    def _per_image(
        self, images: Tensor | Sequence[Tensor], method: Callable[[Tensor], Sequence[T]], name: str
    ) -> list[T]:
        return self._gather(_by_size(images, f"task {self.name!r}"), lambda _, batch: method(batch), name)

    @staticmethod
    def _gather(groups: _Groups, method: Callable[[list[int], Tensor], Sequence[T]], name: str) -> list[T]:
        """Collect what ``method`` returns for each group, in the order of the images."""
        results: dict[int, T] = {}
        for indices, batch in groups:
            answers = method(indices, batch)
            if len(answers) != len(indices):
                raise ContractError(
                    where=name,
                    expected=f"{len(indices)} answers, one per image",
                    got=str(len(answers)),
                    remedy="Return a list with one entry per image.",
                )
            results.update(zip(indices, answers, strict=True))
        return [results[index] for index in range(len(results))]

    def _groups(
        self, images: Tensor | Sequence[Tensor], targets: Sequence[Target], keys: Sequence[str] | None
    ) -> _Groups:
        """Group images by size after a look at their targets."""
        groups = _by_size(images, f"task {self.name!r}")
        count = sum(len(indices) for indices, _ in groups)
        if len(targets) != count or not all(isinstance(item, Target) and self._takes(item) for item in targets):
            kinds = {str(getattr(item, "kind", type(item).__name__)) for item in targets}
            raise TargetError(
                where=f"task {self.name!r}",
                expected=f"{count} targets of kind {self.target_kind!r}",
                got=f"{len(targets)} of kinds {sorted(kinds)}",
                remedy="Use a data set whose targets fit the task.",
            )
        num_classes = self.num_classes or len(self.class_names) or None
        for indices, batch in groups:
            size = (int(batch.shape[2]), int(batch.shape[3]))
            for index in indices:
                targets[index].check(self._names([index], keys), size=size, num_classes=num_classes)
        return groups

    def _names(self, indices: Sequence[int], keys: Sequence[str] | None) -> str:
        """Name the task and some samples, for a message."""
        named = [f"image {index}" if keys is None else repr(keys[index]) for index in indices[:_NAMED]]
        more = f" and {len(indices) - _NAMED} more" if len(indices) > _NAMED else ""
        return f"task {self.name!r}, {'' if keys is None else 'sample '}{', '.join(named)}{more}"

    def _join(self, groups: _Groups, parts: Sequence[Tensor]) -> Tensor:
        """Return the groups' losses, in the order of the images."""
        for (indices, _), part in zip(groups, parts, strict=True):
            if part.shape != (len(indices),):
                raise ContractError(
                    where=f"{type(self).__name__}._losses",
                    expected=f"one loss per image, ({len(indices)},)",
                    got=str(tuple(part.shape)),
                    remedy='Compute the loss with reduction="none" and average per image.',
                )
        order = torch.tensor([index for indices, _ in groups for index in indices])
        return torch.cat(list(parts))[order.argsort().to(parts[0].device)]

    def _missing(self, method: str, what: str) -> OptionError:
        return OptionError(
            where=f"task {self.name!r}",
            expected=f"a task model that offers {what}",
            got=f"{type(self).__name__} without {method}",
            remedy=f"Override {method}, or choose another option of the trainer.",
        )


def _by_size(images: Tensor | Sequence[Tensor], where: str) -> _Groups:
    """Group images by size: (their indices, their batch) per size."""
    if isinstance(images, Tensor):
        return [(list(range(len(images))), check_batch(images, where))]
    return [
        (indices, check_batch(torch.stack([images[index] for index in indices]), where))
        for indices in group_by_size(images)
    ]
