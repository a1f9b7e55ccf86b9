"""From an experiment's names to objects, and through training and evaluation with them."""

from precomp_sdk.run.build import build, build_evaluation
from precomp_sdk.run.components import EvaluationComponents, TrainingComponents
from precomp_sdk.run.compression import Source, load_compressor, load_fitted, load_task
from precomp_sdk.run.conformance import run_check
from precomp_sdk.run.description import ComponentDescription, describe
from precomp_sdk.run.estimate import Estimate, EstimateSettings, PartEstimate, estimate_run
from precomp_sdk.run.evaluation import run_evaluation
from precomp_sdk.run.logs import open_logs
from precomp_sdk.run.proxy_fit import ProxyFittingResult, run_proxy_evaluation, run_proxy_fitting
from precomp_sdk.run.record import EVENTS_FILE, RECORD_FILE, read_record
from precomp_sdk.run.resolutions import run_choice
from precomp_sdk.run.training import PROXY_FILE, TASK_FILE, TrainingOutcome, run_training
from precomp_sdk.run.transfer import run_transfer
from precomp_sdk.training.fabric import leave_a_core

__all__ = [
    "EVENTS_FILE",
    "PROXY_FILE",
    "RECORD_FILE",
    "TASK_FILE",
    "ComponentDescription",
    "Estimate",
    "EstimateSettings",
    "EvaluationComponents",
    "PartEstimate",
    "ProxyFittingResult",
    "Source",
    "TrainingComponents",
    "TrainingOutcome",
    "build",
    "build_evaluation",
    "describe",
    "estimate_run",
    "leave_a_core",
    "load_compressor",
    "load_fitted",
    "load_task",
    "open_logs",
    "read_record",
    "run_check",
    "run_choice",
    "run_evaluation",
    "run_proxy_evaluation",
    "run_proxy_fitting",
    "run_training",
    "run_transfer",
]
