"""Measure one way to send a set: bits, and what every judge loses, into the store; the table beside it.

    python benchmarks/savings/measure.py DATA --set cls-score --codec bpg --variant raw \
        --judges squeezenet lite0 mobilenetv2 --store runs/savings/store

A stopped run goes on where it was. `docs/protocol.md` says what is measured and why.
"""

import argparse
import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from judge_kinds import Classifier, Detail, Segmenter, StreetSegmenter
from judges import load_judge
from labels import load_labels
from sets import load_set
from store import Store, Table
from torch import Tensor
from variants import make_sent

from precomp_sdk import Codec, Registry, TaskModel

__all__ = ["CODECS", "load_judges", "make_codec", "measure", "table_file"]

#: codec: name, options, ladder from mild to strong
CODECS: dict[str, tuple[str, dict[str, object], tuple[float, ...]]] = {
    "jpeg": ("jpeg", {"optimize": True}, (50, 34, 20, 12, 7, 5)),
    "jpeg-plain": ("jpeg", {"optimize": False}, (50, 34, 20, 12, 7, 5)),
    "jpeg-progressive": ("jpeg", {"optimize": True, "progressive": True}, (50, 34, 20, 12, 7, 5)),
    "jpeg-trellis": ("jpeg-trellis", {}, (50, 34, 20, 12, 7, 5)),
    "mozjpeg": ("mozjpeg", {}, (50, 34, 20, 12, 7, 5)),
    "jpegli": ("jpegli", {}, (66, 45, 28, 17, 9, 5)),
    "bpg": ("bpg", {}, (26, 29, 32, 36, 40, 44)),
    "bpg-best": ("bpg", {"effort": "best"}, (26, 29, 32, 36, 40, 44)),
    "webp": ("webp", {}, (70, 45, 25, 12, 4, 0)),
    "avif": ("avif", {}, (60, 47, 36, 26, 16, 8)),
}


def make_codec(name: str) -> tuple[Codec, tuple[float, ...]]:
    """Return a codec of the protocol and its ladder."""
    kind, options, ladder = CODECS[name]
    if kind == "jpeg-trellis":
        from trellis import TrellisJPEG  # here, because only this row needs pyvips

        return TrellisJPEG(), ladder
    return Registry().create("codec", kind, **options), ladder


def load_judges(names: Sequence[str], data: Path) -> dict[str, TaskModel]:
    """Return judges; networks of one input size are frozen for speed, in 32 bits."""
    judges: dict[str, TaskModel] = {}
    for name in names:
        judge = load_judge(name, data)
        if isinstance(judge, Classifier | Segmenter) and not isinstance(judge, Detail | StreetSegmenter):
            side = 513 if isinstance(judge, Segmenter) else judge.side_px or 216
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                traced = torch.jit.trace(judge.network, torch.rand(2, 3, side, side), check_trace=False)
                judge.network = torch.jit.freeze(traced.eval())
                if isinstance(judge, Classifier):
                    judge.network = torch.jit.optimize_for_inference(judge.network)
        judges[name] = judge
    return judges


def measure(
    folder: Path,
    judges: Mapping[str, TaskModel],
    set_name: str,
    images: Sequence[Tensor],
    codec_name: str,
    variant: str,
    data: Path,
) -> Table:
    """Measure one variant of a set behind a codec; everything known comes from the set's and codec's store."""
    codec, ladder = make_codec(codec_name)
    if variant.partition("-")[0] in ("blur", "chroma"):
        ladder = ladder[::2]
    sent = make_sent(variant, codec, ladder, images, data)
    found = {name: load_labels(set_name, name, data) for name in judges}
    labels = {name: items[: len(images)] for name, items in found.items() if items is not None}
    store = Store(folder / f"{set_name}-{codec_name}.sqlite", judges)
    table = store.measure(codec, ladder, images, sent, labels=labels, note=f"{set_name} {variant}")
    print(f"{set_name} {codec_name} {variant}: {store.encodes} encodes, {store.judgements} judgements", flush=True)
    kept = table_file(folder, set_name, codec_name, variant)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(pickle.dumps(table))
    return table


def table_file(folder: Path, set_name: str, codec_name: str, variant: str) -> Path:
    """Return where a finished table is kept, so that the figures need no network."""
    file, dot, factor = variant.rpartition(".safetensors")  # what follows is @ and a factor, or nothing
    prefix = "centred-" if variant.startswith("centred:") else ""
    label = f"{prefix}{Path(file).parent.name}{factor}" if dot else variant
    return folder / "tables" / f"{set_name}-{codec_name}-{label}.pickle"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", required=True, nargs="+")
    parser.add_argument("--codec", required=True, nargs="+", choices=sorted(CODECS))
    parser.add_argument("--variant", default=["raw"], nargs="+")
    parser.add_argument("--judges", required=True, nargs="+")
    parser.add_argument("--store", type=Path, default=Path("runs/savings/store"), help="folder")
    parser.add_argument("--images", type=int, help="the first so many of each set; default: all")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    judges = load_judges(arguments.judges, arguments.data)
    for set_name in arguments.set:
        images = load_set(set_name, arguments.data)[: arguments.images]
        for codec in arguments.codec:
            for variant in arguments.variant:
                measure(arguments.store, judges, set_name, images, codec, variant, arguments.data)


if __name__ == "__main__":
    main()
