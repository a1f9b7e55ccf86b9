"""The HTML pages: nothing from outside, nothing of a stranger's is markup, everything is said."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from precomp_sdk import cli
from precomp_sdk.evaluation import (
    CleanScore,
    Evaluation,
    GradientCheck,
    JudgeResult,
    ProxyPoint,
    ProxyReport,
    TransferCell,
    TransferMatrix,
    UncodedScore,
    bd_rate,
    write_report,
    write_transfer,
)
from precomp_sdk.evaluation._markup import element, table
from precomp_sdk.evaluation.page import evaluation_page, proxy_page, runs_page, transfer_page
from precomp_sdk.evaluation.page.plot import Point, Series, plot

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
LOADS = {"src", "href", "action", "data", "poster", "srcset", "xlink:href", "background"}


class Parsed(HTMLParser):
    """What a browser would see: elements with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data + "\n"

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def check_page(page: str) -> Parsed:
    """Check what holds for every page."""
    parsed = Parsed(page)
    assert not parsed.open
    assert len(page.encode()) < 5_000_000
    assert len(parsed.all("script")) == len(parsed.all("style")) == 1
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {name for name, _ in parsed.elements}
    for _, attributes in parsed.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert all(attributes[name].startswith("data:image/") for name in LOADS & set(attributes))
    assert "default-src 'none'" in next(item["content"] for item in parsed.all("meta") if "http-equiv" in item)
    assert "//" not in next(text for text in page.split("<style>")[1:]).split("</style>")[0]
    assert "prefers-color-scheme: dark" in page
    assert any(item.get("name") == "viewport" for item in parsed.all("meta"))
    return parsed


@pytest.fixture
def evaluation(draw_curve) -> Evaluation:
    anchor = draw_curve("anchor", [0.1, 0.2, 0.4], [0.5, 0.6, 0.7])
    mine = draw_curve("mine", [0.08, 0.16, 0.3], [0.5, 0.6, 0.7])
    blur = replace(draw_curve("equal-bits", [0.1, 0.2, 0.4], [0.4, 0.5, 0.6]), settings={"sigma": 0.5})
    clean = CleanScore({"top1": 0.8}, 0.2)
    comparisons = tuple(bd_rate(anchor, item, metric) for item in (mine, blur) for metric in ("top1", "task_loss"))
    uncoded = (UncodedScore("mine", 40.0, CleanScore({"top1": 0.79}, 0.21)),)
    judge = JudgeResult("witness", "net", True, ("top1",), clean, uncoded, (anchor, mine), comparisons[:2])
    return Evaluation(
        dataset="images of ours",
        images=24,
        skipped=(),
        task="net of ours",
        codec="fake",
        codec_version="fake 1.2",
        codec_options={"subsampling": "4:2:0"},
        quality_name="quality",
        metrics=("top1",),
        clean=clean,
        curves=(anchor, mine, blur),
        comparisons=comparisons,
        tuned=(),
        tuning_dataset="images of ours",
        environment={"torch": "9.9"},
        seconds=75.0,
        uncoded=uncoded,
        judges=(judge,),
        controls=("equal-bits",),
    )


def hostile(evaluation: Evaluation) -> Evaluation:
    """Put markup wherever a stranger's name can stand."""
    curves = tuple(replace(item, label=HOSTILE + str(place)) for place, item in enumerate(evaluation.curves))
    renamed = {before.label: after.label for before, after in zip(evaluation.curves, curves, strict=True)}
    comparisons = tuple(replace(item, test=renamed[item.test], reason=HOSTILE) for item in evaluation.comparisons)
    judge = replace(evaluation.judges[0], label=HOSTILE, task=HOSTILE, curves=curves, comparisons=comparisons)
    return replace(
        evaluation,
        **dict.fromkeys(("dataset", "task", "codec", "codec_version", "quality_name", "tuning_dataset"), HOSTILE),
        codec_options={HOSTILE: HOSTILE},
        environment={HOSTILE: HOSTILE},
        curves=curves,
        comparisons=comparisons,
        judges=(judge,),
    )


def test_the_page_says_every_curve_comparison_setting_and_version(evaluation):
    parsed = check_page(evaluation_page(evaluation))
    tips = [item["data-tip"] for _, item in parsed.elements if "data-tip" in item]
    for curve in evaluation.curves:
        assert curve.label in parsed.text
        for point in curve.points:
            assert any(f"{point.bpp:.4f} bpp" in tip and f"top1 {point.scores['top1']:.4f}" in tip for tip in tips)
    for item in evaluation.comparisons:
        assert f"{item.value_percent:+.2f}%" in parsed.text
    for text in ("witness (against its own clean answers): net", "fake 1.2", "4:2:0", "9.9", "75.0 s", "0.2100"):
        assert text in parsed.text
    assert len(parsed.all("svg")) == 4  # score and loss, of the task and of the judge
    assert len(parsed.all("polyline")) == 2 * (3 + 2)


