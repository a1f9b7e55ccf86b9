from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from precomp_refine import Refined, RefinementCost, Refiner
from precomp_sdk import Preprocessor, Subset, Target, TaskModel, Transcoder, stack_images, to_float
from precomp_sdk.errors import CheckpointError
from precomp_sdk.evaluation import EvaluateSettings, measure_curve
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeTask
from precomp_sdk.training import as_recorded, calibrate, feature_distances, load_module, save_module

from .conftest import LAMBDAS, PixelTask, SpotTask

Make = Callable[..., Refiner]
Build = Callable[[], TaskModel]
TASKS: list[Build] = [FakeTask, PixelTask, SpotTask]


class Wreck(Preprocessor):
    """A starting point that is far worse than none."""

    name = "wreck"
    source = "a double"

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return torch.rand(images.shape, generator=torch.Generator().manual_seed(1))


class Ruin(Wreck):
    """A starting point that costs few bits: a gray image."""

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return torch.full_like(images, 0.5)


def objective(task: TaskModel, image: Tensor, target: Target, quality: float, price: float) -> float:
    """Measure an image from the outside, with a codec of its own."""
    done = FakeCodec().transcode(image, quality)
    return done.bpp + price * task.losses(to_float(done.image)[None], [target]).item()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"check_every": 3},
        {"start": Wreck()},
        {"start": Ruin()},
        {"step_levels": 60.0},
        {"shift_px": 2, "scale": 0.1, "flip": True},
        {"max_change": 2, "min_psnr_db": 40.0},
        {"patience": 1, "batch_size": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("build", TASKS)
def test_no_image_is_ever_worse_by_its_own_measure(
    make: Make, photographs: list[Tensor], build: Build, options: dict[str, Any]
) -> None:
    task = build().eval()
    targets = task.pseudo_labels(stack_images(photographs))

    for quality in (5, 70):
        refinement = make(task, **options).refine(photographs, quality)

        for found, image, target in zip(refinement.images, photographs, targets, strict=True):
            before, after = (objective(task, item, target, quality, 2.0) for item in (image, found.image))
            assert found.anchor.objective == pytest.approx(before, rel=1e-5)
            assert found.refined.objective == pytest.approx(after, rel=1e-5)
            assert after <= before
            assert (found.best_step is None) == torch.equal(found.image, image)


@pytest.mark.parametrize("build", TASKS)
def test_images_get_better(make: Make, photographs: list[Tensor], build: Build) -> None:
    refinement = make(build(), steps=16, when_nothing="refine").refine(photographs, 5)

    gains = [1.0 - found.refined.objective / found.anchor.objective for found in refinement.images]
    assert sum(gains) / len(gains) > 0.01
    assert sum(gain > 0.0 for gain in gains) >= 4


def test_the_evaluator_measures_what_the_refiner_promised(make: Make) -> None:
    dataset = FakeDataset(count=10, sizes=[(24, 32), (16, 16)])
    task, codec, ladder = FakeTask(), FakeCodec(), (5.0, 30.0)
    anchor, refined = (
        measure_curve(
            codec, task, dataset, preprocessor=item, settings=EvaluateSettings(ladder=ladder, pseudo_labels=True)
        )
        for item in (None, make(task))
    )

    better = 0
    for before, after in zip(anchor.points, refined.points, strict=True):
        objectives = [point.bits / anchor.pixels + 2.0 * point.losses for point in (before, after)]
        assert (objectives[1] <= objectives[0] + 1e-6).all()
        better += int((objectives[1] < objectives[0]).sum())
    assert better >= 10


def test_it_is_a_preprocessor_in_any_mode_of_autograd(make: Make, photographs: list[Tensor]) -> None:
    scale = FakeCodec.quality_scale
    batch = stack_images(photographs)
    strengths = [scale.strength(quality) for quality in (5, 30, 70, 5, 30, 70)]
    expected = [item.image for item in make().refine(photographs, [5, 30, 70, 5, 30, 70]).images]

    with torch.no_grad():
        silent = make()(batch, strengths)
    refiner = make()
    with torch.inference_mode():
        inferred = refiner(batch.clone(), strengths)

    assert torch.equal(silent, to_float(torch.stack(expected)))
    assert torch.equal(inferred, silent)
    assert not torch.equal(silent, batch)


def test_networks_keep_their_modes_and_get_no_gradients(make: Make, photographs: list[Tensor]) -> None:
    task = FakeTask()
    refiner = make(task)
    task.train()

    refiner.refine(photographs, 5)

    assert task.training
    assert task.filters.grad is None
    assert list(refiner.state_dict()) == ["_extra_state"]  # what was measured, and no network's weights


def test_images_of_any_sizes_come_back_in_order(make: Make) -> None:
    dataset = FakeDataset(count=7, sizes=[(16, 16), (24, 32), (9, 13)])
    images = [dataset[index].image for index in range(7)]
    qualities = [5.0, 30.0, 70.0, 5.0, 30.0, 70.0, 5.0]

    together = make(batch_size=2).refine(images, qualities)

    for image, quality, found in zip(images, qualities, together.images, strict=True):
        alone = make().refine([image], quality).images[0]
        assert found.image.shape == image.shape
        assert (found.quality, found.anchor.bits) == (quality, alone.anchor.bits)
        assert found.refined.objective == pytest.approx(alone.refined.objective, rel=1e-3)


def test_cost_is_counted(make: Make, photographs: list[Tensor]) -> None:
    refiner = make(steps=8, check_every=4)

    cost = refiner.refine(photographs, 5).cost

    # its pseudo-labels, then a look from each of 9 places, 3 of them through the codec
    assert (cost.images, cost.task_forward, cost.task_backward) == (6, 6 * 10, 6 * 8)
    assert (cost.proxy_forward, cost.proxy_backward, cost.encodes) == (6 * 8, 6 * 8, 6 * 3)
    assert cost.milliseconds > 0.0
    assert cost.statement.startswith("6 images, each 10.0 forward and 8.0 backward passes of a task network, 8.0 and ")
    refiner.refine(photographs[:2], 5)
    assert refiner.cost.images == 8
    refiner.reset_cost()
    assert refiner.cost == RefinementCost()


def test_cost_counts_features_members_and_transformed_references(make: Make, photographs: list[Tensor]) -> None:
    refiner = make(others=[FakeTask(sharpness=20.0)], feature_weight=1.0, flip=True, steps=2)
    refiner.prepare(FakeDataset(count=16), (5, 30))

    cost = refiner.refine(photographs, 5).cost

    # two networks, each for loss and features: the reference, 3 checks, and 2 steps with a reference of their own
    assert cost.task_forward == 6 * 4 * (1 + 3 + 2 * 2)
    assert cost.task_backward == 6 * 4 * 2
    labelled = make(flip=True, steps=2)
    labelled.refine(photographs, 5, targets=FakeTask().pseudo_labels(stack_images(photographs)))
    assert labelled.cost.task_forward == 6 * (0 + 3 + 2)


def test_a_image_stops_when_nothing_improves(make: Make, photographs: list[Tensor]) -> None:
    refinement = make(steps=30, step_levels=120.0, patience=2).refine(photographs, 70)

    stopped = [found for found in refinement.images if found.stopped == "patience"]
    assert len(stopped) >= 3
    for found in stopped:
        assert found.steps == (found.best_step or 0) + 2
    assert refinement.cost.encodes < 6 * 31


def test_a_budget_of_time_ends_it(make: Make, photographs: list[Tensor]) -> None:
    refinement = make(budget_ms=1e-3).refine(photographs, 5)

    for found, image in zip(refinement.images, photographs, strict=True):
        assert (found.stopped, found.steps) == ("budget", 0)
        assert torch.equal(found.image, image)
    assert refinement.cost.encodes == 6
    assert {item.stopped for item in make(budget_ms=1e6).refine(photographs, 5).images} == {"steps"}


def test_a_budget_checks_what_it_has(make: Make, photographs: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("precomp_refine._loop.time.perf_counter", lambda: float(next(clock)))

    refinement = make(steps=100, check_every=100, budget_ms=2000.0).refine(photographs, 5)

    assert {found.stopped for found in refinement.images} == {"budget"}
    assert all(0 < found.steps < 10 for found in refinement.images)
    assert any(found.best_step == found.steps for found in refinement.images)


def test_bounds_on_the_change_hold(make: Make, photographs: list[Tensor]) -> None:
    free = make().refine(photographs, 5).images
    narrow = make(max_change=3).refine(photographs, 5).images
    faithful = make(min_psnr_db=42.0).refine(photographs, 5).images

    def change(item: Refined, image: Tensor) -> Tensor:
        return item.image.double() - image.double()

    assert max(change(*pair).abs().max().item() for pair in zip(free, photographs, strict=True)) > 3
    assert max(change(*pair).abs().max().item() for pair in zip(narrow, photographs, strict=True)) == 3
    limit = 255.0**2 * 10 ** (-4.2)
    mses = [change(*pair).square().mean().item() for pair in zip(faithful, photographs, strict=True)]
    assert max(mses) <= limit
    assert max(mses) > 0.3 * limit
    assert max(change(*pair).square().mean().item() for pair in zip(free, photographs, strict=True)) > limit


def test_it_goes_on_from_another_preprocessor(make: Make, photographs: list[Tensor]) -> None:
    smoothing = FakePreprocessor(gain=0.8)

    first = make(start=smoothing, steps=1, step_levels=1e-6).refine(photographs, 70)

    smoothed = smoothing(stack_images(photographs), FakeCodec.quality_scale.strength(70))
    chosen = [row for row, found in enumerate(first.images) if found.best_step is not None]
    assert len(chosen) >= 3  # smoothing saves bits at this price
    for row in chosen:
        assert torch.equal(to_float(first.images[row].image), (smoothed[row] * 255).round() / 255)
    assert first.cost.encodes == 6 * 3  # the untouched images, the start, the step


def test_transformations_are_drawn_alike_for_a_seed(make: Make, photographs: list[Tensor]) -> None:
    options = {"shift_px": 3, "scale": 0.1, "flip": True}

    runs = [make(**options, seed=seed).refine(photographs, 5).images for seed in (0, 0, 1)]

    same = [torch.equal(first.image, second.image) for first, second in zip(runs[0], runs[1], strict=True)]
    other = [torch.equal(first.image, second.image) for first, second in zip(runs[0], runs[2], strict=True)]
    assert all(same)
    assert not all(other)


def test_several_networks_share_the_objective(make: Make, photographs: list[Tensor]) -> None:
    first, second = FakeTask(), FakeTask(sharpness=10.0)
    targets = [task.pseudo_labels(stack_images(photographs)) for task in (first, second)]

    refined = make(first, others=[second.eval()], shares=[3.0, 1.0]).refine(photographs, 5).images

    for row, found in enumerate(refined):
        done = FakeCodec().transcode(found.image, 5)
        batch = to_float(done.image)[None]
        losses = [task.losses(batch, [own[row]]).item() for task, own in zip((first, second), targets, strict=True)]
        expected = done.bpp + 2.0 * (0.75 * losses[0] + 0.25 * losses[1])
        assert found.refined.objective == pytest.approx(expected, rel=1e-5)
        assert found.refined.task_loss == pytest.approx(0.75 * losses[0] + 0.25 * losses[1], rel=1e-5)


def test_labels_can_be_the_target(make: Make, photographs: list[Tensor]) -> None:
    dataset = FakeDataset(count=6, size=(24, 32), seed=3)
    labels = [dataset[index].target for index in range(6)]
    task = FakeTask()

    refined = make(task).refine(photographs, 5, targets=labels).images

    own = make(task).refine(photographs, 5).images
    assert [item.anchor.task_loss for item in refined] != [item.anchor.task_loss for item in own]
    for found, image, label in zip(refined, photographs, labels, strict=True):
        assert label is not None
        assert found.anchor.objective == pytest.approx(objective(task, image, label, 5, 2.0), rel=1e-5)


def test_lambda_is_measured_as_for_training_and_interpolated(make: Make, photographs: list[Tensor]) -> None:
    task, codec = FakeTask().eval(), FakeCodec()
    dataset = FakeDataset(count=20, size=(24, 32))
    refiner = make(task, lambdas="auto", lambda_scale=1e-3, calibration_images=20)
    refiner.prepare(dataset, (5, 30, 50))
    with Transcoder(codec) as transcoder:
        points = calibrate(transcoder, task, dataset, (5, 30, 50), lambda_scale=1e-3)

    def price(quality: float) -> float:
        anchor = refiner.refine(photographs[:1], quality).images[0].anchor
        return (anchor.objective - anchor.bpp) / anchor.task_loss

    assert [price(point.quality) for point in points] == pytest.approx([point.trade_off for point in points], rel=1e-4)
    assert price(40) == pytest.approx((points[1].trade_off * points[2].trade_off) ** 0.5, rel=1e-4)
    assert price(90) == pytest.approx(points[2].trade_off, rel=1e-4)
    refiner.prepare(Subset(dataset, []), (5, 30))  # known already: nothing is measured


def test_features_are_priced_like_the_plain_codecs_task_loss(make: Make, photographs: list[Tensor]) -> None:
    task = FakeTask().eval()
    dataset = FakeDataset(count=12, size=(24, 32))
    refiner = make(task, task_weight=0.0, feature_weight=1.0, calibration_images=12)
    refiner.prepare(dataset, (5, 30))
    with Transcoder(FakeCodec()) as transcoder:
        point = calibrate(transcoder, task, dataset, (5,), features=True, lambdas={5: 2.0})[0]

    refined = refiner.refine(photographs, 5).images

    clean = task.features(stack_images(photographs[:1]))
    done = FakeCodec().transcode(refined[0].image, 5)
    distance = feature_distances(task.features(to_float(done.image)[None]), clean).item()
    expected = done.bpp + 2.0 * point.task_loss / point.feature_loss * distance
    assert refined[0].refined.objective == pytest.approx(expected, rel=1e-4)
    assert refined[0].refined.feature_distance == pytest.approx(distance, rel=1e-4)
    assert refined[0].refined.task_loss == 0.0
    assert sum(item.refined.objective < item.anchor.objective for item in refined) >= 3


def test_what_was_measured_is_in_the_weights_file(make: Make, photographs: list[Tensor], tmp_path: Path) -> None:
    path, network = tmp_path / "refine.safetensors", FakeTask(sharpness=10.0)
    measured, fresh = (make(lambdas="auto", feature_weight=0.5, others=[network]) for _ in range(2))
    measured.prepare(FakeDataset(count=16), (5, 30, 50))

    save_module(path, measured, name="refine", options=measured.options, facts={})
    saved = load_module(path, fresh, name="refine")

    assert saved.options == as_recorded(fresh.options)
    kept, again = (refiner.refine(photographs, 20).images for refiner in (measured, fresh))
    assert [item.refined for item in kept] == [item.refined for item in again]
    with pytest.raises(CheckpointError, match=r"lambdas for 1 task networks.*for 2"):
        load_module(path, make(lambdas="auto", feature_weight=0.5), name="refine")


def test_a_table_of_lambdas_is_interpolated(make: Make, photographs: list[Tensor]) -> None:
    refiner = make(lambdas={5: 1.0, 25: 4.0}, lambda_scale=2.0)

    anchor = refiner.refine(photographs[:1], 15).images[0].anchor

    assert (anchor.objective - anchor.bpp) / anchor.task_loss == pytest.approx(4.0, rel=1e-4)
    assert LAMBDAS  # the doubles' own table is another


def test_a_image_without_anything_stays_as_it_is(make: Make) -> None:
    dark, bright = torch.full((3, 16, 16), 40, dtype=torch.uint8), torch.full((3, 16, 16), 200, dtype=torch.uint8)
    noise = torch.randint(0, 30, (3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    photographs: Sequence[Tensor] = [dark + noise, bright + noise]

    kept = make(SpotTask()).refine(photographs, 50).images
    refined = make(SpotTask(), when_nothing="refine").refine(photographs, 50).images

    assert (kept[0].stopped, kept[0].steps, kept[0].best_step) == ("nothing found", 0, None)
    assert torch.equal(kept[0].image, photographs[0])
    assert (kept[1].stopped, refined[0].stopped) == ("steps", "steps")
    assert refined[0].refined.bits < refined[0].anchor.bits
