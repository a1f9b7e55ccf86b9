"""A small classifier that learns from nothing within a minute on a CPU."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_sdk import LabelTask
from precomp_sdk.validation import check_whole_number

__all__ = ["SmallClassifier"]

_MINIMUM_SIDE = 32  # pixels: leaves 2 positions, so that batch normalization works on a single image
_SURROUND_PX = 9  # side of the window whose mean is taken away
_COLOURS = 6  # inputs of the last layer: the mean of each channel, and how it differs from their mean
_BRIGHTNESS, _HUE = 16.0, 32.0  # 6 inputs against 256: at a quarter of it few images are learnt by their noise instead
_CONTRAST = 8.0  # brings what is left to a deviation of about 1


class SmallClassifier(LabelTask):
    """A plain convolutional classifier for a first experiment; it sees shapes and textures, colours on request.

    It has 0.1 million parameters and no pretrained weights.

    Four convolutions of stride 2 with batch normalization, then the mean and the maximum of every channel::

        image ─▶ 5x5, 16 ─▶ 3x3, 32 ─▶ 3x3, 64 ─▶ 3x3, 128 ─┬▶ mean    ─┬▶ linear ─▶ logits
                   /2         /4         /8         /16     └▶ maximum ─┘

    The mean of its surround is taken from every pixel first: with it in, the network stays at chance for hundreds of
    steps. So the colour of a surface is not seen, unless ``colour`` gives the image's mean to the last layer. The
    maximum finds a texture wherever it is, where a mean alone drowns it in clutter. Images below 32 x 32 pixels are
    upscaled to that; every other size goes in as it is. `features` returns the four stages.

    Args:
        num_classes: how many.
        width: channels of the first stage; each further one doubles them.
        colour: classes may be told by the image's mean colour and brightness, too; a network of before this option, and
            its weights, could not.
        label_smoothing: share of a hard label that is spread over all classes.
        temperature: of the softmax in the model's pseudo-labels.
        loss: ``"cross-entropy"`` or ``"expected-error"``, see `Classifier`.
        loss_temperature: of the softmax in the expected error.

    Raises:
        OptionError: an option is out of its range.
    """

    name = "small-classifier"
    source = "strided convolutions: Springenberg et al., arXiv 1412.6806; batch normalization: arXiv 1502.03167"

    def __init__(
        self,
        *,
        num_classes: int,
        width: int = 16,
        colour: bool = False,
        label_smoothing: float = 0.0,
        temperature: float = 1.0,
        loss: str = "cross-entropy",
        loss_temperature: float = 1.0,
    ) -> None:
        super().__init__(
            label_smoothing=label_smoothing, temperature=temperature, loss=loss, loss_temperature=loss_temperature
        )
        width = check_whole_number(width, f"task {self.name!r}", "width", 1)
        num_classes = check_whole_number(num_classes, f"task {self.name!r}", "num_classes", 1)
        self.num_classes = num_classes
        widths = (3, width, 2 * width, 4 * width, 8 * width)
        self.stages = nn.ModuleList(
            _stage(before, after, kernel_size)
            for (before, after), kernel_size in zip(pairwise(widths), (5, 3, 3, 3), strict=True)
        )
        self._colour = colour
        self.head = nn.Linear(2 * widths[-1] + (_COLOURS if colour else 0), num_classes)

    def _logits(self, images: Tensor) -> Tensor:
        last = self._features(images)[-1]  # (N, C, H / 16, W / 16)
        seen = [last.mean((2, 3)), last.amax((2, 3))]
        if self._colour:
            mean = images.mean((2, 3))  # (N, 3)
            hue = mean - mean.mean(dim=1, keepdim=True)
            seen += [_BRIGHTNESS * (mean - 0.5), _HUE * hue]
        logits: Tensor = self.head(torch.cat(seen, dim=1))
        return logits

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        height, width = images.shape[-2:]
        size = (max(height, _MINIMUM_SIDE), max(width, _MINIMUM_SIDE))
        if size != (height, width):
            images = functional.interpolate(images, size, mode="bilinear", align_corners=False)
        surround = functional.avg_pool2d(images, _SURROUND_PX, 1, _SURROUND_PX // 2, count_include_pad=False)
        maps = [_CONTRAST * (images - surround)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]


def _stage(before: int, after: int, kernel_size: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size, stride=2, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )
