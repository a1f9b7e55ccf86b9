"""A logger of your own: an observer that plugins offer through `precomp_on_event`."""

import tempfile
from pathlib import Path

from precomp_sdk import CheckpointSaved, Event, Registry, RunFinished, StepDone, hookimpl
from precomp_sdk.observers import JSONLObserver, fan_out
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import Trainer, TrainSettings


class TableLogger:
    """Keeps one row of numbers per step and says what happened in between."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.lines: list[str] = []

    @hookimpl
    def precomp_on_event(self, event: Event) -> None:
        """Take one event: a frozen record."""
        match event:
            case StepDone(stage="train"):
                self.rows.append({"step": event.step, **event.scalars})
            case CheckpointSaved():
                self.lines.append(f"step {event.step} is safe in {event.path.name}")
            case RunFinished():
                self.lines.append(f"{event.stage} took {event.seconds:.1f} s")


logger = TableLogger()
registry = Registry(entry_points=False)
registry.register(logger, name="table-logger")  # a package offers it by an entry point instead

with tempfile.TemporaryDirectory() as folder, JSONLObserver(Path(folder) / "events.jsonl") as log:
    codec = FakeCodec()
    Trainer(
        codec=codec,
        proxy=FakeProxy(codec),
        preprocessor=FakePreprocessor(),
        task=FakeTask(),
        settings=TrainSettings(
            steps=6, batch_size=4, ladder=(5, 30), lambdas={5: 2.0, 30: 2.0}, checkpoint_every=3, held_out_images=4
        ),
        observer=fan_out(registry.notify, log),
    ).run(FakeDataset(), folder=Path(folder))

print(*logger.lines, sep="\n")
print("columns:", *sorted(logger.rows[-1]))
assert [row["step"] for row in logger.rows if "objective" in row] == [1, 2, 3, 4, 5, 6]
assert len(logger.lines) >= 3
