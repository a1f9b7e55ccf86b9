"""What is sent: the image as it is, the controls, and what a preprocessor makes of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from judges import load_judge
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

from precomp_qacnn import GuidedQACNN, SmoothQACNN
from precomp_sdk import Codec, Preprocessor, Registry, downscale
from precomp_sdk.training import load_module, read_module

__all__ = ["make_preprocessor", "make_sent"]

BLUR_SIGMA_PX = 3.0
PRIOR_SIGMA_PX = 3.0  # of the blur that stands in for a network, in the control of `centred:`
BOX_MARGIN = 0.1  # of a box's side, on every side


def make_sent(
    variant: str, codec: Codec, qualities: Sequence[float], images: Sequence[Tensor], data: Path
) -> list[Tensor] | list[list[Tensor]]:
    """Return what the encoder gets: one image a source, or one for every quality.

    ``raw``; ``blur-1.2`` (sigma); ``chroma-3`` (sigma, colour alone);
    ``down-0.5`` (factor); ``around-nanodet`` (blurred outside the boxes of a detector);
    ``centre-nanodet`` (control: outside a centred box of equal area); a weights file; ``FILE@0.7`` (what the network
    makes of the image at that factor of its height and width); ``centred:FILE`` (control: what `qa-smooth` removes of
    each level, as much of it, by a centre prior; of another network as large a change, made by a blur, by the prior).
    """
    kind, _, option = variant.partition("-")
    if variant == "raw":
        return list(images)
    if kind == "blur":
        return [_blur(image, float(option)) for image in images]
    if kind == "chroma":
        return [_chroma_blur(image, float(option)) for image in images]
    if kind == "down":
        return [_down(image, float(option)) for image in images]
    if kind in ("around", "centre"):
        return [_around(image, mask) for image, mask in zip(images, _masks(kind, option, images, data), strict=True)]
    centred = variant.startswith("centred:")
    file, dot, size = variant.removeprefix("centred:").rpartition(".safetensors")
    factor = size.removeprefix("@")
    network: torch.nn.Module = _network(Path(file + dot), data)
    images = [_down(image, float(factor)) for image in images] if factor else images
    if centred:
        network = _Centred(network) if isinstance(network, SmoothQACNN) else _CentredBlur(network)
    return _preprocessed(network, codec, qualities, images)


def _blur(image: Tensor, sigma: float) -> Tensor:
    side = 2 * int(3 * sigma + 0.999) + 1
    return _bytes(gaussian_blur(image[None].float() / 255, [side, side], [sigma, sigma])[0])


def _chroma_blur(image: Tensor, sigma: float) -> Tensor:
    """Blur colour and keep luma: what a codec spends on colour is saved."""
    samples = image.float() / 255
    luma = (samples * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
    side = 2 * int(3 * sigma + 0.999) + 1
    return _bytes(luma + gaussian_blur((samples - luma)[None], [side, side], [sigma, sigma])[0])


def _down(image: Tensor, factor: float) -> Tensor:
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[2] * factor)))
    return _bytes(functional.interpolate(image[None].float() / 255, size, mode="bicubic", antialias=True)[0])


def _around(image: Tensor, mask: Tensor) -> Tensor:
    soft = gaussian_blur(mask[None, None].float(), [13, 13], [2.0, 2.0])[0]
    return _bytes(soft * image.float() / 255 + (1 - soft) * _blur(image, BLUR_SIGMA_PX).float() / 255)


def _masks(kind: str, guide: str, images: Sequence[Tensor], data: Path) -> list[Tensor]:
    """Return (H, W) masks, 1 where the image stays as it is."""
    judge = load_judge(guide, data)
    result = []
    for image, boxes in zip(images, judge.predict([image.float() / 255 for image in images]), strict=True):
        _, height, width = image.shape
        mask = torch.zeros(height, width)
        for box in boxes.boxes[boxes.scores >= 0.2].tolist():
            dx, dy = BOX_MARGIN * (box[2] - box[0]), BOX_MARGIN * (box[3] - box[1])
            left, top = max(0, round(box[0] - dx)), max(0, round(box[1] - dy))
            mask[top : round(box[3] + dy) + 1, left : round(box[2] + dx) + 1] = 1
        if kind == "centre":
            share = float(mask.mean()) ** 0.5
            mask = torch.zeros(height, width)
            half_h, half_w = round(height * share / 2), round(width * share / 2)
            mask[height // 2 - half_h : height // 2 + half_h, width // 2 - half_w : width // 2 + half_w] = 1
        result.append(mask)
    return result


class _Centred(torch.nn.Module):
    """`qa-smooth` with its shares spread by the distance from the centre: as much is removed, knowing nothing."""

    def __init__(self, network: SmoothQACNN) -> None:
        super().__init__()
        self.network, self._told = network, network._shares
        network._shares = self._shares  # type: ignore[method-assign]

    def _shares(self, *given: Any) -> Tensor:
        shares = self._told(*given)
        rows, columns = (torch.linspace(-1, 1, side) for side in shares.shape[2:])
        distance = (rows[:, None].square() + columns.square()).sqrt()
        spread = shares.mean(dim=(2, 3), keepdim=True) * distance / distance.mean()
        for _ in range(8):  # what is clipped is taken elsewhere
            missing = shares.mean(dim=(2, 3), keepdim=True) - spread.clamp(0, 1).mean(dim=(2, 3), keepdim=True)
            spread = spread + missing
        return spread.clamp(0, 1)

    def forward(self, images: Tensor, strengths: Sequence[float]) -> Tensor:
        result: Tensor = self.network(images, strengths)
        return result


class _CentredBlur(torch.nn.Module):
    """A blur that grows with the distance from the centre, as far from each image as what the network makes of it."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, strengths: Sequence[float]) -> Tensor:
        change = (self.network(images, strengths) - images).square().mean(dim=(1, 2, 3), keepdim=True)
        side = 2 * int(3 * PRIOR_SIGMA_PX + 0.999) + 1
        blur = gaussian_blur(images, [side, side], [PRIOR_SIGMA_PX, PRIOR_SIGMA_PX]) - images
        rows, columns = (torch.linspace(-1, 1, length) for length in images.shape[2:])
        distance = (rows[:, None].square() + columns.square()).sqrt()
        low, high = torch.zeros_like(change), torch.full_like(change, 64.0)
        for _ in range(24):  # shares grow with the factor, and with them the change
            factor = (low + high) / 2
            reached = ((factor * distance).clamp(0, 1) * blur).square().mean(dim=(1, 2, 3), keepdim=True) >= change
            low, high = torch.where(reached, low, factor), torch.where(reached, factor, high)
        return images + (high * distance).clamp(0, 1) * blur


