"""What is written beside the results: how they came about."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from precomp_sdk._deprecated import current_tables
from precomp_sdk.atomic_io import write_whole
from precomp_sdk.codec import Codec
from precomp_sdk.config import Experiment
from precomp_sdk.errors import CheckpointError, reason_of
from precomp_sdk.observers import plain
from precomp_sdk.registry import Registry
from precomp_sdk.versions import environment_versions

__all__ = ["EVENTS_FILE", "RECORD_FILE", "read_record", "record"]

RECORD_FILE = "run.json"  #: how each stage was run; the evaluation's numbers stand in ``results.json``
EVENTS_FILE = "events.jsonl"  #: every event, one per line

_FORMAT = "precomp-run-1"


def record(
    folder: Path,
    stage: str,
    *,
    experiment: Experiment,
    codec: Codec,
    registry: Registry,
    command: str,
    results: Mapping[str, Any],
) -> None:
    """Add one stage to the record of a folder: command, versions, seeds, the whole experiment, and results.

    Args:
        folder: of the run.
        stage: ``"training"`` or ``"evaluation"``; an earlier record of it is replaced.
        experiment: as it was carried out.
        codec: for its version.
        registry: for the packages the components come from.
        command: that started it, or empty for a call from Python.
        results: anything `plain` can write.
    """
    path = folder / RECORD_FILE
    whole = read_record(folder) if path.exists() else {}
    whole |= {
        "format": _FORMAT,
        stage: {
            "command": command,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {**environment_versions(), "codec": f"{codec.name}: {codec.version}"},
            "components": _components(experiment, registry),
            "seeds": _seeds(experiment),
            "experiment": experiment.model_dump(mode="json"),
            "results": plain(results),
        },
    }
    write_whole(path, json.dumps(whole, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a folder, by stage.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = folder / RECORD_FILE
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(whole, dict) or whole.get("format") != _FORMAT:
            raise ValueError("another format")  # told below, like the other kinds of damage
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            where=str(path),
            expected="the record of a run",
            got=reason_of(error),
            remedy="Train anew, or choose its folder.",
        ) from error
    for stage, told in whole.items():
        if isinstance(told, dict) and isinstance(told.get("experiment"), dict):
            told["experiment"] = current_tables(told["experiment"], f"{path}, {stage}")
    return whole


def _components(experiment: Experiment, registry: Registry) -> dict[str, str]:
    """Return the package and version that each component comes from."""
    used = {
        ("codec", experiment.codec.name),
        ("proxy", experiment.proxy.name or ""),
        ("preprocessor", experiment.preprocessor.name),
        ("task", experiment.task.name),
        *(("dataset", table.name) for table in (experiment.data.train, experiment.data.val)),
    }
    return {
        f"{item.kind} {item.name}": f"{item.plugin.package} {item.plugin.version}".strip()
        for item in registry.components()
        if {(item.kind, item.name), (item.kind, item.plugin.name)} & used  # an import path is its plugin's name
    }


def _seeds(experiment: Experiment) -> dict[str, int]:
    tables = {
        "train": experiment.train,
        "task.fit": experiment.task.fit,
        "proxy.fit": experiment.proxy.fit,
        "evaluate": experiment.evaluate,
    }
    return {key: int(getattr(table, "seed")) for key, table in tables.items() if table is not None}  # noqa: B009
