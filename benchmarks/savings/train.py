"""Train `qa-smooth` by a panel of judges, general images, one codec.

    python benchmarks/savings/train.py DATA --codec jpeg bpg --panel squeezenet mobilenetv2-features fastestdet \
        --steps 200 --seed 0 --output runs/savings/smooth

Each member's loss counts in units of what the anchor costs it, so none rules the panel, and every step asks one, in
turn. Every image is drawn for one quality; its objective is (bits per pixel + lambda * loss) over the anchor's own at
that quality, lambda the slope of the anchor's curve there. The proxy stands for the codec in both directions, which
costs a sixth of the real codec's time. Half of the images are photographs of objects (imagenette/train), half are crops
of scenes (coco640/train); what the guide and the panel say of them is computed once.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from judges import Classifier, FastestDet, load_judge
from measure import make_codec
from sets import coco, imagenette
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from precomp_qacnn import SmoothQACNN
from precomp_sdk import ProxyCodec, Registry, TaskModel

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
        return self.judge.pseudo_labels(images)

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

    def loss(self, name: str, images: Tensor, own: object) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            return self.members[name].losses(images, own).float() / self.units[name]  # type: ignore[arg-type]


def prepare(
    network: SmoothQACNN, panel: Panel, crops: Tensor
) -> tuple[list[tuple[Tensor, ...]], list[dict[str, object]]]:
    """Return for every crop what the guide sees, and every member's own answer."""
    maps: list[tuple[Tensor, ...]] = []
    answers: list[dict[str, object]] = []
    side = network.options["reduced_px"]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for crop in crops:
            image = crop[None].float() / 255
            reduced = functional.interpolate(image, (side, side), mode="bilinear", antialias=True, align_corners=False)
            assert network.guide is not None
            maps.append(tuple(part[0].to(torch.bfloat16) for part in network.guide(reduced)))
            own = panel.own(image)
            answers.append({name: value[0] for name, value in own.items()})  # type: ignore[index]
    return maps, answers


def gathered(items: Sequence[dict[str, object]], name: str) -> object:
    """Return a member's own answers of a batch as it takes them."""
    values = [item[name] for item in items]
    return torch.stack(values) if isinstance(values[0], Tensor) else values


@torch.no_grad()
def calibrate(
    proxy: ProxyCodec, panel: Panel, crops: Tensor, answers: Sequence[dict[str, object]], ladder: Sequence[float]
) -> dict[float, tuple[float, ...]]:
    """Set the members' units; return by quality the anchor's bits per pixel, panel loss and lambda."""
    rates, tables = [], []
    for quality in ladder:
        clean = crops.float() / 255
        output = proxy(clean, [quality] * len(clean))
        rates.append(float(output.bits.mean()) / clean[0, 0].numel())
        tables.append(
            {name: float(panel.loss(name, output.images, gathered(answers, name)).mean()) for name in panel.members}
        )
    panel.units = {name: sum(row[name] for row in tables) / len(tables) for name in panel.units}
    losses = [sum(row[name] / panel.units[name] for name in row) / len(row) for row in tables]
    points: dict[float, tuple[float, ...]] = {}
    for place, quality in enumerate(ladder):
        low, high = max(place - 1, 0), min(place + 1, len(ladder) - 1)
        slope = (rates[low] - rates[high]) / max(losses[high] - losses[low], 1e-6)
        points[quality] = (rates[place], losses[place], slope)
    return points


@dataclass(slots=True)
class Shared:
    """What the workers of one codec share: parameters, a row of gradients each, and two meeting points a step."""

    parameters: Tensor
    gradients: Tensor
    told: Tensor
    barrier: Any


