"""What training left behind, as a sender uses it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from precomp_sdk.codec import Codec
from precomp_sdk.component import construct
from precomp_sdk.config import EXPERIMENT_FILE, Experiment, load_experiment
from precomp_sdk.deploy import Compressor, load_shipped_task, shipped_networks
from precomp_sdk.deploy.loading import load_task_file
from precomp_sdk.deploy.shipped import find_model
from precomp_sdk.errors import CheckpointError, NotFittedError
from precomp_sdk.events import Event
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.registry import Registry
from precomp_sdk.run.build import Builder
from precomp_sdk.run.recorded_options import check_recorded_options, without_start
from precomp_sdk.run.training import PROXY_FILE, TASK_FILE
from precomp_sdk.task import TaskModel
from precomp_sdk.training import WEIGHTS_FILE, load_module, load_proxy, read_module

__all__ = ["Source", "load_compressor", "load_fitted", "load_task"]

Made = TypeVar("Made")


class Source(Generic[Made]):
    """Gives what was loaded in this process; pickled for a worker, it gives what is loaded there anew.

    Args:
        load: loads it, such as ``partial(load_compressor, path, registry)``; pickled, with all its arguments.
        loaded: what it loaded in this process; None: it is loaded at each call.
    """

    def __init__(self, load: Callable[[], Made], loaded: Made | None = None) -> None:
        self._load, self._loaded = load, loaded

    def __call__(self) -> Made:
        """Return it."""
        return self._load() if self._loaded is None else self._loaded

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be loaded again."""
        return {**self.__dict__, "_loaded": None}


def load_task(path: Path | str, registry: Registry, *, trust: bool = False) -> TaskModel:
    """Return the task of a training run, of a weights file that says how it is constructed, or a shipped network.

    Args:
        path: the folder of a run, a file, or the name of a shipped network where nothing is there under that name.
        registry: of the names in it.
        trust: take paths, programs and modules that the files name; else they are refused for naming one.

    Raises:
        CheckpointError: weights are missing or damaged.
        PrecompError: as a component refuses its options.
    """
    place = Path(path)
    if str(path) in shipped_networks() and not place.exists():
        return load_shipped_task(str(path), registry)
    if not (place / EXPERIMENT_FILE).exists():
        return load_task_file(place / TASK_FILE if place.is_dir() else place, registry, trust=trust)
    experiment = load_experiment(place / EXPERIMENT_FILE)
    builder = Builder(registry, experiment.origin, experiment.train.seed, trust=trust)
    task: TaskModel = builder.make("task", experiment.task, "task")
    load_fitted(experiment, task, None, place)
    return task.eval().requires_grad_(False)


def load_compressor(
    path: Path | str,
    registry: Registry,
    *,
    codec: str | None = None,
    device: torch.device | str | None = None,
    max_pixels: int | None = None,
    trust: bool = False,
    observer: Callable[[Event], None] | None = None,
) -> Compressor:
    """Read the folder of a training run, a file, or a shipped sender, as `Compressor.load` does.

    A preprocessor that works with the task network or the codec's proxy (its ``requires``) needs the folder: the
    experiment in it says what they are, and their weights lie beside it where training fitted them.

    Args:
        path: of folder or file, or the name of a shipped sender.
        registry: of the names in it.
        codec: of a shipped sender; None: JPEG.
        device: where the networks work; None: where they are.
        max_pixels: largest image that the codec takes, where it has such a limit; None: its default.
        trust: take paths, programs and modules that the files name; else they are refused for naming one.
        observer: receives a notice where the codec's library has another version than in training.

    Raises:
        CheckpointError: weights are missing or damaged, or are of other options than the experiment's.
        PrecompError: as a component refuses its options.
    """
    path = find_model(path, codec)
    weights = path / WEIGHTS_FILE if path.is_dir() else path
    if not (path / EXPERIMENT_FILE).exists():
        return Compressor.load(weights, registry, device=device, max_pixels=max_pixels, trust=trust, observer=observer)
    experiment = without_start(load_experiment(path / EXPERIMENT_FILE))
    builder = Builder(registry, experiment.origin, experiment.train.seed, trust=trust)
    needed = builder.requirements_of(experiment.preprocessor)
    builder.name_of("codec", experiment.codec.name, "codec")  # the weights name it by its own name
    if not needed:
        return Compressor.load(weights, registry, device=device, max_pixels=max_pixels, trust=trust, observer=observer)
    own: Codec = builder.make("codec", experiment.codec, "codec")
    if max_pixels is not None and "max_pixels" in own.limits:
        own = construct(type(own), **{**own.options, "max_pixels": max_pixels})
    task: TaskModel | None = builder.make("task", experiment.task, "task") if "task" in needed else None
    preprocessor, proxy = builder.make_preprocessor(experiment, own, task)
    load_fitted(experiment, task, proxy, path)
    for part in (task, proxy):
        if part is not None:
            part.eval().requires_grad_(False).to(device)
    check_recorded_options(read_module(weights), preprocessor, weights, f"{experiment.origin}, preprocessor")
    return Compressor.load(weights, registry, codec=own, preprocessor=preprocessor, device=device, observer=observer)


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
