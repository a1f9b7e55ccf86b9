"""Writes a transfer matrix to a folder: JSON, CSV, the figure and a page to look at."""

import csv
from io import StringIO
from pathlib import Path

from precomp_sdk.atomic_io import write_files
from precomp_sdk.evaluation.results import read_record_json, record_json
from precomp_sdk.evaluation.transfer.records import TransferMatrix

__all__ = ["read_transfer", "write_transfer"]

_FORMAT = "precomp-transfer-1"
_COLUMNS = (
    *("preprocessor", "codec", "task", "codec_in_loop", "task_in_loop", "metric", "bd_rate_percent"),
    *("low_percent", "high_percent", "overlap", "reason"),
)


def write_transfer(matrix: TransferMatrix, folder: Path | str) -> tuple[Path, ...]:
    """Write ``transfer.json``, ``transfer.csv``, ``transfer.png``, ``.svg`` and ``transfer.html``.

    Args:
        matrix: what to write; `read_transfer` reads ``transfer.json`` back.
        folder: where to; it is made where it does not exist.

    Returns:
        The paths of the files.

    Raises:
        OSError: the folder cannot be written to.
    """
    from precomp_sdk.evaluation.page import transfer_page
    from precomp_sdk.evaluation.transfer.plot import draw_matrix  # Matplotlib takes long to import

    return write_files(
        folder,
        {
            "transfer.csv": _csv(matrix).encode(),
            "transfer.png": draw_matrix(matrix, "png"),
            "transfer.svg": draw_matrix(matrix, "svg"),
            "transfer.html": transfer_page(matrix).encode(),
            "transfer.json": record_json(_FORMAT, "transfer", matrix).encode(),
        },
    )


def read_transfer(path: Path | str) -> TransferMatrix:
    """Read back what `write_transfer` wrote as ``transfer.json``.

    Raises:
        CurveError: the file is not such a file.
        OSError: it cannot be read.
    """
    found: TransferMatrix = read_record_json(Path(path), _FORMAT, "transfer", TransferMatrix)
    return found


def _csv(matrix: TransferMatrix) -> str:
    """Return one row per cell and metric."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for cell in matrix.cells:
        for item in cell.comparisons:
            ends = ("", "") if item.interval is None else (item.interval.low_percent, item.interval.high_percent)
            labels = (cell.preprocessor, cell.codec, cell.task, cell.codec_in_loop, cell.task_in_loop)
            writer.writerow([*labels, item.metric, item.value_percent, *ends, item.overlap, item.reason])
    return text.getvalue()
