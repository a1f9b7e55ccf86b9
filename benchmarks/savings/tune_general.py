"""What `general` chooses by: whose average curve, and how far it trusts its panel. On tuning images alone.

    python benchmarks/savings/tune_general.py DATA --codec jpeg --output RESULTS/tune_general_jpeg.json

Every quality of its ladder at every resolution is encoded once and judged by the sender's panel and by networks beside
it; then its search, as `precomp_sdk.QualityChooser` does it, runs over these tables. The curve is fitted on every
second tuning photograph and scene (docs/protocol.md) and the choice judged on the others. A judge is left out of the
networks that the curve is fitted by, unless it is in the sender's own panel. Besides the panel, two are asked that know
no answer: early features of SqueezeNet, and the squared error. With ``--network``: the image as it is,
what the network makes of it, and either, whichever the panel prefers.
"""

import argparse
import itertools
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from curves import Choice, compare, constant, join
from make_general import LADDERS, RESOLUTIONS
from measure import load_judges, make_codec
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from sets import load_set
from store import Store, Table
from table import ERROR, rounded
from torch import Tensor
from variants import make_sent

from precomp_sdk import LabelScorer
from precomp_sdk.chooser.curve import prices_of

PANEL = ("squeezenet", "nanodet")  # those that ship
FITTED = ("cls-tune", "coco-tune")  # sets that the curve is fitted on
JUDGES = {
    "cls-tune": (*PANEL, "lite2", "mobilenetv2"),
    "coco-tune": (*PANEL, "lite2", "fastestdet", "deeplab"),
    "camvid-tune": (*PANEL, "lite2", "streets"),
}
EARLY = "detail"  # early features: asked instead of the panel, and never a judge
ASKED_INSTEAD = {"early features": (EARLY,), ERROR: (ERROR,)}
Form = tuple[float, float]  # trust and level, as `QualityChooser` has them
FORMS: tuple[Form, ...] = ((0.7, 0.0), (0.4, 0.0), (0.15, 0.0), (0.5, 0.6), (0.3, 0.7), (0.2, 0.5))
FORM: Form = (0.5, 0.6)
ENCODES = 3

Array = NDArray[np.float64]


