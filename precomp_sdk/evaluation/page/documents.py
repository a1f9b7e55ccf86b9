"""Whole pages, one for each kind of result. None needs a network, another file, or a library of JavaScript."""

from collections.abc import Mapping

from precomp_sdk.evaluation._markup import Html, element, table
from precomp_sdk.evaluation.page.gallery import gallery_section, harm_section
from precomp_sdk.evaluation.page.html import details, document, section
from precomp_sdk.evaluation.page.plot import Point, Series, plot
from precomp_sdk.evaluation.page.sections import (
    RATE_LABEL,
    Curves,
    curve_series,
    curves_section,
    duration,
    pairs_table,
    rate_cells,
    verdict,
)
from precomp_sdk.evaluation.proxy_report import ProxyReport
from precomp_sdk.evaluation.rates.bjontegaard import RATE_HEAD, TASK_LOSS
from precomp_sdk.evaluation.results import Evaluation, JudgeResult
from precomp_sdk.evaluation.transfer.records import CELL_HEAD, TransferMatrix
from precomp_sdk.types import RateAccuracyCurve

__all__ = ["evaluation_page", "proxy_page", "runs_page", "transfer_page"]

_VERSIONS = ("package", "version")


def evaluation_page(evaluation: Evaluation) -> str:
    """Return an evaluation as an HTML page."""
    skipped = f", {len(evaluation.skipped)} unreadable ones skipped" if evaluation.skipped else ""
    lead: list[str] = [
        f"{evaluation.task} on {evaluation.dataset}, {evaluation.images} images{skipped}, codec {evaluation.codec}."
    ]
    baselines = _baselines(evaluation)
    main = [item for item in evaluation.comparisons if item.metric == evaluation.metrics[0]]
    lead += [verdict(item) for item in main if item.test not in baselines]
    lead += [
        element("span", f"{item.test} does not beat its control {item.anchor}: {item.statement}", class_="bad")
        for item in evaluation.against_controls
        if not item.saves
    ]
    sections = [
        curves_section(_curves(evaluation, "Rate and score")),
        *(curves_section(_judge_curves(evaluation, judge)) for judge in evaluation.judges),
    ]
    if evaluation.harm:
        sections.insert(1, harm_section(evaluation.harm, evaluation.quality_name))
    if evaluation.gallery:
        sections.insert(2 if evaluation.harm else 1, gallery_section(evaluation.gallery, evaluation.quality_name))
    sections += [_time(evaluation), _settings(evaluation)]
    return document(f"{evaluation.codec} for {evaluation.task}", lead, sections)


def transfer_page(matrix: TransferMatrix) -> str:
    """Return a transfer matrix as an HTML page: the matrix, then the curves of every codec and backbone."""
    rows = [(*cell.labels, *rate_cells(cell.main)) for cell in matrix.cells]
    head = (*CELL_HEAD, *RATE_HEAD)
    reasons = [
        element("p", f"{cell.preprocessor}, {cell.codec}, {cell.task}: {cell.main.reason}", class_="note")
        for cell in matrix.cells
        if cell.main.reason
    ]
    sections = [section(f"BD-rate on {matrix.metrics[0]} against the anchor", table(head, rows, texts=4), *reasons)]
    for codec in matrix.codecs:
        for task in matrix.tasks:
            cells = [matrix.cell(label, codec, task) for label in matrix.preprocessors]
            sections.append(
                curves_section(
                    Curves(
                        title=f"{task} behind {codec}",
                        quality_name="quality",
                        metrics=matrix.metrics,
                        curves=(cells[0].anchor, *(cell.curve for cell in cells)),
                        comparisons=tuple(item for cell in cells for item in cell.comparisons),
                    )
                )
            )
    sections.append(section("Time", element("p", f"{duration(matrix.seconds)} in all.")))
    versions = {**matrix.environment, **{f"codec {name}": text for name, text in matrix.codec_versions.items()}}
    sections.append(section("Versions", pairs_table(_VERSIONS, versions)))
    return document("Transfer matrix", [f"{matrix.dataset}, {matrix.images} images."], sections)


def proxy_page(report: ProxyReport) -> str:
    """Return what a proxy is worth as an HTML page."""

    def series(label: str, name: str, scale: float = 1.0, kind: str = "strong") -> Series:
        points = []
        for point in report.points:
            number = scale * float(getattr(point, name))
            points.append(
                Point(point.quality, number, f"{label}\n{report.quality_name} {point.quality:g}: {number:.4g}")
            )
        return Series(label, tuple(points), "anchor" if kind == "anchor" else "strong")

    drawings = {
        "PSNR against the codec's image, dB": [
            series("the source itself", "source_psnr_db", kind="anchor"),
            series("the proxy", "proxy_psnr_db"),
        ],
        "error of the bits, %": [
            series("median", "bits_error_median", 100.0),
            series("95th percentile", "bits_error_p95", 100.0),
            series("bias", "bits_bias", 100.0),
        ],
        "rank correlation of bits over images": [series("Spearman's", "rank_correlation")],
    }
    plots = [plot(title, curves, x_label=report.quality_name, logarithmic=False) for title, curves in drawings.items()]
    told = (
        f"A step of {report.step_levels:g} levels root mean square down the proxy's gradient, rounded to 8 bits and "
        "coded by the real codec: how often its bits (its error) fall, and by how much in the median. Rank "
        f"correlation of bits over the ladder: {report.ladder_rank_correlation:.3f}."
    )
    settings = {**{f"codec {name}": item for name, item in report.codec_options.items()}, **report.proxy_options}
    sections = [
        section("Images and bits", element("div", *plots, class_="grid")),
        section("Every quality", report.table.markup(), element("p", told, class_="note")),
        section("Time", element("p", f"{duration(report.seconds)} in all.")),
        section("Settings", pairs_table(("option", "value"), settings)),
    ]
    fitted = f", fitted to {report.fitted_to}" if report.fitted_to else ""
    lead = [f"{report.dataset}, {report.images} images; codec {report.codec} ({report.codec_version}){fitted}."]
    return document(f"{report.proxy} against {report.codec}", lead, sections)


