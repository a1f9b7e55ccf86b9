"""Choose the chooser's form on tuning images: who is asked, how their words are put together, how far they are trusted.

    python benchmarks/savings/measure.py DATA --set cls-tune-wide --images 160 --codec jpeg \
        --variant raw down-0.7 down-0.5 --judges squeezenet lite0 mobilenetv2 nanodet fastestdet deeplab detail
    # likewise --set coco-tune-wide --images 96; and --codec bpg, without down-0.5
    python benchmarks/savings/tune_chooser.py --output benchmarks/results/savings/tune_chooser.json

From finished measurements; nothing is encoded or judged here. Each judge is left out in turn, and what the others would
choose for every image is scored by it. No image is one that docs/protocol.md scores.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from curves import Choice, chosen_by, compare, constant, isotonic, join, normalizers
from numpy.typing import NDArray
from scipy.stats import spearmanr
from store import Table
from table import CELLS, ERROR, load, rounded

from precomp_sdk import LabelScorer

Array = NDArray[np.float64]
NAMES = ("squeezenet", "lite0", "mobilenetv2", "nanodet", "fastestdet", "deeplab")
EARLY = "detail"  # early features of SqueezeNet, which no answer is read from
SETS = {"cls-tune-wide": ("photographs", 160), "coco-tune-wide": ("scenes", 96)}
VARIANTS = {"jpeg": ("raw", "down-0.7", "down-0.5"), "bpg": ("raw", "down-0.7")}
TRUSTS = (1.0, 0.85, 0.5, 0.3, 0.15)
POWERS = (0.5, 2.0, 4.0, 8.0)
FORMS = ((0.5, 0.6), (0.3, 0.7), (0.2, 0.5), (0.2, 1.0))  # trust and level, as `precomp_sdk.QualityChooser` has them
FOLDS, RIDGE = 5, 1e-2  # of the regression: folds of images; penalty of a sample on its squared weights
LEAST = 0.02  # of a loss in its unit, added before a logarithm: a fiftieth of what the codec costs on average
TABLED = {judge: panel for _, judges in CELLS.values() for judge, panel in judges.items() if judge in NAMES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("runs/savings/store"))
    parser.add_argument("--codec", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    for codec in arguments.codec:
        for set_name, (label, _) in SETS.items():
            tables = [load(arguments.store, set_name, codec, variant) for variant in VARIANTS[codec]]
            found = [table for table in tables if table is not None]
            if len(found) < len(tables):
                continue
            raw, wide = found[0], join(found)
            units = normalizers(raw, tuple(raw.losses))
            told = {name: losses / units[name] for name, losses in wide.losses.items()}
            anchor = (raw, constant(raw, "anchor"))
            for judge in NAMES:
                for form, choice in forms(wide.bits, told, judge, lambda own, wide=wide: chosen_by(wide, own)).items():
                    result = compare(
                        anchor, (wide, choice or constant(wide)), judge, LabelScorer(), replicates=arguments.replicates
                    )
                    rows.append({"codec": codec, "set": label, "images": len(wide.bits), "judge": judge,
                                 "form": form, **result})  # fmt: skip
            report(rows, codec, label)
            rows += agreement(codec, label, raw)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(rounded(row)) for row in rows)
    arguments.output.write_text(f"[\n{lines}\n]\n")


def forms(
    bits: Array, told: dict[str, Array], judge: str, choose: Callable[[Array], Choice]
) -> dict[str, Choice | None]:
    """Return what each form chooses, by (N, C) bits and each network's losses in its unit; None: one pair for all."""
    others = [name for name in NAMES if name != judge]

    def shared(names: Sequence[str], trust: float = 0.7, power: float = 1.0) -> Array:
        each = [isotonic(bits, told[name]) ** power for name in names]
        own = isotonic(bits, np.mean(each, axis=0) ** (1 / power))
        return trust * own + (1 - trust) * own.mean(axis=0)

    def formed(names: Sequence[str], trust: float, level: float) -> Array:
        own = np.mean([told[name] for name in names], axis=0)
        average = own.mean(axis=0)
        scale = own.sum(axis=1, keepdims=True) / average.sum()
        return trust * isotonic(bits, own) + (1 - trust) * average * (level * scale + 1 - level)

    found: dict[str, Choice | None] = {
        "one pair for all": None,
        "panel of the tables, trust 1": choose(shared(TABLED[judge], 1.0)),
        "panel of the tables, trust 0.7": choose(shared(TABLED[judge])),
        "all others, trust 0.7": choose(shared(others)),
        "all others and early features, trust 0.7": choose(shared([*others, EARLY])),
        "all others and squared error, trust 0.7": choose(shared([*others, ERROR])),
        "squared error alone, trust 0.7": choose(shared([ERROR])),
        "early features alone, trust 0.7": choose(shared([EARLY])),
        "oracle: the judge itself, trust 1": choose(told[judge]),
    }
    found |= {f"all others, trust {trust:g}": choose(shared(others, trust)) for trust in TRUSTS}
    found |= {f"all others, mean of power {power:g}, trust 0.7": choose(shared(others, 0.7, power)) for power in POWERS}
    for trust, level in FORMS:
        label = f"trust {trust:g}, level {level:g}"
        found[f"panel of the tables, {label}"] = choose(formed(TABLED[judge], trust, level))
        found[f"panel of the tables and squared error, {label}"] = choose(formed([*TABLED[judge], ERROR], trust, level))
        found[f"all others, {label}"] = choose(formed(others, trust, level))
    found["all others, by a regression fitted to foretell one from the rest"] = choose(foretold(bits, told, others))
    return found


