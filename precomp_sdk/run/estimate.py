"""What a run will take, from a few of its own steps: time, memory and disk, before it starts."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from tempfile import TemporaryDirectory

import torch

from precomp_sdk.config import Experiment
from precomp_sdk.evaluation.views import Shown, ShownTable
from precomp_sdk.observers import Observer, duration, fan_out
from precomp_sdk.registry import Registry
from precomp_sdk.validation import check_whole_number

__all__ = ["Estimate", "EstimateSettings", "PartEstimate", "estimate_run"]


@dataclass(frozen=True, slots=True)
class EstimateSettings:
    """How much of a run is measured.

    Args:
        steps: of each kind of training, after two to warm up.
        images: that calibration, the held-out objective and each curve of the evaluation are measured on.

    Raises:
        OptionError: a number is out of its range.
    """

    steps: int = 8
    images: int = 8

    def __post_init__(self) -> None:
        for name, minimum in (("steps", 2), ("images", 1)):
            check_whole_number(getattr(self, name), "EstimateSettings", name, minimum)


@dataclass(frozen=True, slots=True)
class PartEstimate:
    """One part of a run.

    Args:
        stage: ``"fit-task"``, ``"fit-proxy"``, ``"train"`` or ``"evaluate"``.
        name: of the part, in words.
        unit: what it consists of: ``"step"``, ``"image"``, ``"file"`` or ``"time"``.
        count: how many of them.
        measured: how many of them were measured.
        each_s: what one takes.
        memory_bytes: most memory of this process meanwhile, with what it held before.
        device_bytes: most memory of the GPU meanwhile; 0 without one.
    """

    stage: str
    name: str
    unit: str
    count: int
    measured: int
    each_s: float
    memory_bytes: int
    device_bytes: int = 0

    @property
    def seconds(self) -> float:
        """Of the whole part."""
        return self.count * self.each_s


@dataclass(frozen=True, slots=True, repr=False)
class Estimate(Shown):
    """What a run and its evaluation will take, on this machine and in one process.

    Args:
        parts: in the order of the work.
        disk_bytes: what will lie in the output folder, with room for the file that is being replaced.
        free_bytes: what its disk has.
        device: where the networks work.
        took_s: what the estimate took.
    """

    parts: tuple[PartEstimate, ...]
    disk_bytes: int
    free_bytes: int
    device: str
    took_s: float

    @property
    def seconds(self) -> float:
        """Of everything."""
        return sum(part.seconds for part in self.parts)

    @property
    def memory_bytes(self) -> int:
        """The most of any part."""
        return max(part.memory_bytes for part in self.parts)

    @property
    def device_bytes(self) -> int:
        """The most of any part, on the GPU."""
        return max(part.device_bytes for part in self.parts)

    def seconds_of(self, stage: str) -> float:
        """Return what one stage takes, such as ``"train"``; 0 where the run has none."""
        return sum(part.seconds for part in self.parts if part.stage == stage)

    def to_dict(self) -> dict[str, object]:
        """Return everything as plain values, sums included."""
        sums = {name: getattr(self, name) for name in ("seconds", "memory_bytes", "device_bytes")}
        return {**sums, **asdict(self), "parts": [{**asdict(part), "seconds": part.seconds} for part in self.parts]}

    def _shown(self) -> Iterator[str | ShownTable]:
        rows = []
        for stage in dict.fromkeys(part.stage for part in self.parts):
            rows.append((stage, "", "", "", duration(self.seconds_of(stage)), ""))
            for part in self.parts:
                if part.stage == stage:
                    many = f"{part.count} {part.unit}{'' if part.count == 1 else 's'}"
                    told = (_seconds(part.each_s), many, duration(part.seconds), _size(part.memory_bytes))
                    rows.append(("", part.name, *told))
        rows.append(("everything", "", "", "", duration(self.seconds), _size(self.memory_bytes)))
        yield ShownTable(("stage", "part", "one takes", "how many", "together", "memory"), rows, texts=2)
        gpu = f"; {_size(self.device_bytes)} of the GPU's memory" if self.device_bytes else ""
        disk = f"disk: {_size(self.disk_bytes)}, of {_size(self.free_bytes)} that are free"
        yield f"{disk}; on {self.device}, one process{gpu}"


def estimate_run(
    experiment: Experiment,
    registry: Registry,
    *,
    settings: EstimateSettings | None = None,
    observer: Observer | None = None,
) -> Estimate:
    """Say what `run_training` and `run_evaluation` of an experiment will take.

    A few steps of every part are carried out as the run would: with its codec, its networks and its images, on its
    device, with files in a folder beside its output that is removed afterwards. What they took is multiplied by how
    often they come. Networks are constructed for it alone, and nothing of them is kept.

    The memory of an evaluation is measured on few images and grows with its batches: what was added to the process is
    taken as often as the batch is larger.

    Args:
        experiment: what is to be run; its data must be there.
        registry: of the names in it.
        settings: how much is measured.
        observer: receives a `Notice` as each part begins.

    Raises:
        PrecompError: as `build` and what is run raise it.
        OSError: the output's folder cannot be written to.
    """
    from precomp_sdk.run._estimating import Estimating  # what only this needs

    started = time.perf_counter()
    beside = next(folder for folder in experiment.output.folder.absolute().parents if folder.is_dir())
    with TemporaryDirectory(prefix=".precomp-estimate-", dir=beside) as folder, torch.random.fork_rng(devices=[]):
        work = Estimating(experiment, registry, settings or EstimateSettings(), folder, observer or fan_out())
        work.train()
        work.evaluate()
        return Estimate(
            parts=tuple(work.parts),
            disk_bytes=work.disk_bytes(),
            free_bytes=shutil.disk_usage(beside).free,
            device=str(work.device),
            took_s=time.perf_counter() - started,
        )


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 100 else f"{value:.0f} s"


def _size(value: int) -> str:
    return f"{value / 1e9:.2f} GB" if value >= 1e8 else f"{value / 1e6:.1f} MB"
