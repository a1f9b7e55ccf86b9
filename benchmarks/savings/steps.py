"""What trainings gain against steps: in the loop, and for the network outside that chooses the checkpoint.

    python benchmarks/savings/steps.py --log "panel of three=runs/savings/free_bpg_0.jsonl" \
        --output benchmarks/results/savings/training_free.json --figure docs/results/steps.png

Reads the logs of train.py; `--known` adds trainings from a file that this script wrote before. 1 is the codec alone.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot  # the backend comes first

SIDES = (("relative/mean", "in the loop: the panel's own objective"), ("select/mean", "outside: EfficientNet-Lite2's"))
Points = list[dict[str, float]]


def points_of(log: Path) -> Points:
    """Return what was measured on held-out images, by step."""
    events = [json.loads(line) for line in log.read_text().splitlines()]
    return [
        {"step": event["step"], **_rounded(event["scalars"])}
        for event in events
        if event["event"] == "StepDone" and "relative/mean" in event["scalars"]
    ]


def _rounded(scalars: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in scalars.items() if key.startswith(("relative/", "select/mean"))}


def draw(trainings: dict[str, Points], file: Path) -> None:
    """Draw what the panel and the network outside say, side by side."""
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.8), constrained_layout=True, sharey=True)
    for axis, (key, title) in zip(axes, SIDES, strict=True):
        for place, (label, points) in enumerate(trainings.items()):
            told = [(point["step"], point[key]) for point in points if key in point]
            if told:
                axis.plot(*zip(*told, strict=True), marker="o", markersize=4, color=f"C{place}", label=label)
        axis.axhline(1, color="0.4", linewidth=1, linestyle=":")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("steps")
        axis.grid(visible=True, alpha=0.2)
    axes[0].set_ylabel("bits + lambda x loss, over the codec's own")
    axes[0].legend(fontsize=8, frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def labelled(told: Sequence[str]) -> dict[str, Path]:
    """Return files by label, from ``LABEL=FILE``."""
    parts = (item.rpartition("=") for item in told)
    return {label: Path(file) for label, _, file in parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", nargs="+", default=[], help="LABEL=FILE.jsonl of trainings")
    parser.add_argument("--known", type=Path, help="trainings that this script wrote")
    parser.add_argument("--shown", nargs="+", help="labels in the figure; default: all")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Points] = json.loads(arguments.known.read_text()) if arguments.known else {}
    found |= {label: points_of(file) for label, file in labelled(arguments.log).items()}
    rows = [
        f" {json.dumps(label)}: [\n  " + ",\n  ".join(map(json.dumps, points)) + "\n ]"
        for label, points in found.items()
    ]
    arguments.output.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    if arguments.figure:
        draw({label: found[label] for label in arguments.shown or found}, arguments.figure)


if __name__ == "__main__":
    main()
