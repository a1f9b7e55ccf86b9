"""Experiment files: TOML, validated into a frozen description."""

from precomp_sdk.config._toml import parse_options
from precomp_sdk.config.experiment import (
    ChooserTable,
    ComponentTable,
    Data,
    EvaluateTable,
    Experiment,
    Loadable,
    Output,
    Proxy,
    ProxyEvaluation,
    ProxyFitting,
    Task,
    TrainingChooserTable,
)
from precomp_sdk.config.files import (
    EXPERIMENT_FILE,
    dump_experiment,
    dump_transfer,
    load_experiment,
    load_transfer,
    parse_experiment,
    parse_proxy_evaluation,
    parse_proxy_fitting,
    parse_transfer,
)
from precomp_sdk.config.options import Inner, check_options, inner_components
from precomp_sdk.config.transfer import Trained, Transfer

__all__ = [
    "EXPERIMENT_FILE",
    "ChooserTable",
    "ComponentTable",
    "Data",
    "EvaluateTable",
    "Experiment",
    "Inner",
    "Loadable",
    "Output",
    "Proxy",
    "ProxyEvaluation",
    "ProxyFitting",
    "Task",
    "Trained",
    "TrainingChooserTable",
    "Transfer",
    "check_options",
    "dump_experiment",
    "dump_transfer",
    "inner_components",
    "load_experiment",
    "load_transfer",
    "parse_experiment",
    "parse_options",
    "parse_proxy_evaluation",
    "parse_proxy_fitting",
    "parse_transfer",
]
