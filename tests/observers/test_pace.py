import pytest

from precomp_sdk.observers._pace import Pace, duration


def run(pace: Pace, steps: range, step_s: float, now_s: float) -> float:
    for step in steps:
        now_s += step_s
        pace.step(step, now_s, measured=False)
    return now_s


def test_there_is_no_estimate_before_a_step_was_timed() -> None:
    pace = Pace(100, {})
    assert pace.remaining() is None

    pace.step(1, 50.0, measured=False)  # what came before it (calibration, first batches) is no step

    assert pace.step_s is None
    assert pace.remaining() is None


def test_steady_steps_give_their_duration_times_what_is_left() -> None:
    pace = Pace(100, {})

    run(pace, range(1, 21), 2.0, 1000.0)

    remaining = pace.remaining()
    assert remaining is not None
    assert remaining.seconds == pytest.approx(160.0)
    assert remaining.complete
    assert str(remaining) == "2:40 left"


def test_only_recent_steps_count() -> None:
    pace = Pace(1000, {})

    now_s = run(pace, range(1, 200), 9.0, 0.0)
    run(pace, range(200, 260), 1.0, now_s)

    assert pace.step_s == pytest.approx(1.0)


def test_pauses_do_not_slow_the_steps_down_and_those_ahead_are_added() -> None:
    pace = Pace(100, {"held_out_every": 20, "checkpoint_every": 30})
    now_s = run(pace, range(20), 1.0, 0.0)

    before = pace.remaining()
    pace.step(20, now_s + 1.0 + 7.0, measured=True)
    after_measuring = pace.remaining()
    now_s = run(pace, range(21, 31), 1.0, now_s + 8.0)
    pace.checkpoint(now_s + 3.0)
    run(pace, range(31, 32), 1.0, now_s + 3.0)
    after_both = pace.remaining()

    assert pace.step_s == pytest.approx(1.0)
    assert before is not None
    assert after_measuring is not None
    assert after_both is not None
    assert str(before) == "more than 1:21 left"  # neither pause was seen yet
    assert after_measuring.seconds == pytest.approx(80 + 4 * 7)
    assert not after_measuring.complete
    assert after_both.seconds == pytest.approx(69 + 4 * 7 + 3 * 3)  # checkpoints after 60, 90 and 100 lie ahead
    assert after_both.complete


def test_nothing_lies_ahead_of_the_last_step() -> None:
    pace = Pace(10, {"held_out_every": 5, "checkpoint_every": 5})

    run(pace, range(1, 11), 1.0, 0.0)

    remaining = pace.remaining()
    assert remaining is not None
    assert (remaining.seconds, remaining.complete) == (0.0, True)


def test_a_measurement_after_every_step_is_part_of_the_step() -> None:
    pace = Pace(10, {"held_out_every": 1})

    for step in range(1, 5):
        pace.step(step, 3.0 * step, measured=True)

    remaining = pace.remaining()
    assert remaining is not None
    assert remaining.seconds == pytest.approx(18.0)


def test_a_measurement_before_any_step_was_timed_is_left_out() -> None:
    pace = Pace(10, {"held_out_every": 2})
    pace.step(1, 0.0, measured=False)
    pace.step(2, 9.0, measured=True)

    assert pace.remaining() is None


def test_a_stage_of_unknown_length_has_no_end_but_a_pace() -> None:
    pace = Pace(0, {})

    run(pace, range(1, 4), 2.0, 0.0)

    assert pace.remaining() is None
    assert pace.step_s == pytest.approx(2.0)


def test_steps_that_are_reported_together_share_their_time() -> None:
    pace = Pace(100, {})
    pace.step(10, 0.0, measured=False)
    pace.step(20, 30.0, measured=False)

    assert pace.step_s == pytest.approx(3.0)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (200, "3:20"), (36_005, "10:00:05")])
def test_durations_read_like_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text
