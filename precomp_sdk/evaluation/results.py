"""The whole result of an evaluation, as text and as JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from precomp_sdk._deprecated import current_results
from precomp_sdk.data import SkippedSample
from precomp_sdk.errors import CurveError, nearest
from precomp_sdk.evaluation.gallery import GalleryImage
from precomp_sdk.evaluation.harm import Harm
from precomp_sdk.evaluation.rates.bjontegaard import RATE_HEAD, TASK_LOSS, BDRate
from precomp_sdk.evaluation.statistics import CleanScore, UncodedScore
from precomp_sdk.evaluation.tuning import TunedBaseline
from precomp_sdk.evaluation.views import ShownTable, Viewed, plain_values
from precomp_sdk.types import RateAccuracyCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Evaluation",
    "JudgeResult",
    "OptionValue",
    "read_record_json",
    "read_results",
    "record_json",
    "results_json",
]

OptionValue: TypeAlias = bool | int | float | str | None  #: what an option of a codec is recorded as

_FORMAT = "precomp-evaluation-1"


@dataclass(frozen=True, slots=True)
class JudgeResult:
    """What a network outside the loop makes of the images that were sent for the task.

    Args:
        label: of the judge.
        task: its name.
        pseudo_labels: it was scored against its own answers on the clean images.
        metrics: its own; the first is the main one.
        clean: the judge on the untouched 8-bit images, with no codec.
        uncoded: the judge on every preprocessor's images with no codec.
        curves: the anchor's first.
        comparisons: every other curve against the anchor's, for each metric and for `TASK_LOSS`.
    """

    label: str
    task: str
    pseudo_labels: bool
    metrics: tuple[str, ...]
    clean: CleanScore
    uncoded: tuple[UncodedScore, ...]
    curves: tuple[RateAccuracyCurve, ...]
    comparisons: tuple[BDRate, ...]

    @property
    def harmed(self) -> tuple[BDRate, ...]:
        """The comparisons in which sending the images otherwise costs this judge bits."""
        return tuple(item for item in self.comparisons if item.harms)

    @property
    def name(self) -> str:
        """The label, and what it is scored against."""
        return f"{self.label} (against {'its own clean answers' if self.pseudo_labels else 'the labels'})"


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation(Viewed):
    """One codec and one task, measured over a data set.

    Args:
        dataset: name of the data set.
        images: how many images were measured.
        skipped: images that could not be read and were left out on request.
        task: name of the task.
        codec: name of the codec.
        codec_version: of the library that does the work.
        codec_options: what the codec was constructed with.
        quality_name: what the codec's knob is called.
        metrics: of the task; the first is the main one.
        clean: the task on the untouched 8-bit images, with no codec.
        curves: the anchor's first.
        comparisons: every other curve against the anchor's, for each metric and for `TASK_LOSS`.
        tuned: how the baselines were tuned.
        tuning_dataset: name of the data set they were tuned on.
        environment: versions of the packages.
        seconds: wall time.
        uncoded: the task on every preprocessor's images with no codec, at the ladder's mildest quality: what the
            preprocessor costs the task before any codec does.
        judges: what networks outside the loop make of the same images.
        controls: labels of the curves that nothing was chosen for, such as ``"equal-bits"``.
        against_controls: every preprocessor and other way to send against every control, for the main metric and for
            `TASK_LOSS`: what is not below zero by its whole interval does not beat its control.
        harm: whom each preprocessor hurts, where it shares a quality with the anchor.
        gallery: a few images as they were sent, to look at; neither written to JSON nor compared.
        timings: seconds of each part of the work, by its name: what a curve took includes the task and all judges.
    """

    dataset: str
    images: int
    skipped: tuple[SkippedSample, ...]
    task: str
    codec: str
    codec_version: str
    codec_options: Mapping[str, OptionValue]
    quality_name: str
    metrics: tuple[str, ...]
    clean: CleanScore
    curves: tuple[RateAccuracyCurve, ...]
    comparisons: tuple[BDRate, ...]
    tuned: tuple[TunedBaseline, ...]
    tuning_dataset: str
    environment: Mapping[str, str]
    seconds: float
    uncoded: tuple[UncodedScore, ...] = ()
    judges: tuple[JudgeResult, ...] = ()
    controls: tuple[str, ...] = ()
    against_controls: tuple[BDRate, ...] = ()
    harm: tuple[Harm, ...] = ()
    gallery: tuple[GalleryImage, ...] = field(default=(), compare=False)
    timings: Mapping[str, float] = field(default_factory=dict, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers in plain JSON values; no images."""
        found: dict[str, Any] = plain_values(self.without_images())
        return found

    def without_images(self) -> "Evaluation":
        """Return the numbers alone, as they are written to JSON."""
        return replace(self, gallery=())

    def curve(self, label: str) -> RateAccuracyCurve:
        """Return a curve by its label.

        Raises:
            CurveError: there is no such curve.
        """
        for curve in self.curves:
            if curve.label == label:
                return curve
        labels = [curve.label for curve in self.curves]
        raise CurveError(
            where="Evaluation.curve", expected="the label of a curve", got=repr(label), remedy=nearest(label, labels)
        )

    def comparison(self, label: str, metric: str | None = None) -> BDRate:
        """Return a curve's BD-rate against the anchor; ``metric`` is the main one by default.

        Raises:
            CurveError: there is no such comparison.
        """
        wanted = (label, metric or self.metrics[0])
        known = {(item.test, item.metric): item for item in self.comparisons}
        if wanted not in known:
            raise CurveError(
                where="Evaluation.comparison",
                expected="a curve other than the plain one, and a metric",
                got=" on ".join(wanted),
                remedy=nearest(" on ".join(wanted), [" on ".join(pair) for pair in known]),
            )
        return known[wanted]

    def _figure(self) -> "Figure":
        from precomp_sdk.evaluation.plot import figure_of

        return figure_of(self)

    def _rows(self) -> list[Mapping[str, object]]:
        return [
            {
                "curve": curve.label,
                "quality": point.quality,
                "bpp": point.bpp,
                **point.scores,
                TASK_LOSS: point.task_loss,
            }
            for curve in self.curves
            for point in curve.points
        ]

    def _shown(self) -> Iterator[str | ShownTable]:
        skipped = f", {len(self.skipped)} unreadable ones skipped" if self.skipped else ""
        options = ", ".join(f"{name}={value}" for name, value in self.codec_options.items())
        yield (
            f"{self.task} on {self.dataset}: {self.images} images{skipped}\n"
            f"codec {self.codec} ({', '.join(filter(None, (self.codec_version, options)))}), {self.seconds:.0f} s"
        )
        yield _points(self, self.quality_name)
        yield from _rates(self.comparisons)
        beaten = [item for item in self.against_controls if not item.saves]
        yield from (f"{item.test} DOES NOT BEAT its control {item.anchor}: {item.statement}" for item in beaten)
        for judge in self.judges:
            yield f"judge {judge.name}: {judge.task}"
            yield _points(judge, self.quality_name)
            yield from _rates(judge.comparisons)
            yield from (f"{item.test} HARMS {judge.label}: {item.statement}" for item in judge.harmed)


