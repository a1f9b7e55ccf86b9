"""torchvision's segmentation networks: building them, loading weights, and renewing what depends on the classes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum, segmentation
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from precomp_sdk import OptionError
from precomp_torchvision import _dense, _networks
from precomp_torchvision._backbones import Stages

__all__ = [
    "DEFAULT_OUTPUTS",
    "FAMILIES",
    "build",
    "build_on",
    "check_architecture",
    "load_enum",
    "load_file_into",
    "outputs_of",
    "renew_outputs",
]

FAMILIES = ("fcn", "deeplabv3", "lraspp")  #: those that take any backbone
DEFAULT_OUTPUTS: Final = 21  #: of weights for VOC's classes, the background among them
_AUXILIARY = "aux_classifier"  # only helps to train from nothing: it is left out


class _NamedStages(nn.Module):
    """`Stages` under the names that torchvision's segmentation networks read."""

    def __init__(self, stages: Stages, names: tuple[str, ...]) -> None:
        super().__init__()
        self.stages, self.names = stages, names

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the maps by name."""
        return dict(zip(self.names, self.stages(images).values(), strict=True))


def check_architecture(architecture: str, *, with_backbone: bool) -> None:
    """Raise `OptionError` if there is no segmentation network of this name."""
    _dense.check_architecture(architecture, segmentation, FAMILIES, "segmentation", with_backbone=with_backbone)


def build(architecture: str, outputs: int = DEFAULT_OUTPUTS) -> nn.Module:
    """Build one of torchvision's networks with random weights."""
    network: nn.Module = models.get_model(architecture, weights=None, weights_backbone=None, num_classes=outputs)
    return network


def build_on(family: str, stages: Stages, outputs: int) -> nn.Module:
    """Build a network of one of the `FAMILIES`; LR-ASPP works on the first and the last stage, others on the last."""
    if family == "lraspp":
        if len(stages.channels) < 2:
            raise OptionError(
                where="option 'backbone_layers'",
                expected="two layers for LR-ASPP, the finer first",
                got=str(len(stages.channels)),
                remedy="Name one for detail and one for context.",
            )
        names = ("low", *(f"between{index}" for index in range(len(stages.channels) - 2)), "high")
        ends = (stages.channels[0], stages.channels[-1])
        network: nn.Module = segmentation.LRASPP(_NamedStages(stages, names), *ends, outputs)
    else:
        names = (*(f"before{index}" for index in range(len(stages.channels) - 1)), "out")
        whole, head = (segmentation.FCN, FCNHead) if family == "fcn" else (segmentation.DeepLabV3, DeepLabHead)
        network = whole(_NamedStages(stages, names), head(stages.channels[-1], outputs))
    return network


def load_enum(architecture: str, weights: WeightsEnum) -> nn.Module:
    """Build a network with published weights, without its auxiliary head.

    Raises:
        CheckpointError: the download failed.
    """
    network: Any = _networks.load_enum(architecture, weights)
    if getattr(network, _AUXILIARY, None) is not None:
        setattr(network, _AUXILIARY, None)
    return network  # type: ignore[no-any-return]


def load_file_into(make: Callable[[int], nn.Module], path: Path, title: str) -> nn.Module:
    """Build a network with as many outputs as a file of weights has, and load the file.

    Args:
        make: builds the network, given the number of outputs.
        path: of the file.
        title: names the network in messages.

    Raises:
        CheckpointError: the file cannot be read, or is of another network; the message names keys and shapes.
    """
    return _dense.load_state_into(
        make, path, title, outputs=DEFAULT_OUTPUTS, left_out=(_AUXILIARY,), outputs_in=_outputs_in
    )


def _outputs_in(state: Mapping[str, Tensor], network: nn.Module) -> int:
    weight = state.get(f"{_last_layers(network)[-1]}.weight")
    return len(weight) if weight is not None and weight.ndim else 0


def outputs_of(network: nn.Module) -> int:
    """Return how many classes a network tells apart, the background among them."""
    return len(network.get_parameter(f"{_last_layers(network)[-1]}.weight"))


def renew_outputs(network: nn.Module, fresh: nn.Module) -> None:
    """Put the layers that depend on the classes of a new network in the place of the old ones."""
    _dense.put_layers(network, fresh, _last_layers(network))


def _last_layers(network: nn.Module) -> list[str]:
    """Return the names of the layers that give the logits."""
    if isinstance(network, segmentation.LRASPP):
        return ["classifier.low_classifier", "classifier.high_classifier"]
    return [[name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)][-1]]
