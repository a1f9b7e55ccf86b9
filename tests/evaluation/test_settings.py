from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest

from precomp_sdk import OptionError, UnknownNameError
from precomp_sdk.evaluation import BLUR, EvaluateProxySettings, EvaluateSettings

RECORDS = (EvaluateSettings, EvaluateProxySettings)
NUMBERS = [(record, field.name) for record in RECORDS for field in fields(record) if field.type in (int, float)]


def test_there_are_numbers_to_check() -> None:
    assert len(NUMBERS) >= 9


@pytest.mark.parametrize(("record", "name"), NUMBERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -1, "3", None, True])
def test_every_number_is_finite_in_range_and_a_number(record: Any, name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"{record.__name__}, option '{name}'"):
        record(**{name: value})


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("value", [0, -1, 1.5, float("inf"), "2", True])
def test_threads_are_a_count_or_left_out(record: Any, value: Any) -> None:
    assert record(workers=None).workers is None
    assert record(workers=2).workers == 2
    with pytest.raises(OptionError, match="option 'workers'"):
        record(workers=value)


LADDERS = [(EvaluateSettings, "ladder"), (EvaluateSettings, "anchor_ladder"), (EvaluateProxySettings, "ladder")]


@pytest.mark.parametrize(("record", "name"), LADDERS)
@pytest.mark.parametrize("value", [(), [], "50", 50, ("50",), (5, float("nan")), (float("inf"), 5), (True, False)])
def test_a_ladder_is_one_or_more_qualities(record: Any, name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"option '{name}'.*one or more qualities"):
        record(**{name: value})


@pytest.mark.parametrize(("record", "name"), LADDERS)
def test_a_ladder_is_any_list_of_numbers(record: Any, name: str) -> None:
    for value in ([5, 10], (5.0, 10), np.array([5, 10])):
        found = getattr(record(**{name: value}), name)
        assert found == (5.0, 10.0)
        assert all(type(quality) is float for quality in found)


@pytest.mark.parametrize("name", ["pseudo_labels", "judge_pseudo_labels", "skip_unreadable"])
@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_a_switch_is_true_or_false(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"option '{name}'.*True"):
        EvaluateSettings(**{name: value})


def test_baselines_go_by_name_or_as_objects() -> None:
    assert EvaluateSettings(baselines="blur").baselines == ("blur",)  # type: ignore[arg-type]
    assert EvaluateSettings(baselines=["blur", BLUR]).baselines == ("blur", BLUR)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="Did you mean 'blur'"):
        EvaluateSettings(baselines=("blurr",))


def test_numbers_of_numpy_are_plain_ones() -> None:
    settings = EvaluateSettings(seed=np.int64(3), min_overlap=np.float64(0.5))  # type: ignore[arg-type]
    assert (type(settings.seed), type(settings.min_overlap)) == (int, float)


def test_settings_do_not_change() -> None:
    for record in RECORDS:
        with pytest.raises(FrozenInstanceError):
            record().batch_size = 3


@pytest.mark.parametrize("overlap", [0.0, 1.0, 1, 0])
def test_an_overlap_of_none_or_all_is_right(overlap: float) -> None:
    assert EvaluateSettings(min_overlap=overlap).min_overlap == overlap
