"""A sender's network by PyTorch, by ONNX Runtime, and by ONNX Runtime in 8 bits: speed, size, and what 8 bits cost.

    python benchmarks/int8.py precomp_sdk/deploy/shipped/general/bpg.safetensors ../shared/data

Speed: CPU time of the process, one thread, the three taking turns; medians. Cost: BD-rate of the 8-bit sender against
the float one, by the divergence of EfficientNet-Lite0 from its own clean answers, on ``imagenette/val``; calibrated on
images of ``imagenette/train``. Writes ``results/int8.json`` and prints it.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from precomp_data import UnlabelledFolder
from precomp_sdk import Compressor, Preprocessor, to_float, to_uint8
from precomp_sdk.data import Subset
from precomp_sdk.deploy import export_onnx_pair
from precomp_sdk.evaluation import TASK_LOSS, EvaluateSettings, compare, measure_curve
from precomp_sdk.image_io import read_image

sys.path.insert(0, str(Path(__file__).parent / "savings"))
from judges import load_judge

RESULTS = Path(__file__).parent / "results"


class ByRuntime(Preprocessor):
    """A sender's ONNX file as a preprocessor: what it would send, at full resolution."""

    name = "by-onnx-runtime"
    source = "this benchmark"

    def __init__(self, file: Path, compressor: Compressor) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        scale = compressor.codec.quality_scale
        self._qualities = {scale.strength(quality): quality for quality in compressor.ladder}

    @property
    def options(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def send(self, image: Tensor, quality: float) -> Tensor:
        """Return what the codec gets, (3, H, W) uint8."""
        inputs = {"image": image.permute(1, 2, 0).contiguous().numpy(), "quality": np.array(quality, np.float32)}
        return torch.from_numpy(self.session.run(["sent"], inputs)[0]).permute(2, 0, 1)

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        nearest = [min(self._qualities, key=lambda known: abs(known - float(value))) for value in strengths]
        pairs = zip(to_uint8(images), nearest, strict=True)
        return torch.stack([to_float(self.send(image, self._qualities[strength])) for image, strength in pairs])


def speed(image: Tensor, ways: Mapping[str, Callable[[Tensor], object]], turns: int) -> dict[str, float]:
    """Return CPU milliseconds a megapixel."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            start = time.process_time()
            way(image)
            if turn:
                spent[name].append(1e9 * (time.process_time() - start) / image[0].numel())
    return {name: round(median(times), 1) for name, times in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a trained preprocessor")
    parser.add_argument("data", type=Path, help="the folder of imagenette and kodak")
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded = Compressor.load(options.model)
    compressor = Compressor(loaded.codec, loaded.preprocessor, ladder=loaded.ladder)  # what chooses is not asked here
    train = UnlabelledFolder(root=options.data / "imagenette" / "train")
    calibration = [train[place].image for place in range(0, len(train), len(train) // 16)][:16]
    with TemporaryDirectory() as folder, torch.no_grad():
        files = {
            "onnx runtime": export_onnx_pair(compressor, Path(folder) / "float")[0],
            "onnx runtime, int8": export_onnx_pair(compressor, Path(folder) / "int8", int8=calibration)[0],
        }
        networks = {name: ByRuntime(file, compressor) for name, file in files.items()}
        quality = compressor.ladder[-1]
        ways: dict[str, Callable[[Tensor], object]] = {"pytorch": lambda image: compressor.preprocess(image, quality)}
        ways |= {name: lambda image, net=net: net.send(image, quality) for name, net in networks.items()}
        kodak = read_image(sorted((options.data / "kodak").glob("*.png"))[4])
        large = torch.cat([torch.cat([kodak, kodak.flip(2)], 2), torch.cat([kodak.flip(1), kodak.flip(1, 2)], 2)], 1)
        small = calibration[0]
        times = {f"{item.shape[2]} x {item.shape[1]}": speed(item, ways, options.turns) for item in (small, large)}
        sizes = {name: file.stat().st_size for name, file in files.items()}
        val = UnlabelledFolder(root=options.data / "imagenette" / "val")
        chosen = Subset(val, list(range(0, len(val), len(val) // options.images)))
        judge = load_judge("lite0", options.data)
        settings = EvaluateSettings(ladder=compressor.ladder, pseudo_labels=True)
        curves = [
            measure_curve(compressor.codec, judge, chosen, preprocessor=net, settings=settings)
            for net in networks.values()
        ]
        (found,) = compare(curves[0], curves[1:], metrics=[TASK_LOSS])
    result = {
        "command": f"python benchmarks/int8.py {options.model.name} DATA",
        "ms_per_megapixel": times,
        "bytes": sizes,
        "bd_rate_percent_of_int8": found.value_percent,
        "interval": None if found.interval is None else [found.interval.low_percent, found.interval.high_percent],
        "metric": found.metric,
        "images": len(chosen),
        "load": os.getloadavg()[0],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "int8.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
