"""Could a choice be foretold without an encode? A ridge regression from a network's features of the clean image.

    python benchmarks/savings/foretell.py DATA --output benchmarks/results/savings/foretell.json

For each photograph of ``cls-score``: how much more than the average image it costs in bits, and how much more the panel
(SqueezeNet, MobileNetV2) loses on it, both as factors of the average image's curves, from SqueezeNet's pooled features
of the clean image at 224 pixels. Ten folds: an image's factors are foretold by the others (on the scored images, which
favours it; the ridge was set once). Chosen by the curves so foretold, judged by EfficientNet-Lite0 and Lite1. Beside
it: the same with the bits known, with both known (what a perfect forecast of two factors would give), equal bits, and a
search of two encodes.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from curves import FACTOR, STEPS, Array, Choice, compare, constant, equal_bits, normalizers, searched
from judges import load_judge
from sets import load_set
from table import SCORERS, load
from torch.nn import functional

PANEL = ("squeezenet", "mobilenetv2")
RIDGE = 300.0  # of features of unit variance
FOLDS = 10


def features(data: Path) -> Array:
    """Return SqueezeNet's pooled features of the clean images, standardized, (N, 512)."""
    network = load_judge("squeezenet", data).network.features
    rows = []
    with torch.no_grad():
        for image in load_set("cls-score", data):
            small = functional.interpolate(image[None].float() / 255, (224, 224), mode="bilinear", antialias=True)
            mean, std = (torch.tensor(value)[:, None, None] for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
            rows.append(network((small - mean) / std).mean(dim=(2, 3))[0].numpy())
    found = np.stack(rows).astype(np.float64)
    return (found - found.mean(0)) / (found.std(0) + 1e-6)


def foretold(inputs: Array, wanted: Array) -> Array:
    """Return each row's value as the other folds foretell it."""
    result = np.empty_like(wanted)
    folds = np.arange(len(wanted)) % FOLDS
    for fold in range(FOLDS):
        known = folds != fold
        centre = wanted[known].mean()
        weights = np.linalg.solve(
            inputs[known].T @ inputs[known] + RIDGE * np.eye(inputs.shape[1]),
            inputs[known].T @ (wanted[known] - centre),
        )
        result[~known] = inputs[~known] @ weights + centre
    return result


def choice(label: str, rates: Array, losses: Array, bits: Array, harm: Array) -> Choice:
    """Return the choice by the average image's curves (Q,), times each image's exp(``bits``) and exp(``harm``)."""
    own_rates, own_losses = (np.exp(part)[:, None] * curve for part, curve in ((bits, rates), (harm, losses)))
    centre = (rates.max() - rates.min()) / (losses.max() - losses.min())
    picks = [(own_rates + centre * FACTOR**step * own_losses).argmin(1) for step in STEPS.astype(np.float64)]
    ends = [np.full(len(bits), int(place)) for place in (rates.argmin(), losses.argmin())]
    return Choice(label, (ends[0], *picks, ends[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--store", type=Path, default=Path("runs/savings/store"))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    inputs = features(options.data)
    found: dict[str, object] = {}
    for codec in ("jpeg", "bpg"):
        raw = load(options.store, "cls-score", codec, "raw")
        assert raw is not None
        units = normalizers(raw, PANEL)
        losses = np.mean([raw.losses[name] / unit for name, unit in units.items()], axis=0)
        rates = raw.bits / raw.pixels[:, None]
        mean_rates, mean_losses = rates.mean(0), losses.mean(0)
        bits = np.log(rates / mean_rates).mean(1)
        harm = np.log((losses.sum(1) + 1e-3) / mean_losses.sum())

        guess_bits, guess_harm = foretold(inputs, bits), foretold(inputs, harm)
        for name, guess, true in (("bits", guess_bits, bits), ("loss", guess_harm, harm)):
            found[f"{codec}: variance of {name} foretold"] = 1 - float(np.var(true - guess) / np.var(true))
        choices = {
            "foretold": choice("foretold", mean_rates, mean_losses, guess_bits, guess_harm),
            "loss foretold, bits known": choice("bits known", mean_rates, mean_losses, bits, guess_harm),
            "both known": choice("both known", mean_rates, mean_losses, bits, harm),
            "equal bits": equal_bits(raw),
            "searched, two encodes": searched(raw, units, "searched", encodes=2, trust=0.7)[0],
        }
        for judge in ("lite0", "lite1"):
            for label, chosen in choices.items():
                row = compare((raw, constant(raw)), (raw, chosen), judge, SCORERS[judge][0])
                found[f"{codec}, {judge}: {label}"] = [row["percent"], row["low"], row["high"], row["overlap"]]
                print(codec, judge, label, found[f"{codec}, {judge}: {label}"], flush=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    print({key: value for key, value in found.items() if "variance" in key})


if __name__ == "__main__":
    main()
