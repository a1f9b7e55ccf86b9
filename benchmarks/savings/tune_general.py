"""How far ``general`` trusts its panel, and what it may choose from: judged by EfficientNet-Lite2 on tuning images.

    python benchmarks/savings/tune_general.py DATA --codec jpeg --output benchmarks/results/savings/tune_general.json

Lite2 is no witness of any figure, and no image here is scored or was the curve fitted on (docs/protocol.md).
"""

import argparse
import json
from pathlib import Path

import torch
from make_general import IMAGES
from measure import CODECS, load_judges
from sets import coco, load_set

from precomp_sdk import ChoosingChannel, Compressor, EvaluateSettings, QualityChooser, TaskDataset, evaluate
from precomp_sdk.chooser import PriceCurve
from precomp_sdk.evaluation import EQUAL_BITS, TASK_LOSS

TRUSTS = (0.7, 0.4, 0.15)
RESOLUTIONS = ((1.0, 0.7, 0.5), (1.0, 0.7, 0.5, 0.35))
COUNT = 30  # of each set


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--codec", default="jpeg", choices=("jpeg", "bpg", "webp", "avif"))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sender = Compressor.load("general", codec=options.codec)
    assert sender.chooser is not None
    use, judge = sender.chooser, load_judges(("lite2",), options.data)["lite2"]

    known = use.chooser
    fitting = [*load_set("cls-tune", options.data)[:IMAGES], *coco(options.data, "train", IMAGES)]

    def channel(trust: float, resolutions: tuple[float, ...]) -> ChoosingChannel:
        same = resolutions == known.resolutions
        chooser = QualityChooser(
            known.codec,
            known.panel,
            preprocessor=known.preprocessor,
            ladder=known.ladder,
            resolutions=resolutions,
            trust=trust,
            monotone=known.monotone,
            panel_px=known.panel_px,
            curve=known.curve if same else curves.get(resolutions),
        )
        if not same and resolutions not in curves:
            curves[resolutions] = chooser.fit(fitting)
        label = f"trust {trust}, resolutions {resolutions}"
        return ChoosingChannel(chooser, search=use.search, encodes=use.encodes, label=label)

    curves: dict[tuple[float, ...], PriceCurve] = {}
    channels = [channel(trust, resolutions) for resolutions in RESOLUTIONS for trust in TRUSTS]
    found = json.loads(options.output.read_text()) if options.output.exists() else {}
    images = {
        "cls-tune": load_set("cls-tune", options.data)[IMAGES : IMAGES + COUNT],
        "coco-tune": coco(options.data, "train", IMAGES + COUNT)[IMAGES:],
    }
    for name, rows in images.items():
        result = evaluate(
            sender.codec,
            judge,
            TaskDataset.of(rows),
            channels=channels,
            settings=EvaluateSettings(
                ladder=CODECS[options.codec][2], baselines=(EQUAL_BITS,), pseudo_labels=True, workers=1,
                gallery_images=0,
            ),
            observer=None,
        )  # fmt: skip
        for item in result.comparisons:
            if item.metric == TASK_LOSS:
                ends = None if item.interval is None else (item.interval.low_percent, item.interval.high_percent)
                found[f"{options.codec}, {name}, {item.test}"] = (item.value_percent, ends, item.overlap)
                print(options.codec, name, item.test, found[f"{options.codec}, {name}, {item.test}"], flush=True)
        options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
