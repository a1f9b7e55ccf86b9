"""From an experiment's names to objects, and through training and evaluation with them."""

from precomp_sdk.run.build import EvaluationParts, TrainingParts, build, build_evaluation
from precomp_sdk.run.checking import run_check
from precomp_sdk.run.choosing import run_choice
from precomp_sdk.run.evaluating import run_evaluation
from precomp_sdk.run.fabric import leave_a_core
from precomp_sdk.run.fitting import ProxyFittingResult, run_proxy_evaluation, run_proxy_fitting
from precomp_sdk.run.record import EVENTS_FILE, RECORD_FILE, read_record
from precomp_sdk.run.sending import load_compressor, load_fitted
from precomp_sdk.run.training import PROXY_FILE, TASK_FILE, TrainingOutcome, run_training
from precomp_sdk.run.transferring import run_transfer

__all__ = [
    "EVENTS_FILE",
    "PROXY_FILE",
    "RECORD_FILE",
    "TASK_FILE",
    "EvaluationParts",
    "ProxyFittingResult",
    "TrainingOutcome",
    "TrainingParts",
    "build",
    "build_evaluation",
    "leave_a_core",
    "load_compressor",
    "load_fitted",
    "read_record",
    "run_check",
    "run_choice",
    "run_evaluation",
    "run_proxy_evaluation",
    "run_proxy_fitting",
    "run_training",
    "run_transfer",
]
