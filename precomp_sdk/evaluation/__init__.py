"""Measures what a preprocessor saves: curves with the real codec, BD-rates with intervals, baselines, plots."""

from precomp_sdk.evaluation._batches import evaluating
from precomp_sdk.evaluation.baselines import (
    BLUR,
    DOWNSCALE,
    Baseline,
    Downscale,
    GaussianBlur,
    TriedSetting,
    TunedBaseline,
    tune,
)
from precomp_sdk.evaluation.curves import MAX_BATCH_PIXELS, Measurer
from precomp_sdk.evaluation.evaluator import evaluate
from precomp_sdk.evaluation.measure import measure_curve
from precomp_sdk.evaluation.proxy_report import GradientCheck, ProxyPoint, ProxyReport, evaluate_proxy
from precomp_sdk.evaluation.rates.bjontegaard import TASK_LOSS, BDRate, Interval, bd_rate
from precomp_sdk.evaluation.rates.bootstrap import ResampledCurve, bootstrap_bd_rate, bootstrap_interval, resample
from precomp_sdk.evaluation.report import write_report
from precomp_sdk.evaluation.results import Evaluation, read_results
from precomp_sdk.evaluation.statistics import CleanScore, MeasuredCurve, MeasuredPoint, UncodedScore
from precomp_sdk.evaluation.transfer.matrix import transfer_matrix
from precomp_sdk.evaluation.transfer.records import TrainedWith, TransferCell, TransferMatrix
from precomp_sdk.evaluation.transfer.report import read_transfer, write_transfer

__all__ = [
    "BLUR",
    "DOWNSCALE",
    "MAX_BATCH_PIXELS",
    "TASK_LOSS",
    "BDRate",
    "Baseline",
    "CleanScore",
    "Downscale",
    "Evaluation",
    "GaussianBlur",
    "GradientCheck",
    "Interval",
    "MeasuredCurve",
    "MeasuredPoint",
    "Measurer",
    "ProxyPoint",
    "ProxyReport",
    "ResampledCurve",
    "TrainedWith",
    "TransferCell",
    "TransferMatrix",
    "TriedSetting",
    "TunedBaseline",
    "UncodedScore",
    "bd_rate",
    "bootstrap_bd_rate",
    "bootstrap_interval",
    "evaluate",
    "evaluate_proxy",
    "evaluating",
    "measure_curve",
    "read_results",
    "read_transfer",
    "resample",
    "transfer_matrix",
    "tune",
    "write_report",
    "write_transfer",
]
