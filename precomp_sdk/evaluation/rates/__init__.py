"""Rate differences of curves: the BD-rate, and its interval over images."""

from precomp_sdk.evaluation.rates.bjontegaard import TASK_LOSS, BDRate, Interval, bd_rate
from precomp_sdk.evaluation.rates.bootstrap import ResampledCurve, bootstrap_interval, resample
from precomp_sdk.evaluation.rates.comparison import compare

__all__ = [
    "TASK_LOSS",
    "BDRate",
    "Interval",
    "ResampledCurve",
    "bd_rate",
    "bootstrap_interval",
    "compare",
    "resample",
]
