"""Measures what a preprocessor saves: curves with the real codec, BD-rates with intervals, baselines, plots."""

from precomp_sdk.evaluation.baselines import BLUR, DOWNSCALE, EQUAL_BITS, Baseline, Control, Downscale, GaussianBlur
from precomp_sdk.evaluation.choosers import ChooserSettings, FitChooserSettings, choosing_channels
from precomp_sdk.evaluation.curves import Measurer, measure_curve
from precomp_sdk.evaluation.equal_bits import EqualBits
from precomp_sdk.evaluation.evaluator import evaluate
from precomp_sdk.evaluation.gallery import GalleryImage
from precomp_sdk.evaluation.harm import ClassChange, Harm, ImageChange, SizeChange
from precomp_sdk.evaluation.proxy_report import GradientCheck, ProxyPoint, ProxyReport, evaluate_proxy
from precomp_sdk.evaluation.rates import (
    TASK_LOSS,
    BDRate,
    Interval,
    ResampledCurve,
    bd_rate,
    bootstrap_interval,
    compare,
    resample,
)
from precomp_sdk.evaluation.report import write_report, write_runs
from precomp_sdk.evaluation.results import Evaluation, JudgeResult, read_results
from precomp_sdk.evaluation.settings import MAX_BATCH_PIXELS, EvaluateProxySettings, EvaluateSettings
from precomp_sdk.evaluation.statistics import CleanScore, MeasuredCurve, MeasuredPoint, UncodedScore
from precomp_sdk.evaluation.transfer import (
    TrainedWith,
    TransferCell,
    TransferMatrix,
    read_transfer,
    transfer_matrix,
    write_transfer,
)
from precomp_sdk.evaluation.tuning import TriedSetting, TunedBaseline, tune

__all__ = [
    "BLUR",
    "DOWNSCALE",
    "EQUAL_BITS",
    "MAX_BATCH_PIXELS",
    "TASK_LOSS",
    "BDRate",
    "Baseline",
    "ChooserSettings",
    "ClassChange",
    "CleanScore",
    "Control",
    "Downscale",
    "EqualBits",
    "EvaluateProxySettings",
    "EvaluateSettings",
    "Evaluation",
    "FitChooserSettings",
    "GalleryImage",
    "GaussianBlur",
    "GradientCheck",
    "Harm",
    "ImageChange",
    "Interval",
    "JudgeResult",
    "MeasuredCurve",
    "MeasuredPoint",
    "Measurer",
    "ProxyPoint",
    "ProxyReport",
    "ResampledCurve",
    "SizeChange",
    "TrainedWith",
    "TransferCell",
    "TransferMatrix",
    "TriedSetting",
    "TunedBaseline",
    "UncodedScore",
    "bd_rate",
    "bootstrap_interval",
    "choosing_channels",
    "compare",
    "evaluate",
    "evaluate_proxy",
    "measure_curve",
    "read_results",
    "read_transfer",
    "resample",
    "transfer_matrix",
    "tune",
    "write_report",
    "write_runs",
    "write_transfer",
]
