import json
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from precomp_sdk import (
    Boxes,
    CalibrationError,
    ImageError,
    LabelScorer,
    NotFittedError,
    OptionError,
    QualityError,
    Target,
    TaskModel,
)  # fmt: skip
from precomp_sdk.chooser import ChoosingChannel, PriceCurve, PricePoint, QualityChooser, answers_apart
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeTask

LADDER = (90, 60, 40, 25, 10)


class BlackBox(TaskModel):
    """Answers with the brightness of quarters, offers no targets, and counts how often it was asked."""

    name = "black-box"
    source = "a double"
    target_kind = "label"
    scorer = LabelScorer()

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        raise AssertionError("a black box has no losses")

    def _predict(self, images: Tensor) -> Sequence[Any]:
        self.asked += 1
        rough = images.diff(dim=3).abs().mean(dim=(1, 3))  # (N, H)
        return list(rough[:, :4] * 40)


class Deaf(BlackBox):
    """Answers the same whatever it is shown."""

    def _predict(self, images: Tensor) -> Sequence[Any]:
        return [torch.tensor([1.0, 0.0])] * len(images)


@pytest.fixture(scope="module")
def images() -> list[Tensor]:
    dataset = FakeDataset()
    return [dataset[place].image for place in range(6)]


def make(images: Sequence[Tensor], **options: Any) -> QualityChooser:
    panel = options.pop("panel", {"gratings": FakeTask(), "box": BlackBox()})
    chooser = QualityChooser(FakeCodec(), panel, ladder=LADDER, **options)
    chooser.fit(images)
    return chooser


@torch.no_grad()
def brute_force(chooser: QualityChooser, image: Tensor, price: float) -> tuple[float, float]:
    """Return the best quality and its objective by the definition, for the one member 'gratings' alone."""
    task, unit = chooser.panel["gratings"], chooser.curve.units["gratings"]
    clean = image[None].float() / 255
    target = task.pseudo_labels(clean)
    floor = float(task.losses(clean, target)[0])
    found = []
    for quality in chooser.ladder:
        payload = chooser.codec.encode(image, quality)
        decoded = chooser.codec.decode(payload)[None].float() / 255
        loss = max(0.0, float(task.losses(decoded, target)[0]) - floor) / unit
        found.append((8 * len(payload) / image[0].numel() + price * loss, quality))
    return min(found)[1], min(found)[0]


def test_it_takes_the_least_bits_plus_price_times_loss(images: list[Tensor]) -> None:
    chooser = make(images, panel={"gratings": FakeTask()}, trust=1.0, monotone=False)
    picked = set()
    for image in images:
        for price in (0.01, 0.3, 3.0, 30.0):
            chosen = chooser.choose(image, price=price)
            quality, objective = brute_force(chooser, image, price)
            assert (chosen.quality, chosen.encodes) == (quality, len(LADDER))
            assert chosen.objective == pytest.approx(objective, rel=1e-6)
            assert chosen.payload == chooser.codec.encode(image, quality)
            assert chosen.bits == 8 * len(chosen.payload)
            assert chosen.bpp == pytest.approx(chosen.bits / image[0].numel())
            picked.add(quality)
    assert len(picked) > 2  # the prices lead to different qualities, so that the comparison says something


def test_a_dearer_loss_never_takes_fewer_bits(images: list[Tensor]) -> None:
    chooser = make(images)
    for image in images:
        bits = [chooser.choose(image, price=price).bits for price in (0.001, 0.03, 0.3, 3.0, 300.0)]
        assert bits == sorted(bits)
        assert bits[0] < bits[-1]


def test_an_operating_point_is_the_price_at_which_the_anchor_is_indifferent(images: list[Tensor]) -> None:
    chooser = make(images)
    prices = [chooser.price(quality) for quality in chooser.ladder]
    assert prices == [point.price for point in chooser.curve.points]
    assert prices == sorted(prices, reverse=True)  # mild qualities pay more for a unit of loss
    between = chooser.price(50)
    assert chooser.price(40) < between < chooser.price(60)
    mild, strong = (sum(chooser.choose(image, quality).bits for image in images) for quality in (60, 25))
    assert strong < mild


def test_units_make_members_comparable(images: list[Tensor]) -> None:
    chooser = make(images)
    assert set(chooser.curve.units) == {"gratings", "box"}
    means = [point.loss for point in chooser.curve.points]
    assert np.mean(means) == pytest.approx(1.0)