def work(rank: int, shared: Shared, codec_name: str, arguments: argparse.Namespace, ready: "Ready") -> None:
    """Train as one of several workers: each takes its own part of every batch; the first one steps."""
    torch.manual_seed(arguments.seed)
    codec, _ = make_codec(codec_name)
    scale = codec.quality_scale
    proxy: ProxyCodec = Registry().proxy_for(codec, rounding=0.3).requires_grad_(False).eval()
    ladder = LADDERS[codec_name]
    panel, crops, maps, answers = ready.panel, ready.crops, ready.maps, ready.answers
    points = calibrate(proxy, panel, crops[:CALIBRATION], answers[:CALIBRATION], ladder)
    network = SmoothQACNN().train()
    parameters = list(network.parameters())
    vector_to_parameters(shared.parameters.clone(), parameters)
    output: Path = arguments.output.parent / f"{arguments.output.name}_{codec_name}"
    optimizer = torch.optim.AdamW(parameters, lr=arguments.rate, weight_decay=0.0)
    average = shared.parameters.clone()
    names = list(panel.members)
    began, smoothed = time.time(), torch.ones(len(ladder))
    if rank == 0:
        output.mkdir(parents=True, exist_ok=True)
        print(codec_name, json.dumps({"units": panel.units, "points": points}), flush=True)
    for step in range(arguments.steps):
        draw = random.Random((arguments.seed * 10**6 + step) * 64 + rank)
        places = [draw.randrange(len(crops)) for _ in range(arguments.batch)]
        name = names[(step + rank) % len(names)]
        clean = crops[places].float() / 255
        offset = draw.randrange(len(ladder))  # every quality equally often
        columns = [(offset + place) % len(ladder) for place in range(len(clean))]
        qualities = [ladder[column] for column in columns]
        strengths = torch.tensor([scale.strength(quality) for quality in qualities])
        seen = network._mapped([torch.stack([maps[place][part] for place in places]).float() for part in (0, 1)])
        cells = (clean.shape[2] // 8, clean.shape[3] // 8)
        seen = functional.interpolate(seen, cells, mode="bilinear", align_corners=False)
        sent = network.remove(clean, seen, strengths).clamp(0, 1)
        sent = sent + ((sent * 255).round() / 255 - sent).detach()
        predicted = proxy(sent, qualities)
        rates = predicted.bits / clean[0, 0].numel()
        loss = panel.loss(name, predicted.images, gathered([answers[place] for place in places], name))
        table = torch.tensor([points[quality] for quality in qualities])
        price = table[:, 2] * arguments.price
        objective = (rates + price * loss) / (table[:, 0] + price * table[:, 1])
        network.zero_grad(set_to_none=False)
        objective.mean().backward()
        shared.gradients[rank] = parameters_to_vector([item.grad for item in parameters])
        shared.told[rank].zero_()
        shared.told[rank, 0].index_add_(0, torch.tensor(columns), objective.detach())
        shared.told[rank, 1].index_add_(0, torch.tensor(columns), torch.ones(len(columns)))
        shared.barrier.wait()
        if rank == 0:
            warm = min(1.0, (step + 1) / 20)
            for group in optimizer.param_groups:
                group["lr"] = arguments.rate * warm * (0.51 + 0.49 * math.cos(math.pi * step / arguments.steps))
            vector_to_parameters_grad(shared.gradients.mean(0), parameters)
            norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            with torch.no_grad():
                shared.parameters.copy_(parameters_to_vector(parameters))
                average.lerp_(shared.parameters, 1 - min(0.95, (step + 1) / (step + 10)))
            found = shared.told.sum(0)
            smoothed += 0.1 * torch.where(found[1] > 0, found[0] / found[1].clamp_min(1) - smoothed, 0)
            if step % 10 == 9:
                told = " ".join(
                    f"{quality:g}:{value:.3f}" for quality, value in zip(ladder, smoothed.tolist(), strict=True)
                )
                change = float((sent.detach() - clean).abs().mean())
                print(f"{codec_name} {step + 1} {time.time() - began:.0f} s |g| {float(norm):.2f} {change:.4f} {told}",
                      flush=True)  # fmt: skip
            if (step + 1) % arguments.every == 0 or step + 1 == arguments.steps:
                vector_to_parameters(average.clone(), parameters)
                state = {key: value.clone() for key, value in network.state_dict().items()}
                torch.save({"name": network.name, "options": dict(network.options), "state": state},
                           output / f"step_{step + 1}.pt")  # fmt: skip
        shared.barrier.wait()
        vector_to_parameters(shared.parameters.clone(), parameters)


def vector_to_parameters_grad(vector: Tensor, parameters: Sequence[Tensor]) -> None:
    """Set the gradients from one vector."""
    for item, part in zip(parameters, vector.split([item.numel() for item in parameters]), strict=True):
        item.grad = part.view_as(item).clone()


@dataclass(slots=True)
class Ready:
    """What is computed once, before the workers part."""

    panel: Panel
    crops: Tensor
    maps: list[tuple[Tensor, ...]]
    answers: list[dict[str, object]]


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    network, panel = SmoothQACNN(), Panel(arguments.panel, arguments.data)
    crops = Images(arguments.data).batch(arguments.crops, 10**9)
    ready = Ready(panel, crops, *prepare(network, panel, crops))
    start = parameters_to_vector(network.parameters()).detach()
    print(f"prepared, {start.numel()} parameters", flush=True)
    context = torch.multiprocessing.get_context("fork")
    workers = []
    for codec_name in arguments.codec:
        count = arguments.workers
        shared = Shared(
            start.clone().share_memory_(),
            torch.zeros(count, start.numel()).share_memory_(),
            torch.zeros(count, 2, len(LADDERS[codec_name])).share_memory_(),
            context.Barrier(count),
        )
        workers += [
            context.Process(target=work, args=(rank, shared, codec_name, arguments, ready)) for rank in range(count)
        ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--codec", required=True, nargs="+", choices=sorted(LADDERS))
    parser.add_argument("--workers", type=int, default=3, help="processes a codec, each with a batch of its own")
    parser.add_argument("--panel", required=True, nargs="+")
    parser.add_argument("--crops", type=int, default=320)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--price", type=float, default=1.0, help="factor on lambda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train(arguments)


if __name__ == "__main__":
    main()
