"""What stands before a network, and how its answer is read."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_sdk.errors import ContractError, OptionError, TargetError
from precomp_sdk.modules import device_of, evaluation_mode
from precomp_sdk.task import TaskModel

__all__ = [
    "NetworkInput",
    "check_names",
    "check_network",
    "check_same_names",
    "check_temperature",
    "logits_of",
    "probe",
]

_PROBE_SIDE_PX = 224  # most networks of photographs take it


class NetworkInput(nn.Module):
    """Resizes images in [0, 1] to what a network takes, and normalizes them. It has no weights.

    Args:
        mean: of the network's training images in [0, 1], one number or one per channel.
        std: their deviation, likewise.
        size: side of the square, or (height, width), that images are resized to, in pixels: bilinear, antialiased, with
            gradients. None leaves the size.

    Raises:
        OptionError: an option has a wrong value.

    Example:
        >>> NetworkInput(mean=0.5, std=0.25, size=8)(torch.full((1, 3, 4, 4), 0.5)).unique()
        tensor([0.])
    """

    def __init__(
        self, *, mean: float | Sequence[float], std: float | Sequence[float], size: int | Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        # not part of the state: they follow from the options
        self.register_buffer("mean", _per_channel("mean", mean), persistent=False)
        self.register_buffer("std", _per_channel("std", std), persistent=False)
        sides = None if size is None else (size, size) if isinstance(size, int) else tuple(size)
        if sides is not None and (len(sides) != 2 or any(type(side) is not int or side < 1 for side in sides)):
            raise OptionError(
                where="option 'input_size'",
                expected="the side of a square in pixels, or (height, width)",
                got=repr(size),
                remedy="Give what the network was trained on, such as 224; leave it out if it takes any size.",
            )
        self.size: tuple[int, int] | None = None if sides is None else (sides[0], sides[1])

    def forward(self, images: Tensor) -> Tensor:
        """Return what the network gets, (N, 3, H', W'), of images (N, 3, H, W) in [0, 1]."""
        if self.size is not None and self.size != tuple(images.shape[-2:]):
            images = functional.interpolate(images, self.size, mode="bilinear", antialias=True, align_corners=False)
        return (images - self.mean) / self.std


def check_network(network: object, where: str) -> nn.Module:
    """Return the network if it is a module.

    Raises:
        OptionError: it is not.
    """
    if not isinstance(network, nn.Module):
        raise OptionError(
            where=where,
            expected="a network, an nn.Module",
            got=f"the class {network.__name__}" if isinstance(network, type) else type(network).__name__,
            remedy="Construct it; what is no module (an ONNX session, say) is called from the forward of one.",
        )
    return network


def check_temperature(where: str, option: str, value: float) -> float:
    """Return a temperature of a softmax.

    Raises:
        OptionError: it is not above 0.
    """
    if not value > 0.0:
        raise OptionError.number(where, option, "a number above 0", value)
    return float(value)


def check_names(class_names: Sequence[str], num_classes: int, where: str) -> tuple[str, ...]:
    """Return class names if there are as many as classes, or none.

    Raises:
        OptionError: there is another number.
    """
    if class_names and len(class_names) != num_classes:
        raise OptionError(
            where=f"{where}, option 'class_names'",
            expected=f"{num_classes} names, one per output of the network",
            got=f"{len(class_names)}",
            remedy="Name every class, in the order of the outputs, or leave the names out.",
        )
    return tuple(class_names)


def check_same_names(task: TaskModel, class_names: Sequence[str]) -> None:
    """Raise `TargetError` if task and data set both name their classes, and not alike."""
    if task.class_names and class_names and tuple(class_names) != task.class_names:
        raise TargetError(
            where=f"task {task.name!r}",
            expected=f"the classes {', '.join(task.class_names)}, in this order",
            got=", ".join(class_names),
            remedy="Use a data set of these classes, or leave class_names out.",
        )


def logits_of(answer: Any, ndim: int, where: str) -> Tensor:
    """Return the class scores in a network's answer.

    They are the answer itself; its ``"out"`` or ``"logits"`` where it is a mapping, as of torchvision's segmentation
    networks; or its attribute ``logits``, as transformers' outputs have it, and Inception's in training mode.

    Args:
        answer: of the network.
        ndim: 2 for scores (N, K), 4 for (N, K, H, W).
        where: for the message.

    Raises:
        ContractError: there are no such scores.
    """
    found = answer
    if isinstance(answer, Mapping):
        found = answer.get("out", answer.get("logits"))
    elif not isinstance(answer, Tensor):
        found = getattr(answer, "logits", None)
    if isinstance(found, Tensor) and found.ndim == ndim and found.is_floating_point():
        return found
    got = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(answer).__name__
    if isinstance(answer, Mapping):
        got += f" with {', '.join(map(str, answer))}"
    raise ContractError(
        where=where,
        expected=f"class scores {'(N, K)' if ndim == 2 else '(N, K, H, W)'}, alone, as 'out' or as 'logits'",
        got=got,
        remedy="Wrap the network in a module that returns them, or take ModuleTask.",
    )


@torch.no_grad()
def probe(network: nn.Module, prepare: NetworkInput, ndim: int, where: str) -> int:
    """Return how many classes a network has, from its answer to a gray image.

    Raises:
        OptionError: it does not take the image.
        ContractError: its answer holds no class scores.
    """
    device = device_of(network)
    gray = torch.full((1, 3, *(prepare.size or (_PROBE_SIDE_PX, _PROBE_SIDE_PX))), 0.5, device=device)
    prepared = (gray - prepare.mean.to(device)) / prepare.std.to(device)
    try:
        with evaluation_mode(network):
            answer = network(prepared)
    except Exception as error:  # a network may raise anything
        raise OptionError(
            where=where,
            expected=f"a network of images {tuple(gray.shape)}",
            got=f"one that raises {type(error).__name__}: {str(error)[:200]}",
            remedy="Give input_size if it takes one size only; otherwise look at how it is called.",
        ) from error
    return int(logits_of(answer, ndim, where).shape[1])


def _per_channel(option: str, given: float | Sequence[float]) -> Tensor:
    values = (given,) * 3 if isinstance(given, int | float) else tuple(given)
    numbers = torch.tensor(values, dtype=torch.float32) if len(values) == 3 else torch.full((3,), torch.nan)
    if not bool(numbers.isfinite().all()) or (option == "std" and float(numbers.min()) <= 0.0):
        raise OptionError(
            where=f"option {option!r}",
            expected=f"one number or three{', above 0' if option == 'std' else ''}, for images in [0, 1]",
            got=repr(given),
            remedy="Take those of the network's training; mean=0.0 and std=1.0 if it normalizes by itself.",
        )
    return numbers.view(1, 3, 1, 1)
