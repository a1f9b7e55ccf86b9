"""What a result shows of itself."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from precomp_sdk import MissingDependencyError
from precomp_sdk.evaluation import (
    EvaluateProxySettings,
    EvaluateSettings,
    Evaluation,
    ProxyReport,
    TransferMatrix,
    evaluate,
    evaluate_proxy,
)
from precomp_sdk.evaluation.transfer.records import TransferCell
from precomp_sdk.evaluation.views import Shown
from precomp_sdk.run import Estimate, PartEstimate
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask


@pytest.fixture(scope="module")
def result() -> Evaluation:
    settings = EvaluateSettings(ladder=(5, 30), baselines=(), replicates=5)
    network = FakePreprocessor(gain=0.2)
    return evaluate(FakeCodec(), FakeTask(), FakeDataset(count=8), preprocessors=network, settings=settings)


def test_it_prints_as_its_table_and_shows_it_in_a_notebook(result: Evaluation) -> None:
    assert str(result) == repr(result) == result.summary()  # at the prompt, too
    assert "&lt;" not in str(result)


class Cells(HTMLParser):
    """The cells of every table, row by row, and the tags that were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def matrix(evaluation: Evaluation) -> TransferMatrix:
    item = evaluation.comparisons[0]
    cell = TransferCell("<b>mine</b>", "fake", "fake", True, False, (item,), *evaluation.curves[:2])
    return TransferMatrix(
        dataset="set",
        images=8,
        metrics=(item.metric,),
        preprocessors=(cell.preprocessor,),
        codecs=("fake",),
        tasks=("fake",),
        cells=(cell,),
        environment={},
        seconds=1.0,
    )


def proxy_report(_: Evaluation) -> ProxyReport:
    settings = EvaluateProxySettings(ladder=(5, 30), images=2, workers=1)
    report = evaluate_proxy(FakeProxy(FakeCodec()), FakeDataset(count=2), settings=settings, observer=None)
    return replace(report, quality_name="<b>mine</b>")


def estimate(_: Evaluation) -> Estimate:
    return Estimate((PartEstimate("train", "<b>mine</b>", "step", 3, 2, 0.5, 10**8),), 1, 2, "cpu", 0.1)


def hostile(evaluation: Evaluation) -> Evaluation:
    first, *others = evaluation.curves
    return replace(evaluation, curves=(replace(first, label="<b>mine</b>"), *others))


@pytest.mark.parametrize("of", [hostile, matrix, proxy_report, estimate])
def test_a_notebook_shows_tables_that_no_name_breaks_out_of(
    of: Callable[[Evaluation], Shown], result: Evaluation
) -> None:
    shown = of(result)
    found = Cells(shown._repr_html_())
    assert found.tags <= {"div", "table", "thead", "tbody", "tr", "th", "td", "p", "br"}  # small, and no <b>
    assert any("<b>mine</b>" in cell for row in found.rows for cell in row)
    assert len({len(row) for row in found.rows[1:3]}) == 1
    text = shown.summary()
    assert repr(shown) == str(shown) == text
    assert all(cell in text for row in found.rows for cell in row)  # the same numbers


def test_it_draws_itself(result: Evaluation) -> None:
    figure = result.plot()
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 2
    assert figure._repr_png_().startswith(b"\x89PNG")  # a notebook shows it, with or without pyplot


def test_its_plain_values_are_json(result: Evaluation) -> None:
    told = json.loads(json.dumps(result.to_dict()))
    assert [curve["label"] for curve in told["curves"]] == [curve.label for curve in result.curves]


def test_a_data_frame_has_a_row_per_point(result: Evaluation) -> None:
    pandas = pytest.importorskip("pandas")
    frame = result.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns[:3]) == ["curve", "quality", "bpp"]
    assert len(frame) == sum(len(curve.points) for curve in result.curves)
    assert frame[frame.curve == "anchor"].bpp.tolist() == [point.bpp for point in result.curves[0].points]


def test_pandas_that_is_not_there_is_told(result: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="pip install pandas"):
        result.to_pandas()
