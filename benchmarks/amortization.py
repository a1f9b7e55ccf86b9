"""Starts a preprocessor from refined images, for the ablation of docs/recipe.md.

    python benchmarks/amortization.py --data IMAGENETTE --squeezenet FILE --images 400 --output start.safetensors
    precomp train benchmarks/experiments/imagenette_jpeg.toml --set preprocessor.load=start.safetensors ...

Images of the training split are refined against SqueezeNet behind JPEG, by their own clean answers, and ``qa-light``
is regressed onto what came of them.
"""

import argparse
from pathlib import Path

import torch

from precomp_data import Geometry, ImageFolder
from precomp_jpeg import JPEGCodec, JPEGProxy
from precomp_qacnn import LightQACNN
from precomp_refine import Refiner, amortize
from precomp_sdk import Subset
from precomp_sdk.training import save_module, shuffled
from precomp_torchvision import Classifier

LADDER = (5.0, 8.0, 12.0, 18.0, 26.0, 38.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and imagenet_index.json")
    parser.add_argument("--squeezenet", type=Path, required=True, help="torchvision's weights of SqueezeNet 1.1")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--refinement-steps", type=int, default=12)
    parser.add_argument("--steps", type=int, default=600, help="of the regression")
    parser.add_argument("--output", type=Path, required=True, help="weights file")
    options = parser.parse_args()
    torch.manual_seed(0)
    codec = JPEGCodec()
    task = Classifier(
        architecture="squeezenet1_1",
        weights=str(options.squeezenet),
        classes=str(options.data / "imagenet_index.json"),
        loss="expected-error",
        loss_temperature=2.0,
    ).eval()
    refiner = Refiner(codec, JPEGProxy(codec, rounding=1.0), task, steps=options.refinement_steps)
    images = ImageFolder(root=options.data, geometry=Geometry(crop=160, augment=True))
    order = shuffled(images, seed=0)
    refiner.prepare(Subset(images, order[-128:]), LADDER)
    network = LightQACNN()
    result = amortize(network, refiner, Subset(images, order[: options.images]), ladder=LADDER, steps=options.steps)
    save_module(options.output, network, name=network.name, options=network.options, facts={})
    print(result)


if __name__ == "__main__":
    main()
