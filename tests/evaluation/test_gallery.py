"""Which images are shown, what is kept of them, and whom a preprocessor hurts."""

import json
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from precomp_sdk import Boxes, BoxScorer, Channel, Label, LabelScorer
from precomp_sdk.evaluation import (
    EvaluateSettings,
    MeasuredCurve,
    MeasuredPoint,
    evaluate,
    read_results,
    write_report,
)
from precomp_sdk.evaluation.gallery import _thumbnail, choose_images, collect_gallery, tile_bits
from precomp_sdk.evaluation.harm import harm_of
from precomp_sdk.evaluation.page import evaluation_page
from precomp_sdk.evaluation.page.gallery import gallery_section
from precomp_sdk.scoring import MaskScorer
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeTask

from .test_page import HOSTILE, Parsed, check_page


def measured(label: str, bits: list[float], losses: list[float], qualities=(30.0,), **changes) -> MeasuredCurve:
    """Make a curve of images 0, 1, ... that are right where their loss is below one."""
    right = tuple(np.array([loss < 1, 1.0]) for loss in losses)
    points = tuple(MeasuredPoint(quality, np.array(bits), np.array(losses), right) for quality in qualities)
    count = len(bits)
    keys = tuple(f"image {place}" for place in range(count))
    whole = MeasuredCurve(label, LabelScorer(), points, tuple(range(count)), keys, np.full(count, 100.0))
    return replace(whole, **changes)


ANCHOR = measured("anchor", [100, 100, 100, 100, 100, 100], [0.5] * 6, (10.0, 30.0))
#                         breaks most   breaks       saves most  least      saves      nothing
MINE = measured("mine", [80, 85, 20, 150, 60, 100], [3.0, 0.9, 0.5, 0.4, 0.5, 0.5])


def test_the_images_that_break_and_save_most_and_least_are_chosen():
    assert choose_images(ANCHOR, MINE, 30.0, 3) == (("breaks", 0), ("saves most", 2), ("saves least", 3))
    assert choose_images(ANCHOR, MINE, 30.0, 5) == (
        *(("breaks", 0), ("breaks", 1), ("saves most", 2), ("saves most", 4), ("saves least", 3)),
    )
    rows = [row for _, row in choose_images(ANCHOR, MINE, 30.0, 100)]
    assert sorted(rows) == list(range(6))
    assert choose_images(ANCHOR, MINE, 30.0, 0) == ()
    unhurt = measured("mine", [80.0, 90.0], [0.5, 0.4])
    assert [why for why, _ in choose_images(measured("anchor", [100, 100], [0.5] * 2), unhurt, 30.0, 2)] == [
        *("saves most", "saves least")
    ]


def test_harm_names_the_worst_images_and_classes():
    anchor = replace(ANCHOR, labels=(0, 0, 1, 1, 1, None))
    harm = harm_of(anchor, replace(MINE, labels=anchor.labels), ("cat",))
    assert harm is not None
    assert harm.qualities == (30.0,)
    assert harm.worse == pytest.approx(2 / 6)
    assert [item.key for item in harm.images] == ["image 0", "image 1"]
    assert (harm.images[0].loss_change, harm.images[0].bits_change_percent) == pytest.approx((2.5, -20.0))
    cat, other = harm.classes
    assert (cat.name, cat.images, cat.metric, cat.anchor, cat.test) == ("cat", 2, "top1", 1.0, 0.5)
    assert cat.loss_change == pytest.approx((2.5 + 0.4) / 2)
    assert (other.name, other.images, other.test) == ("class 1", 3, 1.0)
    assert harm_of(anchor, measured("mine", [1.0] * 6, [0.5] * 6, (11.0,))) is None


def test_a_scorer_that_knows_classes_is_asked_for_them():
    scorer = MaskScorer(num_classes=3)
    good, bad = np.array([[4.0, 4.0, 0.0]] * 3), np.array([[4.0, 1.0, 0.0], [4.0, 4.0, 0.0], [4.0, 4.0, 0.0]])
    curves = [
        replace(
            measured(label, [100.0], [0.5]),
            scorer=scorer,
            points=(MeasuredPoint(30.0, np.array([100.0]), np.array([0.5]), (part,)),),
        )
        for label, part in (("anchor", good), ("mine", bad))
    ]
    harm = harm_of(*curves, ("sky", "road", "nothing"))
    assert harm is not None
    assert [(item.name, item.metric, item.anchor, item.test, item.images) for item in harm.classes] == [
        *(("road", "mIoU", 1.0, 1 / 7, None), ("sky", "mIoU", 1.0, 1.0, None))
    ]


