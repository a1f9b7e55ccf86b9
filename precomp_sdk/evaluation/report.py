"""Writes an evaluation to a folder: JSON, CSV, plots and a page to look at."""

import csv
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from precomp_sdk.atomic_io import write_files, write_whole
from precomp_sdk.evaluation.page import evaluation_page, runs_page
from precomp_sdk.evaluation.rates.bjontegaard import TASK_LOSS
from precomp_sdk.evaluation.results import Evaluation, results_json

__all__ = ["write_report", "write_runs"]


def write_report(evaluation: Evaluation, folder: Path | str) -> tuple[Path, ...]:
    """Write ``results.json``, ``points.csv``, ``rate_accuracy.png`` and ``.svg``, and ``report.html``.

    With judges, ``judges.csv`` too. The page is one file, under 5 MB, that loads nothing from anywhere.

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
        "report.html": evaluation_page(evaluation).encode(),
        "results.json": results_json(evaluation).encode(),
    }
    if evaluation.judges:
        contents["judges.csv"] = _judges_csv(evaluation).encode()
    return write_files(folder, contents)


def write_runs(runs: Mapping[str, Evaluation], path: Path | str) -> None:
    """Write an HTML page that lays several evaluations side by side.

    Args:
        runs: by labels of your choice; `read_results` reads what `write_report` wrote.
        path: of the page.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(Path(path), runs_page(runs))


def _judges_csv(evaluation: Evaluation) -> str:
    """Return one row per judge, curve, quality and metric: judges have metrics of their own."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["judge", "curve", "settings", "quality", "bpp", "metric", "value"])
    for judge in evaluation.judges:
        clean = [("clean", "", judge.clean)]
        uncoded = [(f"{item.label}, no codec", f"{item.quality:g}", item.score) for item in judge.uncoded]
        for label, quality, score in [*clean, *uncoded]:
            for metric, value in {**score.scores, TASK_LOSS: score.task_loss}.items():
                writer.writerow([judge.label, label, "", quality, "", metric, value])
        for curve in judge.curves:
            settings = " ".join(f"{name}={value:g}" for name, value in curve.settings.items())
            for point in curve.points:
                for metric, value in {**point.scores, TASK_LOSS: point.task_loss}.items():
                    writer.writerow(
                        [judge.label, curve.label, settings, f"{point.quality:g}", point.bpp, metric, value]
                    )
    return text.getvalue()


def _points_csv(evaluation: Evaluation) -> str:
    """Return one row per curve and quality; what is scored without a codec is a row without a rate."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["curve", "settings", "quality", "bpp", *evaluation.metrics, "task_loss"])
    clean = evaluation.clean
    writer.writerow(["clean", "", "", "", *(clean.scores[metric] for metric in evaluation.metrics), clean.task_loss])
    for item in evaluation.uncoded:
        scores = [item.score.scores[metric] for metric in evaluation.metrics]
        writer.writerow([f"{item.label}, no codec", "", f"{item.quality:g}", "", *scores, item.score.task_loss])
    for curve in evaluation.curves:
        settings = " ".join(f"{name}={value:g}" for name, value in curve.settings.items())
        for point in curve.points:
            scores = [point.scores[metric] for metric in evaluation.metrics]
            writer.writerow([curve.label, settings, f"{point.quality:g}", point.bpp, *scores, point.task_loss])
    return text.getvalue()
