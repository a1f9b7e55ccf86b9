"""What `general` chooses by: whose average curve, and how far it trusts its panel. On tuning images alone.

    python benchmarks/savings/tune_general.py DATA --codec jpeg --output RESULTS/tune_general_jpeg.json

Every quality of its ladder at every resolution is encoded once and judged by the sender's panel and by networks beside
it; then its search, as `precomp_sdk.QualityChooser` does it, runs over these tables. The curve is fitted on every
second tuning image (docs/protocol.md) and the choice judged on the others. A judge is left out of the networks that the
curve is fitted by, unless it is in the sender's own panel.
"""

import argparse
import itertools
import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from curves import Choice, compare, constant, join
from make_general import LADDERS, RESOLUTIONS
from measure import load_judges, make_codec
from scipy.optimize import isotonic_regression
from sets import load_set
from store import Store, Table
from torch import Tensor
from variants import make_sent

from precomp_sdk import LabelScorer
from precomp_sdk.chooser.curve import prices_of

PANEL = ("squeezenet", "nanodet")  # those that ship
JUDGES = {
    "cls-tune": (*PANEL, "lite2", "mobilenetv2"),
    "coco-tune": (*PANEL, "lite2", "fastestdet", "deeplab"),
    "camvid-tune": (*PANEL, "lite2", "streets"),
}
TRUSTS = (0.7, 0.4, 0.15, 0.05)
ENCODES = 3

Array = np.ndarray


def tables(data: Path, codec_name: str, set_name: str, network: str, folder: Path) -> Table:
    """Return the set at every resolution and quality, resolution by resolution."""
    kept = folder / f"tune-{set_name}-{codec_name}{'-network' if network else ''}.pickle"
    if kept.exists():
        found: Table = pickle.loads(kept.read_bytes())
        return found
    codec, ladder = make_codec(codec_name)[0], LADDERS[codec_name]
    images = load_set(set_name, data)
    whole = make_sent(network or "raw", codec, ladder, images, data)
    store = Store(folder / f"tune-{set_name}-{codec_name}.sqlite", load_judges(JUDGES[set_name], data))
    parts = []
    for factor in RESOLUTIONS:
        sent: list[list[Tensor]] = []
        for item in whole:
            versions = [item] * len(ladder) if isinstance(item, Tensor) else item
            distinct = {id(version): version for version in versions}
            smaller = {key: _smaller(version, factor, codec, data) for key, version in distinct.items()}
            sent.append([smaller[id(version)] for version in versions])
        parts.append(store.measure(codec, ladder, images, sent, note=f"{set_name} {factor}"))
    result = join(parts)
    kept.write_bytes(pickle.dumps(result))
    return result


def _smaller(image: Tensor, factor: float, codec: object, data: Path) -> Tensor:
    made = image if factor == 1.0 else make_sent(f"down-{factor}", codec, (), [image], data)[0]  # type: ignore[arg-type]
    assert isinstance(made, Tensor)
    return made


def curve_of(
    sets: Sequence[tuple[Table, Table]], units: dict[str, float], members: Sequence[str]
) -> tuple[Array, Array]:
    """Return mean bits per pixel and mean loss of every column, over the fitting halves of several sets."""
    rates = np.concatenate([(raw.bits / raw.pixels[:, None])[::2] for raw, _ in sets]).mean(axis=0)
    found = []
    for name in members:
        known = [raw.losses[name][::2] for raw, _ in sets if name in raw.losses]
        found.append(np.concatenate(known).mean(axis=0) / units[name])
    return rates, np.mean(found, axis=0)


def search(sent: Table, units: dict[str, float], rates: Array, losses: Array, trust: float, price: float) -> Array:
    """Return the column that `QualityChooser` takes for each image at a price."""
    bpp = sent.bits / sent.pixels[:, None]
    own = np.mean([sent.losses[name] / units[name] for name in PANEL], axis=0)
    picks = []
    for row in range(len(bpp)):
        tried: list[int] = []
        column = int((rates + price * losses).argmin())
        while len(tried) < ENCODES and column not in tried:
            tried.append(column)
            moved = np.exp(np.mean(np.log(bpp[row, tried] / rates[tried])))
            scaled = (own[row, tried].sum() + 1e-9) / (losses[tried].sum() + 1e-9)
            column = int((rates * moved + price * losses * (trust * scaled + 1 - trust)).argmin())
        mine = own[row, tried]
        order = np.argsort(bpp[row, tried], kind="stable")
        mine[order] = isotonic_regression(mine[order], increasing=False).x
        picks.append(tried[int((bpp[row, tried] + price * (trust * mine + (1 - trust) * losses[tried])).argmin())])
    return np.array(picks)


def half(table: Table) -> Table:
    """Return every second image, those that the curve was not fitted on."""
    return Table(
        table.qualities, table.bits[1::2], table.pixels[1::2], table.mse[1::2],
        {name: losses[1::2] for name, losses in table.losses.items()}, {}, {},
    )  # fmt: skip


def columns(table: Table, wanted: Sequence[int]) -> Table:
    """Return some columns of a table."""
    places = list(wanted)
    return Table(
        tuple(table.qualities[place] for place in places), table.bits[:, places], table.pixels, table.mse[:, places],
        {name: losses[:, places] for name, losses in table.losses.items()}, {}, {},
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--codec", default="jpeg", choices=sorted(LADDERS))
    parser.add_argument("--network", default="", help="weights of the preprocessor that ships for this codec")
    parser.add_argument("--store", type=Path, default=Path("runs/savings/store"), help="folder")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.store.mkdir(parents=True, exist_ok=True)
    known = {}
    for name in JUDGES:
        raw = tables(options.data, options.codec, name, "", options.store)
        sent = tables(options.data, options.codec, name, options.network, options.store) if options.network else raw
        known[name] = (raw, sent)
    sets, ladder = list(known.values()), LADDERS[options.codec]
    width = len(ladder)
    everybody = tuple(dict.fromkeys(itertools.chain(*JUDGES.values())))
    units = {
        name: float(np.concatenate([raw.losses[name][::2, :width] for raw, _ in sets if name in raw.losses]).mean())
        for name in everybody
    }
    found: dict[str, object] = {}
    for set_name, (raw, sent) in known.items():
        anchor = columns(half(raw), range(width))
        for judge in JUDGES[set_name]:
            free = constant(half(raw))
            told = compare((anchor, constant(anchor)), (half(raw), free), judge, LabelScorer(), replicates=200)
            found[f"{set_name}, {judge}, one pair for all"] = told
            print(f"{set_name:9s} {judge:12s} one pair for all, by itself {told['percent']:+.1f}", flush=True)
            for label, members in {
                "panel": PANEL,
                "all but the judge": [name for name in everybody if name != judge or name in PANEL],
            }.items():
                rates, losses = curve_of(sets, units, members)
                prices = prices_of(rates[:width], losses[:width])
                for trust in TRUSTS:
                    picks = [search(half(sent), units, rates, losses, trust, float(price)) for price in prices[1:]]
                    ends = np.full(len(anchor.bits), 0)
                    choice = Choice("chosen", (ends, *picks))
                    told = compare(
                        (anchor, constant(anchor)), (half(sent), choice), judge, LabelScorer(), replicates=200
                    )
                    found[f"{set_name}, {judge}, curve by {label}, trust {trust}"] = told
                    text = (
                        "none" if told["percent"] is None else f"{told['percent']:+.1f} [{told['low']}, {told['high']}]"
                    )
                    print(f"{set_name:9s} {judge:12s} {label:18s} {trust:4.2f} {text}", flush=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