def runs_page(runs: Mapping[str, Evaluation]) -> str:
    """Return evaluations side by side as an HTML page, by labels of one's choice.

    Those of one data set, task and main metric share their plots; others stand apart, for they do not compare.
    """
    rows = []
    for label, run in runs.items():
        for item in run.comparisons:
            if item.metric in (run.metrics[0], TASK_LOSS):
                told = (label, run.codec, run.task, run.dataset, item.test, item.metric)
                rows.append((*told, str(run.images), *rate_cells(item)))
    head = ("run", "codec", "task", "data set", "curve", "metric", "images", *RATE_HEAD)
    sections = [section("BD-rate of each against its own anchor", table(head, rows, texts=6))]
    groups: dict[tuple[str, str, str], dict[str, Evaluation]] = {}
    for label, run in runs.items():
        groups.setdefault((run.task, run.dataset, run.metrics[0]), {})[label] = run
    for (task, dataset, metric), members in groups.items():
        plots = [_runs_plot(members, name) for name in (metric, TASK_LOSS)]
        sections.append(section(f"{task} on {dataset}", element("div", *plots, class_="grid")))
    sections += [
        section("Time", pairs_table(("run", "seconds"), {label: duration(run.seconds) for label, run in runs.items()})),
        section("Settings and versions", _differences(runs)),
    ]
    lead = ["Each run is compared with the anchor it was measured with; curves of several codecs share the rate alone."]
    return document(f"{len(runs)} runs", lead, sections)


def _runs_plot(runs: Mapping[str, Evaluation], metric: str) -> Html:
    """Draw the curves of several runs; an anchor that is another's, point by point, is drawn once."""
    series: list[Series] = []
    anchors: list[RateAccuracyCurve] = []
    for label, run in runs.items():
        for curve in run.curves:
            is_anchor = curve is run.curves[0]
            if is_anchor and curve in anchors:
                continue
            if is_anchor:
                anchors.append(curve)
            muted = curve.label in _baselines(run) or (is_anchor and len(anchors) > 1)
            kind = "muted" if muted else "anchor" if is_anchor else "strong"
            series.append(curve_series(curve, metric, run.quality_name, kind=kind, label=f"{label}: {curve.label}"))
    title = "task loss" if metric == TASK_LOSS else metric
    return plot(title, series, x_label=RATE_LABEL)


def _differences(runs: Mapping[str, Evaluation]) -> Html:
    """Return settings and versions, those that differ in sight, the others on request."""
    columns = {label: dict(_facts(run)) for label, run in runs.items()}
    names = list(dict.fromkeys(name for facts in columns.values() for name in facts))
    rows = {name: [facts.get(name, "") for facts in columns.values()] for name in names}
    different = [(name, *row) for name, row in rows.items() if len(set(row)) > 1]
    same = [(name, *row) for name, row in rows.items() if len(set(row)) == 1]
    head = ("", *columns)
    shown = table(head, different) if different else element("p", "All alike.")
    return element("div", shown, details("What is the same in all", table(head, same)) if same else "")


def _facts(run: Evaluation) -> list[tuple[str, str]]:
    """Return what an evaluation was made with."""
    facts = [
        ("codec", run.codec),
        ("version of the codec", run.codec_version),
        *((f"codec option {name}", str(found)) for name, found in run.codec_options.items()),
    ]
    for curve in run.curves:
        ladder = sorted(point.quality for point in curve.points)
        facts.append((f"ladder of {curve.label}", ", ".join(f"{quality:g}" for quality in ladder)))
    tuned = [
        (f"{item.name}, {item.parameter}", f"{item.value:g}, chosen on {run.tuning_dataset}") for item in run.tuned
    ]
    return [*facts, *tuned, *((f"package {name}", version) for name, version in run.environment.items())]


def _curves(run: Evaluation, title: str) -> Curves:
    return Curves(
        title=title,
        quality_name=run.quality_name,
        metrics=run.metrics,
        curves=run.curves,
        comparisons=run.comparisons,
        baselines=_baselines(run),
        clean=run.clean,
        uncoded=run.uncoded,
    )


def _judge_curves(run: Evaluation, judge: JudgeResult) -> Curves:
    return Curves(
        title=f"Judge {judge.name}: {judge.task}",
        quality_name=run.quality_name,
        metrics=judge.metrics,
        curves=judge.curves,
        comparisons=judge.comparisons,
        baselines=_baselines(run),
        clean=judge.clean,
        uncoded=judge.uncoded,
    )


def _baselines(run: Evaluation) -> frozenset[str]:
    return frozenset([*(tuned.name for tuned in run.tuned), *run.controls])


def _time(run: Evaluation) -> Html:
    passes = sum(len(curve.points) for curve in run.curves)
    told = (
        f"{duration(run.seconds)} in all for {run.images} images: {len(run.curves)} curves with {passes} points, "
        "tuning of the baselines and intervals included."
    )
    rows = [(name, duration(seconds)) for name, seconds in run.timings.items()]
    return section("Time", element("p", told), table(("part", "time"), rows) if rows else "")


def _settings(run: Evaluation) -> Html:
    parts = [pairs_table(("", ""), _facts(run))]
    if run.skipped:
        rows = [(item.key, item.reason) for item in run.skipped]
        parts.append(details(f"{len(run.skipped)} images left out", table(("image", "reason"), rows, texts=2)))
    return section("Settings and versions", *parts)
