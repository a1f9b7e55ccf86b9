"""Writes an evaluation to a folder: JSON, CSV and plots."""

import csv
import os
import tempfile
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from precomp_sdk.evaluation.results import Evaluation, results_json

__all__ = ["write_files", "write_report"]


def write_report(evaluation: Evaluation, folder: Path | str) -> tuple[Path, ...]:
    """Write ``results.json``, ``points.csv``, ``rate_accuracy.png`` and ``rate_accuracy.svg``.

    Everything is made before the first file is put in its place, and each file is put there whole: an interrupted call
    leaves older files or new ones, never half of one.

    Args:
        evaluation: what to write; `read_results` reads ``results.json`` back.
        folder: where to; it is made where it does not exist.

    Returns:
        The paths of the files.

    Raises:
        OSError: the folder cannot be written to.
    """
    from precomp_sdk.evaluation.plot import draw  # Matplotlib takes long to import; measuring does not need it

    contents = {
        "points.csv": _points_csv(evaluation).encode(),
        "rate_accuracy.png": draw(evaluation, "png"),
        "rate_accuracy.svg": draw(evaluation, "svg"),
        "results.json": results_json(evaluation).encode(),
    }
    return write_files(folder, contents)


def write_files(folder: Path | str, contents: Mapping[str, bytes]) -> tuple[Path, ...]:
    """Write files into a folder, which is made where it does not exist; each is put in its place whole.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[tuple[Path, Path]] = []
    try:
        for name, content in contents.items():
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".part")
            written.append((Path(temporary), folder / name))
            with os.fdopen(handle, "wb") as file:
                file.write(content)
        for part, path in written:
            part.chmod(0o644)  # mkstemp makes files that only their owner can read
            part.replace(path)
    finally:
        for part, _ in written:
            part.unlink(missing_ok=True)
    return tuple(path for _, path in written)


def _points_csv(evaluation: Evaluation) -> str:
    """Return one row per curve and quality; the clean score is a row without a rate."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["curve", "settings", "quality", "bpp", *evaluation.metrics, "task_loss"])
    clean = evaluation.clean
    writer.writerow(["clean", "", "", "", *(clean.scores[metric] for metric in evaluation.metrics), clean.task_loss])
    for curve in evaluation.curves:
        settings = " ".join(f"{name}={value:g}" for name, value in curve.settings.items())
        for point in curve.points:
            scores = [point.scores[metric] for metric in evaluation.metrics]
            writer.writerow([curve.label, settings, f"{point.quality:g}", point.bpp, *scores, point.task_loss])
    return text.getvalue()
