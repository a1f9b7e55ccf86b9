"""Chooses the setting of a baseline: each is tuned before it is compared."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from precomp_sdk.data import TaskDataset
from precomp_sdk.evaluation.baselines import Baseline
from precomp_sdk.evaluation.curves import Measurer
from precomp_sdk.evaluation.rates.bjontegaard import TASK_LOSS, BDRate, bd_rate
from precomp_sdk.evaluation.statistics import MeasuredCurve
from precomp_sdk.types import RateAccuracyCurve

__all__ = ["TriedSetting", "TunedBaseline", "evenly_spread", "tune"]


@dataclass(frozen=True, slots=True)
class TriedSetting:
    """One setting of a baseline, measured on the tuning images.

    Args:
        value: the setting.
        curve: its curve there.
        bd_rate: its rate difference to the anchor there, on the metric the baseline was tuned for.
        loss_bd_rate: likewise on the task loss.
    """

    value: float
    curve: RateAccuracyCurve
    bd_rate: BDRate
    loss_bd_rate: BDRate


@dataclass(frozen=True, slots=True)
class TunedBaseline:
    """How a baseline was tuned.

    Args:
        name: of the baseline.
        parameter: what its setting is called.
        value: the best setting.
        images: how many images each setting was measured on.
        tried: every setting.
    """

    name: str
    parameter: str
    value: float
    images: int
    tried: tuple[TriedSetting, ...]


def tune(
    measurer: Measurer, baseline: Baseline, dataset: TaskDataset, anchors: Mapping[str, MeasuredCurve]
) -> dict[str, TunedBaseline]:
    """Measure every setting on the tuning images, and choose for each judge the one with the lowest BD-rate.

    What is tuned for is the judge's main metric. Settings without a BD-rate on it come after those with one, and are
    ordered by their BD-rate on the task loss; of equal ones the mildest wins. A setting is chosen even where none saves
    anything. Twice the settings' ``min_overlap`` is asked for, so that a setting that barely overlaps on a few images
    does not lose its BD-rate on all of them.

    Args:
        measurer: does the measuring.
        baseline: what to tune.
        dataset: the tuning images.
        anchors: the anchor's curves on them, by judge as `Measurer.curves` names them; for these it is tuned.
    """
    min_overlap = min(2 * measurer.settings.min_overlap, 1.0)
    tried: dict[str, list[TriedSetting]] = {judge: [] for judge in anchors}
    images = 0
    for value in baseline.values:
        measured = measurer.curves(dataset, baseline.channel(measurer.transcoder, value))
        for judge, anchor in anchors.items():
            curve, images = measured[judge].curve(), len(measured[judge])
            rates = [
                bd_rate(anchor.curve(), curve, metric, min_overlap=min_overlap)
                for metric in (anchor.scorer.metrics[0], TASK_LOSS)
            ]
            tried[judge].append(TriedSetting(value=value, curve=curve, bd_rate=rates[0], loss_bd_rate=rates[1]))
    return {
        judge: TunedBaseline(
            name=baseline.name,
            parameter=baseline.parameter,
            value=min(settings, key=_rank).value,
            images=images,
            tried=tuple(settings),
        )
        for judge, settings in tried.items()
    }


def evenly_spread(anchor: MeasuredCurve, count: int) -> list[int]:
    """Return places in the data set of some of the images that were measured, evenly spread over them."""
    readable = np.array(anchor.indices)
    chosen: list[int] = readable[
        np.linspace(0, len(readable) - 1, min(count, len(readable))).round().astype(int)
    ].tolist()
    return chosen


def _rank(setting: TriedSetting) -> tuple[float, float]:
    first, second = (
        math.inf if rate.value_percent is None else rate.value_percent
        for rate in (setting.bd_rate, setting.loss_bd_rate)
    )
    return first, second
