import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from precomp_sdk import (
    CheckpointSaved,
    CurveDone,
    Event,
    MissingDependencyError,
    Notice,
    PointMeasured,
    RateAccuracyCurve,
    RatePoint,
    RunFinished,
    RunStarted,
    StepDone,
)
from precomp_sdk.config import Output
from precomp_sdk.observers import (
    JSONLObserver,
    MLflowObserver,
    ProgressObserver,
    TensorBoardObserver,
    WandbObserver,
    _tracker as tracker_module,
    fan_out,
    plain,
)
from precomp_sdk.observers._bars import TerminalBar
from precomp_sdk.run import open_logs

POINT = RatePoint(quality=5, bpp=0.1 + 0.2, scores={"top1": 1 / 3}, task_loss=1e-300)
EVENTS: tuple[Event, ...] = (
    RunStarted("train", 4, {"ladder": (5.0, 30.0), "lambdas": {5.0: 0.5}, "folder": Path("a/b"), "none": None}),
    StepDone("train", 1, 4, {"objective": 0.1 + 0.2}),
    CheckpointSaved(1, Path("a/state.pt")),
    PointMeasured("anchor", POINT),
    CurveDone(RateAccuracyCurve("anchor", (POINT,), {"sigma": 0.5})),
    Notice("evaluate", "ü \n 2"),
    RunFinished("train", float("inf")),
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_event_is_a_line_with_exact_numbers(tmp_path: Path) -> None:
    path = tmp_path / "new" / "events.jsonl"

    with JSONLObserver(path, clock=Clock()) as observer:
        for event in EVENTS:
            observer(event)
            assert len(lines_of(path)) == EVENTS.index(event) + 1  # flushed

    lines = lines_of(path)
    assert [line["event"] for line in lines] == [type(event).__name__ for event in EVENTS]
    assert lines[0] == {
        "event": "RunStarted",
        "time_s": 100.0,
        "stage": "train",
        "total_steps": 4,
        "settings": {"ladder": [5.0, 30.0], "lambdas": {"5.0": 0.5}, "folder": "a/b", "none": None},
    }
    assert lines[1]["scalars"] == {"objective": 0.1 + 0.2}
    assert lines[3]["point"] == {"quality": 5, "bpp": 0.1 + 0.2, "scores": {"top1": 1 / 3}, "task_loss": 1e-300}
    assert lines[5]["message"] == "ü \n 2"
    assert lines[6]["seconds"] == "inf"


def test_a_log_starts_anew_or_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for append in (True, True, False, True):
        with JSONLObserver(path, append=append) as observer:
            observer(EVENTS[5])
            observer(EVENTS[5])

    assert len(lines_of(path)) == 4


def test_a_line_that_was_cut_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "Step', encoding="utf-8")

    with JSONLObserver(path, append=True) as observer:
        observer(EVENTS[5])

    cut, whole = path.read_text(encoding="utf-8").splitlines()
    assert cut == '{"event": "Step'
    assert json.loads(whole)["event"] == "Notice"


def test_no_file_is_made_before_the_first_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("kept\n", encoding="utf-8")

    JSONLObserver(path).close()

    assert path.read_text(encoding="utf-8") == "kept\n"


def test_a_closed_log_goes_on_where_it_was(tmp_path: Path) -> None:
    observer = JSONLObserver(tmp_path / "events.jsonl")
    for _ in range(2):
        observer(EVENTS[5])
        observer.close()

    assert len(lines_of(tmp_path / "events.jsonl")) == 2


def test_plain_values_are_what_json_knows() -> None:
    assert plain(
        {
            1: {
                float("nan"),
            },
            "b": (True, None, 1.5, "x"),
        }
    ) == {"1": ["nan"], "b": [True, None, 1.5, "x"]}
    assert plain(RatePoint) == str(RatePoint)  # a class is no record


def test_fan_out_passes_every_event_to_all_in_order() -> None:
    seen: list[tuple[str, Event]] = []
    observe = fan_out(lambda event: seen.append(("a", event)), lambda event: seen.append(("b", event)))

    for event in EVENTS[:2]:
        observe(event)

    assert seen == [(name, event) for event in EVENTS[:2] for name in ("a", "b")]


def progress(clock: Clock, *, terminal: bool) -> tuple[ProgressObserver, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200)
    return ProgressObserver(console, line_every_s=10.0, clock=clock), out


def training(clock: Clock, steps: int, held_out_every: int) -> Iterator[Event]:
    """Yield the events of a run whose steps take 4 s and whose measurements take 20 s."""
    yield RunStarted("train", steps, {"held_out_every": held_out_every})
    yield StepDone("train", 0, steps, {"relative/quality_5": 1.0, "relative/mean": 1.0})
    for step in range(1, steps + 1):
        clock.now_s += 4.0
        scalars = {"objective": 0.9, "bpp": 0.5}
        if step % held_out_every == 0:
            clock.now_s += 20.0
            scalars |= {"relative/quality_5": 0.75, "relative/mean": 0.75}
        yield StepDone("train", step, steps, scalars)
    yield RunFinished("train", 4.0 * steps)


def test_without_a_terminal_there_is_a_line_now_and_then() -> None:
    clock = Clock()
    observer, out = progress(clock, terminal=False)

    with observer:
        for event in training(clock, 12, 6):
            observer(event)

    assert out.getvalue().splitlines() == [
        "train: 12 steps",
        "train: step 0, relative objective 1.000 (quality 5: 1.000)",
        "train: 3/12, objective 0.9, bpp 0.5, 4 s per step, more than 0:36 left",
        "train: step 6, relative objective 0.750 (quality 5: 0.750)",
        "train: 6/12, objective 0.9, bpp 0.5, 4 s per step, 0:44 left",
        "train: 9/12, objective 0.9, bpp 0.5, 4 s per step, 0:32 left",
        "train: step 12, relative objective 0.750 (quality 5: 0.750)",
        "train: 12/12, objective 0.9, bpp 0.5, 4 s per step, 0:00 left",
        "train: done in 0:48",
    ]


def bar_of(observer: ProgressObserver) -> Progress | None:
    assert isinstance(observer._bar, TerminalBar)
    return observer._bar._progress


def test_on_a_terminal_there_is_a_bar_that_goes_away() -> None:
    clock = Clock()
    observer, out = progress(clock, terminal=True)
    events = training(clock, 12, 6)

    for _ in range(6):
        observer(next(events))
    running = bar_of(observer)
    observer.close()

    assert running is not None
    assert running.tasks[0].completed == 4
    assert running.tasks[0].total == 12
    assert running.tasks[0].fields["state"].endswith("more than 0:32 left")
    assert "train: 3/12" not in out.getvalue()
    assert "relative objective 1.000" in out.getvalue()
    assert out.getvalue().endswith("\x1b[?25h" + out.getvalue().rpartition("\x1b[?25h")[2])  # the cursor is back
    assert bar_of(observer) is None


def test_a_new_stage_takes_the_place_of_the_bar() -> None:
    observer, _ = progress(Clock(), terminal=True)
    with observer:
        observer(RunStarted("fit-task", 5, {}))
        first = bar_of(observer)
        observer(RunStarted("train", 0, {}))
        second = bar_of(observer)

        assert first is not None
        assert first.finished is False
        assert first.live.is_started is False
        assert second is not None
        assert second.tasks[0].total is None


def test_curves_checkpoints_and_notices_get_a_line() -> None:
    observer, out = progress(Clock(), terminal=False)

    for event in (*EVENTS[2:6], RunStarted("calibrate", 0, {}), StepDone("calibrate", 3, 0, {})):
        observer(event)

    assert out.getvalue().splitlines() == [
        "anchor: 1 points, 0.300 to 0.300 bpp",
        "evaluate: ü \\n 2",
        "calibrate: starts",
    ]


def test_markup_in_a_message_is_shown_as_it_is() -> None:
    observer, out = progress(Clock(), terminal=False)

    observer(Notice("train", "[bold]3[/bold] of [5]"))

    assert out.getvalue() == "train: [bold]3[/bold] of [5]\n"


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    ProgressObserver()(Notice("train", "hello"))

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "train: hello\n")


