"""Any network as a task: a module, a loss, a prediction and a score."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from precomp_sdk.errors import ContractError, OptionError, TargetError, nearest
from precomp_sdk.features import capture_layers, check_layer_names
from precomp_sdk.scorer import Scorer
from precomp_sdk.targets import Target, known_kinds
from precomp_sdk.task import TaskModel

__all__ = ["ModuleTask"]


class ModuleTask(TaskModel):
    """A network of your own as a task model.

    The module is called with images (N, 3, H, W) in [0, 1], of one size; whatever it returns goes to your functions as
    it is. Normalization, and whatever its answer needs to know of the image's size, belong into the module.

    Args:
        module: the network.
        loss: of the module's answer and N targets: one loss per image, (N,), with a gradient to the images.
        predict: of the module's answer: N predictions as ``scorer`` reads them.
        scorer: `LabelScorer`, `BoxScorer`, `MaskScorer` or your own.
        target_kind: the `Target.kind` of the targets: ``"label"``, ``"boxes"``, ``"mask"`` or your own.
        pseudo_labels: of the module's answer: N targets to train on where there are no labels; default: not offered.
        feature_layers: names of layers whose outputs are matched, as ``module.named_modules()`` has them.
        class_names: where the classes have names; a data set must then have the same, in this order.
        name: for messages and result files; default: the class's.

    Raises:
        OptionError: a layer's name is unknown, or the kind is none.

    Example:
        >>> import torch
        >>> from torch.nn import functional
        >>> from precomp_sdk import Label, LabelScorer, ModuleTask
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten())
        >>> def loss(logits, targets):
        ...     labels = torch.tensor([target.index for target in targets], device=logits.device)
        ...     return functional.cross_entropy(logits, labels, reduction="none")
        >>> task = ModuleTask(
        ...     network, loss=loss, predict=list, scorer=LabelScorer(), target_kind="label", feature_layers=["1"]
        ... )
        >>> task.losses(torch.rand(2, 3, 16, 16), [Label(0), Label(3)]).shape
        torch.Size([2])
    """

    name: str = "module"
    source = "a network of the user's own"

    def __init__(
        self,
        module: nn.Module,
        *,
        loss: Callable[[Any, Sequence[Target]], Tensor],
        predict: Callable[[Any], Sequence[Any]],
        scorer: Scorer,
        target_kind: str,
        pseudo_labels: Callable[[Any], Sequence[Target]] | None = None,
        feature_layers: Sequence[str] | None = None,
        class_names: Sequence[str] = (),
        name: str | None = None,
    ) -> None:
        super().__init__()
        if target_kind not in known_kinds():
            raise OptionError(
                where="ModuleTask, option 'target_kind'",
                expected="the kind of a Target, such as Label.kind",
                got=repr(target_kind),
                remedy=nearest(str(target_kind), known_kinds()),
            )
        self.module = module
        self.name = self.name if name is None else name
        self.target_kind = target_kind
        self.scorer = scorer
        self.class_names: tuple[str, ...] = tuple(class_names)
        self._loss, self._prediction, self._own = loss, predict, pseudo_labels
        self._layers = None if feature_layers is None else check_layer_names(module, feature_layers)

    def check_dataset(self, class_names: Sequence[str]) -> None:
        """Raise `TargetError` if task and data set both name their classes, and not alike."""
        if self.class_names and class_names and tuple(class_names) != self.class_names:
            raise TargetError(
                where=f"task {self.name!r}",
                expected=f"the classes {', '.join(self.class_names)}, in this order",
                got=", ".join(class_names),
                remedy="Use a data set of these classes, or leave class_names out.",
            )

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return self._checked_losses(self.module(images), images, targets)

    def _predict(self, images: Tensor) -> Sequence[Any]:
        return self._checked_list(self._prediction(self.module(images)), "predict", images)

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Any], Tensor]:
        output = self.module(images)
        predictions = self._checked_list(self._prediction(output), "predict", images)
        return predictions, self._checked_losses(output, images, targets)

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        if self._own is None:
            raise OptionError(
                where=f"task {self.name!r}",
                expected="a task model that offers its own predictions as targets",
                got="a ModuleTask without pseudo_labels",
                remedy="Give it pseudo_labels, or use a data set's targets.",
            )
        targets = self._checked_list(self._own(self.module(images)), "pseudo_labels", images)
        for target in targets:
            if not isinstance(target, Target) or not self._takes(target):
                raise self._broken("pseudo_labels", f"targets of kind {self.target_kind!r}", type(target).__name__)
        return targets

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        if self._layers is None:
            raise OptionError(
                where=f"task {self.name!r}",
                expected="a task model that offers intermediate features",
                got="a ModuleTask without feature_layers",
                remedy="Name layers of the module in feature_layers, or train on the task loss alone.",
            )
        return capture_layers(self.module, self._layers, lambda: self.module(images), images.shape[0])

    def _checked_losses(self, output: Any, images: Tensor, targets: Sequence[Target]) -> Tensor:
        losses: object = self._loss(output, targets)
        expected = f"one loss per image, a floating-point tensor ({len(images)},)"
        if not isinstance(losses, Tensor):
            raise self._broken("loss", expected, type(losses).__name__)
        if tuple(losses.shape) != (len(images),) or not losses.is_floating_point():
            raise self._broken("loss", expected, f"{losses.dtype} {tuple(losses.shape)}")
        if images.requires_grad and not losses.requires_grad:
            raise self._broken("loss", "losses with a gradient to the images", "losses without one")
        return losses

    def _checked_list(self, answers: object, function: str, images: Tensor) -> Sequence[Any]:
        expected = f"{len(images)} answers, one per image"
        if not isinstance(answers, Sequence | Tensor) or isinstance(answers, str):
            raise self._broken(function, expected, type(answers).__name__)
        if isinstance(answers, Tensor) and answers.ndim == 0:
            raise self._broken(function, expected, "a tensor of shape ()")
        if len(answers) != len(images):
            raise self._broken(function, expected, str(len(answers)))
        return list(answers)

    def _broken(self, function: str, expected: str, got: str) -> ContractError:
        return ContractError(
            where=f"ModuleTask {self.name!r}, {function} function",
            expected=expected,
            got=got,
            remedy="Mend the function, or the module whose answer it reads.",
        )
