"""Runs in MLflow, where its package is installed."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from precomp_sdk.observers._tracker import Tracker, points_of
from precomp_sdk.types import RateAccuracyCurve

__all__ = ["MLflowObserver"]

_ID_FILE = "mlflow-run-id"
_LONGEST = 500  # characters of a parameter that every version of MLflow takes


class MLflowObserver(Tracker):
    """Writes the settings of every stage, the scalars of every step, the points of every curve, and notices.

    Metrics are called ``<stage>/<name>``; the points of a curve ``<curve>/<metric>`` with the quality as their step
    (multiplied, where it is a fraction, by what the name says). Notices are the artifact ``notices.txt``. The server is
    for MLflow's own variables to say: ``MLFLOW_TRACKING_URI``.

    Args:
        experiment: of MLflow; it is made where there is none of this name.
        folder: of the run, whose name the run takes.
        append: go on with the run that was logged from this folder, such as its evaluation after its training.

    Raises:
        MissingDependencyError: the package mlflow is not installed.
    """

    package = "mlflow"

    def __init__(self, experiment: str, folder: Path | str, *, append: bool = False) -> None:
        super().__init__()
        self._experiment, self._folder, self._append = experiment, Path(folder), append
        self._client: Any = None
        self._run_id = ""
        self._notices: list[str] = []

    def _settings(self, stage: str, settings: Mapping[str, object]) -> None:
        client = self._open()
        known = client.get_run(self._run_id).data.params  # a parameter is written once: a resumed run keeps the first
        for name, value in settings.items():
            if (key := f"{stage}.{name}") not in known:
                client.log_param(self._run_id, key, str(value)[:_LONGEST])

    def _scalars(self, stage: str, step: int, scalars: Mapping[str, float]) -> None:
        self._log((f"{stage}/{name}", step, value) for name, value in scalars.items())

    def _curve(self, curve: RateAccuracyCurve) -> None:
        self._log(points_of(curve))

    def _log(self, points: Iterable[tuple[str, int, float]]) -> None:
        from mlflow.entities import Metric

        client, now_ms = self._open(), int(1000 * time.time())
        client.log_batch(self._run_id, [Metric(_name(name), value, now_ms, step) for name, step, value in points])

    def _notice(self, stage: str, message: str) -> None:
        self._notices.append(f"{stage}: {message}")
        self._open().log_text(self._run_id, "\n".join(self._notices) + "\n", "notices.txt")

    def close(self) -> None:
        """End the run."""
        if self._client is not None:
            self._client.set_terminated(self._run_id)
            self._client, self._append = None, True  # a closed observer that is called again goes on

    def _open(self) -> Any:
        if self._client is None:
            from mlflow import MlflowClient  # takes long to import, and may be absent

            client = MlflowClient()
            file = self._folder / _ID_FILE
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._append and file.is_file():
                self._run_id = file.read_text(encoding="utf-8").strip()
                client.update_run(self._run_id, status="RUNNING")
            else:
                found = client.get_experiment_by_name(self._experiment)
                place = client.create_experiment(self._experiment) if found is None else found.experiment_id
                self._run_id = client.create_run(place, run_name=self._folder.resolve().name).info.run_id
                file.write_text(self._run_id + "\n", encoding="utf-8")
            self._client = client
        return self._client


def _name(name: str) -> str:
    """Return a metric's name in the characters that MLflow takes."""
    return "".join(sign if sign.isalnum() or sign in "_-. /:" else "-" for sign in name)