def test_tensorboard_gets_the_scalars_the_points_and_the_notices(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    with TensorBoardObserver(tmp_path / "tb") as observer:
        for event in EVENTS:
            observer(event)

    read = accumulator.EventAccumulator(str(tmp_path / "tb"))
    read.Reload()
    assert read.Tags()["scalars"] == ["train/objective", "anchor/bpp", "anchor/task_loss", "anchor/top1"]
    (step,), (point,) = read.Scalars("train/objective"), read.Scalars("anchor/top1")
    assert (step.step, step.value) == (1, pytest.approx(0.3))
    assert (point.step, point.value) == (5, pytest.approx(1 / 3))
    assert read.Tags()["tensors"] == ["evaluate/notice/text_summary"]


@pytest.mark.parametrize(
    ("qualities", "steps", "scaled"),
    [
        ((0.5, 1.0, 1.5), [5, 10, 15], " (quality x 10)"),
        ((5.0, 30.0), [5, 30], ""),
        ((0.71, 0.7, 0.699999988079071), [71, 70, 70], " (quality x 100)"),
        ((1 / 3, 1 / 2), [333333, 500000], " (quality x 1000000)"),
    ],
)
def test_tensorboard_keeps_fractional_qualities_apart(
    qualities: tuple[float, ...], steps: list[int], scaled: str, tmp_path: Path
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    points = tuple(RatePoint(quality, 0.1, {"top1": 0.5}, task_loss=1.0) for quality in qualities)
    with TensorBoardObserver(tmp_path) as observer:
        observer(CurveDone(RateAccuracyCurve("anchor", points)))
    read = accumulator.EventAccumulator(str(tmp_path))
    read.Reload()
    assert [event.step for event in read.Scalars(f"anchor/top1{scaled}")] == steps


def test_tensorboard_writes_nothing_before_the_first_event(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with TensorBoardObserver(tmp_path / "tb") as observer:
        observer(EVENTS[0])

    assert not (tmp_path / "tb").exists()


@pytest.mark.parametrize(
    ("cls", "package"), [(TensorBoardObserver, "tensorboard"), (WandbObserver, "wandb"), (MLflowObserver, "mlflow")]
)
def test_a_missing_tracker_is_told_with_the_command(
    cls: Callable[..., object], package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tracker_module, "find_spec", lambda name: None)
    arguments = (tmp_path,) if cls is TensorBoardObserver else ("mine", tmp_path)
    with pytest.raises(MissingDependencyError, match=rf'pip install "precomp-sdk\[{package}\]"'):
        cls(*arguments)
    output = Output(folder=tmp_path, tensorboard="auto", **({} if package == "tensorboard" else {package: "mine"}))
    assert [type(log) for log in open_logs(output, tmp_path, services=False)] == [JSONLObserver]
    if package != "tensorboard":
        with pytest.raises(MissingDependencyError, match=package):
            open_logs(output, tmp_path)
