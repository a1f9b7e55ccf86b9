"""What a result shows of itself."""

import json
import sys

import pytest
from matplotlib.figure import Figure

from precomp_sdk import MissingDependencyError
from precomp_sdk.evaluation import EvaluateSettings, Evaluation, evaluate
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeTask


@pytest.fixture(scope="module")
def result() -> Evaluation:
    settings = EvaluateSettings(ladder=(5, 30), baselines=(), replicates=5)
    network = FakePreprocessor(gain=0.2)
    return evaluate(FakeCodec(), FakeTask(), FakeDataset(count=8), preprocessors=network, settings=settings)


def test_it_prints_as_its_table_and_shows_it_in_a_notebook(result: Evaluation) -> None:
    assert str(result) == repr(result) == result.summary()  # at the prompt, too
    assert "&lt;" not in str(result)
    assert result._repr_html_().startswith("<pre")
    assert "BD-rate against the anchor" in result._repr_html_()


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
