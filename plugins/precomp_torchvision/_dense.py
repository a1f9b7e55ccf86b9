"""What detector and segmenter share: networks with outputs for classes, from a zoo, a file, or on a backbone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum

from precomp_sdk import OptionError, nearest
from precomp_sdk.weights import check_state, read_state, without_prefix
from precomp_torchvision import _weights
from precomp_torchvision._backbones import Stages, build_stages

__all__ = [
    "Backbone",
    "Zoo",
    "backbone_of",
    "build_network",
    "check_architecture",
    "check_head_options",
    "check_normalization",
    "freeze_batch_norms",
    "load_state_into",
    "put_layers",
    "wrong",
]


class Zoo(Protocol):
    """A module with one kind of torchvision's networks: how they are built, and what of them depends on the classes."""

    def build(self, architecture: str, outputs: int) -> nn.Module:
        """Build one with random weights."""

    def load_enum(self, architecture: str, weights: WeightsEnum) -> nn.Module:
        """Build one with published weights."""

    def load_file_into(self, make: Callable[[int], nn.Module], path: Path, title: str) -> nn.Module:
        """Build one with as many outputs as a file has, and load the file."""

    def outputs_of(self, network: nn.Module) -> int:
        """Return how many outputs it has."""

    def renew_outputs(self, network: nn.Module, fresh: nn.Module) -> None:
        """Put the layers that depend on the classes of another network into it."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """A classification network to build on.

    Args:
        name: torchvision's.
        weights: of it.
        layers: that the heads stand on.
    """

    name: str
    weights: str | Path | WeightsEnum | None
    layers: Sequence[str] | None

    def stages(self) -> Stages:
        """Build it, up to its layers from an eighth of the image down."""
        return build_stages(self.name, self.weights, self.layers, coarser_than=8)


def backbone_of(
    name: str | None, weights: str | Path | WeightsEnum | None, layers: Sequence[str] | None
) -> Backbone | None:
    """Return the backbone that the options name, or None.

    Raises:
        OptionError: there are weights or layers of none.
    """
    if name is None and (weights is not None or layers is not None):
        raise wrong("backbone", "a network beside backbone_weights and backbone_layers", None, "Name it.")
    return None if name is None else Backbone(name, weights, layers)


def check_architecture(
    architecture: str, zoo: ModuleType, families: Sequence[str], kind: str, *, with_backbone: bool
) -> None:
    """Refuse a name that is no network of torchvision's module ``zoo``, or with a backbone none of the families.

    Raises:
        OptionError: it is not.
    """
    known = families if with_backbone else models.list_models(module=zoo)
    if architecture not in known:
        raise OptionError(
            where="option 'architecture'",
            expected=f"one of {tuple(families)} for a backbone"
            if with_backbone
            else f"a {kind} network of torchvision",
            got=repr(architecture),
            remedy=nearest(architecture, known)
            + ("" if with_backbone or architecture not in families else " Or name a backbone."),
        )


def build_network(
    zoo: Zoo,
    architecture: str,
    weights: str | Path | WeightsEnum | None,
    make_on: Callable[[int], nn.Module] | None,
    num_classes: int | None,
    *,
    new_head: bool,
    default_outputs: int,
    background: int,
) -> tuple[Any, tuple[str, ...]]:
    """Build a network, with its weights and the outputs that are wanted.

    Args:
        zoo: of its kind.
        architecture: a known name.
        weights: of the whole network; None for random ones.
        make_on: builds it on a backbone, given the number of outputs; None for torchvision's own network.
        num_classes: without the background where the zoo counts it apart; None for the zoo's or the weights' own.
        new_head: keep the weights, but start the layers that depend on the classes anew.
        default_outputs: of a network without weights and number of classes.
        background: outputs beside the classes, 0 or 1.

    Returns:
        The network, and the names of its outputs where published weights name them.

    Raises:
        OptionError: the weights have other outputs.
        CheckpointError: the weights cannot be downloaded or read, or are of another network.
    """

    def make(outputs: int) -> nn.Module:
        return zoo.build(architecture, outputs) if make_on is None else make_on(outputs)

    if weights is None:
        return make(default_outputs if num_classes is None else num_classes + background), ()
    found = _weights.find_weights(architecture, weights) if make_on is None else _weights.find_file(weights)
    if isinstance(found, Path):
        network = zoo.load_file_into(make, found, architecture)
    else:
        network = zoo.load_enum(architecture, found)
    outputs = zoo.outputs_of(network) - background
    if new_head and num_classes is not None:
        zoo.renew_outputs(network, make(num_classes + background))
    elif num_classes not in (None, outputs):
        raise wrong("num_classes", f"{outputs}, as the weights have", num_classes, "Leave it out, or set new_head.")
    if isinstance(found, Path) or new_head:
        return network, ()
    return network, tuple(found.meta["categories"])


def check_head_options(num_classes: int | None, smallest: int, counted: str, weights: object, new_head: bool) -> None:
    """Refuse a number of classes below the smallest, and a new head without weights and classes.

    Raises:
        OptionError: they are wrong.
    """
    if num_classes is not None and num_classes < smallest:
        raise wrong("num_classes", f"{smallest} or more", num_classes, counted)
    if new_head and (weights is None or num_classes is None):
        raise wrong("new_head", "weights and num_classes beside it", "one without", "Set both, or leave it out.")


def load_state_into(
    make: Callable[[int], nn.Module],
    path: Path,
    title: str,
    *,
    outputs: int,
    left_out: tuple[str, ...],
    outputs_in: Callable[[dict[str, Tensor], nn.Module], int],
) -> nn.Module:
    """Build a network with as many outputs as a file of weights has, and load the file.

    Args:
        make: builds the network, given the number of outputs.
        path: of the file.
        title: names the network in messages.
        outputs: as many as published weights have, which are tried first.
        left_out: what the names of tensors that are not wanted begin with.
        outputs_in: how many outputs a state has, given a network of its kind; 0 where it cannot be told.

    Raises:
        CheckpointError: the file cannot be read, or is of another network; the message names keys and shapes.
    """
    state = {key: value for key, value in without_prefix(read_state(path), ()).items() if not key.startswith(left_out)}
    network = make(outputs)
    found = outputs_in(state, network)
    if found not in (0, outputs):
        network = make(found)
    check_state(network, state, f"{path}, loaded into {title!r}")
    network.load_state_dict(state, strict=False)  # checked above; what may be missing are counters of batches
    return network


def put_layers(network: nn.Module, fresh: nn.Module, names: Sequence[str]) -> None:
    """Put layers of a new network in the place of the old ones."""
    for name in names:
        parent, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(parent), attribute, fresh.get_submodule(name))


def check_normalization(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Refuse a mean or a deviation that is not three numbers.

    Raises:
        OptionError: it is not.
    """
    for option, values, right in (("mean", mean, True), ("std", std, min(std or (1.0,)) > 0.0)):
        if values is not None and (len(values) != 3 or not right):
            raise wrong(option, "three numbers, for a std above 0", values, "They are for images in [0, 1].")


def freeze_batch_norms(network: nn.Module) -> None:
    """Put batch normalization into evaluation mode."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def wrong(option: str, expected: str, got: object, remedy: str) -> OptionError:
    """The error of an option with a wrong value."""
    return OptionError(where=f"option {option!r}", expected=expected, got=str(got), remedy=remedy)
