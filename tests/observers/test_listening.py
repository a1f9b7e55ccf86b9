"""Who is told of events, and what an observer that fails costs."""

import io
import sys
import types
from typing import Any

import pytest
from rich.console import Console

from precomp_sdk import Event, Notice, RunFinished, RunStarted, StepDone, fan_out
from precomp_sdk.observers import ProgressObserver, listening
from precomp_sdk.testing import FakeCodec, FakeDataset, FakeProxy
from precomp_sdk.training import FitProxySettings, fit_proxy

EVENTS: tuple[Event, ...] = (
    RunStarted("train", 2, {}), StepDone("train", 1, 2, {"loss": 0.5}), Notice("train", "<b>\x1b[31m"),
    RunFinished("train", 1.0),
)  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Failing:
    """Raises at every event."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, event: Event) -> None:
        self.calls += 1
        raise OSError(28, "No space left\x1b[2J")


def test_an_observer_that_raises_is_told_of_once_and_left_out() -> None:
    failing, seen = Failing(), list[Event]()
    observe = fan_out(seen.append, failing, seen.append)
    for event in EVENTS:
        observe(event)
    assert failing.calls == 1
    notices = [event for event in seen if isinstance(event, Notice) and event.stage == "observers"]
    assert len(notices) == 2  # one for each of the others
    assert "Failing failed and is left out from here on: No space left\\x1b[2J" in notices[0].message
    assert [event for event in seen if event not in notices] == [event for event in EVENTS for _ in range(2)]


def test_where_nobody_else_listens_it_is_a_warning() -> None:
    failing = Failing()
    with listening(failing) as notify:
        with pytest.warns(RuntimeWarning, match="Failing failed and is left out"):
            notify(EVENTS[0])
        notify(EVENTS[1])
    assert failing.calls == 1


def test_observers_that_all_fail_do_no_harm() -> None:
    first, second = Failing(), Failing()
    observe = fan_out(first, second)
    with pytest.warns(RuntimeWarning):
        observe(EVENTS[0])
    observe(EVENTS[1])
    assert (first.calls, second.calls) == (1, 1)


def test_an_interruption_passes() -> None:
    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fan_out(interrupt)(EVENTS[0])


def test_a_run_survives_its_observer() -> None:
    with pytest.warns(RuntimeWarning, match="is left out"):
        result = fit_proxy(
            FakeProxy(FakeCodec()), FakeDataset(), settings=FitProxySettings(steps=2), observer=Failing()
        )
    assert result.psnr_db > 60


def test_silence_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with listening(None) as notify:
        notify(EVENTS[0])
    assert terminal.getvalue() == ""


@pytest.mark.parametrize(("stream", "shown"), [(Terminal(), True), (io.StringIO(), False), (None, False)])
def test_progress_is_shown_where_a_terminal_watches(
    stream: io.StringIO | None, shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with listening("auto") as notify:
        for event in EVENTS:
            notify(event)
    assert stream is None or ("done in" in stream.getvalue()) is shown
    assert capsys.readouterr().out == ""


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A stand-in for a notebook's kernel: every output of the cell, with all versions of its HTML."""
    outputs: list[list[str]] = []

    class Handle:
        def __init__(self, versions: list[str]) -> None:
            self._versions = versions

        def update(self, page: str) -> None:
            self._versions.append(page)

    def display(page: str, *, display_id: bool) -> Handle:
        assert display_id
        outputs.append([page])
        return Handle(outputs[-1])

    shell: Any = types.SimpleNamespace(kernel=object())
    package, shown = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    package.get_ipython = lambda: shell  # type: ignore[attr-defined]
    shown.HTML, shown.display = str, display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    return outputs


def test_a_notebook_shows_one_bar_for_all_stages(notebook: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    with listening("auto") as notify:
        for event in EVENTS * 2:
            notify(event)
    (versions,) = notebook
    assert any('<progress value="1" max="2"></progress>' in page for page in versions)
    assert "<progress" not in versions[-1]
    assert "&lt;b&gt;\\x1b[31m" in versions[-1]  # what strangers wrote is shown, not obeyed
    assert versions[-1].count("done in") == 2
    assert capsys.readouterr() == ("", "")


def test_a_shell_without_a_kernel_is_no_notebook(notebook: list[list[str]]) -> None:
    del sys.modules["IPython"].get_ipython().kernel
    with listening("auto") as notify:
        notify(EVENTS[0])
    assert notebook == []


def test_markup_and_escapes_are_shown_on_a_terminal() -> None:
    out = io.StringIO()
    with ProgressObserver(Console(file=out, force_terminal=True, width=200)) as observe:
        observe(RunStarted("[red]evil\x1b]0;title\x07", 2, {}))
        observe(StepDone("[red]evil", 1, 2, {}))
        observe(Notice("s", "[bold]x[/bold]\x1b[2J\nforged"))
    assert "[bold]x[/bold]\\x1b[2J\\nforged" in out.getvalue()
    assert "[red]evil\\x1b]0;title\\x07" in out.getvalue()
