"""An empty list of qualities is a mistake wherever qualities are asked for; None is the codec's own ladder."""

from collections.abc import Callable
from typing import Any

import pytest

from precomp_refine import Refiner
from precomp_sdk import OptionError, PrecompError, QualityError, Transcoder
from precomp_sdk.deploy import Compressor
from precomp_sdk.evaluation import (
    EvaluateProxySettings,
    EvaluateSettings,
    Measurer,
    evaluate,
    evaluate_proxy,
    measure_curve,
)
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import FitProxySettings, TrainSettings, calibrate, choose_resolutions, fit_proxy

CODEC, TASK, IMAGES = FakeCodec(), FakeTask(), FakeDataset(count=4)


def _threads(function: Callable[..., Any]) -> None:
    with Transcoder(CODEC, workers=1) as transcoder:
        function(transcoder, TASK, IMAGES, ())


PLACES: dict[str, Callable[[], object]] = {
    "training": lambda: TrainSettings(ladder=()),
    "training, a list": lambda: TrainSettings(ladder=[]),  # type: ignore[arg-type]
    "calibration": lambda: _threads(calibrate),
    "resolutions": lambda: _threads(choose_resolutions),
    "proxy": lambda: fit_proxy(FakeProxy(CODEC), IMAGES, settings=FitProxySettings(ladder=())),
    "proxy report": lambda: evaluate_proxy(FakeProxy(CODEC), IMAGES, settings=EvaluateProxySettings(ladder=())),
    "sender": lambda: Compressor(CODEC, FakePreprocessor(), ladder=()),
    "refinement": lambda: Refiner(CODEC, FakeProxy(CODEC), TASK).prepare(IMAGES, ()),
    "measurer": lambda: Measurer(CODEC, TASK, EvaluateSettings(ladder=())),
    "curve": lambda: measure_curve(CODEC, TASK, IMAGES, settings=EvaluateSettings(ladder=())),
    "evaluation": lambda: evaluate(CODEC, TASK, IMAGES, settings=EvaluateSettings(anchor_ladder=())),
    "scale": lambda: CODEC.quality_scale.ladder_of([]),
    "order": lambda: CODEC.quality_scale.from_mild_to_strong(()),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_empty_ladder_is_refused(place: str) -> None:
    with pytest.raises(PrecompError, match="one or more qualities") as caught:
        PLACES[place]()
    assert isinstance(caught.value, QualityError | OptionError)
