"""Quality chosen per image as curves of their own, and methods against their controls."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from precomp_sdk import Notice, OptionError
from precomp_sdk.chooser import ChoosingChannel
from precomp_sdk.evaluation import (
    TASK_LOSS,
    ChooserSettings,
    EvaluateSettings,
    choosing_channels,
    evaluate,
    read_results,
    write_report,
)
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeTask

LADDER = (5, 15, 40)
DATA = FakeDataset(count=24, sizes=[(24, 24), (20, 32)])


class Grey(FakePreprocessor):
    """Leaves nothing to see."""

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return images * 0.0 + 0.5


@pytest.fixture(scope="module")
def run() -> tuple[Any, list[str], Sequence[Any]]:
    codec, events = FakeCodec(), list[Any]()
    grey = Grey()
    channels = choosing_channels(
        codec, {"dull": FakeTask(sharpness=6.0)}, FakeDataset(count=9), ChooserSettings(fit_images=6),
        preprocessors={"grey": grey}, ladder=LADDER,
    )  # fmt: skip
    settings = EvaluateSettings(ladder=LADDER, baselines=("equal-bits",), replicates=40, gallery_images=2)
    found = evaluate(
        codec, FakeTask(), DATA, preprocessors={"grey": grey}, channels=channels,
        judges={"sharp": FakeTask(sharpness=40.0)}, settings=settings, observer=events.append,
    )  # fmt: skip
    return found, [event.message for event in events if isinstance(event, Notice)], channels


def test_what_is_chosen_has_curves_of_its_own_for_task_and_judges(run: Any) -> None:
    found, _, channels = run
    labels = ["anchor", "grey", "chosen", "grey, chosen", "equal-bits"]
    assert [curve.label for curve in found.curves] == labels
    assert [curve.label for curve in found.judges[0].curves] == labels
    assert [item.label for item in found.uncoded] == ["grey"]
    assert {item.label for item in found.harm} >= {"grey", "chosen"}
    chooser = channels[0].chooser
    assert channels[1].chooser.curve is chooser.curve  # the anchor is measured once
    assert chooser.curve.images == 6
    images = [DATA[place].image for place in range(len(DATA))]
    bits = [chooser.choose(image, 15).bits for image in images]
    pixels = sum(image.shape[1] * image.shape[2] for image in images)
    assert found.curve("chosen").points[1].bpp == pytest.approx(sum(bits) / pixels)
    assert found.comparison("chosen", TASK_LOSS).anchor == "anchor"


def test_what_does_not_beat_its_control_is_told(run: Any, tmp_path: Any) -> None:
    found, notices, _ = run
    pairs = {(item.anchor, item.test, item.metric) for item in found.against_controls}
    methods = ("grey", "chosen", "grey, chosen")
    assert pairs == {("equal-bits", method, metric) for method in methods for metric in ("top1", TASK_LOSS)}
    for item in found.against_controls:
        told = any(f"{item.test} does not beat its control equal-bits" in notice for notice in notices)
        assert told or item.saves
    assert any("grey does not beat its control equal-bits" in notice for notice in notices)
    assert "grey DOES NOT BEAT its control equal-bits" in found.summary()
    write_report(found, tmp_path)
    assert read_results(tmp_path / "results.json").against_controls == found.against_controls
    assert "does not beat its control" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_without_controls_nothing_is_compared_with_them() -> None:
    settings = EvaluateSettings(ladder=LADDER, baselines=(), replicates=20)
    nets = {"net": FakePreprocessor()}
    found = evaluate(FakeCodec(), FakeTask(), DATA, preprocessors=nets, settings=settings, observer=None)
    assert found.against_controls == ()


def test_what_is_refused() -> None:
    codec = FakeCodec()
    with pytest.raises(OptionError, match="fit_images"):
        ChooserSettings(fit_images=1)
    with pytest.raises(OptionError, match="panel"):
        choosing_channels(codec, {}, DATA, ChooserSettings())
    with pytest.raises(OptionError, match="images"):
        choosing_channels(codec, {"one": FakeTask()}, FakeDataset(count=1), ChooserSettings(), ladder=LADDER)
    channels = choosing_channels(FakeCodec(), {"one": FakeTask()}, DATA, ChooserSettings(fit_images=2), ladder=LADDER)
    assert isinstance(channels[0], ChoosingChannel)
    with pytest.raises(OptionError, match="of the codec that is measured"):
        evaluate(codec, FakeTask(), DATA, channels=channels, settings=EvaluateSettings(ladder=LADDER), observer=None)


def test_the_settings_reach_the_chooser() -> None:
    settings = ChooserSettings(
        resolutions=(1.0, 0.5), trust=0.4, level=0.3, panel_px=16, search="searched", encodes=2, fit_images=2
    )
    (channel,) = choosing_channels(FakeCodec(), {"one": FakeTask()}, DATA, settings, ladder=LADDER)
    assert isinstance(channel, ChoosingChannel)
    chooser = channel.chooser
    assert (chooser.resolutions, chooser.trust, chooser.level, chooser.panel_px) == ((1.0, 0.5), 0.4, 0.3, 16)
    assert chooser.ladder == (40, 15, 5)
    assert channel.transmit([torch.zeros(3, 24, 24, dtype=torch.uint8)], [15]).bits.shape == (1,)
