"""The cells of a transfer matrix, and the whole."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from precomp_sdk.errors import CurveError, nearest
from precomp_sdk.evaluation.rates.bjontegaard import RATE_HEAD, BDRate
from precomp_sdk.evaluation.views import ShownTable, Viewed
from precomp_sdk.types import RateAccuracyCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CELL_HEAD", "TrainedWith", "TransferCell", "TransferMatrix"]

CELL_HEAD = ("preprocessor", "codec", "backbone", "in its loop")  #: of the columns of `TransferCell.labels`


@dataclass(frozen=True, slots=True)
class TrainedWith:
    """What a preprocessor was trained with, by the labels of the matrix.

    Args:
        codecs: in its loop.
        tasks: likewise.
    """

    codecs: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TransferCell:
    """One preprocessor with one codec, judged by one backbone.

    Args:
        preprocessor: its label.
        codec: likewise.
        task: likewise.
        codec_in_loop: the preprocessor was trained with this codec.
        task_in_loop: ... with this backbone.
        comparisons: against the anchor, for each metric and for `TASK_LOSS`; the first is the main one.
        anchor: the anchor's curve.
        curve: the preprocessor's.
    """

    preprocessor: str
    codec: str
    task: str
    codec_in_loop: bool
    task_in_loop: bool
    comparisons: tuple[BDRate, ...]
    anchor: RateAccuracyCurve
    curve: RateAccuracyCurve

    @property
    def in_loop(self) -> bool:
        """True where it was trained with both."""
        return self.codec_in_loop and self.task_in_loop

    @property
    def labels(self) -> tuple[str, str, str, str]:
        """What stands in a table under `CELL_HEAD`."""
        within = [name for name, own in (("codec", self.codec_in_loop), ("backbone", self.task_in_loop)) if own]
        return self.preprocessor, self.codec, self.task, " and ".join(within) or "nothing"

    @property
    def main(self) -> BDRate:
        """The comparison on the main metric."""
        return self.comparisons[0]


@dataclass(frozen=True, slots=True, repr=False)
class TransferMatrix(Viewed):
    """All cells, in the order of preprocessors, then codecs, then backbones.

    Args:
        dataset: name of the data set.
        images: how many were measured.
        metrics: of the backbones; the first is the main one.
        preprocessors: their labels.
        codecs: likewise.
        tasks: likewise.
        cells: one for each combination.
        environment: versions of the packages.
        seconds: wall time.
        codec_versions: of the libraries that do the work, by the codec's label; older files do not say.
    """

    dataset: str
    images: int
    metrics: tuple[str, ...]
    preprocessors: tuple[str, ...]
    codecs: tuple[str, ...]
    tasks: tuple[str, ...]
    cells: tuple[TransferCell, ...]
    environment: Mapping[str, str]
    seconds: float
    codec_versions: Mapping[str, str] = field(default_factory=dict)

    def cell(self, preprocessor: str, codec: str, task: str) -> TransferCell:
        """Return one cell.

        Raises:
            CurveError: there is none.
        """
        wanted = (preprocessor, codec, task)
        known = {(item.preprocessor, item.codec, item.task): item for item in self.cells}
        if wanted not in known:
            raise CurveError(
                where="TransferMatrix.cell",
                expected="labels of a preprocessor, a codec and a task",
                got=" ".join(wanted),
                remedy=nearest(" ".join(wanted), [" ".join(labels) for labels in known]),
            )
        return known[wanted]

    def _figure(self) -> "Figure":
        from precomp_sdk.evaluation.transfer.plot import figure_of_matrix

        return figure_of_matrix(self)

    def _rows(self) -> list[Mapping[str, object]]:
        return [
            {
                "preprocessor": cell.preprocessor,
                "codec": cell.codec,
                "task": cell.task,
                "in_loop": cell.in_loop,
                "metric": item.metric,
                "bd_rate_percent": item.value_percent,
                "low": None if item.interval is None else item.interval.low_percent,
                "high": None if item.interval is None else item.interval.high_percent,
                "overlap": item.overlap,
            }
            for cell in self.cells
            for item in cell.comparisons
        ]

    def _shown(self) -> Iterator[str | ShownTable]:
        yield f"BD-rate on {self.metrics[0]} against the anchor, {self.dataset}: {self.images} images"
        yield ShownTable((*CELL_HEAD, *RATE_HEAD), [(*cell.labels, *cell.main.cells) for cell in self.cells], texts=4)
        for cell in self.cells:
            if cell.main.reason:
                yield f"{cell.preprocessor}, {cell.codec}, {cell.task}: {cell.main.reason}"
