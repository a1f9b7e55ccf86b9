import math
from typing import Any

import numpy as np
import pytest

from precomp_sdk import OptionError
from precomp_sdk.training import FitTaskSettings, TrainSettings


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("steps", 0, "1 or more"),
        ("steps", math.inf, "finite number, 1 or more"),
        ("steps", "20", "finite number, 1 or more; got '20'"),
        ("learning_rate", "1e-3", "more than 0; got '1e-3'"),
        ("ladder", 3, "qualities, such as"),
        ("ladder", "3", "qualities, such as"),
        ("codec_workers", 0, "finite number, 1 or more"),
        ("codec_workers", -1, "finite number, 1 or more"),
        ("weight_decay", math.nan, "finite number, 0 or more"),
        ("beta", math.inf, "finite number, 0 or more"),
        ("learning_rate", 0.0, "more than 0"),
        ("learning_rate", math.inf, "finite number, more than 0"),
        ("clip_norm", math.nan, "finite number, more than 0"),
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
    assert TrainSettings(**given) == TrainSettings(steps=20, learning_rate=0.5, ladder=(10.0, 30.0))
    assert type(TrainSettings(**given).steps) is int


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_the_norm_to_clip_at_is_a_finite_number_above_0(value: float) -> None:
    with pytest.raises(OptionError, match="clip_norm"):
        FitTaskSettings(epochs=1, clip_norm=value)