def foretold(bits: Array, told: dict[str, Array], names: Sequence[str]) -> Array:
    """Return the losses (N, C) that a network outside is expected to have, by what those inside lose and squared error.

    A generalized linear model with a logarithmic link and variance in proportion to the mean (McCullagh and Nelder,
    Generalized Linear Models, 1989, section 9), fitted to each of those inside by the rest, in five folds of images.
    """
    place = np.random.default_rng(0).permutation(len(bits)) % FOLDS
    whole = _design(bits, told, names)
    inside = {name: _design(bits, told, [other for other in names if other != name]) for name in names}
    result = np.zeros(bits.shape)
    for fold in range(FOLDS):
        rest = place != fold
        known = np.concatenate([design[rest].reshape(-1, whole.shape[2]) for design in inside.values()])
        wanted = np.concatenate([told[name][rest].ravel() for name in inside])
        weights = np.zeros(whole.shape[2])
        weights[:2] = np.log(wanted.mean()), 1.0
        for _ in range(30):  # iteratively reweighted least squares
            mean = np.exp(np.clip(known @ weights, -8, 6))
            weighed = known * mean[:, None]
            answer = weighed.T @ (known @ weights + (wanted - mean) / mean)
            weights = np.linalg.solve(weighed.T @ known + RIDGE * len(wanted) * np.eye(len(weights)), answer)
        result[~rest] = np.exp(np.clip(whole[~rest] @ weights, -8, 6))
    return result


def _design(bits: Array, told: dict[str, Array], names: Sequence[str]) -> Array:
    """Return (N, C, 9): one, and logarithms of the average curve, the image's own and its scale, and products."""
    losses = np.stack([told[name] for name in names])
    own, geometric = losses.mean(axis=0), np.exp(np.log(losses + LEAST).mean(axis=0))
    sums = losses.sum(axis=2) / losses.mean(axis=1).sum(axis=1)[:, None]  # (networks, N)
    shape = np.ones(bits.shape)
    average = np.log(own.mean(axis=0) + LEAST) * shape
    apart = np.log(isotonic(bits, own) + LEAST) - average
    scale = np.log(own.sum(axis=1) / own.mean(axis=0).sum() + LEAST)[:, None] * shape
    columns = [shape, average, apart, np.log(isotonic(bits, geometric) + LEAST) - average, scale]
    columns += [np.log(sums + LEAST).mean(axis=0)[:, None] * shape, np.log(told[ERROR] + LEAST)]
    return np.stack([*columns, scale * average, apart * average], axis=2)


def agreement(codec: str, label: str, raw: Table) -> list[dict[str, object]]:
    """Return how far two networks agree on which images are delicate: rank correlations of what an image loses in all.

    A loss counts in units of its quality's mean over images; the squared error stands beside the networks.
    """
    lost = {name: (raw.losses[name] / raw.losses[name].mean(axis=0)).mean(axis=1) for name in (*NAMES, ERROR)}
    return [
        {"codec": codec, "set": label, "images": len(raw.bits), "judge": one, "other": other,
         "rank_correlation": float(spearmanr(lost[one], lost[other]).statistic)}
        for one, other in combinations(lost, 2)
    ]  # fmt: skip


def report(rows: Sequence[dict[str, object]], codec: str, label: str) -> None:
    here = [row for row in rows if row["codec"] == codec and row["set"] == label and "form" in row]
    print(f"{codec}, {label}: {', '.join(NAMES)}")
    for form in dict.fromkeys(row["form"] for row in here):
        values = [row["percent"] for row in here if row["form"] == form]
        numbers = [value for value in values if isinstance(value, float)]
        told = " ".join("  none" if value is None else f"{value:6.1f}" for value in values)
        print(f"{form!s:90s} {told}   mean {np.mean(numbers):6.1f}", flush=True)


if __name__ == "__main__":
    main()
