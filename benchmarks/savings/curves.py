"""Curves from tables of measurements: the anchor, the controls, the chosen quality; and their BD-rates."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from store import Table

from precomp_sdk import LabelScorer, Scorer
from precomp_sdk.evaluation import TASK_LOSS, MeasuredCurve, MeasuredPoint, bd_rate, compare as compared

__all__ = [
    "Choice",
    "chosen",
    "chosen_by",
    "compare",
    "constant",
    "equal_bits",
    "equal_error",
    "isotonic",
    "join",
    "measured",
    "normalizers",
    "searched",
]

Array = NDArray[np.float64]
STEPS = np.arange(-7, 8)
FACTOR = 1.8
_NOTHING = np.zeros(2)  # evidence where only losses count: drawing mAP again for every replicate takes minutes


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One operating point: which column of the table each image takes. (N,) int."""

    label: str
    columns: tuple[NDArray[np.int64], ...]


def join(tables: Sequence[Table]) -> Table:
    """Put the columns of several ways to send the same images side by side: a chooser may take any of them."""
    first = tables[0]
    return Table(
        qualities=tuple(quality for table in tables for quality in table.qualities),
        bits=np.concatenate([table.bits for table in tables], axis=1),
        pixels=first.pixels,
        mse=np.concatenate([table.mse for table in tables], axis=1),
        losses={name: np.concatenate([table.losses[name] for table in tables], axis=1) for name in first.losses},
        evidence={
            name: [[item for table in tables for item in table.evidence[name][row]] for row in range(len(first.pixels))]
            for name in first.evidence
        },
        labelled={
            name: [[item for table in tables for item in table.labelled[name][row]] for row in range(len(first.pixels))]
            for name in first.labelled
        },
    )


def constant(table: Table, label: str = "constant") -> Choice:
    """Every image at one quality."""
    return Choice(label, tuple(np.full(len(table.bits), place) for place in range(table.bits.shape[1])))


def equal_bits(table: Table) -> Choice:
    """Control: every image at the column whose bits per pixel are nearest, by their logarithm, to a common target."""
    rates = np.log(table.bits / table.pixels[:, None])
    return Choice("equal bits", _nearest(rates))


def equal_error(table: Table) -> Choice:
    """Control: every image at the column whose mean squared error is nearest to a common target."""
    return Choice("equal error", _nearest(np.log(table.mse + 1e-8)))


def _nearest(values: Array) -> tuple[NDArray[np.int64], ...]:
    targets = np.sort(values.mean(axis=0))
    targets = np.unique(np.concatenate([targets, (targets[1:] + targets[:-1]) / 2]))
    return tuple(np.abs(values - target).argmin(axis=1) for target in targets)


def normalizers(table: Table, names: Sequence[str]) -> dict[str, float]:
    """Return what each judge loses behind the anchor, averaged over images and qualities: its unit in a panel."""
    return {name: float(table.losses[name].mean()) for name in names}


def chosen(
    table: Table,
    panel: Mapping[str, float],
    label: str = "chosen",
    *,
    trust: float = 1.0,
    level: float = 0.0,
    smooth: bool = False,
) -> Choice:
    """Every image at the column with the least bits + lambda * mean normalized loss of the panel.

    Args:
        table: what may be chosen from.
        panel: normalizer by judge.
        label: names the curve.
        trust: share of each image's own loss curve; the rest is the average image's.
        level: of that rest, the share that lies at the image's own level, as `precomp_sdk.QualityChooser` has it.
        smooth: make each image's loss monotone in its bits first (isotonic regression).
    """
    losses = np.mean([table.losses[name] / unit for name, unit in panel.items()], axis=0)
    if smooth:
        losses = isotonic(table.bits, losses)
    average = losses.mean(axis=0)
    scale = losses.sum(axis=1, keepdims=True) / average.sum()
    return chosen_by(table, trust * losses + (1 - trust) * average * (level * scale + 1 - level), label)


def chosen_by(table: Table, losses: Array, label: str = "chosen") -> Choice:
    """Every image at the column with the least bits + lambda * what is thought to be lost there, (N, C)."""
    rates = table.bits / table.pixels[:, None]
    spread = rates.mean(axis=0).max() - rates.mean(axis=0).min()
    centre = spread / max(losses.mean(axis=0).max() - losses.mean(axis=0).min(), 1e-9)
    lambdas = centre * FACTOR ** STEPS.astype(np.float64)
    picks = [(rates + value * losses).argmin(axis=1) for value in lambdas]
    cheapest, dearest = rates.mean(axis=0).argmin(), losses.mean(axis=0).argmin()
    ends = [np.full(len(rates), place) for place in (cheapest, dearest)]
    return Choice(label, (ends[0], *picks, ends[1]))


