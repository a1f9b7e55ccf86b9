"""Rate differences of curves: the BD-rate, and its interval over images."""

from precomp_sdk.evaluation.rates.bjontegaard import TASK_LOSS, BDRate, Interval, bd_rate
from precomp_sdk.evaluation.rates.bootstrap import ResampledCurve, bootstrap_bd_rate, bootstrap_interval, resample

__all__ = [
    "TASK_LOSS",
    "BDRate",
    "Interval",
    "ResampledCurve",
    "bd_rate",
    "bootstrap_bd_rate",
    "bootstrap_interval",
    "resample",
]
