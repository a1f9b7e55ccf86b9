"""Choose the chooser's form on the tuning images: how far it trusts single images, and how wide its panel is.

python benchmarks/savings/tune_chooser.py DATA --store runs/savings/store.sqlite --output FILE.json
"""

import argparse
import json
from itertools import combinations
from pathlib import Path

from curves import chosen, compare, constant, equal_bits, equal_error, normalizers
from judges import load_judge
from measure import measure
from sets import load_set
from store import Store

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", type=Path)
parser.add_argument("--store", type=Path, default=Path("runs/savings/store.sqlite"))
parser.add_argument("--output", type=Path, required=True)
arguments = parser.parse_args()
NAMES = ("squeezenet", "lite0", "mobilenetv2", "nanodet")
store = Store(arguments.store, {name: load_judge(name, arguments.data) for name in NAMES})
images = load_set("cls-tune", arguments.data)
rows = []
for codec in ("jpeg", "bpg"):
    table = measure(store, "cls-tune", images, codec, "raw", arguments.data)
    anchor = (table, constant(table, "anchor"))
    units = normalizers(table, NAMES)
    for witness in NAMES[:3]:
        scorer = store.judges[witness].scorer
        trials = {"equal bits": equal_bits(table), "equal error": equal_error(table)}
        others = [name for name in NAMES if name != witness]
        for size in (1, 2, 3):
            for members in combinations(others, size):
                panel = {name: units[name] for name in members}
                for shrink in (0.0, 0.3, 0.6):
                    for smooth in (False, True):
                        label = f"{'+'.join(members)} shrink {shrink} {'isotonic' if smooth else 'raw'}"
                        trials[label] = chosen(table, panel, label, shrink=shrink, smooth=smooth)
        for label, choice in trials.items():
            found = compare(anchor, (table, choice), witness, scorer, replicates=200)
            rows.append({"codec": codec, "witness": witness, "form": label, **found})
arguments.output.parent.mkdir(parents=True, exist_ok=True)
arguments.output.write_text(json.dumps(rows, indent=1))
assert store.encodes == 0
for codec in ("jpeg", "bpg"):
    for form in dict.fromkeys(row["form"] for row in rows):
        values = [row for row in rows if row["codec"] == codec and row["form"] == form]
        told = "  ".join(f"{row['witness']} {row['percent']:+.1f}" for row in values if row["percent"] is not None)
        print(f"{codec:5s} {form:50s} {told}")