def searched(
    table: Table, panel: Mapping[str, float], label: str, *, encodes: int, trust: float = 1.0, level: float = 0.0
) -> tuple[Choice, float]:
    """Return what `precomp_sdk.QualityChooser` finds with a budget of encodes, and how many it took on average.

    The average image's curve says where to look first; moved and scaled to what was found, where next.
    """
    losses = np.mean([table.losses[name] / unit for name, unit in panel.items()], axis=0)
    rates = table.bits / table.pixels[:, None]
    mean_rates, mean_losses = rates.mean(axis=0), losses.mean(axis=0)
    centre = (mean_rates.max() - mean_rates.min()) / max(mean_losses.max() - mean_losses.min(), 1e-9)
    picks, spent = [], []
    for price in centre * FACTOR ** STEPS.astype(np.float64):
        columns = np.zeros(len(rates), dtype=np.int64)
        for row in range(len(rates)):
            tried: list[int] = []
            column = int((mean_rates + price * mean_losses).argmin())
            while len(tried) < encodes and column not in tried:
                tried.append(column)
                moved = np.exp(np.mean(np.log(rates[row, tried] / mean_rates[tried])))
                scaled = (losses[row, tried].sum() + 1e-9) / (mean_losses[tried].sum() + 1e-9)
                own_part = trust + (1 - trust) * level
                foretold = mean_losses * (own_part * scaled + 1 - own_part)
                column = int((mean_rates * moved + price * foretold).argmin())
            scaled = (losses[row, tried].sum() + 1e-9) / (mean_losses[tried].sum() + 1e-9)
            at_level = mean_losses[tried] * (level * scaled + 1 - level)
            shared = (
                trust * isotonic(rates[row : row + 1, tried], losses[row : row + 1, tried])[0] + (1 - trust) * at_level
            )
            columns[row] = tried[int((rates[row, tried] + price * shared).argmin())]
            spent.append(len(tried))
        picks.append(columns)
    ends = [np.full(len(rates), place) for place in (mean_rates.argmin(), mean_losses.argmin())]
    return Choice(label, (ends[0], *picks, ends[1])), float(np.mean(spent))


def isotonic(bits: Array, losses: Array) -> Array:
    """Return losses (N, C) that fall as an image's bits grow, the nearest by their squares."""
    from scipy.optimize import isotonic_regression

    result = np.empty_like(losses)
    for row in range(len(losses)):
        order = np.argsort(bits[row], kind="stable")
        result[row, order] = isotonic_regression(losses[row, order], increasing=False).x
    return result


def measured(
    table: Table, choice: Choice, judge: str, scorer: Scorer, *, labelled: bool = False, losses_alone: bool = False
) -> MeasuredCurve:
    """Return a choice's curve for a judge."""
    evidence = None if losses_alone else (table.labelled if labelled else table.evidence)[judge]
    scorer = LabelScorer() if losses_alone else scorer
    rows = np.arange(len(table.bits))
    points = tuple(
        MeasuredPoint(
            quality=float(place),
            bits=table.bits[rows, columns],
            losses=table.losses[judge][rows, columns],
            statistics=tuple(
                _NOTHING if evidence is None else evidence[row][column]
                for row, column in zip(rows, columns, strict=True)
            ),
        )
        for place, columns in enumerate(choice.columns)
    )
    return MeasuredCurve(choice.label, scorer, points, tuple(rows.tolist()), tuple(map(str, rows)), table.pixels)


def compare(
    anchor: tuple[Table, Choice], test: tuple[Table, Choice], judge: str, scorer: Scorer, metric: str = "",
    *, labelled: bool = False, replicates: int = 2000,
) -> dict[str, object]:  # fmt: skip
    """Return the BD-rate of a test to an anchor for a judge, with its interval, plain enough for JSON."""
    curves = [
        measured(table, choice, judge, scorer, labelled=labelled, losses_alone=not metric)
        for table, choice in (anchor, test)
    ]
    found = compared(curves[0], curves[1:], metrics=[metric or TASK_LOSS], replicates=replicates, seed=0)[0]
    record = asdict(found)
    interval = record.pop("interval")
    return {
        "percent": found.value_percent,
        "low": interval and interval["low_percent"],
        "high": interval and interval["high_percent"],
        "overlap": round(found.overlap, 3),
        "metric": found.metric,
        "reason": found.reason,
    }


def per_image(anchor: tuple[Table, Choice], test: tuple[Table, Choice], judge: str) -> dict[str, object]:
    """Return the mean of single images' BD-rates on the loss, and how many images have one."""
    from precomp_sdk import RateAccuracyCurve, RatePoint

    values = []
    for row in range(len(anchor[0].bits)):
        curves = []
        for table, choice in (anchor, test):
            columns = sorted({int(columns[row]) for columns in choice.columns})
            points = tuple(
                RatePoint(float(column), float(table.bits[row, column] / table.pixels[row]), {},
                          float(table.losses[judge][row, column]))
                for column in columns
            )  # fmt: skip
            curves.append(RateAccuracyCurve(choice.label, points))
        if min(len(curve.points) for curve in curves) >= 3:
            found = bd_rate(*curves, TASK_LOSS, min_overlap=0.5).value_percent
            if found is not None:
                values.append(np.log1p(found / 100))
    mean = float(np.expm1(np.mean(values)) * 100) if values else None
    return {"percent": mean, "images": len(values)}