def test_trust_shares_an_images_word_with_the_average_image(images: list[Tensor]) -> None:
    alone = make(images, trust=1.0)
    never = make(images, trust=1e-9, level=0.0)
    price = alone.price(40)
    chosen = {never.choose(image, price=price).loss for image in images}
    averages = [point.loss for point in never.curve.points]
    assert all(any(loss == pytest.approx(average) for average in averages) for loss in chosen)
    assert {alone.choose(image, price=price).loss for image in images}.isdisjoint(chosen)


def test_level_moves_the_average_curve_to_what_the_image_loses_in_all(images: list[Tensor]) -> None:
    whole, half = make(images, trust=1e-9, level=1.0), make(images, trust=1e-9, level=0.5)
    averages = {point.quality: point.loss for point in whole.curve.points}
    scales = []
    for image in images:
        answers = whole._clean(image)
        own = [whole._mean(whole._try(image, answers, quality, 1.0, None).losses) for quality in LADDER]
        scale = sum(own) / sum(averages.values())
        for price in (1e-6, 0.3, 3.0, 1e6):
            chosen = whole.choose(image, price=price)
            assert chosen.loss == pytest.approx(scale * averages[chosen.quality], rel=1e-6)
            chosen = half.choose(image, price=price)
            assert chosen.loss == pytest.approx((scale + 1) / 2 * averages[chosen.quality], rel=1e-6)
        scales.append(scale)
    assert np.ptp(scales) > 0.1  # the images differ, so that the comparison says something


