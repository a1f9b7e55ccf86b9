"""Make what ships as ``general``: the panel's networks, and a sender for each codec, into the package.

    python benchmarks/savings/make_general.py DATA                      # networks, and all codecs
    python benchmarks/savings/make_general.py DATA --codec bpg --preprocessor runs/savings/bpg/preprocessor.safetensors
    python benchmarks/savings/make_general.py DATA --codec avif \
        --preprocessor precomp_sdk/deploy/shipped/general/bpg.safetensors  # BPG's network, over the same strengths

DATA is the folder of images and networks that ``benchmarks/savings/sets.py`` reads. Nothing is drawn at random but the
images, by the seed in ``sets.py``: the 80 tuning photographs of ImageNet's classes and the 48 scenes of COCO, none of
which is scored (docs/protocol.md). Without a preprocessor the sender is a quality chooser alone.

What the average image loses is measured by the networks that ship and by EfficientNet-Lite2, which does not: it bears
fewer pixels worse than they do, as other strong classifiers will (``tune_general.py``).
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from judges import load_judge
from sets import load_set

from precomp_nanodet import NanoDet
from precomp_sdk import (
    ChooserUse,
    Codec,
    Compressor,
    Identity,
    Preprocessor,
    QualityChooser,
    Registry,
    TaskModel,
    deploy,
)
from precomp_sdk.chooser import PriceCurve
from precomp_sdk.training import save_module

__all__ = ["LADDERS", "make_network", "make_sender"]

FOLDER = Path(deploy.__file__).parent / "shipped"
SETS = ("cls-tune", "coco-tune")
BESIDE = ("lite2",)  # networks that the curve is fitted by and that do not ship
RESOLUTIONS = (1.0, 0.7, 0.5)
PANEL_PX = 320
#: by codec, from mild to strong; operating points lie between the ends
LADDERS: dict[str, tuple[float, ...]] = {
    "jpeg": (90, 70, 50, 34, 20, 12, 7, 5),
    "bpg": (20, 24, 28, 32, 36, 40, 44, 48),
    "webp": (90, 70, 50, 32, 18, 8, 3, 0),
    "avif": (80, 65, 50, 40, 30, 22, 14, 8),
}
#: by codec, trust and level of the chooser, as they were measured
FORMS: dict[str, tuple[float, float]] = {"jpeg": (0.5, 0.6), "bpg": (0.7, 0.0), "webp": (0.7, 0.0), "avif": (0.7, 0.0)}
#: by codec, qualities up to which a preprocessor leaves images alone, and from which on it does all it learned
FADES: dict[str, tuple[float, float]] = {"bpg": (26, 30), "jpeg": (75, 60), "webp": (75, 60), "avif": (49, 41)}
_HALF = 0x01306B47  # how ncnn marks weights of 16 bits


def make_network(name: str, data: Path) -> tuple[TaskModel, dict[str, object]]:
    """Return a member of the panel and the options it was constructed with."""
    if name == "squeezenet":
        file = data / "weights" / "squeezenet1_1_torchvision_fp16.pth"
        options: dict[str, object] = {"architecture": "squeezenet1_1"}
        task: TaskModel = Registry().create("task", "torchvision-classifier", **options)
        task.load(file)
        return task, options
    detector = NanoDet()
    _fill(detector.network, (data / "weights" / "nanodet-m.bin").read_bytes())
    return detector, {}


def _fill(network: torch.nn.Module, content: bytes) -> None:
    """Read the convolutions of an ncnn file, in the order in which the network has them."""
    place = 0
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            assert int.from_bytes(content[place : place + 4], "little") == _HALF
            count = layer.weight.numel()
            weight = np.frombuffer(content, "<f2", count, place + 4).astype(np.float32)
            place += 4 + (2 * count + 3) // 4 * 4
            bias = np.frombuffer(content, "<f4", layer.out_channels, place).copy()
            place += 4 * layer.out_channels
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(weight).view_as(layer.weight))
                assert layer.bias is not None
                layer.bias.copy_(torch.from_numpy(bias))
    assert place == len(content)


def fit_curve(codec: Codec, panel: Mapping[str, TaskModel], data: Path) -> PriceCurve:
    """Return what the average image loses for the panel and the networks beside it, with the panel's units."""
    others = {name: load_judge(name, data) for name in BESIDE}
    chooser = QualityChooser(
        codec, {**panel, **others}, ladder=LADDERS[codec.name], resolutions=RESOLUTIONS, panel_px=PANEL_PX
    )
    whole = chooser.fit([image for name in SETS for image in load_set(name, data)])
    return PriceCurve(whole.points, {name: whole.units[name] for name in panel}, whole.images, whole.reduced)


def make_sender(codec_name: str, data: Path, weights: Path | None, *, keep_curve: bool = False) -> Compressor:
    """Return a fitted sender."""
    registry = Registry()
    codec = registry.create("codec", codec_name)
    preprocessor: Preprocessor = Identity()
    if weights is not None:
        trained = Compressor.load(weights, registry).preprocessor
        begin, end = (codec.quality_scale.strength(quality) for quality in FADES[codec_name])
        preprocessor = registry.create("preprocessor", trained.name, **{**trained.options, "fade": (begin, end)})
        preprocessor.load_state_dict(trained.state_dict())
    panel = {name: deploy.load_shipped_task(name, registry) for name in deploy.shipped_networks()}
    if keep_curve:
        use = Compressor.load(FOLDER / "general" / f"{codec_name}.safetensors", registry).chooser
        assert use is not None
        curve = use.chooser.curve
    else:
        curve = fit_curve(codec, panel, data)
    trust, level = FORMS[codec_name]
    chooser = QualityChooser(
        codec,
        panel,
        trust=trust,
        level=level,
        preprocessor=None if weights is None else preprocessor,
        ladder=LADDERS[codec_name],
        resolutions=RESOLUTIONS,
        panel_px=PANEL_PX,
        curve=curve,
    )
    return Compressor(codec, preprocessor, facts={"images": curve.images}, chooser=ChooserUse(chooser))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--codec", nargs="+", default=sorted(LADDERS), choices=sorted(LADDERS))
    parser.add_argument("--preprocessor", type=Path, help="weights of a training run, for one codec")
    parser.add_argument(
        "--keep-curve", action="store_true", help="of the file that ships: only the preprocessor is new"
    )
    arguments = parser.parse_args()
    for name in ("nanodet", "squeezenet"):
        task, options = make_network(name, arguments.data)
        file = FOLDER / "networks" / f"{name}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        save_module(file, task.half(), name=task.name, options=options, facts={})
        print(f"{file}: {file.stat().st_size / 1e6:.2f} MB", flush=True)
    for codec in arguments.codec:
        start = time.perf_counter()
        file = FOLDER / "general" / f"{codec}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        sender = make_sender(codec, arguments.data, arguments.preprocessor, keep_curve=arguments.keep_curve)
        sender.preprocessor.half()  # in the file; 32 bits again where it is loaded
        sender.save(file)
        print(f"{file}: {file.stat().st_size / 1e3:.1f} kB, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
