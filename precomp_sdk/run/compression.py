"""What training left behind, as a sender uses it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from precomp_sdk.codec import Codec
from precomp_sdk.config import EXPERIMENT_FILE, Experiment, load_experiment
from precomp_sdk.deploy import Compressor
from precomp_sdk.errors import CheckpointError, NotFittedError
from precomp_sdk.events import Event
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.registry import Registry
from precomp_sdk.run.build import Builder, check_recorded_options, without_start
from precomp_sdk.run.training import PROXY_FILE, TASK_FILE
from precomp_sdk.task import TaskModel
from precomp_sdk.training import WEIGHTS_FILE, load_module, load_proxy, read_module

__all__ = ["Sender", "load_compressor", "load_fitted"]


class Sender:
    """Makes a compressor where it is called, in a worker's process; in this one it is the one that was loaded.

    Args:
        path: of a folder or file, as `load_compressor` takes it.
        registry: of the names in it; a worker in another process takes the installed plugins.
        loaded: what was loaded in this process.
        trust: see `load_compressor`.
    """

    def __init__(
        self, path: Path | str, registry: Registry, loaded: Compressor | None = None, *, trust: bool = False
    ) -> None:
        self._path, self._registry, self._loaded, self._trust = path, registry, loaded, trust

    def __call__(self) -> Compressor:
        """Return the compressor."""
        return self._loaded or load_compressor(self._path, self._registry, trust=self._trust)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle paths: a worker loads the sender anew, with installed plugins and the files that were added here."""
        return _sender_of, (self._path, self._registry.files, self._trust)


def _sender_of(path: Path | str, files: Sequence[Path], trust: bool) -> Sender:
    registry = Registry()
    for file in files:
        registry.add_file(file)
    return Sender(path, registry, trust=trust)


def load_compressor(
    path: Path | str,
    registry: Registry,
    *,
    device: torch.device | str | None = None,
    trust: bool = False,
    observer: Callable[[Event], None] | None = None,
) -> Compressor:
    """Read the folder of a training run, or a file as `Compressor.load` does.

    A preprocessor that works with the task network or the codec's proxy (its ``requires``) needs the folder: the
    experiment in it says what they are, and their weights lie beside it where training fitted them.

    Args:
        path: of folder or file.
        registry: of the names in it.
        device: where the networks work; None: where they are.
        trust: take paths, programs and modules that the files name; else they are refused for naming one.
        observer: receives a notice where the codec's library has another version than in training.

    Raises:
        CheckpointError: weights are missing or damaged, or are of other options than the experiment's.
        PrecompError: as a component refuses its options.
    """
    path = Path(path)
    weights = path / WEIGHTS_FILE if path.is_dir() else path
    if not (path / EXPERIMENT_FILE).exists():
        return Compressor.load(weights, registry, device=device, trust=trust, observer=observer)
    experiment = without_start(load_experiment(path / EXPERIMENT_FILE))
    builder = Builder(registry, experiment.origin, experiment.train.seed, trust=trust)
    needed = builder.requirements_of(experiment.preprocessor)
    if not needed:
        return Compressor.load(weights, registry, device=device, trust=trust, observer=observer)
    codec: Codec = builder.make("codec", experiment.codec, "codec")
    task: TaskModel | None = builder.make("task", experiment.task, "task") if "task" in needed else None
    preprocessor, proxy = builder.make_preprocessor(experiment, codec, task)
    load_fitted(experiment, task, proxy, path)
    for part in (task, proxy):
        if part is not None:
            part.eval().requires_grad_(False).to(device)
    check_recorded_options(read_module(weights), preprocessor, weights, f"{experiment.origin}, preprocessor")
    return Compressor.load(weights, registry, codec=codec, preprocessor=preprocessor, device=device, observer=observer)


def load_fitted(experiment: Experiment, task: TaskModel | None, proxy: ProxyCodec | None, folder: Path) -> None:
    """Load the weights of task and proxy where training fitted or changed them.

    Raises:
        CheckpointError: the task's are missing.
        NotFittedError: the proxy's are, and it has none of its own.
    """
    if task is not None and (experiment.task.fit is not None or "task" in experiment.train.train):
        path = folder / TASK_FILE
        if not path.exists():
            raise CheckpointError(
                where=str(path),
                expected="the task's weights, which training fits and writes",
                got="no such file",
                remedy="Train first: precomp train.",
            )
        load_module(path, task, name=task.name)
    if proxy is not None:
        path = folder / PROXY_FILE
        if path.exists():
            load_proxy(path, proxy)
        elif not bool(proxy.fitted):
            raise NotFittedError(
                where=f"proxy {proxy.name!r} for {proxy.codec.name!r}",
                expected=f"fitted weights, which the preprocessor works with, in {path} or under proxy.load",
                got="neither",
                remedy="Fit it first: precomp train, or precomp fit-proxy and proxy.load.",
            )
