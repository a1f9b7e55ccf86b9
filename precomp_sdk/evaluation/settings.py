"""Every choice of an evaluation, and of a proxy's."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from precomp_sdk.engines import ENGINES
from precomp_sdk.errors import OptionError
from precomp_sdk.evaluation.baselines import Baseline, Control, find_baselines
from precomp_sdk.validation import check_number, check_switch, check_whole_number

__all__ = ["MAX_BATCH_PIXELS", "EvaluateProxySettings", "EvaluateSettings"]

MAX_BATCH_PIXELS = 2**23  #: default: 32 images of 512 x 512, or one of 3840 x 2160


@dataclass(frozen=True, slots=True)
class EvaluateSettings:
    """Settings of `evaluate`, `measure_curve`, `Measurer` and `transfer_matrix`; the table ``[evaluate]`` of a file.

    Args:
        ladder: qualities on the codec's scale; None takes the codec's own ladder. A comparison needs two or more.
        anchor_ladder: other qualities for the anchor, where it needs more bits to reach the same scores; None takes
            ``ladder``.
        baselines: what is measured beside the preprocessors: names (``"blur"``, ``"downscale"``, and ``"equal-bits"``,
            the control that gives every image the same bits per pixel), or `Baseline` and `Control` objects.
        tuning_images: how many images a baseline's setting is chosen on; what tuning costs is proportional to it.
        replicates: how often the images are drawn again for the confidence intervals; 0 for no intervals.
        seed: of the drawing.
        min_overlap: curves that share less of their score range, 0 to 1, have no BD-rate.
        batch_size: images per batch at most; those of one size go through a network together.
        max_batch_pixels: pixels per batch at most, unless one image has more: memory grows with the largest image,
            not with their number. A few batches are held at a time, so that the codec's threads have work.
        workers: threads of the codec; None: one per core.
        engine: who measures: ``"local"``, this machine; ``"ray"``, a Ray cluster (extra ``ray``). Every batch is
            measured by one worker, which has one thread; numbers are those of one process with one thread, to the last
            bit.
        engine_workers: how many batches at a time; 0: one per core. None: one, which is this process with all its
            threads; with Ray, one per core of the cluster.
        engine_address: of a running Ray cluster; None: one on this machine.
        cache: folder that keeps what was measured of each image from run to run; None: nothing is kept. Where an image,
            a weight, an option, a version or a line of code has changed, it is measured anew: one folder does for all.
        pseudo_labels: score against the task's own answers on the clean images: no labels are needed.
        judge_pseudo_labels: likewise for the judges, whose answers a data set's targets may not even fit.
        skip_unreadable: leave out images that cannot be read and name them in the result; otherwise they are errors.
        gallery_images: how many images `evaluate` keeps, small, for the page of `write_report`: those the first
            preprocessor saves most and least on, and those it breaks. 0 for none.

    Raises:
        OptionError: a number is out of its range or not finite, or a ladder is empty.
        UnknownNameError: there is no baseline of that name.
    """

    ladder: tuple[float, ...] | None = None
    anchor_ladder: tuple[float, ...] | None = None
    baselines: tuple[str | Baseline | Control, ...] = ("blur", "downscale", "equal-bits")
    tuning_images: int = 200
    replicates: int = 2000
    seed: int = 0
    min_overlap: float = 0.25
    batch_size: int = 32
    max_batch_pixels: int = MAX_BATCH_PIXELS
    workers: int | None = None
    engine: str = "local"
    engine_workers: int | None = None
    engine_address: str | None = None
    cache: Path | None = None
    pseudo_labels: bool = False
    judge_pseudo_labels: bool = True
    skip_unreadable: bool = False
    gallery_images: int = 8

    @property
    def distributed(self) -> bool:
        """Whether an engine's workers measure, which have CPUs alone, and not this process."""
        return self.engine != "local" or self.engine_workers not in (None, 1)

    def __post_init__(self) -> None:
        _normalise(self)
        _check_ladders(self, "ladder", "anchor_ladder")
        chosen = (self.baselines,) if isinstance(self.baselines, str | Baseline | Control) else tuple(self.baselines)
        object.__setattr__(self, "baselines", chosen)
        find_baselines(chosen, "EvaluateSettings, option 'baselines'")
        _check_whole(self, tuning_images=1, replicates=0, seed=0, batch_size=1, max_batch_pixels=1, workers=1)
        _check_whole(self, gallery_images=0, engine_workers=0)
        if self.engine not in ENGINES:
            raise OptionError.choice("EvaluateSettings", "engine", ENGINES, self.engine)
        check_number("EvaluateSettings", "min_overlap", self.min_overlap, low=0.0, high=1.0)
        if self.cache is not None:
            object.__setattr__(self, "cache", Path(self.cache))
        for name in ("pseudo_labels", "judge_pseudo_labels", "skip_unreadable"):
            check_switch("EvaluateSettings", name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class EvaluateProxySettings:
    """Settings of `evaluate_proxy`; the table ``[evaluate]`` of what `precomp evaluate-proxy` reads.

    Args:
        ladder: the qualities; None takes the codec's own.
        images: how many images, evenly spaced over the set; all, where it has no more.
        batch_size: images that go through the proxy together.
        step_levels: size of the gradient check's step: its root mean square, in 8-bit levels.
        workers: threads of the codec; None: one per core.
        skip_unreadable: leave out images that cannot be read; otherwise they are errors.

    Raises:
        OptionError: a number is out of its range or not finite, or the ladder is empty.
    """

    ladder: tuple[float, ...] | None = None
    images: int = 64
    batch_size: int = 8
    step_levels: float = 1.0
    workers: int | None = None
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        _normalise(self)
        _check_ladders(self, "ladder")
        _check_whole(self, images=1, batch_size=1, workers=1)
        check_number("EvaluateProxySettings", "step_levels", self.step_levels, low=0.0, above=True)
        check_switch("EvaluateProxySettings", "skip_unreadable", self.skip_unreadable)


def _normalise(settings: EvaluateSettings | EvaluateProxySettings) -> None:
    """Take NumPy's numbers for Python's: results record them as plain values."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, np.generic):
            object.__setattr__(settings, field.name, value.item())


def _check_ladders(settings: EvaluateSettings | EvaluateProxySettings, *names: str) -> None:
    """Take any list of numbers; whether they lie on the codec's scale is for the codec to say."""
    for name in names:
        ladder = getattr(settings, name)
        if ladder is None:
            continue
        qualities = None if isinstance(ladder, str) or not isinstance(ladder, Iterable) else tuple(ladder)
        if not qualities or any(not _is_number(quality) or not math.isfinite(quality) for quality in qualities):
            raise OptionError.number(type(settings).__name__, name, "one or more qualities", ladder)
        object.__setattr__(settings, name, tuple(float(quality) for quality in qualities))


def _check_whole(settings: EvaluateSettings | EvaluateProxySettings, **minima: int) -> None:
    for name, minimum in minima.items():
        value = getattr(settings, name)
        if value is not None or name not in ("workers", "engine_workers"):
            whole = check_whole_number(value, type(settings).__name__, name, minimum)
            object.__setattr__(settings, name, whole)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
