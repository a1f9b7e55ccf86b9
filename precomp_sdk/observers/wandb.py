"""Runs in Weights & Biases, where its package is installed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from precomp_sdk.errors import printable
from precomp_sdk.observers._tracker import Tracker
from precomp_sdk.observers.plain import plain
from precomp_sdk.types import RateAccuracyCurve

__all__ = ["WandbObserver"]

_ID_FILE = "wandb-run-id"


class WandbObserver(Tracker):
    """Writes the settings of every stage, the scalars of every step, every curve as a table, and notices.

    Scalars are called ``<stage>/<name>`` over ``<stage>/step``; a curve is the table ``curves/<label>``. What is sent
    where is for Weights & Biases' own variables to say: ``WANDB_MODE=offline`` sends nothing, ``WANDB_API_KEY`` and
    ``WANDB_ENTITY`` say to whom.

    Args:
        project: of Weights & Biases.
        folder: of the run, whose name the run takes; its files lie there.
        append: go on with the run that was logged from this folder, such as its evaluation after its training.

    Raises:
        MissingDependencyError: the package wandb is not installed.
    """

    package = "wandb"

    def __init__(self, project: str, folder: Path | str, *, append: bool = False) -> None:
        super().__init__()
        self._project, self._folder, self._append = project, Path(folder), append
        self._run: Any = None
        self._notices: list[str] = []

    def _settings(self, stage: str, settings: Mapping[str, object]) -> None:
        run = self._open()
        run.config.update({stage: plain(settings)}, allow_val_change=True)
        run.define_metric(f"{stage}/step")
        run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    def _scalars(self, stage: str, step: int, scalars: Mapping[str, float]) -> None:
        self._open().log({f"{stage}/step": step, **{f"{stage}/{name}": value for name, value in scalars.items()}})

    def _curve(self, curve: RateAccuracyCurve) -> None:
        import wandb

        rows = [{"quality": p.quality, "bpp": p.bpp, "task_loss": p.task_loss, **p.scores} for p in curve.points]
        table = wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
        self._open().log({printable(f"curves/{curve.label}"): table})

    def _notice(self, stage: str, message: str) -> None:
        self._notices.append(f"{stage}: {message}")
        self._open().config.update({"notices": self._notices}, allow_val_change=True)

    def close(self) -> None:
        """Send what is pending and end the run."""
        if self._run is not None:
            self._run.finish()
            self._run, self._append = None, True  # a closed observer that is called again goes on

    def _open(self) -> Any:
        if self._run is None:
            import wandb  # takes long to import, and may be absent

            file = self._folder / _ID_FILE
            self._folder.mkdir(parents=True, exist_ok=True)
            known = file.read_text(encoding="utf-8").strip() if self._append and file.is_file() else None
            self._run = wandb.init(
                project=self._project,
                name=self._folder.resolve().name,
                dir=str(self._folder),
                id=known,
                resume="allow" if known else None,
                reinit="create_new",
                settings=wandb.Settings(console="off"),
            )
            file.write_text(self._run.id + "\n", encoding="utf-8")
        return self._run