def results_json(evaluation: Evaluation) -> str:
    """Return an evaluation as JSON: all numbers, no images."""
    return record_json(_FORMAT, "evaluation", evaluation.without_images())


def record_json(file_format: str, key: str, record: object) -> str:
    """Return a record as JSON, complete, under a key beside the name of the format."""
    plain = {"format": file_format, key: plain_values(record)}
    return json.dumps(plain, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def read_results(path: Path | str) -> Evaluation:
    """Read back what `write_report` wrote as ``results.json``.

    Raises:
        CurveError: the file is not such a file.
        OSError: it cannot be read.
    """
    found: Evaluation = read_record_json(Path(path), _FORMAT, "evaluation", Evaluation)
    return found


def read_record_json(path: Path, file_format: str, key: str, cls: type) -> Any:
    """Read back a record that `record_json` wrote.

    Raises:
        CurveError: the file is not such a file.
        OSError: it cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.get("format") != file_format:
            raise _not_results(path, file_format, "another format")
        return TypeAdapter(cls).validate_python(current_results(data.get(key)))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _not_results(path, file_format, f"{first['msg']} at {place!r}") from error
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and values nested too deeply
        raise _not_results(path, file_format, f"no JSON ({error})") from error


def _not_results(path: Path, file_format: str, got: str) -> CurveError:
    return CurveError(
        where=str(path),
        expected=f"a results file, {file_format}",
        got=got,
        remedy="Evaluate again, or choose another file.",
    )


def _points(found: Evaluation | JudgeResult, quality_name: str) -> ShownTable:
    """Return a row for each curve and quality, after the scores without a codec."""
    rows = [["clean", "", "", *_scores(found.clean.scores, found.clean.task_loss, found.metrics)]]
    for item in found.uncoded:
        scores = _scores(item.score.scores, item.score.task_loss, found.metrics)
        rows.append([f"{item.label}, no codec", f"{item.quality:g}", "", *scores])
    for curve in found.curves:
        label = curve.label + "".join(f" {name}={value:g}" for name, value in curve.settings.items())
        for point in curve.points:
            scores = _scores(point.scores, point.task_loss, found.metrics)
            rows.append([label, f"{point.quality:g}", f"{point.bpp:.4f}", *scores])
            label = ""
    return ShownTable(("curve", quality_name, "bpp", *found.metrics, TASK_LOSS), rows)


def _rates(comparisons: Sequence[BDRate]) -> Iterator[str | ShownTable]:
    """Return a row for each comparison, and what limits their meaning."""
    if not comparisons:
        return
    rows = [(item.test, item.metric, *item.cells) for item in comparisons]
    yield ShownTable(("BD-rate against the anchor", "metric", *RATE_HEAD), rows, texts=2)
    yield from (item.statement for item in comparisons if item.reason or not item.monotone)


def _scores(scores: Mapping[str, float], task_loss: float, metrics: Sequence[str]) -> list[str]:
    return [*(f"{scores[metric]:.4f}" for metric in metrics), f"{task_loss:.4f}"]
