import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from precomp_sdk import OptionError
from precomp_sdk.training import FitProxySettings, FitTaskSettings, TrainSettings


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("steps", 0, "whole number of 1 or more"),
        ("steps", math.inf, "whole number of 1 or more"),
        ("steps", "20", "whole number of 1 or more; got '20'"),
        ("learning_rate", "1e-3", "above 0; got '1e-3'"),
        ("ladder", 3, "qualities, such as"),
        ("ladder", "3", "qualities, such as"),
        ("codec_workers", 0, "whole number of 1 or more"),
        ("codec_workers", -1, "whole number of 1 or more"),
        ("weight_decay", math.nan, "a number from 0"),
        ("beta", math.inf, "a number from 0"),
        ("learning_rate", 0.0, "a number above 0"),
        ("learning_rate", math.inf, "a number above 0"),
        ("clip_norm", math.nan, "a number above 0"),
        ("ema_decay", 1.0, "below 1"),
        ("targets", "labels", "'dataset' or 'pseudo-labels'"),
        ("forward", "real", "'codec' or 'proxy'"),
        ("lambdas", "automatic", '"auto"'),
        ("train", ("proces",), "Did you mean 'preprocessor'"),
        ("train", (), "one or more of"),
        ("task_weight", 0.0, "a task loss or a feature match"),
    ],
)
def test_wrong_settings_are_refused(option: str, value: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TrainSettings(**{option: value})  # type: ignore[arg-type]


def test_numbers_of_numpy_and_lists_are_taken_for_what_they_mean() -> None:
    given: dict[str, Any] = {"steps": np.int64(20), "learning_rate": np.float32(0.5), "ladder": [10, 30]}
    given["train"] = ["preprocessor", "task"]
    meant = TrainSettings(steps=20, learning_rate=0.5, ladder=(10.0, 30.0), train=("preprocessor", "task"))
    assert TrainSettings(**given) == meant
    assert type(TrainSettings(**given).steps) is int


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_the_norm_to_clip_at_is_a_finite_number_above_0(value: float) -> None:
    with pytest.raises(OptionError, match="clip_norm"):
        FitTaskSettings(epochs=1, clip_norm=value)


NEEDED: dict[type, dict[str, Any]] = {TrainSettings: {}, FitTaskSettings: {"epochs": 1}, FitProxySettings: {}}
#: of each number its class, the least that is taken, and what is beyond it
BOUNDS: list[tuple[type, str, object, object]] = [
    *((TrainSettings, name, 1, 0) for name in ("steps", "batch_size", "held_out_images", "held_out_every")),
    *((TrainSettings, name, 1, 0) for name in ("calibration_images", "checkpoint_every", "codec_workers")),
    *((TrainSettings, name, 0, -1) for name in ("warmup_steps", "seed")),
    *((TrainSettings, name, 0.0, -0.001) for name in ("weight_decay", "beta", "feature_weight", "clean_weight")),
    (TrainSettings, "proxy_weight", 0.0, -0.001),
    *((TrainSettings, name, 1e-9, 0.0) for name in ("learning_rate", "clip_norm", "lambda_scale")),
    *((TrainSettings, name, 0.0, -0.001) for name in ("ema_decay", "max_padding")),
    *((TrainSettings, name, 0.999, 1.0) for name in ("ema_decay", "max_padding")),
    *((FitTaskSettings, name, 1, 0) for name in ("epochs", "batch_size", "workers")),
    *((FitTaskSettings, name, 1e-9, 0.0) for name in ("learning_rate", "clip_norm")),
    (FitTaskSettings, "weight_decay", 0.0, -0.001),
    (FitTaskSettings, "seed", 0, -1),
    *((FitProxySettings, name, 1, 0) for name in ("steps", "batch_size")),
    (FitProxySettings, "learning_rate", 1e-9, 0.0),
    (FitProxySettings, "seed", 0, -1),
    (FitProxySettings, "crops", (1,), (0,)),
    (FitProxySettings, "crops", (1,), ()),
    (FitProxySettings, "ladder", (-3.0,), ()),
    (FitProxySettings, "ladder", (-3.0,), (-3.0, math.nan)),
    (FitProxySettings, "ladder", (-3.0,), ("20",)),
]


@pytest.mark.parametrize(("kind", "option", "least", "beyond"), BOUNDS)
def test_the_least_of_every_number_is_taken_and_what_is_beyond_is_not(
    kind: type, option: str, least: object, beyond: object
) -> None:
    assert getattr(kind(**{**NEEDED[kind], option: least}), option) == least
    with pytest.raises(OptionError, match=option):
        kind(**{**NEEDED[kind], option: beyond})


@pytest.mark.parametrize("kind", NEEDED)
def test_a_count_is_whole_a_number_is_no_truth_value_and_a_switch_is_one(kind: type) -> None:
    whole = {option for owner, option, least, _ in BOUNDS if owner is kind and type(least) is int}
    numbers = {option for owner, option, least, _ in BOUNDS if owner is kind and type(least) in (int, float)}
    switches = {field.name for field in fields(kind) if isinstance(field.default, bool)}
    assert whole
    assert switches
    for option, value in [*((name, 1.5) for name in whole), *((name, True) for name in numbers)]:
        with pytest.raises(OptionError, match=option):
            kind(**{**NEEDED[kind], option: value})
    for option, value in ((name, value) for name in switches for value in (1, "yes", None)):
        with pytest.raises(OptionError, match=option):
            kind(**{**NEEDED[kind], option: value})


def test_every_number_has_a_row_above() -> None:
    numbers = {
        (kind, field.name)
        for kind in NEEDED
        for field in fields(kind)
        if isinstance(field.default, int | float) and not isinstance(field.default, bool)
    }
    assert len(numbers) >= 25
    assert numbers <= {(kind, option) for kind, option, _, _ in BOUNDS} | {(TrainSettings, "task_weight")}


@pytest.mark.parametrize("kind", NEEDED)
def test_an_image_that_cannot_be_read_stops_a_training_that_was_not_told_otherwise(kind: type) -> None:
    assert kind(**NEEDED[kind]).skip_unreadable is False
