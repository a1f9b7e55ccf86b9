"""Fitting the task and the proxy of an experiment, or a proxy on its own."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from precomp_sdk.atomic_io import check_target
from precomp_sdk.codec import Codec
from precomp_sdk.config import ComponentTable, ProxyEvaluation, ProxyFitting
from precomp_sdk.data import TaskDataset
from precomp_sdk.evaluation import ProxyReport, evaluate_proxy
from precomp_sdk.events import Event
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.registry import Registry
from precomp_sdk.run.build import Builder
from precomp_sdk.run.datasets import tell_reports
from precomp_sdk.task import TaskModel
from precomp_sdk.training import (
    FitProxyResult,
    FitProxySettings,
    FitTaskResult,
    FitTaskSettings,
    as_recorded,
    fit_proxy,
    fit_task,
    save_module,
    save_proxy,
)
from precomp_sdk.training.fabric import make_fabric

__all__ = [
    "ProxyFittingResult",
    "fit_and_save_proxy",
    "fit_and_save_task",
    "run_proxy_evaluation",
    "run_proxy_fitting",
    "save_task",
]


@dataclass(frozen=True, slots=True)
class ProxyFittingResult:
    """A proxy that was fitted on its own.

    Args:
        proxy: its name.
        fit: how well it was fitted.
        path: of its weights.
    """

    proxy: str
    fit: FitProxyResult
    path: Path


def run_proxy_fitting(
    fitting: ProxyFitting,
    registry: Registry,
    output: Path,
    *,
    observer: Callable[[Event], None] | None = None,
) -> ProxyFittingResult:
    """Fit a proxy to a codec and write its weights, for ``proxy.load`` of an experiment.

    Raises:
        PrecompError: as `build` and `fit_proxy` raise it; the output is a folder.
        OSError: the output cannot be written.
    """
    check_target(output)
    builder = Builder(registry, fitting.origin, fitting.fit.seed)
    codec: Codec = builder.make("codec", fitting.codec, "codec")
    builder.check_ladder(codec, fitting.fit.ladder, "fit.ladder")
    proxy = builder.make_proxy(fitting.proxy, codec)
    dataset: TaskDataset = builder.make("dataset", fitting.data, "data")
    tell_reports({"data": dataset}, observer)
    device = make_fabric().device
    result = fit_and_save_proxy(proxy, dataset, fitting.fit, output, device, observer)
    return ProxyFittingResult(proxy.name, result, output)


def run_proxy_evaluation(
    evaluation: ProxyEvaluation,
    registry: Registry,
    *,
    observer: Callable[[Event], None] | None = None,
) -> ProxyReport:
    """Measure a proxy, with the weights that ``proxy.load`` names or those that come with it, against its codec.

    Raises:
        PrecompError: as `build` and `evaluate_proxy` raise it.
    """
    builder = Builder(registry, evaluation.origin, seed=0)
    codec: Codec = builder.make("codec", evaluation.codec, "codec")
    builder.check_ladder(codec, evaluation.evaluate.ladder, "evaluate.ladder")
    proxy = builder.make_proxy(evaluation.proxy, codec)
    dataset: TaskDataset = builder.make("dataset", evaluation.data, "data")
    tell_reports({"data": dataset}, observer)
    proxy.to(make_fabric().device)
    return evaluate_proxy(proxy, dataset, settings=evaluation.evaluate, observer=observer)


def fit_and_save_task(
    task: TaskModel,
    table: ComponentTable,
    settings: FitTaskSettings,
    dataset: TaskDataset,
    validation: TaskDataset | None,
    path: Path,
    device: torch.device,
    observer: Callable[[Event], None] | None,
) -> FitTaskResult:
    """Fit a task and write its weights."""
    result = fit_task(task.to(device), dataset, settings=settings, validation=validation, observer=observer)
    told = {"loss": result.loss, "scores": dict(result.scores), "steps": result.steps}
    facts = {**told, "fit": as_recorded(asdict(settings))}
    save_task(path, task, table, facts)
    return result


def fit_and_save_proxy(
    proxy: ProxyCodec,
    dataset: TaskDataset,
    settings: FitProxySettings,
    path: Path,
    device: torch.device,
    observer: Callable[[Event], None] | None,
) -> FitProxyResult:
    """Fit a proxy and write its weights."""
    result = fit_proxy(proxy.to(device), dataset, settings=settings, observer=observer)
    told: dict[str, Any] = {"psnr_db": result.psnr_db, "bits_error": result.bits_error}
    if result.doubt:
        told["doubt"] = result.doubt
    save_proxy(path, proxy, facts={**told, "dataset": dataset.name, "fit": asdict(settings)})
    return result


def save_task(path: Path, task: TaskModel, table: ComponentTable, facts: Mapping[str, Any]) -> None:
    """Write the weights of a task, with its options."""
    told = {**facts, "class_names": list(task.fitted_classes)}
    save_module(path, task, name=task.name, options=table.options, facts=told)
