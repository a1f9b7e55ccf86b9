"""Train a preprocessor by a panel of judges, general images, one codec; snapshots, and a held-out judge that chooses.

    python benchmarks/savings/train.py DATA --codec bpg --panel squeezenet mobilenetv2-features fastestdet \
        --held-out deeplab --steps 400 --output runs/savings/smooth_bpg

Each member's loss counts in units of what the anchor costs it, so none rules the panel. Every image is drawn for one
quality; its objective is (bits per pixel + lambda * panel) over the anchor's own at that quality, lambda the slope of the
anchor's curve there. Values come from the real codec, gradients from its proxy. A stopped run goes on from its last
snapshot. Half a batch are photographs of objects (imagenette/train), half are crops of scenes (coco640/train).
"""

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from judges import Classifier, FastestDet, load_judge
from measure import make_codec
from precomp_sdk import Codec, Preprocessor, ProxyCodec, Registry, TaskModel
from sets import coco, imagenette

LADDERS = {"jpeg": (42, 26, 15, 9, 5), "bpg": (29, 33, 37, 41, 45), "webp": (50, 25, 10, 2), "avif": (50, 35, 22, 12)}
CROP_PX = 192
CALIBRATION = 24


class FeatureDistance(torch.nn.Module):
    """A classifier as a panel member: the distance of its last features from the clean image's, over their power."""

    def __init__(self, judge: Classifier) -> None:
        super().__init__()
        self.judge = judge

    def own(self, images: Tensor) -> Tensor:
        found: Tensor = self.judge.network.backbone((images - self.judge.mean) / self.judge.std).float()
        return found

    def losses(self, images: Tensor, own: Tensor) -> Tensor:
        difference = self.own(images) - own
        return difference.square().sum(1) / own.square().sum(1).clamp_min(1e-6)


class Own(torch.nn.Module):
    """A judge as a panel member, by its divergence."""

    def __init__(self, judge: TaskModel) -> None:
        super().__init__()
        self.judge = judge

    def own(self, images: Tensor) -> object:
        return self.judge.own_targets(images)

    def losses(self, images: Tensor, own: Sequence[object]) -> Tensor:
        return self.judge.losses(images, own)  # type: ignore[arg-type]


def member(name: str, data: Path) -> FeatureDistance | Own:
    """Return a panel member: a judge, or ``NAME-features``."""
    judge = load_judge(name.removesuffix("-features"), data).to(memory_format=torch.channels_last)
    if name.endswith("-features"):
        assert isinstance(judge, Classifier)
        return FeatureDistance(judge)
    if isinstance(judge, FastestDet):
        judge.side_px = 224  # for crops of 192
    return Own(judge)


class Images:
    """Photographs and scenes, cropped and flipped by the step's own seed."""

    def __init__(self, data: Path) -> None:
        self.objects = imagenette(data, "train", 150)[0][720:]  # after the head's and the tuning images
        self.scenes = coco(data, "train", 128)

    def batch(self, count: int, seed: int) -> Tensor:
        """Return (count, 3, 192, 192) uint8."""
        draw = random.Random(seed)
        crops = []
        for place in range(count):
            image = draw.choice(self.scenes if place % 2 else self.objects)
            if place % 2 and (draw.random() < 0.5 or min(image.shape[1:]) < CROP_PX):  # a whole scene, smaller
                side = draw.uniform(CROP_PX, 1.3 * CROP_PX) / min(image.shape[1:])
                size = [max(CROP_PX, round(side * length)) for length in image.shape[1:]]
                image = functional.interpolate(image[None].float(), size, mode="bicubic", antialias=True)[0]
                image = image.round().clamp(0, 255).to(torch.uint8)
            top = draw.randint(0, image.shape[1] - CROP_PX)
            left = draw.randint(0, image.shape[2] - CROP_PX)
            crop = image[:, top : top + CROP_PX, left : left + CROP_PX]
            crops.append(crop.flip(2) if draw.random() < 0.5 else crop)
        return torch.stack(crops)


class Panel:
    """Members by name, each in its own unit."""

    def __init__(self, names: Sequence[str], data: Path) -> None:
        self.members = {name: member(name, data) for name in names}
        self.units = dict.fromkeys(names, 1.0)

    def own(self, images: Tensor) -> dict[str, object]:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return {name: item.own(images) for name, item in self.members.items()}

    def losses(self, images: Tensor, own: dict[str, object]) -> dict[str, Tensor]:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            return {
                name: item.losses(images, own[name]).float() / self.units[name]  # type: ignore[arg-type]
                for name, item in self.members.items()
            }

    def mean(self, images: Tensor, own: dict[str, object]) -> Tensor:
        return torch.stack(list(self.losses(images, own).values())).mean(0)