def box_curves() -> tuple[MeasuredCurve, MeasuredCurve]:
    """Return an anchor that finds a small and a large object, and a curve that finds the large one only."""
    scorer, boxes, labels = BoxScorer(2), torch.tensor([[0.0, 0, 9, 9], [50, 50, 250, 250]]), torch.tensor([0, 1])
    target = Boxes(boxes, labels)
    found = [
        scorer.measure(Boxes(boxes[kept], labels[kept], scores=torch.ones(len(boxes[kept]))), target)
        for kept in (slice(None), slice(1, None))
    ]
    points = [MeasuredPoint(30.0, np.array([100.0]), np.array([0.5]), (part,)) for part in found]
    anchor, mine = (
        replace(measured(label, [100.0], [0.5]), scorer=scorer, points=(point,))
        for label, point in zip(("anchor", "mine"), points, strict=True)
    )
    return anchor, mine


def test_boxes_are_told_by_the_size_of_objects(evaluation, tmp_path):
    harm = harm_of(*box_curves())
    assert harm is not None
    assert [(item.name, item.objects, item.metric) for item in harm.sizes] == [
        *(("small", 1, "mAP"), ("large", 1, "mAP"))  # there is no medium one
    ]
    assert [(item.anchor, item.test) for item in harm.sizes] == [
        *((pytest.approx(1.0), pytest.approx(0.0)), (pytest.approx(1.0), pytest.approx(1.0)))
    ]
    shown = replace(evaluation, harm=(harm,))
    text = check_page(evaluation_page(shown)).text
    assert "objects by area" in text
    assert "small" in text
    path = write_report(shown, tmp_path)[-1]
    assert read_results(path).harm == (harm,)
    assert all(item.sizes == () for item in evaluation.harm)  # labels have no size
    assert "objects by area" not in check_page(evaluation_page(evaluation)).text


def test_bits_are_told_tile_by_tile_in_their_places():
    image = torch.zeros(3, 128, 192, dtype=torch.uint8)
    image[:, 64:, 128:] = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    bits = tile_bits(FakeCodec(), image, (2, 3), 50)
    assert [len(row) for row in bits] == [3, 3]
    assert bits[1][2] > 4 * max(bits[0][0], bits[0][2], bits[1][1])
    assert bits[1][2] == 8 * len(FakeCodec().encode(image[:, 64:, 128:], 50))
    assert len(tile_bits(FakeCodec(), image[:, :1, :2], (2, 3), 50)[0]) == 2  # what was sent may be tiny


def test_the_gallery_shows_what_was_sent():
    dataset, preprocessor = FakeDataset(count=6, sizes=[(96, 128)]), FakePreprocessor(gain=0.5)
    channel = Channel(FakeCodec(), preprocessor)
    with channel:
        (item,) = collect_gallery(dataset, channel, ANCHOR, MINE, 1)
        sent = channel.send([dataset[0].image], [30.0])[0]
    assert (item.key, item.reason, item.quality, item.anchor_bits, item.bits) == ("image 0", "breaks", 30.0, 100, 80)
    assert (item.anchor_loss, item.loss, item.bits_change_percent) == pytest.approx((0.5, 3.0, -20.0))

    def pixels(image: bytes) -> torch.Tensor:
        return torch.from_numpy(np.asarray(Image.open(BytesIO(image)).convert("RGB")).copy()).permute(2, 0, 1)

    source = dataset[0].image
    change = (128 + 4 * (sent.int() - source.int())).clamp(0, 255).byte()
    assert not torch.equal(sent, source)
    for image, wanted in ((item.source, source), (item.sent, sent), (item.difference, change)):
        assert torch.equal(pixels(image), wanted)  # small images are kept without loss
    large = _thumbnail(torch.randint(0, 256, (3, 1000, 600), dtype=torch.uint8))
    assert len(large) < 100_000
    assert pixels(large).shape == (3, 384, 230)
    assert (len(item.sent_tile_bits), len(item.sent_tile_bits[0]), item.tile_px) == (2, 2, 64)
    assert preprocessor.training


