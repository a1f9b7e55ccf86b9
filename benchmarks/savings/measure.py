"""Measure one way to send a set: bits, and what every judge loses, into the store; the table as a pickle-free .npz.

    python benchmarks/savings/measure.py DATA --set cls-score --codec bpg --variant raw \
        --judges squeezenet lite0 mobilenetv2 --store runs/savings/store.sqlite

A stopped run goes on where it was. `docs/protocol.md` says what is measured and why.
"""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from judges import Classifier, Segmenter, load_judge
from labels import load_labels
from precomp_sdk import Codec, Registry, TaskModel
from sets import load_set
from store import Store, Table
from variants import make_sent

__all__ = ["CODECS", "measure", "open_store"]

#: codec: name, options, ladder from mild to strong
CODECS: dict[str, tuple[str, dict[str, object], tuple[float, ...]]] = {
    "jpeg": ("jpeg", {"optimize": True}, (50, 42, 34, 26, 20, 15, 12, 9, 7, 5)),
    "jpeg-plain": ("jpeg", {"optimize": False}, (50, 42, 34, 26, 20, 15, 12, 9, 7, 5)),
    "jpeg-progressive": ("jpeg", {"optimize": True, "progressive": True}, (50, 42, 34, 26, 20, 15, 12, 9, 7, 5)),
    "bpg": ("bpg", {}, (26, 29, 32, 34, 36, 38, 40, 42, 44)),
    "bpg-best": ("bpg", {"effort": "best"}, (26, 29, 32, 34, 36, 38, 40, 42, 44)),
    "webp": ("webp", {}, (70, 50, 35, 25, 15, 10, 5, 2, 0)),
    "avif": ("avif", {}, (60, 50, 42, 35, 28, 22, 16, 10, 5)),
}


def make_codec(name: str) -> tuple[Codec, tuple[float, ...]]:
    """Return a codec of the protocol and its ladder."""
    kind, options, ladder = CODECS[name]
    return Registry().create("codec", kind, **options), ladder


def open_store(file: Path, names: Sequence[str], data: Path) -> Store:
    """Return a store with judges; networks of one input size are frozen for speed, in 32 bits."""
    judges: dict[str, TaskModel] = {}
    for name in names:
        judge = load_judge(name, data)
        if isinstance(judge, Classifier | Segmenter):
            side = 513 if isinstance(judge, Segmenter) else judge.side_px or 216
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                traced = torch.jit.trace(judge.network, torch.rand(2, 3, side, side), check_trace=False)
                judge.network = torch.jit.freeze(traced.eval())
                if isinstance(judge, Classifier):
                    judge.network = torch.jit.optimize_for_inference(judge.network)
        judges[name] = judge
    return Store(file, judges)


def measure(
    store: Store, set_name: str, images: Sequence[Tensor], codec_name: str, variant: str, data: Path
) -> Table:
    """Measure one variant of a set behind a codec; everything known comes from the store."""
    codec, ladder = make_codec(codec_name)
    sent = make_sent(variant, codec, ladder, images, data)
    found = {name: load_labels(set_name, name, data) for name in store.judges}
    labels = {name: items for name, items in found.items() if items is not None}
    return store.measure(codec, ladder, images, sent, labels=labels, note=f"{set_name} {variant}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", required=True, nargs="+")
    parser.add_argument("--codec", required=True, nargs="+", choices=sorted(CODECS))
    parser.add_argument("--variant", default=["raw"], nargs="+")
    parser.add_argument("--judges", required=True, nargs="+")
    parser.add_argument("--store", type=Path, default=Path("runs/savings/store.sqlite"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    store = open_store(arguments.store, arguments.judges, arguments.data)
    for set_name in arguments.set:
        images = load_set(set_name, arguments.data)
        for codec in arguments.codec:
            for variant in arguments.variant:
                measure(store, set_name, images, codec, variant, arguments.data)
                print(f"{set_name} {codec} {variant}: {store.encodes} encodes, {store.judgements} judgements", flush=True)


if __name__ == "__main__":
    main()
