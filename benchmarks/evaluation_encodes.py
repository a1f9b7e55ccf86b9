"""How often an evaluation encodes: one for all networks beside one for each, and what a second run finds in the cache.

python benchmarks/evaluation_encodes.py
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch

from precomp_jpeg import JPEGCodec
from precomp_sdk import TaskDataset, TaskModel
from precomp_sdk.atomic_io import write_whole
from precomp_sdk.evaluation import EvaluateSettings, evaluate
from precomp_sdk.testing import FakePreprocessor, FakeTask, natural_image

HERE = Path(__file__).parent
LADDER = (5.0, 10.0, 20.0)


class Counting(JPEGCodec):
    """JPEG that counts its encodes."""

    encodes = 0

    def _encode(self, image: torch.Tensor, quality: float) -> bytes:
        Counting.encodes += 1
        return super()._encode(image, quality)


def encodes(judges: dict[str, TaskModel], images: list, **choices: object) -> int:
    """Return how many encodes an evaluation takes: the first network is the task, the others are judges."""
    before = Counting.encodes
    (_, task), *others = judges.items()
    settings = EvaluateSettings(replicates=0, gallery_images=0, **{"ladder": LADDER, **choices})
    evaluate(
        Counting(), task, TaskDataset.of(images), preprocessors=FakePreprocessor(gain=0.2), judges=dict(others),
        settings=settings, observer=None,
    )  # fmt: skip
    return Counting.encodes - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "evaluation_encodes.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = [(natural_image(48, 64, seed=seed), seed % 4) for seed in range(options.images)]
    panel = {f"network {place}": FakeTask(sharpness=10.0 * (place + 1)) for place in range(3)}
    with tempfile.TemporaryDirectory() as cache:
        together = encodes(panel, images, cache=cache)
        again = encodes(panel, images, cache=cache)
        subset = encodes(dict(list(panel.items())[:1]), images, cache=cache)
        longer = encodes(panel, images, cache=cache, ladder=(*LADDER, 60.0))
        more = encodes(panel, [*images, (natural_image(48, 64, seed=999), 1)], cache=cache)
    each = sum(encodes({name: task}, images) for name, task in panel.items())
    parts = {
        "no baselines": encodes(panel, images, baselines=()),
        **{name: encodes(panel, images, baselines=(name,)) for name in ("blur", "downscale", "equal-bits")},
    }
    result = {
        "images": options.images,
        "qualities": len(LADDER),
        "networks": len(panel),
        "encodes": together,
        "encodes_network_by_network": each,
        "ratio": each / together,
        "encodes_of_an_unchanged_run": again,
        "encodes_of_one_of_its_networks_alone": subset,
        "encodes_with_one_more_quality": longer,
        "encodes_with_one_more_image": more,
        "encodes_with_baseline": parts,
    }
    write_whole(options.output, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
