"""torchvision's detection networks: building them, loading weights, and renewing what depends on the classes."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum, detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from precomp_torchvision import _dense, _networks
from precomp_torchvision._backbones import Pyramid

__all__ = [
    "DEFAULT_OUTPUTS",
    "FAMILIES",
    "NativeTransform",
    "build",
    "build_on",
    "check_architecture",
    "load_enum",
    "load_file_into",
    "outputs_of",
    "renew_outputs",
    "strip",
]

FAMILIES = ("fasterrcnn", "fcos", "retinanet")  #: those that take any backbone
DEFAULT_OUTPUTS: Final = 91  #: of weights for COCO, the background among them
_NOT_BOXES = (
    "mask_roi_pool",
    "mask_head",
    "mask_predictor",
    "keypoint_roi_pool",
    "keypoint_head",
    "keypoint_predictor",
)
_ROI_SIDE = 7
_THREE_SCALES = (1.0, 2.0 ** (1 / 3), 2.0 ** (2 / 3))
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class NativeTransform(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision has no types
    """torchvision's input transform without its resizing: normalization, and padding to multiples of some pixels."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Return both as they are."""
        return image, target


def check_architecture(architecture: str, *, with_backbone: bool) -> None:
    """Raise `OptionError` if there is no detection network of this name."""
    _dense.check_architecture(architecture, detection, FAMILIES, "detection", with_backbone=with_backbone)


def build(architecture: str, outputs: int = DEFAULT_OUTPUTS) -> nn.Module:
    """Build one of torchvision's networks with random weights; the background is among the outputs."""
    network: nn.Module = models.get_model(architecture, weights=None, weights_backbone=None, num_classes=outputs)
    return strip(network)


def build_on(family: str, backbone: Pyramid, outputs: int) -> nn.Module:
    """Build a network of one of the `FAMILIES` on a feature pyramid; images go in at their own size.

    Anchors are squares of a level's stride for FCOS, and of 4 to 6.3 times the stride, in three shapes, for the others.
    """
    strides = backbone.strides
    common: dict[str, Any] = {"image_mean": _IMAGENET_MEAN, "image_std": _IMAGENET_STD}
    if family == "fcos":
        anchors = AnchorGenerator(tuple((stride,) for stride in strides), ((1.0,),) * len(strides))
        network: nn.Module = detection.FCOS(backbone, outputs, anchor_generator=anchors, score_thresh=0.05, **common)
    else:
        sizes = tuple(tuple(4.0 * stride * scale for scale in _THREE_SCALES) for stride in strides)
        anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(strides))
        if family == "retinanet":
            network = detection.RetinaNet(backbone, outputs, anchor_generator=anchors, **common)
        else:
            width = 4 * backbone.out_channels
            network = detection.FasterRCNN(
                backbone,
                rpn_anchor_generator=anchors,
                box_roi_pool=MultiScaleRoIAlign(backbone.levels[:-1], output_size=_ROI_SIDE, sampling_ratio=2),
                box_head=TwoMLPHead(backbone.out_channels * _ROI_SIDE**2, width),
                box_predictor=FastRCNNPredictor(width, outputs),
                **common,
            )
    network.transform = NativeTransform(800, 1333, _IMAGENET_MEAN, _IMAGENET_STD, size_divisible=strides[-1])
    return network


def strip(network: nn.Module) -> nn.Module:
    """Take the heads for masks and keypoints off a network: boxes are left."""
    for name in _NOT_BOXES:
        if getattr(getattr(network, "roi_heads", None), name, None) is not None:
            setattr(network.roi_heads, name, None)
    return network


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
        make,
        path,
        title,
        outputs=DEFAULT_OUTPUTS,
        left_out=tuple(f"roi_heads.{name}" for name in _NOT_BOXES),
        outputs_in=_outputs_in,
    )


def _outputs_in(state: Mapping[str, Tensor], network: nn.Module) -> int:
    key = _class_weight(network)
    value = state.get(key)
    rows = len(value) if value is not None and value.ndim else 0
    outputs = rows * DEFAULT_OUTPUTS / len(network.get_parameter(key))
    return round(outputs) if outputs >= 2 and math.isclose(outputs, round(outputs)) else 0


def load_enum(architecture: str, weights: WeightsEnum) -> nn.Module:
    """Build a network with published weights.

    Raises:
        CheckpointError: the download failed.
    """
    return strip(_networks.load_enum(architecture, weights))


def outputs_of(network: nn.Module) -> int:
    """Return how many outputs a network has, the background among them."""
    if hasattr(network, "roi_heads"):
        return len(network.get_parameter(_class_weight(network)))
    head: Any = network.get_submodule("head.classification_head")
    return int(getattr(head, "num_classes", None) or head.num_columns)


def renew_outputs(network: nn.Module, fresh: nn.Module) -> None:
    """Put the layers that depend on the classes of a new network in the place of the old ones."""
    if hasattr(network, "roi_heads"):
        names = ["roi_heads.box_predictor"]
    elif hasattr(network.get_submodule("head.classification_head"), "cls_logits"):
        names = ["head.classification_head.cls_logits"]
        network.get_submodule("head.classification_head").num_classes = outputs_of(fresh)  # type: ignore[assignment]
    else:
        names = ["head.classification_head"]  # of SSD, convolutions and nothing else
    _dense.put_layers(network, fresh, names)


def _class_weight(network: nn.Module) -> str:
    """Return the name of a weight with as many rows as outputs, or a multiple of them."""
    wanted = "roi_heads.box_predictor.cls_score" if hasattr(network, "roi_heads") else "head.classification_head."
    names = [name for name, value in network.named_parameters() if name.startswith(wanted) and value.ndim > 1]
    if hasattr(network, "roi_heads"):
        return names[0]
    logits = [name for name in names if ".cls_logits." in name]
    first = [name for name in names if ".module_list.0." in name]  # SSD's first level; SSDlite's ends in the logits
    return (logits or first)[-1]