def tables(data: Path, codec_name: str, set_name: str, network: str, folder: Path, count: int | None = None) -> Table:
    """Return the set at every resolution and quality, resolution by resolution."""
    kept = folder / f"tune-{set_name}-{codec_name}{'-network' if network else ''}.pickle"
    if kept.exists():
        found: Table = pickle.loads(kept.read_bytes())
        return found
    codec, ladder = make_codec(codec_name)[0], LADDERS[codec_name]
    images = load_set(set_name, data)[:count]
    whole = make_sent(network or "raw", codec, ladder, images, data)
    store = Store(folder / f"tune-{set_name}-{codec_name}.sqlite", load_judges((*JUDGES[set_name], EARLY), data))
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


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One way to send, at every resolution and quality: what the images cost, and the average image.

    Shapes: bpp and own (N, C), rates and losses (C,); own and losses in units of the panel.
    """

    table: Table
    bpp: Array
    own: Array
    rates: Array
    losses: Array


def way(known: Mapping[str, Table], set_name: str, units: Mapping[str, float], members: Sequence[str],
        asked: Sequence[str] = PANEL) -> Way:  # fmt: skip
    """Return a way: the average image over the fitting halves by some, what those asked lose on the other halves."""
    fitted = [known[name] for name in FITTED]
    rates = np.concatenate([(table.bits / table.pixels[:, None])[::2] for table in fitted]).mean(axis=0)
    losses = []
    for name in members:
        told = [table.losses[name][::2] for table in fitted if name in table.losses]
        losses.append(np.concatenate(told).mean(axis=0) / units[name])
    table = half(known[set_name])
    own = np.mean([table.losses[name] / units[name] for name in asked], axis=0)
    return Way(table, table.bits / table.pixels[:, None], own, rates, np.mean(losses, axis=0))


def tried_by(it: Way, row: int, form: Form, price: float) -> list[int]:
    """Return the columns that a search tries for an image, as `QualityChooser` does it."""
    tried: list[int] = []
    column = int((it.rates + price * it.losses).argmin())
    while len(tried) < ENCODES and column not in tried:
        tried.append(column)
        moved = np.exp(np.mean(np.log(it.bpp[row, tried] / it.rates[tried])))
        own_part = form[0] + (1 - form[0]) * form[1]
        column = int(
            (it.rates * moved + price * it.losses * (own_part * level_of(it, row, tried) + 1 - own_part)).argmin()
        )
    return tried


def level_of(it: Way, row: int, tried: Sequence[int]) -> float:
    """Return how much more an image loses than the average one, over what was tried."""
    return float((it.own[row, tried].sum() + 1e-9) / (it.losses[tried].sum() + 1e-9))


def chosen_by(ways: Sequence[Way], form: Form, price: float) -> NDArray[np.int64]:
    """Return what is chosen for each image, as a column of the ways side by side."""
    picks = []
    for row in range(len(ways[0].bpp)):
        best: tuple[float, int] = (np.inf, 0)
        for place, it in enumerate(ways):
            tried = tried_by(it, row, form, price)
            mine = it.own[row, tried]
            order = np.argsort(it.bpp[row, tried], kind="stable")
            mine[order] = isotonic_regression(mine[order], increasing=False).x
            at_level = it.losses[tried] * (form[1] * level_of(it, row, tried) + 1 - form[1])
            objectives = it.bpp[row, tried] + price * (form[0] * mine + (1 - form[0]) * at_level)
            least = int(objectives.argmin())
            best = min(best, (float(objectives[least]), place * len(it.rates) + tried[least]))
        picks.append(best[1])
    return np.array(picks)


def half(table: Table) -> Table:
    """Return every second image, those that the curve was not fitted on."""
    return Table(
        table.qualities, table.bits[1::2], table.pixels[1::2], table.mse[1::2],
        {name: losses[1::2] for name, losses in table.losses.items()}, {}, {},
    )  # fmt: skip


def columns(table: Table, width: int) -> Table:
    """Return the first columns of a table: full size."""
    return Table(
        table.qualities[:width], table.bits[:, :width], table.pixels, table.mse[:, :width],
        {name: losses[:, :width] for name, losses in table.losses.items()}, {}, {},
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--codec", default="jpeg", choices=sorted(LADDERS))
    parser.add_argument("--network", default="", help="weights of the preprocessor that ships for this codec")
    parser.add_argument("--images", type=int, nargs="+", default=[None] * len(JUDGES), help="of each set; default: all")
    parser.add_argument("--store", type=Path, default=Path("runs/savings/store"), help="folder")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.store.mkdir(parents=True, exist_ok=True)
    raw, sent = (
        {
            name: tables(options.data, options.codec, name, network, options.store, count)
            for name, count in zip(JUDGES, options.images, strict=True)
        }
        for network in ("", options.network)
    )
    width = len(LADDERS[options.codec])
    for table in (*raw.values(), *sent.values()):
        table.losses[ERROR] = table.mse
    everybody = tuple(dict.fromkeys([*itertools.chain(*JUDGES.values()), EARLY, ERROR]))
    fitting = tuple(dict.fromkeys(itertools.chain(*(JUDGES[name] for name in FITTED))))
    units = {}
    for name in everybody:
        told = [table.losses[name][::2, :width] for table in raw.values() if name in table.losses]
        units[name] = float(np.concatenate(told).mean())
    found: list[dict[str, object]] = []
    for set_name, judges in JUDGES.items():
        whole = half(raw[set_name])
        anchor = columns(whole, width)

        def tell(judge: str, method: str, table: Table, choice: Choice, /, set_name: str = set_name,
                 anchor: Table = anchor) -> None:  # fmt: skip
            told = compare((anchor, constant(anchor)), (table, choice), judge, LabelScorer(), replicates=500)
            found.append({"set": set_name, "images": len(anchor.bits), "judge": judge, "method": method, **told})
            print(set_name, judge, method, told["percent"], told["low"], told["high"], flush=True)

        def choose(ways: Sequence[Way], form: Form, anchor: Table = anchor) -> Choice:
            full = ways[0]
            prices = prices_of(full.rates[:width], full.losses[:width])
            picks = [chosen_by(ways, form, float(price)) for price in prices[1:]]
            return Choice("chosen", (np.zeros(len(anchor.bits), dtype=np.int64), *picks))

        for judge in judges:
            tell(judge, "one pair for all, the judge's own best", whole, constant(whole))
            for label, members in {
                "the panel": PANEL,
                "the panel and Lite2": (*PANEL, "lite2"),
                "all but the judge": [name for name in fitting if name != judge or name in PANEL],
            }.items():
                alone = way(raw, set_name, units, members)
                for form in FORMS:
                    told = f"curve by {label}, trust {form[0]:g}, level {form[1]:g}"
                    tell(judge, told, whole, choose([alone], form))
                for kind, asked in ASKED_INSTEAD.items():
                    other = way(raw, set_name, units, members, asked)
                    tell(judge, f"curve by {label}, {kind} asked", whole, choose([other], FORM))
                if options.network:
                    after = way(sent, set_name, units, members)
                    tell(judge, f"curve by {label}, either", join([whole, half(sent[set_name])]),
                         choose([alone, after], FORM))  # fmt: skip
                    as_shipped = replace(after, rates=alone.rates, losses=alone.losses)
                    for form in (FORMS[0], FORM):
                        told = f"curve by {label}, after the network, trust {form[0]:g}, level {form[1]:g}"
                        tell(judge, told, after.table, choose([as_shipped], form))
    lines = ",\n".join(json.dumps(rounded(row)) for row in found)
    options.output.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
