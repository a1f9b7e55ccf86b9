"""The leave-one-out tables: every method, codec and judge, from finished measurements.

    python benchmarks/savings/table.py --store runs/savings/store --output benchmarks/results/savings/leave_one_out.json
    python benchmarks/savings/table.py --networks smooth_{codec}_0=squeezenet,mobilenetv2,fastestdet ...

``--networks`` names trained preprocessors by their weights' folder, each with the judges that trained it; ``{codec}``
stands for the codec of the row.

Nothing is encoded or judged here. A judge stands in no panel whose row it is a witness of; rows of the loop say so.
"""

import argparse
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from curves import (
    Choice,
    chosen,
    compare,
    constant,
    equal_bits,
    equal_error,
    join,
    measured,
    normalizers,
    per_image,
    searched,
)  # fmt: skip
from store import Table

from precomp_sdk import BoxScorer, LabelScorer, MaskScorer, Scorer

#: by codec, trust and level as `QualityChooser` has them, chosen on tuning images (tune_chooser.json)
FORMS = {"jpeg": (0.2, 0.5), "bpg": (0.7, 0.0), "webp": (0.7, 0.0), "avif": (0.7, 0.0)}
ALONE = {"trust": 1.0, "level": 0.0, "smooth": False}  # the panel rules
SCORERS: dict[str, tuple[Scorer, str]] = {
    **{name: (LabelScorer(), "top1") for name in ("squeezenet", "lite0", "lite1", "mobilenetv2")},
    **{name: (BoxScorer(80), "mAP") for name in ("nanodet", "fastestdet")},
    "deeplab": (MaskScorer(21), "mIoU"),
    "cityscapes": (MaskScorer(19), "mIoU"),
    "streets": (MaskScorer(11), "mIoU"),
}
CELLS: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "classification": ("cls-score", {
        "lite0": ("squeezenet", "mobilenetv2"),
        "lite1": ("squeezenet", "mobilenetv2"),
        "mobilenetv2": ("squeezenet", "lite0"),
        "squeezenet": ("lite0", "mobilenetv2"),
    }),
    "detection": ("coco-score", {
        "nanodet": ("fastestdet", "deeplab", "squeezenet"),
        "fastestdet": ("nanodet", "deeplab", "squeezenet"),
    }),
    "segmentation": ("coco-score", {"deeplab": ("nanodet", "fastestdet", "squeezenet")}),
    "segmentation of streets": ("camvid-score", {"cityscapes": ("nanodet", "fastestdet", "squeezenet")}),
    "streets, by a segmenter fitted here": ("camvid-score", {"streets": ("nanodet", "fastestdet", "squeezenet")}),
    "streets, a segmenter in the panel": ("camvid-score", {"cityscapes": ("streets", "fastestdet", "squeezenet")}),
}  # fmt: skip
FULL = {
    "control: equal bits",
    "chosen",
    "chosen, in the loop",
    "chosen with resolution",
    "all, in the loop",
    "chosen with boxes",
    "chosen with all",
}  #: methods with the columns beside the loss
#: other encoders of the same format, by what they are measured against
ENCODERS = {"jpeg": ("jpeg-plain", "jpeg-progressive", "jpeg-trellis", "mozjpeg", "jpegli"), "bpg": ("bpg-best",)}
ERROR = "squared error"  #: stands in a chooser's panel as a control: what it loses knows no network
SCORED_BEFORE = {"cls-score": 120, "coco-score": 64}  #: images that rounds before the sixth scored, the first ones
FACTORS = ("0.7", "0.5")  #: of height and width
FINER = ("0.85", "0.6", "0.5")  #: measured for judges that choose alone
VARIANTS = (
    "chroma-3",
    "blur-0.6",
    "blur-1.0",
    "blur-2.0",
    *(f"down-{factor}" for factor in FACTORS),
    "around-nanodet",
    "around-fastestdet",
)


def load(
    folder: Path, set_name: str, codec: str, variant: str, beside: Table | None = None, judges: Sequence[str] = ()
) -> Table | None:
    """Return a finished table; None where there is none with these judges, or not of as many images as ``beside``."""
    file = folder / "tables" / f"{set_name}-{codec}-{variant}.pickle"
    found: Table | None = pickle.loads(file.read_bytes()) if file.exists() else None
    if found is not None and beside is not None and len(found.bits) != len(beside.bits):
        print(f"left out: {file.name}, of {len(found.bits)} images instead of {len(beside.bits)}")
        return None
    if found is None or not set(judges) <= set(found.losses):
        return None
    found.losses[ERROR] = found.mse
    return found


