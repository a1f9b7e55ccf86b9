"""Any convolutional classification network of torchvision as the backbone of another network."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import WeightsEnum
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from precomp_sdk import OptionError
from precomp_torchvision import _features, _networks, _weights

__all__ = ["Pyramid", "Stages", "build_stages"]

_PROBE_PX = 256  # side of the image that grids are counted on; a multiple of every stride
_MOST_PADDING_PX = 7


class Stages(nn.Module):
    """Feature maps of a classification network, each on a grid that divides the image evenly.

    Networks with unpadded convolutions, such as SqueezeNet, lose the last row and column at each stage; the image is
    then padded on its right and lower side by as many pixels as bring them back. Heights and widths must be multiples
    of the coarsest stride.

    Args:
        network: any of torchvision's classification networks.
        layers: names of layers that give feature maps, finest first.

    Raises:
        OptionError: a layer gives no feature map, or no padding makes the grids even.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        _features.check_layers(layers, _features.map_layers(network))
        self.padding = _padding(network, layers)
        shapes = _features.shapes_of(network, _PROBE_PX + self.padding, _PROBE_PX + self.padding)
        self.channels = [shapes[layer][1] for layer in layers]
        self.strides = [_PROBE_PX // shapes[layer][2] for layer in layers]
        outputs = {layer: str(index) for index, layer in enumerate(layers)}
        # blocks are kept whole, so that their outputs can be captured by name
        self.body = create_feature_extractor(
            network, outputs, tracer_kwargs={"leaf_modules": list(_block_types(network, layers))}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the maps by number, each (N, C, H / stride, W / stride)."""
        maps: dict[str, Tensor] = self.body(functional.pad(images, (0, self.padding, 0, self.padding)))
        return maps


class Pyramid(nn.Module):
    """A feature pyramid over `Stages`, with one more level at twice the coarsest stride.

    Source: Lin et al., arXiv 1612.03144.
    """

    def __init__(self, stages: Stages, channels: int) -> None:
        super().__init__()
        self.stages = stages
        self.pyramid = FeaturePyramidNetwork(stages.channels, channels, extra_blocks=LastLevelMaxPool())
        self.out_channels = channels
        self.strides = [*stages.strides, 2 * stages.strides[-1]]
        self.levels = [*map(str, range(len(stages.strides))), "pool"]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the levels by name, finest first, each (N, channels, H / stride, W / stride)."""
        levels: dict[str, Tensor] = self.pyramid(OrderedDict(self.stages(images)))
        return levels


def build_stages(
    architecture: str,
    weights: str | Path | WeightsEnum | None,
    layers: Sequence[str] | None,
    *,
    coarser_than: int,
) -> Stages:
    """Build the stages of a classification network.

    Args:
        architecture: its name in torchvision.
        weights: as `Classifier` takes them.
        layers: names of its layers; default: the last of each resolution from a stride of ``coarser_than`` on.
        coarser_than: the finest stride by default.

    Raises:
        OptionError: there is no such network, it has no feature maps, or not such ones.
        CheckpointError: the weights cannot be had, or are of another network.
    """
    _networks.check_architecture(architecture)
    if _networks.takes_one_size(architecture):
        raise OptionError(
            where="option 'backbone'",
            expected="a convolutional network",
            got=repr(architecture),
            remedy="Choose one that takes images of any size, such as 'resnet18'.",
        )
    found = None if weights is None else _weights.find_weights(architecture, weights)
    if found is None:
        network = _networks.build(architecture)
    elif isinstance(found, Path):
        network = _networks.load_file_into(architecture, found)
    else:
        network = _networks.load_enum(architecture, found)
    if layers is None:
        shapes = _features.shapes_of(network, _PROBE_PX, _PROBE_PX)
        every = _features.default_layers(network, _features.map_layers(network))
        layers = [layer for layer in every if _stride(shapes[layer][2]) >= coarser_than]
    return Stages(network, layers)


def _block_types(network: nn.Module, layers: Sequence[str]) -> set[type[nn.Module]]:
    """Return the types of the network's building blocks, but for those that one of the layers lies in."""
    blocks = {
        type(entry)
        for sequence in network.modules()
        if isinstance(sequence, nn.Sequential | nn.ModuleList)
        for entry in sequence
        if not type(entry).__module__.startswith("torch.nn")
    }
    outer = {layer.rsplit(".", depth)[0] for layer in layers for depth in range(1, layer.count(".") + 1)}
    return blocks - {type(network.get_submodule(name)) for name in outer}


def _stride(height: int) -> int:
    """Return the power of two that a map's height on the probe stands for."""
    return int(2 ** round(math.log2(_PROBE_PX / height)))


def _padding(network: nn.Module, layers: Sequence[str]) -> int:
    """Return the fewest pixels that make every map's grid divide the image."""
    for padding in range(_MOST_PADDING_PX + 1):
        side = _PROBE_PX + padding
        shapes = _features.shapes_of(network, side, side)
        heights = [shapes[layer][2] for layer in layers]
        strides = [_stride(height) for height in heights]
        if all(height * stride == _PROBE_PX for height, stride in zip(heights, strides, strict=True)):
            return padding
    raise OptionError(
        where="option 'backbone_layers'",
        expected="maps at a half, a quarter, an eighth ... of the image",
        got=f"{list(layers)} of {type(network).__name__}, {heights} rows on {_PROBE_PX} pixels",
        remedy="Choose other layers, or another backbone.",
    )
