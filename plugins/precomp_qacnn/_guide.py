"""The sender's own small guide: the first layers of the SqueezeNet 1.1 that ships, frozen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from precomp_sdk import CheckpointError

__all__ = ["GUIDE_CHANNELS", "SqueezeGuide"]

_NETWORK: Final = "squeezenet"  # of those that ship, for choosers too
_PREFIX: Final = "network.features."  # of its layers in the file
GUIDE_CHANNELS: Final = (256, 512)  #: of the maps at an eighth and at a sixteenth of the input
_SHAPES: Final = {  # of the convolutions, by torchvision's index and part
    "0": (64, 3, 3),
    **{f"{index}.squeeze": (width, inputs, 1) for index, width, inputs in (
        (3, 16, 64), (4, 16, 128), (6, 32, 128), (7, 32, 256),
        (9, 48, 256), (10, 48, 384), (11, 64, 384), (12, 64, 512),
    )},
    **{f"{index}.expand{side}x{side}": (width, inputs, side) for side in (1, 3) for index, width, inputs in (
        (3, 64, 16), (4, 64, 16), (6, 128, 32), (7, 128, 32),
        (9, 192, 48), (10, 192, 48), (11, 256, 64), (12, 256, 64),
    )},
}  # fmt: skip
_FIRES: Final = ((3, 4), (6, 7), (9, 10, 11, 12))
_MEAN: Final = (0.485, 0.456, 0.406)
_DEVIATION: Final = (0.229, 0.224, 0.225)


class SqueezeGuide(nn.Module):
    """SqueezeNet 1.1 without its classifier, frozen.

    Its weights are buffers of 16 bits, read from the shipped network's file and in no file of a preprocessor.

    Shapes and units:
        images: (N, 3, H, W) in [0, 1], H and W 32 and more. Returns (N, 256, about H/8, W/8) and (N, 512, H/16, W/16).

    Raises:
        CheckpointError: the shipped network's file is missing or another one.

    Source: Iandola et al., arXiv 1602.07360; weights of torchvision (BSD 3-clause), trained on ImageNet-1k, whose terms
    allow non-commercial research.
    """

    def __init__(self) -> None:
        from precomp_sdk.deploy import (
            shipped_network_file,  # here, since a plugin is read before any of its classes is used
        )

        super().__init__()
        for key, value in _read(shipped_network_file(_NETWORK)).items():
            self.register_buffer(key.replace(".", "_"), value, persistent=False)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two maps."""
        found = (images - self.get_buffer("mean")) / self.get_buffer("deviation")
        found = torch.relu(self._convolve("0", found, stride=2))
        maps = []
        for fires in _FIRES:
            found = functional.max_pool2d(found, 3, stride=2, ceil_mode=True)
            for index in fires:
                squeezed = torch.relu(self._convolve(f"{index}.squeeze", found))
                wide = [self._convolve(f"{index}.expand{side}x{side}", squeezed, padding=side // 2) for side in (1, 3)]
                found = torch.relu(torch.cat(wide, dim=1))
            maps.append(found)
        return maps[1], maps[2]

    def _convolve(self, layer: str, images: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
        weight, bias = (self.get_buffer(f"{layer}.{part}".replace(".", "_")) for part in ("weight", "bias"))
        return functional.conv2d(images, weight.to(images.dtype), bias.to(images.dtype), stride, padding)


def _read(file: Path) -> Mapping[str, Tensor]:
    """Return the convolutions' weights and biases, float16, by layer."""
    wanted = {f"{layer}.weight": (out, into, side, side) for layer, (out, into, side) in _SHAPES.items()}
    wanted |= {f"{layer}.bias": shape[:1] for layer, shape in _SHAPES.items()}  # type: ignore[misc]
    try:
        with safe_open(str(file), "pt") as stored:
            found = {key: stored.get_tensor(_PREFIX + key) for key in wanted}
    except (OSError, SafetensorError) as error:
        raise _damaged(file, str(error)) from error
    if {key: tuple(value.shape) for key, value in found.items()} != wanted:
        raise _damaged(file, "a file of other tensors")
    return found


def _damaged(file: Path, got: str) -> CheckpointError:
    return CheckpointError(
        where=str(file),
        expected="the guide's weights, as the package holds them",
        got=got,
        remedy="Install the package again.",
    )