def test_monotone_takes_out_a_lucky_quality(images: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    chooser = make(images, panel={"gratings": FakeTask()}, trust=1.0)
    by_quality = {90: 0.0, 60: 2.0, 40: 2.0, 25: 0.0, 10: 2.0}  # at 25 the network happens to be right again
    clean = chooser._try

    def lucky(image: Tensor, answers: Any, quality: float, factor: float, preprocessor: Any) -> Any:
        tried = clean(image, answers, quality, factor, preprocessor)
        return type(tried)(tried.payload, tried.bpp, {"gratings": by_quality[int(quality)]})

    monkeypatch.setattr(chooser, "_try", lucky)
    price = 1000.0
    assert chooser.choose(images[0], price=price).quality == 90
    chooser.monotone = False
    assert chooser.choose(images[0], price=price).quality == 25


def test_a_search_encodes_no_more_than_it_may_and_finds_nearly_what_is_best(images: list[Tensor]) -> None:
    chooser = make(images)
    price = chooser.price(40)
    lost = []
    for image in images:
        best = chooser.choose(image, price=price)
        found = chooser.choose(image, price=price, search="searched", encodes=3)
        assert 1 <= found.encodes <= 3 < best.encodes
        lost.append(found.objective / best.objective)
    assert np.mean(lost) < 1.1


def test_the_budget_is_what_stops_a_search(images: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    convex = tuple(PricePoint(q, bpp, 0.8 / bpp, 1.0) for q, bpp in zip(LADDER, (8, 4, 2, 1, 0.5), strict=True))
    curve = PriceCurve(convex, {"gratings": 1.0}, 9)
    chooser = QualityChooser(FakeCodec(), {"gratings": FakeTask()}, ladder=LADDER, trust=1.0, curve=curve)
    real = chooser._try(images[0], chooser._clean(images[0]), 40, 1.0, None)
    spent: dict[int, list[int]] = {2: [], 3: []}
    for seed in range(60):  # images unlike the average one, so that the search goes back and forth
        draw = np.random.default_rng(seed)
        table = {quality: (float(draw.lognormal(0, 1)), float(draw.lognormal(0, 2))) for quality in LADDER}

        def tried(image: Tensor, answers: Any, quality: float, *rest: Any, table: Any = table) -> Any:
            return type(real)(real.payload, table[int(quality)][0], {"gratings": table[int(quality)][1]})

        monkeypatch.setattr(chooser, "_try", tried)
        for budget, found in spent.items():
            found.append(chooser.choose(images[0], price=4.0, search="searched", encodes=budget).encodes)
    assert [max(found) for found in spent.values()] == [2, 3]


def test_a_preprocessor_comes_before_every_candidate(images: list[Tensor]) -> None:
    plain, smoothed = make(images), make(images, preprocessor=FakePreprocessor(gain=1.0))
    assert smoothed.curve == plain.curve  # the anchor is the codec alone
    chosen = smoothed.choose(images[0], 25)
    strength = smoothed.codec.quality_scale.strength(chosen.quality)
    sent = FakePreprocessor(gain=1.0)(images[0][None].float() / 255, strength)
    expected = smoothed.codec.encode((sent[0] * 255).round().clamp(0, 255).to(torch.uint8), chosen.quality)
    assert chosen.payload == expected


def test_resolution_is_chosen_too(images: list[Tensor]) -> None:
    chooser = make(images, resolutions=(1.0, 0.5))
    chosen = chooser.choose(images[0], price=1e-4)  # bits are all that counts
    assert (chosen.resolution, chosen.encodes) == (0.5, 2 * len(LADDER))
    height, width = images[0].shape[1:]
    assert chooser.codec.decode(chosen.payload).shape == (3, height // 2, width // 2)


def test_a_search_looks_at_resolutions_too(images: list[Tensor]) -> None:
    chooser = make(images, resolutions=(1.0, 0.5))
    assert set(chooser.curve.reduced) == {0.5}
    rates, losses = chooser.curve.table(0.5)
    assert all(low < full.bpp for low, full in zip(rates, chooser.curve.points, strict=True))
    assert losses[0] > chooser.curve.points[0].loss
    found = chooser.choose(images[0], price=1e-4, search="searched", encodes=3)
    assert (found.resolution, found.quality) == (0.5, 10)
    assert found.encodes <= 3
    lost = []
    for image in images:
        best, quick = (chooser.choose(image, 40, search=search) for search in ("exact", "searched"))
        lost.append(quick.objective / best.objective)
    assert np.mean(lost) < 1.15


class Recorder(BlackBox):
    """Remembers the sizes it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[tuple[int, ...]] = set()

    def _predict(self, images: Tensor) -> Sequence[Any]:
        self.sizes.add(tuple(images.shape[2:]))
        return super()._predict(images)


def test_the_panel_is_shown_reduced_images(images: list[Tensor]) -> None:
    recorder = Recorder()
    chooser = make(images, panel={"box": recorder}, resolutions=(1.0, 0.5, 0.25), panel_px=16)
    height, width = images[0].shape[1:]
    assert max(height, width) > 16
    assert recorder.sizes == {(round(height * 16 / max(height, width)), round(width * 16 / max(height, width)))}
    small = images[0][:, :9, :12]
    chooser.choose(small, 40)
    assert (9, 12) in recorder.sizes  # it is not enlarged
    with pytest.raises(OptionError, match="panel_px"):
        make(images, panel_px=4)


def test_a_channel_codes_each_image_as_the_chooser_says(images: list[Tensor]) -> None:
    chooser = make(images, preprocessor=FakePreprocessor(gain=1.0), resolutions=(1.0, 0.5))
    channel = ChoosingChannel(chooser)
    chosen = [chooser.choose(image, quality) for image, quality in zip(images, (25, 60, 25, 60, 25, 60), strict=True)]
    done = channel.transmit(images, [25, 60, 25, 60, 25, 60])
    assert done.bits.tolist() == [item.bits for item in chosen]
    assert [image.shape for image in done.images] == [image.shape for image in images]
    assert [item.quality for item in channel.choose(torch.stack(images).float() / 255, [25, 60] * 3)] == [
        item.quality for item in chosen
    ]


class Halving(FakePreprocessor):
    """Asks for half the resolution."""

    def resolution(self, strength: float) -> float:
        return 0.5


def test_what_the_preprocessor_asks_for_comes_on_top(images: list[Tensor]) -> None:
    chosen = make(images, preprocessor=Halving(), resolutions=(0.5,)).choose(images[0], 40)
    height, width = images[0].shape[1:]
    assert chosen.resolution == 0.25
    assert FakeCodec().decode(chosen.payload).shape == (3, height // 4, width // 4)


def test_several_images_of_several_sizes(images: list[Tensor]) -> None:
    chooser = make(images)
    mixed = [images[0], images[1][:, :20, :12]]
    chosen = chooser.choose_many(mixed, 40)
    assert [item.payload for item in chosen] == [chooser.choose(image, 40).payload for image in mixed]


def test_a_curve_comes_back_from_json_and_pickle(images: list[Tensor]) -> None:
    chooser = make(images, resolutions=(1.0, 0.5))
    again = PriceCurve.from_plain(json.loads(json.dumps(chooser.curve.plain())))
    assert again == chooser.curve == pickle.loads(pickle.dumps(chooser.curve))
    other = QualityChooser(FakeCodec(), chooser.panel, ladder=LADDER, resolutions=(1.0, 0.5), curve=again)
    assert other.choose(images[0], 40).payload == chooser.choose(images[0], 40).payload


def test_what_is_refused(images: list[Tensor]) -> None:
    codec, panel = FakeCodec(), {"gratings": FakeTask()}
    for options in (
        {"panel": {}}, {"trust": 0.0}, {"trust": 1.5}, {"level": -0.1}, {"level": 1.5}, {"level": float("nan")},
        {"ladder": (30,)}, {"ladder": (30, 30)}, {"resolutions": ()},
        {"resolutions": (0.0,)}, {"resolutions": (1.5,)},
    ):  # fmt: skip
        with pytest.raises(OptionError, match=next(iter(options))):
            QualityChooser(codec, **{"panel": panel, **options})
    with pytest.raises(QualityError):
        QualityChooser(codec, panel, ladder=(30, 200))
    with pytest.raises(NotFittedError, match="fit"):
        QualityChooser(codec, panel).choose(images[0], 30)
    chooser = make(images, panel=panel)
    for wrong in ({}, {"quality": 40, "price": 1.0}):
        with pytest.raises(OptionError, match="one of them"):
            chooser.choose(images[0], **wrong)
    for wrong in ({"price": 0.0}, {"price": float("inf")}, {"quality": 40, "search": "guessed"}):
        with pytest.raises(OptionError):
            chooser.choose(images[0], **wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="encodes"):
        chooser.choose(images[0], 40, encodes=1)
    with pytest.raises(OptionError, match="the ends of the ladder"):
        chooser.price(95)
    with pytest.raises(ImageError):
        chooser.choose(images[0].float(), 40)
    with pytest.raises(OptionError, match="2 images"):
        chooser.fit(images[:1])
    with pytest.raises(OptionError, match="a curve of the panel"):
        QualityChooser(codec, {"another": FakeTask()}, ladder=LADDER, curve=chooser.curve)
    with pytest.raises(OptionError, match="at resolutions"):
        QualityChooser(codec, panel, ladder=LADDER, curve=chooser.curve, resolutions=(1.0, 0.5))
    for row in ([10, 0.0, 1.0, 1.0], [10, 1.0, 1.0, float("nan")], [10, 1.0, 1.0, 0.0]):
        with pytest.raises(OptionError, match="PriceCurve"):
            PriceCurve.from_plain({"points": [row], "units": {"a": 1.0}, "images": 1})
    with pytest.raises(OptionError, match="PriceCurve"):
        PriceCurve.from_plain({"points": [[1, 2]], "units": {}, "images": 1})


def test_a_panel_that_never_moves_is_refused(images: list[Tensor]) -> None:
    with pytest.raises(CalibrationError, match="deaf"):
        make(images, panel={"gratings": FakeTask(), "deaf": Deaf()})


def test_how_far_answers_are_apart() -> None:
    one, other = torch.tensor([5.0, 0.0, 0.0]), torch.tensor([0.0, 5.0, 0.0])
    assert answers_apart(one, one) == 0
    assert 0.9 < answers_apart(one, other) <= 1
    mask = torch.tensor([[0, 1], [1, 1]])
    assert answers_apart(mask, torch.tensor([[0, 1], [1, 0]])) == 0.25
    scores = torch.nn.functional.one_hot(mask, 3).permute(2, 0, 1).float()
    assert answers_apart(scores, scores) == 0
    boxes = Boxes(
        torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), torch.tensor([1, 2]), scores=torch.tensor([0.9, 0.6])
    )
    assert answers_apart(boxes, boxes) == pytest.approx(0, abs=1e-6)
    gone = Boxes(boxes.boxes[:1], boxes.labels[:1], scores=torch.tensor([0.9]))
    assert answers_apart(boxes, gone) == pytest.approx(1 - 1.8 / 2.4)
    renamed = Boxes(boxes.boxes, torch.tensor([3, 4]), scores=boxes.scores)
    assert answers_apart(boxes, renamed) == 1
    nothing = Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), scores=torch.zeros(0))
    assert answers_apart(nothing, nothing) == 0
    assert answers_apart(nothing, boxes) == 1
    for pair in ((one, mask), (one, torch.zeros(4)), ("a cat", "a cat")):
        with pytest.raises(OptionError, match="two predictions of one kind"):
            answers_apart(*pair)


def test_prices_follow_the_hull() -> None:
    points = (PricePoint(90, 4.0, 0.0, 1.0), PricePoint(10, 1.0, 1.0, 1.0))
    assert PriceCurve(points, {"a": 1.0}, 3).plain()["points"][0] == [90, 4.0, 0.0, 1.0]