def new_alone(store: Path, folder: Path) -> Path:
    """Return a store of the finished tables without the images that earlier rounds scored."""
    (folder / "tables").mkdir()
    for file in (store / "tables").glob("*.pickle"):
        count = next((count for name, count in SCORED_BEFORE.items() if file.name.startswith(f"{name}-")), 0)
        table: Table = pickle.loads(file.read_bytes())
        rest = Table(
            table.qualities, table.bits[count:], table.pixels[count:], table.mse[count:],
            {name: rows[count:] for name, rows in table.losses.items()},
            {name: rows[count:] for name, rows in table.evidence.items()},
            {name: rows[count:] for name, rows in table.labelled.items()},
        )  # fmt: skip
        (folder / "tables" / file.name).write_bytes(pickle.dumps(rest))
    return folder


def trained(told: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the judges that trained each network, from ``FOLDER=JUDGE,JUDGE``."""
    parts = (item.partition("=") for item in told)
    return {name: tuple(judges.split(",")) for name, _, judges in parts}


def methods(folder: Path, set_name: str, codec: str, networks: Mapping[str, tuple[str, ...]], raw: Table, judge: str,
            panel: tuple[str, ...], units: Mapping[str, float]) -> dict[str, tuple[Table, Choice, bool]]:  # fmt: skip
    """Return table and choice of every method, and whether the judge is outside it."""
    trust, level = FORMS[codec]

    def pick(table: Table, names: tuple[str, ...] = panel, **other: object) -> Choice:
        form = {"trust": trust, "level": level, "smooth": True, **other}
        return chosen(table, {name: units[name] for name in names}, **form)  # type: ignore[arg-type]

    def search(encodes: int) -> Choice:
        members = {name: units[name] for name in panel}
        return searched(raw, members, "searched", encodes=encodes, trust=trust, level=level)[0]

    found: dict[str, tuple[Table, Choice, bool]] = {
        "control: equal bits": (raw, equal_bits(raw), True),
        "control: equal error": (raw, equal_error(raw), True),
        "chosen": (raw, pick(raw), True),
        "chosen, searched with 2 encodes": (raw, search(2), True),
        "chosen, searched with 3 encodes": (raw, search(3), True),
        "chosen, trust 1": (raw, pick(raw, **ALONE), True),
        "chosen, oracle: by the judge itself": (raw, pick(raw, (judge,), **ALONE), False),
        "chosen, in the loop": (raw, pick(raw, (*panel, judge), **ALONE), False),
    }
    for name in ENCODERS.get(codec, ()):
        other = load(folder, set_name, name, "raw", raw, [judge])
        if other is not None:
            found[f"encoder: {name}"] = (other, constant(other), True)
    needed = [*panel, judge]
    tables = {variant: load(folder, set_name, codec, variant, raw, needed) for variant in VARIANTS}
    extras = {variant: table for variant, table in tables.items() if table is not None}
    for variant, table in extras.items():
        if judge not in variant:
            found[f"constant: {variant}"] = (table, constant(table), True)
    blurs = [table for variant, table in extras.items() if variant.startswith("blur")]
    downs = [table for variant, table in extras.items() if variant.startswith("down")]
    boxes = [table for variant, table in extras.items() if variant.startswith("around") and judge not in variant]
    blurs += [table for variant, table in extras.items() if variant.startswith("chroma")]
    groups = {"blur": blurs, "resolution": downs, "boxes": boxes, "all": blurs + boxes + downs}
    for label, tables in groups.items():
        if tables:
            wide = join([raw, *tables])
            found[f"control: one {label} for all"] = (wide, constant(wide), True)
            found[f"chosen with {label}"] = (wide, pick(wide), True)
            found[f"control: one {label} for all, by the panel"] = (wide, pick(wide, trust=0.0, level=0.0), True)
            found[f"control: chosen with {label}, by squared error"] = (wide, pick(wide, (ERROR,)), True)
    wide = join([raw, *blurs, *boxes, *downs])
    found["all, in the loop"] = (wide, pick(wide, (*panel, judge), **ALONE), False)
    found["all, by the judge alone"] = (wide, pick(wide, (judge,), **ALONE), False)
    finer = finely(folder, set_name, codec, [f"down-{factor}" for factor in FINER], wide, judge)
    if finer is not None:
        found["all and finer, by the judge alone"] = (finer, pick(finer, (judge,), **ALONE), False)
    for network, inside in networks.items():
        name = network.format(codec=codec)
        ours = load(folder, set_name, codec, name, raw, needed)
        if ours is None:
            continue
        outside = judge not in inside
        found[network] = (ours, constant(ours), outside)
        found[f"{network}, equal bits"] = (ours, equal_bits(ours), outside)
        centred = load(folder, set_name, codec, f"centred-{name}", raw, [judge])
        if centred is not None:
            found[f"{network}, by a centre prior"] = (centred, constant(centred), True)
        found[f"{network}, chosen"] = (ours, pick(ours), outside)
        found[f"{network}, in the loop"] = (ours, pick(ours, (*panel, judge), **ALONE), False)
        sizes = [load(folder, set_name, codec, f"{name}@{factor}", raw, needed) for factor in FACTORS]
        reduced = [table for table in sizes if table is not None]
        if reduced:
            sized = join([ours, *reduced])
            found[f"{network}, one resolution for all"] = (sized, constant(sized), outside)
            found[f"{network}, chosen with resolution"] = (sized, pick(sized), outside)
            found[f"control: {network}, chosen with resolution, by squared error"] = (
                sized,
                pick(sized, (ERROR,)),
                True,
            )
        wide = join([raw, ours, *blurs, *downs, *boxes, *reduced])
        found[f"{network} or not, chosen with all"] = (wide, pick(wide), outside)
        found[f"{network}, all, in the loop"] = (wide, pick(wide, (*panel, judge), **ALONE), False)
        found[f"{network}, all, by the judge alone"] = (wide, pick(wide, (judge,), **ALONE), False)
        variants = [f"{stem}{factor}" for factor in FINER for stem in ("down-", f"{name}@")]
        finer = finely(folder, set_name, codec, variants, wide, judge)
        if finer is not None:
            label = f"{network}, all and finer, by the judge alone"
            found[label] = (finer, pick(finer, (judge,), **ALONE), False)
    names = [network.format(codec=codec) for network in networks]
    every = [f"down-{factor}" for factor in FINER]
    every += [f"{name}{size}" for name in names for size in ("", *(f"@{factor}" for factor in (*FACTORS, *FINER)))]
    if len(names) > 1:
        wide = join([raw, *downs])
        finer = finely(folder, set_name, codec, list(dict.fromkeys(every)), wide, judge)
        if finer is not None:
            label = "every network, all and finer, by the judge alone"
            found[label] = (finer, pick(finer, (judge,), **ALONE), False)
    return found


def finely(folder: Path, set_name: str, codec: str, variants: Sequence[str], wide: Table, judge: str) -> Table | None:
    """Return what may be chosen from with further resolutions beside it, judged by one alone; None without any."""
    found = [load(folder, set_name, codec, variant, wide, [judge]) for variant in variants]
    further = [table for table in found if table is not None]
    return join([_judged_by(table, judge) for table in (wide, *further)]) if further else None


def _judged_by(table: Table, judge: str) -> Table:
    return replace(
        table,
        losses={judge: table.losses[judge]},
        evidence={judge: table.evidence[judge]},
        labelled={judge: table.labelled[judge]} if judge in table.labelled else {},
    )


def to_the_eye(table: Table, choice: Choice) -> list[tuple[float, float]]:
    """Return mean bits per pixel and PSNR in dB, against the source, of every operating point."""
    rows = np.arange(len(table.bits))
    return [
        (
            float((table.bits[rows, columns] / table.pixels).mean()),
            float(-10 * np.log10(table.mse[rows, columns] + 1e-8).mean()),
        )
        for columns in choice.columns
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("runs/savings/store"))
    parser.add_argument("--networks", nargs="+", default=[], help="FOLDER=JUDGE,JUDGE of trained preprocessors")
    parser.add_argument("--methods", nargs="+", help="only those whose label holds one of these")
    parser.add_argument("--codecs", nargs="+", default=["jpeg", "bpg"])
    parser.add_argument("--replicates", type=int, default=300, help="for the scores beside the loss")
    parser.add_argument("--cells", nargs="+", default=list(CELLS))
    parser.add_argument("--new-alone", action="store_true", help="leave out the images that earlier rounds scored")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    if not arguments.new_alone:
        write(arguments, arguments.store)
        return
    with TemporaryDirectory() as folder:
        write(arguments, new_alone(arguments.store, Path(folder)))


def write(arguments: argparse.Namespace, store: Path) -> None:
    """Write the rows of a store's tables."""
    networks = trained(arguments.networks)
    rows: list[dict[str, object]] = []
    for cell in arguments.cells:
        set_name, judges = CELLS[cell]
        for codec in arguments.codecs:
            raw = load(store, set_name, codec, "raw")
            if raw is None:
                continue
            units = normalizers(raw, tuple(raw.losses))
            for judge, panel in judges.items():
                if judge not in raw.losses:
                    continue
                scorer, metric = SCORERS[judge]
                anchor = (raw, constant(raw, "anchor"))
                sizes = [load(store, set_name, codec, f"down-{factor}", raw, [judge]) for factor in FACTORS]
                downs = [table for table in sizes if table is not None]
                members = tuple(name for name in panel if name in raw.losses)
                everything = methods(store, set_name, codec, networks, raw, judge, members, units)
                for label, (table, choice, outside) in everything.items():
                    if arguments.methods and not any(part in label for part in arguments.methods):
                        continue
                    row: dict[str, object] = {
                        "cell": cell, "codec": codec, "judge": judge, "outside": outside, "method": label,
                        "panel": members, "images": len(raw.bits),
                        "loss": compare(anchor, (table, choice), judge, scorer),
                    }  # fmt: skip
                    full = label in FULL or any(label.startswith(known) for known in networks)
                    if full:
                        if arguments.replicates:
                            row["own"] = compare(
                                anchor, (table, choice), judge, scorer, metric, replicates=arguments.replicates
                            )
                        if not label.startswith("control"):
                            row["against_equal_bits"] = compare((raw, equal_bits(raw)), (table, choice), judge, scorer)
                        if table is not raw and "in the loop" not in label:
                            row["against_one_for_all"] = compare(
                                (table, constant(table)), (table, choice), judge, scorer
                            )
                        by_panel = everything.get(
                            label.replace("chosen with", "control: one") + " for all, by the panel"
                        )
                        if by_panel is not None:
                            row["against_one_by_the_panel"] = compare(by_panel[:2], (table, choice), judge, scorer)
                        by_error = everything.get(f"control: {label}, by squared error")
                        if by_error is not None:
                            row["against_chosen_by_error"] = compare(by_error[:2], (table, choice), judge, scorer)
                        trellis = load(store, set_name, "jpeg-trellis", "raw", raw, [judge])
                        if codec == "jpeg" and trellis is not None:
                            strongest = (trellis, constant(trellis))
                            row["against_trellis"] = compare(strongest, (table, choice), judge, scorer)
                        if downs:
                            free = join([raw, *downs])
                            row["against_resolution"] = compare((free, constant(free)), (table, choice), judge, scorer)
                        name = label.partition(",")[0].removesuffix(" or not").format(codec=codec)
                        centred = load(store, set_name, codec, f"centred-{name}", raw, [judge])
                        if centred is not None:
                            control = (centred, constant(centred))
                            row["against_centre_prior"] = compare(control, (table, choice), judge, scorer)
                        row["per_image"] = per_image(anchor, (table, choice), judge)
                        row["bpp_and_psnr_db"] = to_the_eye(table, choice)
                    if full and arguments.replicates and judge in raw.labelled and judge in table.labelled:
                        row["labels"] = compare(
                            anchor,
                            (table, choice),
                            judge,
                            scorer,
                            metric,
                            labelled=True,
                            replicates=arguments.replicates,
                        )
                    clean = measured(raw, anchor[1], judge, scorer).curve().points[-1]
                    mild = measured(table, choice, judge, scorer).curve().points[-1]
                    row["mildest"] = {"anchor": clean.task_loss, "ours": mild.task_loss,
                                      "anchor_own": clean.scores[metric], "ours_own": mild.scores[metric]}  # fmt: skip
                    rows.append(row)
                    line = " ".join(
                        f"{key} {_told(row[key])}"
                        for key in (
                            "loss",
                            "own",
                            "labels",
                            "against_equal_bits",
                            "against_one_for_all",
                            "against_one_by_the_panel",
                            "against_chosen_by_error",
                        )
                        if key in row
                    )
                    mark = "outside" if outside else "IN LOOP"
                    print(f"{cell:14s} {codec:5s} {judge:12s} {mark} {label:36s} {line}", flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(rounded(row)) for row in rows)
    arguments.output.write_text(f"[\n{lines}\n]\n")


def rounded(value: object) -> object:
    """Return it with numbers of four decimals, as a table needs them."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items() if item is not None}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _told(found: object) -> str:
    assert isinstance(found, dict)
    value = found["percent"]
    if value is None:
        return "   none"
    ends = "?" if found["low"] is None or found["high"] is None else f"{found['low']:+.0f},{found['high']:+.0f}"
    return f"{value:+6.1f} [{ends}] o{found['overlap']:.2f}"


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