@torch.no_grad()
def _preprocessed(
    network: torch.nn.Module, codec: Codec, qualities: Sequence[float], images: Sequence[Tensor]
) -> list[list[Tensor]]:
    strengths = [codec.quality_scale.strength(quality) for quality in qualities]
    made = (network(image[None].float().expand(len(strengths), -1, -1, -1) / 255, strengths) for image in images)
    factors = [network.resolution(it) if isinstance(network, Preprocessor) else 1.0 for it in strengths]
    return [
        [_bytes(downscale(row[None], factor)[0]) for row, factor in zip(rows, factors, strict=True)] for rows in made
    ]


def make_preprocessor(name: str, data: Path, **options: Any) -> Preprocessor:
    """Return a preprocessor; one guided by a receiver's network is guided by SqueezeNet with Imagenette's outputs."""
    if name != "qa-guided":
        return Registry().create("preprocessor", name, **options)
    weights = str(data / "weights" / "squeezenet1_1_torchvision_fp16.pth")
    classes = str(data / "imagenette" / "imagenet_index.json")
    task = Registry().create(
        "task", "torchvision-classifier", architecture="squeezenet1_1", weights=weights, classes=classes
    )
    return GuidedQACNN(task.eval(), **options)


def _network(file: Path, data: Path) -> Preprocessor:
    stored = read_module(file)
    network = make_preprocessor(stored.name, data, **stored.options)
    load_module(file, network, name=stored.name)
    return network.eval()


def _bytes(samples: Tensor) -> Tensor:
    return (samples * 255).round().clamp(0, 255).to(torch.uint8)