@pytest.fixture(scope="module")
def evaluation():
    settings = EvaluateSettings(ladder=(5, 40), baselines=(), replicates=0, gallery_images=3)
    return evaluate(
        *(FakeCodec(), FakeTask(), FakeDataset(count=8, sizes=[(96, 128), (64, 80)])),
        preprocessors={"mine": FakePreprocessor(gain=0.5), "other": FakePreprocessor(gain=0.1)},
        settings=settings,
        observer=None,
    )


def test_an_evaluation_keeps_a_gallery_of_the_first_preprocessor_and_the_page_shows_it(evaluation):
    assert len(evaluation.gallery) == 3
    assert {item.label for item in evaluation.gallery} == {"mine"}
    assert [item.label for item in evaluation.harm] == ["mine", "other"]
    assert sum(found.images for found in evaluation.harm[0].classes) == 8
    parsed = check_page(evaluation_page(evaluation))
    assert len(parsed.all("img")) == 3 * 6
    assert len(parsed.all("rect")) == sum(
        len(grid) * len(grid[0]) for item in evaluation.gallery for grid in (item.source_tile_bits, item.sent_tile_bits)
    )
    opacities = [float(item["fill-opacity"]) for item in parsed.all("rect")]
    assert (min(opacities), max(opacities)) == (0.0, 0.85)
    for text in ("tile by tile", "Whom it hurts", *(item.key for item in evaluation.gallery)):
        assert text in parsed.text


def test_the_page_says_where_the_time_went(evaluation):
    assert list(evaluation.timings) == [
        *("no codec", "curve anchor", "curve mine", "curve other", "comparisons", "harm and gallery")
    ]
    assert 0.9 * evaluation.seconds < sum(evaluation.timings.values()) < evaluation.seconds
    text = check_page(evaluation_page(evaluation)).text
    assert all(part in text for part in evaluation.timings)


def test_no_image_goes_into_the_json_and_names_are_never_markup(evaluation, tmp_path):
    path = write_report(evaluation, tmp_path)[-1]
    data = json.loads(path.read_text(encoding="utf-8"))["evaluation"]
    assert data["gallery"] == []
    assert read_results(path) == evaluation
    del data["gallery"], data["harm"]  # as older files are
    path.write_text(json.dumps({"format": "precomp-evaluation-1", "evaluation": data}), encoding="utf-8")
    assert read_results(path) == replace(evaluation, harm=())
    harm = replace(
        evaluation.harm[0],
        label=HOSTILE,
        images=(replace(evaluation.harm[1].images[0], key=HOSTILE),),
        classes=(replace(evaluation.harm[0].classes[0], name=HOSTILE),),
    )
    renamed = tuple(replace(item, key=HOSTILE, label=HOSTILE, reason=HOSTILE) for item in evaluation.gallery)
    parsed = check_page(evaluation_page(replace(evaluation, harm=(harm,), gallery=renamed)))
    assert len(parsed.all("img")) == 3 * 6
    assert "alert(1)" in parsed.text


def test_a_page_holds_no_more_images_than_it_may(evaluation):
    big = replace(evaluation.gallery[0], source=bytes(700_000))  # shown twice, and base64 adds a third
    page = gallery_section([big] * 4, "quality")
    assert len(page) < 4_500_000
    assert "2 more do not fit on this page." in Parsed(page).text


def test_no_gallery_where_none_is_wanted():
    dataset = FakeDataset(count=4)
    settings = EvaluateSettings(ladder=(5, 40), baselines=(), replicates=0, gallery_images=0)
    found = evaluate(
        FakeCodec(), FakeTask(), dataset, preprocessors=FakePreprocessor(), settings=settings, observer=None
    )
    assert found.gallery == ()
    assert "<img" not in evaluation_page(found)
    assert isinstance(dataset[0].target, Label)
