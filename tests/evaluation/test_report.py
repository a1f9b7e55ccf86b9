import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest
from PIL import Image

from precomp_sdk import CurveError, RateAccuracyCurve
from precomp_sdk.evaluation import BLUR, Baseline, EvaluateSettings, evaluate, plot, read_results, write_report
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeTask

NAMES = {"results.json", "points.csv", "rate_accuracy.png", "rate_accuracy.svg", "report.html"}


@pytest.fixture(scope="module")
def evaluation():
    return evaluate(
        FakeCodec(),
        FakeTask(),
        FakeDataset(count=24, unreadable=[3]),
        preprocessors={"qa-light": FakePreprocessor(gain=0.1)},
        settings=EvaluateSettings(
            ladder=(5, 15, 40),
            baselines=(Baseline("blur", "sigma", (0.5,), BLUR.channel),),
            replicates=50,
            skip_unreadable=True,
        ),
    )


def test_the_folder_holds_the_five_files_and_nothing_else(evaluation, tmp_path):
    folder = tmp_path / "new" / "report"
    paths = write_report(evaluation, folder)
    assert {path.name for path in paths} == NAMES
    assert {path.name for path in folder.iterdir()} == NAMES
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in paths)


def test_what_is_read_back_is_what_was_written(evaluation, tmp_path):
    write_report(evaluation, tmp_path)
    assert read_results(tmp_path / "results.json") == evaluation


def test_the_table_holds_every_point_and_the_clean_score(evaluation, tmp_path):
    write_report(evaluation, tmp_path)
    rows = list(csv.DictReader((tmp_path / "points.csv").read_text().splitlines()))
    assert rows[0]["curve"] == "clean"
    assert float(rows[0]["top1"]) == evaluation.clean.scores["top1"]
    points = [(curve, point) for curve in evaluation.curves for point in curve.points]
    uncoded = evaluation.uncoded[0]
    assert (rows[1]["curve"], rows[1]["quality"], rows[1]["bpp"]) == ("qa-light, no codec", "40", "")
    assert float(rows[1]["task_loss"]) == uncoded.score.task_loss > evaluation.clean.task_loss
    assert len(rows) == 2 + len(points)
    for row, (curve, point) in zip(rows[2:], points, strict=True):
        assert row["curve"] == curve.label
        assert (float(row["quality"]), float(row["bpp"])) == (point.quality, point.bpp)
        assert (float(row["top1"]), float(row["task_loss"])) == (point.scores["top1"], point.task_loss)
    assert rows[-1]["settings"] == "sigma=0.5"


def test_the_summary_tells_what_the_preprocessor_costs_before_any_codec(evaluation):
    rows = [line.split() for line in evaluation.summary().splitlines()]
    row = next(row for row in rows if row[:3] == ["qa-light,", "no", "codec"])
    score = evaluation.uncoded[0].score
    assert row[3:] == ["40", *(f"{value:.4f}" for value in (*score.scores.values(), score.task_loss))]


def test_results_of_before_this_score_are_still_read(evaluation, tmp_path):
    write_report(evaluation, tmp_path)
    data = json.loads((tmp_path / "results.json").read_text())
    del data["evaluation"]["uncoded"]
    (tmp_path / "results.json").write_text(json.dumps(data))
    assert read_results(tmp_path / "results.json") == replace(evaluation, uncoded=())


def test_the_plots_show_every_curve(evaluation, tmp_path):
    write_report(evaluation, tmp_path)
    with Image.open(tmp_path / "rate_accuracy.png") as image:
        assert image.size == (1625, 858)
        assert len(image.convert("RGB").getcolors(maxcolors=1_000_000)) > 50
    svg = (tmp_path / "rate_accuracy.svg").read_text()
    for text in ("qa-light: ", "blur (sigma 0.5): ", "clean, no codec: ", "BD-rate against the anchor, 95% interval"):
        assert f"<!-- {text}" in svg  # Matplotlib writes each text as a comment before its outlines


def test_the_same_evaluation_gives_the_same_bytes(evaluation, tmp_path):
    first = {path.name: path.read_bytes() for path in write_report(evaluation, tmp_path)}
    second = {path.name: path.read_bytes() for path in write_report(evaluation, tmp_path)}
    assert first == second


def test_drawing_leaves_matplotlib_as_it_was(evaluation):
    with matplotlib.rc_context({"lines.linewidth": 7.5}):
        before = dict(matplotlib.rcParams)
        plain = plot.draw(evaluation, "png")
        assert dict(matplotlib.rcParams) == before
    assert plot.draw(evaluation, "png") == plain  # the user's style does not matter


@pytest.mark.slow
def test_measuring_and_drawing_need_no_pyplot():
    # Fabric imports torchmetrics, which the tests need and a user may not have, and that imports pyplot
    code = "import sys; sys.modules['torchmetrics'] = None; import precomp_sdk.evaluation.plot; "
    code += "sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("failing", ["rate_accuracy.svg", "drawing"])
def test_an_interrupted_report_leaves_the_old_one_whole(evaluation, tmp_path, monkeypatch, failing):
    before = {path.name: path.read_bytes() for path in write_report(evaluation, tmp_path)}
    changed = replace(evaluation, dataset="another")

    def explode(*_, **__):
        raise KeyboardInterrupt

    if failing == "drawing":
        monkeypatch.setattr(plot, "draw", explode)
    else:
        real = Path.write_bytes
        monkeypatch.setattr(
            Path, "write_bytes", lambda path, data: explode() if failing in path.name else real(path, data)
        )
    with pytest.raises(KeyboardInterrupt):
        write_report(changed, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_legends_say_why_there_is_no_bd_rate(evaluation):
    item = evaluation.comparison("qa-light", "task_loss")
    none = replace(item, value_percent=None, interval=None, reason="because")
    for change, text in (
        (replace(none, overlap=0.0), "qa-light: no overlap"),
        (replace(none, overlap=0.1), "qa-light: too little overlap"),
        (replace(none, anchor_points=1), "qa-light: no BD-rate, flat"),
        (replace(item, value_percent=-5.0, interval=None, overlap=0.5), "qa-light: -5.0%, 50% overlap"),
    ):
        changed = replace(evaluation, comparisons=(change,))
        assert f"<!-- {text} -->" in plot.draw(changed, "svg").decode()


def test_curves_without_comparisons_and_wide_rates_can_be_drawn(evaluation):
    points = [replace(point, bpp=point.bpp * 50**index) for index, point in enumerate(evaluation.curves[0].points)]
    wide = replace(evaluation, curves=(RateAccuracyCurve("anchor", tuple(points)),), comparisons=(), tuned=())
    assert "BD-rate" not in plot.draw(wide, "svg").decode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON"),
        ("[]", "another format"),
        ('{"format": "something-else"}', "another format"),
        ('{"format": "precomp-evaluation-1"}', "got .* at ''"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path, content, message):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(CurveError, match=message):
        read_results(path)


def test_a_result_with_a_wrong_value_names_the_place(evaluation, tmp_path):
    path = write_report(evaluation, tmp_path)[-1]
    data = json.loads(path.read_text())
    data["evaluation"]["curves"][1]["points"][0]["bpp"] = "much"
    path.write_text(json.dumps(data))
    with pytest.raises(CurveError, match=r"at 'curves\.1\.points\.0\.bpp'"):
        read_results(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CurveError, match="no JSON"):
        read_results(path)
