"""Train a preprocessor by a panel of judges, on general images, behind one codec.

    python benchmarks/savings/train.py DATA --codec bpg --seed 0 --output runs/savings/smooth_bpg

It is `precomp_sdk.Trainer` with an `EnsembleTask` that counts every member's loss in units of what the anchor costs
it, and a network outside the panel that chooses the checkpoint. Values come from the real codec, gradients from its
proxy. Half of the images are photographs of objects (imagenette/train), half are crops of scenes (coco640/train);
`--images` asks for others, of streets (camvid/train) too; none is scored (`docs/protocol.md`). A stopped run goes on
where it was.
"""

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from judge_kinds import Classifier, FastestDet
from judges import load_judge
from measure import CODECS, make_codec
from sets import camvid_files, coco_files, imagenette_files, read
from torch import Tensor
from torch.nn import functional
from variants import make_preprocessor

from precomp_sdk import (
    EnsembleTask,
    QualityChooser,
    Registry,
    Target,
    TaskDataset,
    TaskModel,
    Trainer,
    TrainSettings,
)
from precomp_sdk.observers import JSONLObserver, ProgressObserver, fan_out
from precomp_sdk.targets import ImageTarget
from precomp_sdk.training import load_module

CROP_PX = 192
HELD_OUT = 24  # objects and scenes, of each half as many
FIRST_OBJECT = 72  # of a class: those before fitted a judge's head or tune


@dataclass(frozen=True, slots=True)
class Features(ImageTarget):
    """What a network makes of the clean image."""

    kind = "features"
    values: Tensor


class FeatureDistance(TaskModel):
    """A classifier as a panel member: the distance of its last features from the clean image's, over their power."""

    name = "features"
    source = "see load_judge"
    target_kind = "features"

    def __init__(self, judge: Classifier) -> None:
        super().__init__()
        self.judge, self.scorer = judge, judge.scorer

    def own(self, images: Tensor) -> Tensor:
        network, prepared = self.judge.network, (images - self.judge.mean) / self.judge.std
        if hasattr(network, "backbone"):
            found: Tensor = network.backbone(prepared)
        else:  # torchvision's, averaged over places
            found = network.features(prepared).mean(dim=(2, 3))
        return found.float()

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        own = torch.stack([target.values for target in targets])  # type: ignore[attr-defined]
        return (self.own(images) - own).square().sum(1) / own.square().sum(1).clamp_min(1e-6)

    def _predict(self, images: Tensor) -> Sequence[Tensor]:
        return list(self.own(images))

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        return [Features(row) for row in self.own(images)]


