"""A transfer matrix from the names in its file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from precomp_sdk.atomic_io import write_whole
from precomp_sdk.codec import Codec
from precomp_sdk.config import Proxy, Trained, Transfer, dump_transfer
from precomp_sdk.errors import ConfigError, nearest
from precomp_sdk.evaluation import TrainedWith, TransferMatrix, transfer_matrix, write_transfer
from precomp_sdk.events import Event
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.registry import Registry
from precomp_sdk.run.build import Builder, located
from precomp_sdk.run.datasets import tell_reports
from precomp_sdk.run.recorded_options import check_recorded_options
from precomp_sdk.task import TaskModel
from precomp_sdk.training import read_module
from precomp_sdk.training.fabric import make_fabric

__all__ = ["TRANSFER_FILE", "run_transfer"]

TRANSFER_FILE = "transfer.toml"  #: what a matrix is recorded as, beside its results


def run_transfer(
    transfer: Transfer,
    registry: Registry,
    *,
    output: Path | None = None,
    trust: bool = False,
    observer: Callable[[Event], None] | None = None,
) -> TransferMatrix:
    """Score every preprocessor on every backbone and codec of a file, and write what came of it.

    Args:
        transfer: what to compare.
        registry: of the names in it.
        output: where results and figure go; default: the file's output folder.
        trust: run programs and import modules that the file names; else it is refused for naming one.
        observer: called with every event.

    Raises:
        ConfigError: a loop names what is not there, or a preprocessor lacks what it works with.
        PrecompError: as `transfer_matrix` raises it, or as a component refuses its options.
    """
    builder = Builder(registry, transfer.origin, transfer.evaluate.seed, trust=trust)
    device = torch.device("cpu") if transfer.evaluate.distributed else make_fabric().device
    codecs: dict[str, Codec] = {
        label: builder.make("codec", table, f"codecs.{label}") for label, table in transfer.codecs.items()
    }
    for key, ladders in (("ladders", transfer.ladders), ("anchor_ladders", transfer.anchor_ladders)):
        for label, ladder in ladders.items():
            if label in codecs:  # `transfer_matrix` tells of others
                builder.check_ladder(codecs[label], ladder, f"{key}.{label}", at_least=2)
    tasks: dict[str, TaskModel] = {
        label: builder.make("task", table, f"tasks.{label}").to(device) for label, table in transfer.tasks.items()
    }
    val = builder.make("dataset", transfer.data.val, "data.val")
    tell_reports({"data.val": val}, observer)
    for label, task in tasks.items():
        with located(f"{transfer.origin}, tasks.{label}"):
            builder.check_targets(task, val, "data.val")
    preprocessors = {
        label: _preprocessor(builder, transfer, label, table, codecs, tasks)
        for label, table in transfer.preprocessors.items()
    }
    for preprocessor in preprocessors.values():
        preprocessor.to(device)
    matrix = transfer_matrix(
        preprocessors,
        codecs,
        tasks,
        val,
        trained_with={label: TrainedWith(table.codecs, table.tasks) for label, table in transfer.preprocessors.items()},
        settings=transfer.settings(),
        observer=observer,
    )
    folder = transfer.output.folder if output is None else output
    write_transfer(matrix, folder)
    write_whole(folder / TRANSFER_FILE, dump_transfer(transfer))
    return matrix


def _preprocessor(
    builder: Builder,
    transfer: Transfer,
    label: str,
    table: Trained,
    codecs: dict[str, Codec],
    tasks: dict[str, TaskModel],
) -> Preprocessor:
    """Construct a preprocessor, with the first codec and backbone of its loop where it works with them."""
    key = f"preprocessors.{label}"
    for name, labels, known in (("codecs", table.codecs, codecs), ("tasks", table.tasks, tasks)):
        for wanted in labels:
            if wanted not in known:
                raise ConfigError(
                    where=f"{transfer.origin}, {key}.{name}",
                    expected="labels of the file",
                    got=repr(wanted),
                    remedy=nearest(wanted, known),
                )
    parts: dict[str, Any] = {}
    if table.codecs:
        parts["codec"] = codecs[table.codecs[0]]
        if "proxy" in builder.requirements_of(table):
            proxy = transfer.proxies.get(table.codecs[0], Proxy())
            parts["proxy"] = builder.make_proxy(proxy, parts["codec"])
    if table.tasks:
        parts["task"] = tasks[table.tasks[0]]
    for name in builder.requirements_of(table):
        if name not in parts:
            option = "tasks" if name == "task" else "codecs"
            raise ConfigError(
                where=f"{transfer.origin}, {key}.{option}",
                expected=f"the label of what {table.name!r} works with: its {name}",
                got="none",
                remedy=f"Add {option}: what it was trained with, or refines for.",
            )
    made: Preprocessor = builder.make("preprocessor", table, key, parts)
    if table.load is not None:
        check_recorded_options(read_module(table.load), made, table.load, f"{transfer.origin}, {key}")
    if not made.trainable:
        if transfer.data.train is None:
            raise ConfigError(
                where=f"{transfer.origin}, data.train",
                expected=f"images to prepare {label!r} on",
                got="none",
                remedy="Add the table data.train.",
            )
        images = builder.make("dataset", transfer.data.train, "data.train")
        with located(f"{transfer.origin}, {key}"):
            made.prepare(images, transfer.ladders.get(table.codecs[0]) if table.codecs else None)
    return made
