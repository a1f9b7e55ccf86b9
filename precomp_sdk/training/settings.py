"""Every choice of a joint training run, and of fitting a task or a proxy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Final, Literal

import numpy as np

from precomp_sdk.errors import OptionError, nearest
from precomp_sdk.validation import check_number, check_switch, check_whole_number

__all__ = ["FREE_SETTINGS", "PARTS", "FitProxySettings", "FitTaskSettings", "TrainSettings"]

# in a file: inside the table of a component, which takes any key
_STRICT: Final[dict[str, object]] = {"extra": "forbid", "strict": True}
PARTS = ("preprocessor", "task", "proxy")  #: what can train
FREE_SETTINGS = (
    "held_out_every",
    "checkpoint_every",
    "codec_workers",
    "skip_unreadable",
    "compile",
)  #: may change on resuming


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Settings of `Trainer`. ``docs/results.md`` says which were used for its figures.

    Args:
        steps: optimizer steps.
        batch_size: images per step and process.
        max_padding: images of unequal sizes go through the preprocessor together as long as at most this share of
            their batch is padding, repeated borders; 0 puts only equal sizes together. Padding ends there: codec,
            proxy, task and every term see each image at its own size, so no bit and no loss is counted on it. What it
            does to a preprocessor, `precomp_sdk.images.stack_padded` says. Crops of one size, an option of most data
            sets, need no padding and are faster.
        learning_rate: of AdamW, along a cosine from this down to 2% of it, times a linear warm-up.
        warmup_steps: length of the warm-up; at most a third of the steps.
        weight_decay: of AdamW.
        clip_norm: gradients are scaled down to this norm.
        ema_decay: of the weights that are evaluated and saved; 0 saves the last step's.
        ladder: qualities to train for, one drawn per image and step; None takes the codec's own ladder.
        lambdas: ``"auto"`` (see `calibrate`) or a table from quality to lambda, in bpp per unit of task loss.
        lambda_scale: factor on every lambda; above 1 values the task more than the anchor's own trade-off.
        task_weight: weight of the task loss in the distortion.
        feature_weight: weight of the feature match, in multiples of the anchor's task loss.
        clean_weight: weight of the task loss on the processed image without a codec, beside that on the decoded one.
            It keeps the preprocessor from costing the task anything before the codec does, and from relying on what one
            codec takes away. One more pass of the task network a step.
        beta: weight of the mean squared difference between processed and source image (the paper takes 0.5).
        targets: ``"dataset"`` or ``"pseudo-labels"``: the task's own answer on the clean image, without labels.
        forward: ``"codec"``, real codec forward and proxy backward, or ``"proxy"``, the proxy both ways.
        train: which of ``"preprocessor"``, ``"task"`` and ``"proxy"`` learn. The preprocessor may stay out, to adapt a
            task to a codec.
        proxy_weight: weight of the proxy's own fitting loss where it trains.
        precision: of Lightning Fabric, such as ``"32-true"`` or ``"bf16-mixed"``; the proxy always works in 32 bits.
        channels_last: memory layout of the networks; faster for convolutions on CPU and GPU.
        compile: let `torch.compile` have preprocessor and task network; it takes minutes at first and pays for images
            of one size on a GPU, see `precomp_sdk.modules.compiled`. Numbers are those without it up to rounding.
        seed: of the order, the qualities and whatever the preprocessor draws.
        held_out_images: size of the fixed batch on which the relative objective is logged.
        held_out_every: log it every so many steps, and before the first.
        calibration_images: how many training images the anchor is measured on.
        checkpoint_every: write a checkpoint every so many steps, and after the last.
        skip_unreadable: leave out images that cannot be read, and name them, instead of stopping.
        codec_workers: threads for the codec; None: one per core.
    """

    steps: int = 2000
    batch_size: int = 16
    max_padding: float = 0.0
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.99
    ladder: tuple[float, ...] | None = None
    lambdas: Literal["auto"] | Mapping[float, float] = "auto"
    lambda_scale: float = 1.0
    task_weight: float = 1.0
    feature_weight: float = 0.0
    clean_weight: float = 0.0
    beta: float = 0.0
    targets: Literal["dataset", "pseudo-labels"] = "pseudo-labels"
    forward: Literal["codec", "proxy"] = "codec"
    train: tuple[str, ...] = ("preprocessor",)
    proxy_weight: float = 1.0
    precision: str = "32-true"
    channels_last: bool = True
    compile: bool = False
    seed: int = 0
    held_out_images: int = 64
    held_out_every: int = 200
    calibration_images: int = 256
    checkpoint_every: int = 500
    skip_unreadable: bool = False
    codec_workers: int | None = None

    def __post_init__(self) -> None:
        self._normalise()
        where = "TrainSettings"
        for name in ("steps", "batch_size", "held_out_images", "held_out_every", "calibration_images"):
            _set_whole(self, where, name, 1)
        _set_whole(self, where, "checkpoint_every", 1)
        _set_whole(self, where, "warmup_steps", 0)
        _set_whole(self, where, "seed", 0)
        if self.codec_workers is not None:
            _set_whole(self, where, "codec_workers", 1)
        for name in ("weight_decay", "beta", "task_weight", "feature_weight", "clean_weight", "proxy_weight"):
            check_number(where, name, getattr(self, name), low=0.0)
        for name in ("learning_rate", "clip_norm", "lambda_scale"):
            check_number(where, name, getattr(self, name), low=0.0, above=True)
        for name in ("channels_last", "compile", "skip_unreadable"):
            check_switch(where, name, getattr(self, name))
        for name in ("ema_decay", "max_padding"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise OptionError.number(where, name, "a number from 0 to below 1", value)
        if self.task_weight + self.feature_weight == 0:
            raise OptionError(
                where="TrainSettings, option 'task_weight'",
                expected="a task loss or a feature match, or both",
                got="neither",
                remedy="Set task_weight or feature_weight above 0.",
            )
        for name, choices in (("targets", ("dataset", "pseudo-labels")), ("forward", ("codec", "proxy"))):
            if getattr(self, name) not in choices:
                raise OptionError.choice(where, name, choices, getattr(self, name))
        if isinstance(self.lambdas, str) and self.lambdas != "auto":
            raise OptionError.value(
                "TrainSettings",
                "lambdas",
                '"auto" or a table from quality to lambda',
                self.lambdas,
                'Leave it at "auto".',
            )
        if not self.train or any(part not in PARTS for part in self.train):
            wrong = next((part for part in self.train if part not in PARTS), "")
            raise OptionError(
                where="TrainSettings, option 'train'",
                expected=f"one or more of {PARTS}",
                got=repr(self.train),
                remedy=nearest(wrong, PARTS),
            )

    def _normalise(self) -> None:
        """Take NumPy's numbers and lists for what they mean: checkpoints compare settings and hold plain values."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, field.name, value.item())
        if isinstance(self.train, list):
            object.__setattr__(self, "train", tuple(self.train))
        if self.ladder is not None:
            try:
                if isinstance(self.ladder, str):
                    raise TypeError("text is no list of qualities")
                ladder = tuple(float(quality) for quality in self.ladder)
                if not ladder:
                    raise ValueError("an empty ladder")
            except (TypeError, ValueError) as error:
                raise OptionError.value(
                    "TrainSettings",
                    "ladder",
                    "one or more qualities, such as (10, 30, 50), or None",
                    self.ladder,
                    "Leave it out for the ladder of the codec's scale.",
                ) from error
            object.__setattr__(self, "ladder", ladder)


@dataclass(frozen=True, slots=True)
class FitTaskSettings:
    """Settings of `fit_task`; the table ``[task.fit]`` of a file.

    Args:
        epochs: times the data set is gone through.
        batch_size: images per step; the rest of an epoch that fills no batch is left out.
        learning_rate: its peak.
        weight_decay: of AdamW.
        clip_norm: upper limit of the gradient's norm.
        seed: of the order of the images and of dropout.
        skip_unreadable: leave out images that cannot be read, with a notice.
        workers: threads that load images; None: one per core.

    Raises:
        OptionError: a number is out of its range or not finite.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = _STRICT

    epochs: int
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    seed: int = 0
    skip_unreadable: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        where = "FitTaskSettings"
        _set_whole(self, where, "epochs", 1)
        _set_whole(self, where, "batch_size", 1)
        check_number(where, "learning_rate", self.learning_rate, low=0.0, above=True)
        check_number(where, "weight_decay", self.weight_decay, low=0.0)
        check_number(where, "clip_norm", self.clip_norm, low=0.0, above=True)
        _set_whole(self, where, "seed", 0)
        check_switch(where, "skip_unreadable", self.skip_unreadable)
        if self.workers is not None:
            _set_whole(self, where, "workers", 1)


@dataclass(frozen=True, slots=True)
class FitProxySettings:
    """Settings of `fit_proxy`; the table ``[proxy.fit]`` of a file.

    Args:
        ladder: qualities to draw from; None takes the codec's own.
        steps: optimizer steps.
        batch_size: images per step.
        learning_rate: of Adam, falling to zero along a cosine.
        crops: sides of square crops in pixels, one drawn for each batch. Several sizes tell what a codec pays for a
            file, whatever its size, from what it pays for pixels. None takes the images whole.
        seed: of the order, the qualities and the crops.
        skip_unreadable: leave out images that cannot be read, with a notice.

    Raises:
        OptionError: a number is out of its range or not finite, or a list is empty.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = _STRICT

    ladder: tuple[float, ...] | None = None
    steps: int = 2000
    batch_size: int = 8
    learning_rate: float = 1e-3
    crops: tuple[int, ...] | None = None
    seed: int = 0
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        where = "FitProxySettings"
        for name, expected in (("ladder", "one or more qualities"), ("crops", "sides in pixels, such as [96, 160]")):
            value = getattr(self, name)
            if value is not None:
                if isinstance(value, str) or not isinstance(value, Sequence) or not value:
                    raise OptionError.number(where, name, expected, value)
                object.__setattr__(self, name, tuple(value))
        for quality in self.ladder or ():
            check_number(where, "ladder", quality, low=-math.inf)
        for side in self.crops or ():
            check_whole_number(side, where, "crops", 1)
        _set_whole(self, where, "steps", 1)
        _set_whole(self, where, "batch_size", 1)
        check_number(where, "learning_rate", self.learning_rate, low=0.0, above=True)
        _set_whole(self, where, "seed", 0)
        check_switch(where, "skip_unreadable", self.skip_unreadable)


def _set_whole(record: object, where: str, option: str, minimum: int) -> None:
    object.__setattr__(record, option, check_whole_number(getattr(record, option), where, option, minimum))