def member(name: str, data: Path, crop_px: int = CROP_PX) -> TaskModel:
    """Return a panel member: a judge, or ``NAME-features``."""
    judge = load_judge(name.removesuffix("-features"), data)
    if name.endswith("-features"):
        assert isinstance(judge, Classifier)
        return FeatureDistance(judge)
    if isinstance(judge, FastestDet):
        judge.side_px = min(judge.side_px, -(-crop_px // 32) * 32 + 32)  # 224 for crops of 192 pixels
    return judge


class Crops(TaskDataset):
    """Photographs, scenes and streets in turn, cropped and flipped anew in every epoch; a scene is sometimes shrunk."""

    name = "crops"
    source = "imagenette/train, coco640/train and camvid/train"
    target_kind = None

    def __init__(
        self,
        objects: Sequence[Path],
        scenes: Sequence[Path],
        streets: Sequence[Path] = (),
        *,
        crop_px: int = CROP_PX,
        fixed: bool = False,
    ) -> None:
        super().__init__()
        kinds = {"object": list(objects), "scene": list(scenes), "street": list(streets)}
        self._kinds = [(kind, files) for kind, files in kinds.items() if files]
        self._crop_px, self._fixed, self._epoch = crop_px, fixed, 0

    def __len__(self) -> int:
        return len(self._kinds) * max(len(files) for _, files in self._kinds)

    def set_epoch(self, epoch: int) -> None:
        self._epoch = 0 if self._fixed else epoch

    def _sample(self, index: int) -> tuple[Tensor, None]:
        draw = random.Random(f"{self._epoch}/{index}")
        place, turn = divmod(index, len(self._kinds))
        kind, files = self._kinds[turn]
        in_turn = self._fixed or kind == "object"
        file = files[place % len(files)] if in_turn else draw.choice(files)
        image = self._scene(file, draw) if kind == "scene" else read(file)
        side = self._crop_px
        top = draw.randint(0, image.shape[1] - side)
        left = draw.randint(0, image.shape[2] - side)
        crop = image[:, top : top + side, left : left + side]
        return (crop.flip(2) if draw.random() < 0.5 else crop).contiguous(), None

    def _scene(self, file: Path, draw: random.Random) -> Tensor:
        image = read(file, 0.75)
        crop_px = self._crop_px
        if draw.random() < 0.5 or min(image.shape[1:]) < crop_px:  # a whole scene, smaller
            side = draw.uniform(crop_px, 1.3 * crop_px) / min(image.shape[1:])
            size = [max(crop_px, round(side * length)) for length in image.shape[1:]]
            image = functional.interpolate(image[None].float(), size, mode="bicubic", antialias=True)[0]
            image = image.round().clamp(0, 255).to(torch.uint8)
        return image


def sets(data: Path, kinds: Sequence[str], crop_px: int = CROP_PX) -> tuple[Crops, Crops]:
    """Return training and held-out images of some kinds; no file is in both."""
    half = HELD_OUT // 2
    objects = [file for row in imagenette_files(data, "train")[FIRST_OBJECT:] for file in row]
    scenes, frames = coco_files(data, "train"), camvid_files(data, "train")
    parts = {
        "objects": (objects[half:], objects[:half]),
        "scenes": (scenes[half:], scenes[:half]),
        "streets": (frames[: -5 * half], frames[-5 * half :: 5]),  # of the last drive
    }
    train, held_out = ([parts[kind][which] if kind in kinds else [] for kind in parts] for which in (0, 1))
    return Crops(*train, crop_px=crop_px), Crops(*held_out, crop_px=crop_px, fixed=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--codec", required=True, choices=sorted(CODECS))
    parser.add_argument("--panel", nargs="+", default=["squeezenet", "mobilenetv2-features", "fastestdet"])
    parser.add_argument(
        "--images", nargs="+", default=["objects", "scenes"], choices=("objects", "scenes", "streets"), help="in turn"
    )
    parser.add_argument("--crop", type=int, default=CROP_PX, help="side of a training image in pixels")
    parser.add_argument(
        "--select", default="lite2", help="the network outside the panel that chooses the checkpoint; none: the panel"
    )
    parser.add_argument(
        "--chooser", nargs="+", default=[], help="networks by whose word each image's training quality is chosen"
    )
    parser.add_argument("--network", default="qa-smooth")
    parser.add_argument("--options", type=json.loads, default={}, help="of the network, JSON")
    parser.add_argument("--set", type=json.loads, default={}, dest="choices", help="of TrainSettings, JSON")
    parser.add_argument("--begin", type=Path, help="weights to begin with, of the same network behind another codec")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    registry = Registry()
    train, held_out = sets(arguments.data, arguments.images, arguments.crop)
    codec, ladder = make_codec(arguments.codec)
    task = EnsembleTask(
        members={name: member(name, arguments.data, arguments.crop) for name in arguments.panel}, normalize=True
    )
    choices: dict[str, object] = {
        "steps": 800, "batch_size": 12, "learning_rate": 1e-3, "warmup_steps": 60, "ema_decay": 0.98,
        "precision": "bf16-mixed", "held_out_images": len(held_out), "held_out_every": 100, "calibration_images": 48,
        "checkpoint_every": 50, "codec_workers": 1,
    }  # fmt: skip
    settings = TrainSettings(ladder=ladder, seed=arguments.seed, **{**choices, **arguments.choices})  # type: ignore[arg-type]
    preprocessor = make_preprocessor(arguments.network, arguments.data, **arguments.options)
    if arguments.begin is not None:
        load_module(arguments.begin, preprocessor, name=preprocessor.name)
    chooser = None
    if arguments.chooser:
        panel = {name: load_judge(name, arguments.data) for name in arguments.chooser}
        chooser = QualityChooser(codec, panel, ladder=ladder)
        chooser.fit([train[place].image for place in range(HELD_OUT)])
    rounding = {"rounding": 0.3} if codec.name == "jpeg" else {}
    trainer = Trainer(
        codec=codec,
        proxy=registry.proxy_for(codec, **rounding),
        preprocessor=preprocessor,
        task=task,
        select=None if arguments.select == "none" else load_judge(arguments.select, arguments.data),
        chooser=chooser,
        settings=settings,
        observer=fan_out(ProgressObserver(), JSONLObserver(arguments.output.with_suffix(".jsonl"))),
    )
    result = trainer.run(train, held_out=held_out, folder=arguments.output, resume=True)
    print(json.dumps({"units": task.units, "relative": result.relative}))


if __name__ == "__main__":
    main()
