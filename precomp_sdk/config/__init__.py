"""Experiment files: TOML, validated into a frozen description."""

from precomp_sdk.config._toml import parse_options
from precomp_sdk.config.experiment import (
    Component,
    Data,
    Experiment,
    Loadable,
    Output,
    Proxy,
    ProxyEvaluation,
    ProxyFitting,
    Task,
)
from precomp_sdk.config.files import (
    EXPERIMENT_FILE,
    dump_experiment,
    load_experiment,
    parse_component,
    parse_experiment,
    parse_proxy_evaluation,
    parse_proxy_fitting,
)
from precomp_sdk.config.options import check_options, parts_of

__all__ = [
    "EXPERIMENT_FILE",
    "Component",
    "Data",
    "Experiment",
    "Loadable",
    "Output",
    "Proxy",
    "ProxyEvaluation",
    "ProxyFitting",
    "Task",
    "check_options",
    "dump_experiment",
    "load_experiment",
    "parse_component",
    "parse_experiment",
    "parse_options",
    "parse_proxy_evaluation",
    "parse_proxy_fitting",
    "parts_of",
]
