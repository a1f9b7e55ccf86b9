"""A task of your own: a small network that tells textures apart."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_sdk import Label, LabelScorer, OptionError, Target, TargetError, TaskModel

__all__ = ["TextureNet"]


class TextureNet(TaskModel):
    """A bank of learned filters, their energy over the whole image, and one linear layer.

    ::

        image ─▶ high pass ▶ 7x7, F filters ▶ square ▶ log of the mean ▶ linear ─▶ logits (N, K)

    Takes any size from 1x1. Its own answers serve as targets, so that images without labels train too.

    Args:
        num_classes: K.
        filters: F.
    """

    name = "texture-net"
    source = "filter energies: Laws, Rapid texture identification, SPIE 238 (1980)"
    target_kind = Label.kind
    scorer = LabelScorer()

    def __init__(self, *, num_classes: int, filters: int = 48) -> None:
        super().__init__()
        if min(num_classes, filters) < 1:
            raise OptionError(
                where="'texture-net'",
                expected="num_classes and filters of 1 or more",
                got=f"{num_classes} and {filters}",
                remedy="Take the data set's number of classes; 48 filters suit textures.",
            )
        self.num_classes = num_classes
        self.bank = nn.Conv2d(3, filters, 7, padding=3, padding_mode="replicate")
        self.norm = nn.LayerNorm(filters)
        self.head = nn.Linear(filters, num_classes)

    def check_dataset(self, class_names: Sequence[str]) -> None:
        """Raise `TargetError` if a data set has another number of classes."""
        if class_names and len(class_names) != self.num_classes:
            raise TargetError(
                where=f"task {self.name!r}",
                expected=f"a data set of {self.num_classes} classes",
                got=str(len(class_names)),
                remedy="Set num_classes.",
            )

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        surround = functional.avg_pool2d(images, 9, 1, 4, count_include_pad=False)
        return [self.bank(8.0 * (images - surround))]

    def _logits(self, images: Tensor) -> Tensor:
        energy = self._features(images)[0].square().mean(dim=(2, 3))  # (N, F)
        logits: Tensor = self.head(self.norm((energy + 1e-3).log()))
        return logits

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        logits = self._logits(images)
        wanted = torch.stack([self._distribution(target) for target in targets]).to(logits)
        return functional.cross_entropy(logits, wanted, reduction="none")

    def _predict(self, images: Tensor) -> Sequence[Tensor]:
        return list(self._logits(images))

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        return [Label(int(row.argmax()), probabilities=row) for row in self._logits(images).softmax(dim=1)]

    def _distribution(self, target: Target) -> Tensor:
        """Return a label as probabilities (K,); a soft one is taken as it is."""
        assert isinstance(target, Label)  # the SDK has checked the kind
        if target.probabilities is not None:
            return target.probabilities
        if not 0 <= target.index < self.num_classes:
            raise TargetError(
                where=f"task {self.name!r}",
                expected=f"labels from 0 to {self.num_classes - 1}",
                got=str(target.index),
                remedy="Set num_classes.",
            )
        return functional.one_hot(torch.tensor(target.index), self.num_classes).float()
