"""The figure of a transfer matrix."""

from io import BytesIO
from typing import Literal

import matplotlib.style
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from precomp_sdk.evaluation._figure import ShownFigure
from precomp_sdk.evaluation.plot import STYLE
from precomp_sdk.evaluation.transfer.records import TransferCell, TransferMatrix

__all__ = ["draw_matrix", "figure_of_matrix"]

_LIMIT_PERCENT = 50.0  # where the colours end
_COLOURS = "PuOr_r"  # purple saves, orange costs; distinct for colour-blind readers too
_DARK = 0.62  # beyond this part of the limit, text is white


def draw_matrix(matrix: TransferMatrix, file_format: Literal["png", "svg"]) -> bytes:
    """Draw a row per preprocessor and a column per codec and backbone: BD-rate on the main metric, interval below.

    A thick frame marks codec and backbone that the preprocessor was trained with, a dashed one a cell where only one of
    them was. Drawn without pyplot; the same matrix gives the same bytes with the same version of Matplotlib.

    Returns:
        The file.
    """
    with matplotlib.style.context(STYLE):
        figure, buffer = figure_of_matrix(matrix), BytesIO()
        figure.savefig(buffer, format=file_format, metadata={"Date": None} if file_format == "svg" else None)
    return buffer.getvalue()


def figure_of_matrix(matrix: TransferMatrix) -> Figure:
    """Return the figure that `draw_matrix` writes."""
    columns = [(codec, task) for codec in matrix.codecs for task in matrix.tasks]
    with matplotlib.style.context(STYLE):
        width, height = 3.2 + 1.45 * len(columns), 2.2 + 0.75 * len(matrix.preprocessors)
        figure = ShownFigure(figsize=(max(width, 6.5), height), dpi=130, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for row, preprocessor in enumerate(matrix.preprocessors):
            for column, (codec, task) in enumerate(columns):
                _cell(axes, row, column, matrix.cell(preprocessor, codec, task))
        for edge in range(1, len(matrix.codecs)):
            axes.axvline(edge * len(matrix.tasks) - 0.5, color="black", lw=1.0)
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(matrix.preprocessors) - 0.5, -0.5)
        axes.set_xticks(range(len(columns)), [f"{task}\n{codec}" for codec, task in columns])
        axes.set_yticks(range(len(matrix.preprocessors)), matrix.preprocessors)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        norm = Normalize(-_LIMIT_PERCENT, _LIMIT_PERCENT)
        bar = figure.colorbar(ScalarMappable(norm, colormaps[_COLOURS]), ax=axes, extend="both", pad=0.01)
        bar.set_label(f"BD-rate on {matrix.metrics[0]}, %")
        axes.set_title(
            f"{matrix.dataset}, {matrix.images} images; framed: trained with both, dashed: with one of them",
            fontsize=9,
        )
    return figure


def _cell(axes: Axes, row: int, column: int, cell: TransferCell) -> None:
    value, interval = cell.main.value_percent, cell.main.interval
    share = 0.0 if value is None else max(-1.0, min(1.0, value / _LIMIT_PERCENT))
    colour = "0.92" if value is None else colormaps[_COLOURS](0.5 + 0.5 * share)
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1.0, 1.0, facecolor=colour, edgecolor="white", lw=1.5))
    if cell.codec_in_loop or cell.task_in_loop:
        style = "solid" if cell.in_loop else (0, (3, 2))
        axes.add_patch(
            Rectangle(
                (column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor="black", ls=style, lw=2.0, zorder=3
            )
        )
    text = "no value" if value is None else f"{value:+.1f}"
    if interval is not None:
        text += f"\n{interval}"
    axes.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if abs(share) > _DARK else "black")
