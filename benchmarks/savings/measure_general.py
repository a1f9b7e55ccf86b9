"""What ``general`` saves for networks it never asked, as it ships: its own search, operating points along the ladder.

    python benchmarks/savings/measure_general.py DATA --codec jpeg --output benchmarks/results/savings/general_jpeg.json

The first images of the scored sets of docs/protocol.md, judged by networks outside the panel, each against its own
clean answer: ImageNet's classes by three classifiers, COCO's scenes by a detector, a segmenter and classifiers, streets
by a segmenter of streets, Kodak's larger photographs by all three kinds. Lite0 looks at an image at its own size, Lite1
at 240 pixels; NanoDet at the image's own size stands for receivers that look at more than the panel, in which it sees
320 pixels. (MobileNetV2's features and FastestDet were among those that trained the preprocessor behind BPG; Lite0 and
Lite1 are of the family of Lite2, by which the average curve was fitted.) Beside it, equal bits for every image as a
control, and what a choice costs: encodes, and processor time over the codec's own.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from judge_kinds import Segmenter, SizedSegmenter
from measure import CODECS, load_judges
from sets import load_set
from torch import Tensor

from precomp_sdk import ChoosingChannel, Compressor, EvaluateSettings, MaskScorer, TaskDataset, TaskModel, evaluate
from precomp_sdk.evaluation import EQUAL_BITS, TASK_LOSS, Evaluation, JudgeResult

__all__ = ["measure_general"]

#: by set: the judges outside, and how many images
JUDGES = {
    "cls-score": (("lite0", "lite1", "mobilenetv2"), 160),
    "coco-score": (("fastestdet", "lite0", "lite1", "deeplab", "nanodet-480"), 64),
    "camvid-score": (("cityscapes",), 26),
    "kodak": (("lite0", "lite1", "fastestdet", "deeplab", "nanodet-640"), 24),
}


def measure_general(
    codec: str, set_name: str, data: Path, count: int | None = None, *, full_size: bool = False
) -> dict[str, object]:
    """Measure one codec on one set, as it ships or without a choice of resolution."""
    names, most = JUDGES[set_name]
    images = load_set(set_name, data)[: count or most]
    sender = Compressor.load("general", codec=codec)
    sender = sender.at_full_size() if full_size else sender
    assert sender.chooser is not None
    use = sender.chooser
    channel = ChoosingChannel(use.chooser, search=use.search, encodes=use.encodes)
    judges = {name: _sized(judge) for name, judge in load_judges(names, data).items()}
    first, *others = names
    with channel:
        found = evaluate(
            sender.codec,
            judges[first],
            TaskDataset.of(images),
            channels=[channel],
            judges={name: judges[name] for name in others},
            settings=EvaluateSettings(
                ladder=CODECS[codec][2], baselines=(EQUAL_BITS,), pseudo_labels=True, workers=1, gallery_images=0
            ),
            observer=None,
        )
    return {
        "set": set_name,
        "images": len(images),
        "judges": {
            name: _rates(judged) for name, judged in ((first, found), *((item.label, item) for item in found.judges))
        },
        **_cost(sender, images[:12]),
    }


def _sized(judge: TaskModel) -> TaskModel:
    """Return it with answers of an image's size."""
    if not isinstance(judge, Segmenter):
        return judge
    assert isinstance(judge.scorer, MaskScorer)
    return SizedSegmenter(judge.name, judge.network, judge.scorer.num_classes).eval().requires_grad_(False)


def _rates(found: Evaluation | JudgeResult) -> dict[str, object]:
    rates = {}
    for item in found.comparisons:
        if item.metric == TASK_LOSS:
            ends = None if item.interval is None else [item.interval.low_percent, item.interval.high_percent]
            rates[item.test] = {"percent": item.value_percent, "interval": ends, "overlap": round(item.overlap, 3)}
    return rates


def _cost(sender: Compressor, images: Sequence[Tensor]) -> dict[str, float]:
    """Return encodes an image, and processor time over the codec's own, in the middle of the ladder."""
    quality = sorted(sender.ladder)[len(sender.ladder) // 2]
    start = time.process_time()
    for image in images:
        sender.codec.encode(image, quality)
    alone = time.process_time() - start
    start = time.process_time()
    encodes = [sender.compress_chosen(image, quality).encodes for image in images]
    chosen = time.process_time() - start
    return {
        "encodes": sum(encodes) / len(encodes),
        "seconds_per_image": chosen / len(images),
        "times_the_encoder": chosen / alone,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--codec", default="jpeg", choices=("jpeg", "bpg", "webp", "avif"))
    parser.add_argument("--set", nargs="+", default=sorted(JUDGES), choices=sorted(JUDGES))
    parser.add_argument("--images", type=int, help="fewer")
    parser.add_argument("--full-size", action="store_true", help="quality alone is chosen")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    for set_name in arguments.set:
        told = measure_general(
            arguments.codec, set_name, arguments.data, arguments.images, full_size=arguments.full_size
        )
        found[f"{set_name}, full size" if arguments.full_size else set_name] = told
        arguments.output.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