def code(codec: Codec, images: Tensor, qualities: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return decoded images in [0, 1] and bits per pixel, from the real codec."""
    sent = (images.detach() * 255).round().clamp(0, 255).to(torch.uint8)
    done = [codec.transcode(image, quality) for image, quality in zip(sent, qualities, strict=True)]
    bpp = torch.tensor([float(item.bits) for item in done]) / (images.shape[2] * images.shape[3])
    return torch.stack([item.image for item in done]).float() / 255, bpp


@torch.no_grad()
def calibrate(codec: Codec, panel: Panel, images: Tensor, ladder: Sequence[float]) -> dict[float, tuple[float, ...]]:
    """Set the members' units; return by quality the anchor's bits per pixel, panel loss and lambda."""
    clean = images.float() / 255
    own = panel.own(clean)
    rates, tables = [], []
    for quality in ladder:
        decoded, bpp = code(codec, clean, [quality] * len(clean))
        rates.append(float(bpp.mean()))
        tables.append({name: float(loss.mean()) for name, loss in panel.losses(decoded, own).items()})
    panel.units = {name: sum(row[name] for row in tables) / len(tables) for name in panel.units}
    losses = [sum(row[name] / panel.units[name] for name in row) / len(row) for row in tables]
    points: dict[float, tuple[float, ...]] = {}
    for place, quality in enumerate(ladder):
        low, high = max(place - 1, 0), min(place + 1, len(ladder) - 1)
        slope = (rates[low] - rates[high]) / max(losses[high] - losses[low], 1e-6)
        points[quality] = (rates[place], losses[place], slope)
    return points


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    codec, _ = make_codec(arguments.codec)
    registry = Registry()
    rounding = {} if arguments.codec in ("webp", "avif") else {"rounding": 0.3}
    proxy: ProxyCodec = registry.proxy_for(codec, **rounding).requires_grad_(False).eval()
    network: Preprocessor = registry.create("preprocessor", arguments.network)
    panel = Panel(arguments.panel, arguments.data)
    images = Images(arguments.data)
    ladder = LADDERS[arguments.codec]
    points = calibrate(codec, panel, images.batch(CALIBRATION, 10**9), ladder)
    print(json.dumps({"units": panel.units, "points": points}), flush=True)
    average = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=arguments.rate, weight_decay=0.0)
    first = 0
    state_file = output / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        average, first = state["average"], state["step"]
    network.train()
    began, smoothed = time.time(), {quality: 1.0 for quality in ladder}
    for step in range(first, arguments.steps):
        draw = random.Random(arguments.seed * 10**6 + step)
        clean = images.batch(arguments.batch, arguments.seed * 10**6 + step).float() / 255
        offset = draw.randrange(len(ladder))  # every quality equally often
        qualities = [ladder[(offset + place) % len(ladder)] for place in range(len(clean))]
        warm = min(1.0, (step + 1) / 30)
        rate = arguments.rate * warm * (0.51 + 0.49 * math.cos(math.pi * step / arguments.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        strengths = [codec.quality_scale.strength(quality) for quality in qualities]
        sent = network(clean, strengths)
        sent = sent + ((sent * 255).round() / 255 - sent).detach()
        predicted = proxy(sent, qualities)
        decoded, bpp = code(codec, sent, qualities)
        received = decoded + (predicted.images - predicted.images.detach())
        rates = bpp * predicted.bits / predicted.bits.detach().clamp_min(1.0)
        loss = panel.mean(received, panel.own(clean))
        table = torch.tensor([points[quality] for quality in qualities])
        price = table[:, 2] * arguments.price
        objective = (rates + price * loss) / (table[:, 0] + price * table[:, 1])
        optimizer.zero_grad(set_to_none=True)
        objective.mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        decay = min(0.98, (step + 1) / (step + 10))
        with torch.no_grad():
            for key, value in network.state_dict().items():
                if value.is_floating_point() and "guide" not in key:
                    average[key].lerp_(value, 1 - decay)
        for quality, value in zip(qualities, objective.detach().tolist(), strict=True):
            smoothed[quality] += 0.05 * (value - smoothed[quality])
        if step % 10 == 9:
            told = " ".join(f"{quality:g}:{value:.3f}" for quality, value in smoothed.items())
            print(f"{step + 1} {time.time() - began:.0f} s |g| {float(norm):.3f} {told}", flush=True)
        if (step + 1) % arguments.every == 0 or step + 1 == arguments.steps:
            record = {"name": network.name, "options": dict(network.options), "state": average}
            torch.save(record, output / f"step_{step + 1}.pt")
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
            torch.save({**state, "step": step + 1}, state_file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--codec", required=True, choices=sorted(LADDERS))
    parser.add_argument("--panel", required=True, nargs="+")
    parser.add_argument("--network", default="qa-smooth")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--price", type=float, default=1.0, help="factor on lambda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train(arguments)


if __name__ == "__main__":
    main()
