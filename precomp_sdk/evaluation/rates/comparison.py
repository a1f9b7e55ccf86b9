"""Curves compared with their anchor: BD-rates with intervals."""

from collections.abc import Sequence
from dataclasses import replace

from precomp_sdk.evaluation.rates.bjontegaard import TASK_LOSS, BDRate, bd_rate
from precomp_sdk.evaluation.rates.bootstrap import bootstrap_interval, resample
from precomp_sdk.evaluation.statistics import MeasuredCurve

__all__ = ["compare"]


def compare(
    anchor: MeasuredCurve,
    tests: Sequence[MeasuredCurve],
    *,
    metrics: Sequence[str] | None = None,
    replicates: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    min_overlap: float = 0.25,
) -> tuple[BDRate, ...]:
    """Compare curves over the same images with their anchor: `bd_rate`, with a confidence interval over images.

    The images of each curve are drawn again once, with the same draws for all of them and for all metrics. A
    comparison without a value has no interval either, and so has one over too few images.

    Args:
        anchor: the curve to compare with.
        tests: the curves to compare.
        metrics: of the scorer, or `TASK_LOSS`; None takes all the scorer's and then `TASK_LOSS`.
        replicates: how often the images are drawn; 0 for no intervals.
        seed: of the drawing.
        level: of the intervals.
        min_overlap: as for `bd_rate`.

    Returns:
        One for each test and metric, in this order.

    Raises:
        CurveError: the curves cannot be compared.
        OptionError: ``replicates``, ``level`` or ``min_overlap`` is out of range.
    """
    names = (*anchor.scorer.metrics, TASK_LOSS) if metrics is None else tuple(metrics)
    anchor_curve = anchor.curve()
    anchor_drawn = resample(anchor, replicates=replicates, seed=seed) if replicates and tests else None
    compared: list[BDRate] = []
    for test in tests:
        curve = test.curve()
        drawn = None if anchor_drawn is None else resample(test, replicates=replicates, seed=seed)
        for name in names:
            result = bd_rate(anchor_curve, curve, name, min_overlap=min_overlap)
            if anchor_drawn is not None and drawn is not None and result.value_percent is not None:
                interval = bootstrap_interval(anchor_drawn, drawn, name, level=level)
                result = replace(result, interval=interval)
            compared.append(result)
    return tuple(compared)