@pytest.mark.parametrize("page", [evaluation_page, lambda run: runs_page({HOSTILE: run, "b": run})])
def test_names_are_never_markup(evaluation, page):
    before, after = check_page(page(evaluation)), check_page(page(hostile(evaluation)))
    assert "alert(1)" in after.text
    assert not after.all("img")
    assert {name for name, _ in after.elements} == {name for name, _ in before.elements}


def test_what_is_not_made_by_element_is_text():
    assert element("b", "<i>", data_tip='"&') == '<b data-tip="&quot;&amp;">&lt;i&gt;</b>'
    assert "<td>&lt;i&gt;\\x1b</td>" in table(("", ""), [("a", "<i>\x1b")])


def test_the_report_writes_the_page(evaluation, tmp_path):
    write_report(evaluation, tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == evaluation_page(evaluation)


def test_a_transfer_matrix_has_its_page(evaluation, tmp_path):
    anchor, mine = evaluation.curves[:2]
    cell = TransferCell("mine <i>", "jpeg <i>", "net <i>", True, False, evaluation.comparisons[:2], anchor, mine)
    matrix = TransferMatrix(
        *("images of ours", 24, ("top1",), ("mine <i>",), ("jpeg <i>",), ("net <i>",), (cell,), {"torch": "9.9"}, 3.0),
        codec_versions={"jpeg <i>": "libjpeg 6"},
    )
    parsed = check_page(transfer_page(matrix))
    assert not parsed.all("i")
    for text in ("mine <i>", "net <i> behind jpeg <i>", "libjpeg 6", f"{cell.main.value_percent:+.2f}%"):
        assert text in parsed.text
    assert "transfer.html" in {path.name for path in write_transfer(matrix, tmp_path)}


def test_a_proxy_report_has_its_page():
    check = GradientCheck(0.9, -0.01)
    points = tuple(ProxyPoint(q, 30.0, 40.0 + q, 0.02, 0.05, 0.01, float("nan"), check, check) for q in (5.0, 40.0))
    report = ProxyReport(
        *("proxy <i>", {"width": "<i>"}, "", "jpeg", "libjpeg 6", {}, "quality", "images", 24, 1.0, 0.99, points, 3.0)
    )
    parsed = check_page(proxy_page(report))
    assert not parsed.all("i")
    assert "proxy <i> against jpeg" in parsed.text
    assert any(item.get("data-tip") == "the proxy\nquality 40: 80" for item in parsed.all("circle"))
    assert "rank correlation of bits over images: no points" in parsed.text


@pytest.mark.slow
def test_runs_are_laid_side_by_side(evaluation, tmp_path: Path):
    other = replace(evaluation, environment={"torch": "10.0"}, curves=evaluation.curves[:2])
    foreign = replace(evaluation, dataset="theirs")
    for name, run in (("a", evaluation), ("b", other), ("c", foreign)):
        write_report(run, tmp_path / name)
    folders = [str(tmp_path / "a"), str(tmp_path / "b" / "results.json"), str(tmp_path / "c")]
    result = CliRunner().invoke(cli.app, ["report", *folders, "--output", str(tmp_path / "new" / "page.html")])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    parsed = check_page(page)
    for text in ("3 runs", "net of ours on theirs", "9.9", "10.0", *(f"{folder}: mine" for folder in folders)):
        assert text in parsed.text
    assert len(parsed.all("svg")) == 4  # two data sets do not share a plot
    assert f"{folders[1]}: anchor" not in parsed.text  # the same anchor is drawn once
    missing = CliRunner().invoke(cli.app, ["report", str(tmp_path / "none")])
    assert missing.exit_code == 1
    assert "none" in missing.stderr


def test_points_stand_where_their_values_are():
    points = (Point(0.1, 1.0, ""), Point(1.0, 2.0, ""), Point(10.0, float("nan"), ""), Point(10.0, 3.0, ""))
    parsed = Parsed(plot("score", [Series("a", points)], x_label="rate"))
    places = [(float(item["cx"]), float(item["cy"])) for item in parsed.all("circle") if item["class"] == "dot"]
    assert len(places) == 3
    (left, low), (middle, mid), (right, high) = places
    assert middle == pytest.approx((left + right) / 2, abs=0.02)  # logarithmic
    assert mid == pytest.approx((low + high) / 2, abs=0.02)
    assert low > high  # higher scores stand higher
    flat = Parsed(plot("score", [Series("a", (Point(0.1, 0.0, ""),))], x_label="rate"))
    assert all(0 < float(item["cy"]) < 340 for item in flat.all("circle"))
