"""BoxScorer against pycocotools, on predictions that make every rule of COCO's matching matter."""

import contextlib
import io
import time

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from precomp_sdk import Boxes, BoxScorer, ContractError, Mask, TargetError

CLASSES = 5


def objects(rng, count):
    corners = rng.uniform(0, 200, (count, 2))
    sides = rng.uniform(4, 90, (count, 2))
    return np.concatenate([corners, corners + sides], axis=1)


def predict(rng, boxes, labels, *, extra=4, ties=False):
    """Perturb boxes as a detector would: shifted, missed, doubled, of the wrong class, of nothing."""
    kept = rng.random(len(boxes)) < 0.8
    found = [boxes[kept], boxes[rng.random(len(boxes)) < 0.5]]
    names = [labels[kept], rng.integers(0, CLASSES, len(found[1]))]
    noise = [rng.normal(0, rng.choice([0.5, 4.0, 12.0], (len(part), 1)), part.shape) for part in found]
    found = [part + shift for part, shift in zip(found, noise, strict=True)]
    found.append(objects(rng, extra))
    names.append(rng.integers(0, CLASSES, extra))
    where, what = np.concatenate(found), np.concatenate(names)
    where[:, 2:] = np.maximum(where[:, 2:], where[:, :2] + 1.0)
    scores = rng.random(len(where))
    if ties:
        scores = scores.round(1)
    return Boxes(torch.tensor(where).float(), torch.tensor(what), scores=torch.tensor(scores).float())


def make_set(images, *, seed=0, ties=False, crowds=True, most=12, extra=4):
    """Return predictions and targets; some images are empty, some classes rare, some regions crowds."""
    rng = np.random.default_rng(seed)
    predictions, targets = [], []
    for index in range(images):
        count = 0 if index % 7 == 3 else int(rng.integers(1, most))
        boxes, labels = objects(rng, count), np.minimum(rng.geometric(0.4, count) - 1, CLASSES - 1)
        crowd = torch.tensor(rng.random(count) < 0.15) if crowds else None
        targets.append(Boxes(torch.tensor(boxes).float(), torch.tensor(labels), crowd=crowd))
        predictions.append(predict(rng, boxes, labels, ties=ties, extra=extra))
    return predictions, targets


def coco_files(predictions, targets, repeats=None):
    """Return the same as COCO's own structures; image i stands there ``repeats[i]`` times in a row."""
    repeats = [1] * len(targets) if repeats is None else repeats
    images, annotations, results = [], [], []
    for prediction, target, repeat in zip(predictions, targets, repeats, strict=True):
        for _ in range(int(repeat)):
            image = len(images) + 1
            images.append({"id": image, "width": 300, "height": 300})
            for place, (box, label) in enumerate(zip(target.boxes.double(), target.labels, strict=True)):
                x1, y1, x2, y2 = box.tolist()
                crowd = 0 if target.crowd is None else int(target.crowd[place])
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": image, "category_id": int(label) + 1, "iscrowd": crowd,
                     "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
                )  # fmt: skip
            rows = zip(prediction.boxes.double(), prediction.labels, prediction.scores.double(), strict=True)
            for box, label, score in rows:
                x1, y1, x2, y2 = box.tolist()
                results.append({"image_id": image, "category_id": int(label) + 1, "score": float(score),
                                "bbox": [x1, y1, x2 - x1, y2 - y1]})  # fmt: skip
    highest = max([int(item.labels.max()) for item in targets if len(item.labels)])
    names = [{"id": index + 1, "name": str(index)} for index in range(max(CLASSES, highest + 1))]
    return {"images": images, "annotations": annotations, "categories": names}, results


def run_pycocotools(truth, results):
    with contextlib.redirect_stdout(io.StringIO()):
        whole = COCO()
        whole.dataset = truth
        whole.createIndex()
        evaluation = COCOeval(whole, whole.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def by_pycocotools(truth, results):
    evaluation = run_pycocotools(truth, results)
    precision = evaluation.eval["precision"][:, :, :, 0, 2]  # (T, 101, K)
    per_class = [
        precision[:, :, label].mean() if (precision[:, :, label] > -1).all() else np.nan
        for label in range(precision.shape[2])
    ]
    return dict(zip(("mAP", "mAP50", "mAP75"), evaluation.stats[:3], strict=True)), np.array(per_class)


def measure(scorer, predictions, targets):
    return [scorer.measure(*pair) for pair in zip(predictions, targets, strict=True)]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_pycocotools(seed, ties):
    predictions, targets = make_set(60, seed=seed, ties=ties)
    scorer = BoxScorer(CLASSES)
    statistics = measure(scorer, predictions, targets)
    scores = scorer.combine(statistics, np.ones(60))
    expected, per_class = by_pycocotools(*coco_files(predictions, targets))
    assert scores == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(scorer.per_class(statistics), per_class, atol=1e-9)
    assert 0.05 < scores["mAP"] < scores["mAP50"] < 0.9  # neither nothing nor everything is found


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_small_medium_and_large_objects_score_as_pycocotools_has_them(seed, scale):
    predictions, targets = make_set(60, seed=seed, ties=seed % 2 == 0)
    for item in (*predictions, *targets):  # and some areas are a limit itself, which belongs to both sides
        item.boxes.mul_(scale)
        item.boxes[::5, 2:] = item.boxes[::5, :2].round_() + (32.0 if seed % 2 else 96.0)
    scorer = BoxScorer(CLASSES)
    statistics = measure(scorer, predictions, targets)
    evaluation = run_pycocotools(*coco_files(predictions, targets))
    sizes = scorer.per_size(statistics)
    assert list(sizes) == ["small", "medium", "large"]
    found = np.array([-1.0 if np.isnan(score) else score for _, score in sizes.values()])
    np.testing.assert_allclose(found, evaluation.stats[3:6], atol=1e-9)
    assert scorer.combine(statistics, np.ones(60))["mAP"] == pytest.approx(evaluation.stats[0], abs=1e-9)
    for (count, _), (low, high) in zip(sizes.values(), ((0, 32), (32, 96), (96, 1e5)), strict=True):
        areas = [
            area
            for target in targets
            for area in (target.boxes[:, 2:] - target.boxes[:, :2]).double().prod(dim=1)[~target.crowd].tolist()
        ]
        assert count == sum(low**2 <= area <= high**2 for area in areas)
    assert max(found) > 0.05


def test_more_than_100_detections_of_a_class():
    rng = np.random.default_rng(5)
    boxes = objects(rng, 40)
    target = Boxes(torch.tensor(boxes).float(), torch.zeros(40, dtype=torch.int64))
    found = np.concatenate([boxes + rng.normal(0, 3, boxes.shape) for _ in range(6)])
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    prediction = Boxes(
        torch.tensor(found).float(), torch.zeros(240, dtype=torch.int64), scores=torch.tensor(rng.random(240)).float()
    )
    scorer = BoxScorer(CLASSES)
    scores = scorer.combine(measure(scorer, [prediction], [target]), np.ones(1))
    assert scores == pytest.approx(by_pycocotools(*coco_files([prediction], [target]))[0], abs=1e-9)


def test_a_image_that_counts_twice_is_there_twice():
    predictions, targets = make_set(25, seed=4)
    scorer = BoxScorer(CLASSES)
    counts = np.random.default_rng(0).multinomial(25, np.full(25, 1 / 25), size=3).astype(float)
    assert (counts == 0).any()
    many = scorer.combine_many(measure(scorer, predictions, targets), counts)
    for row, count in enumerate(counts):
        expected, _ = by_pycocotools(*coco_files(predictions, targets, count))
        assert {metric: values[row] for metric, values in many.items()} == pytest.approx(expected, abs=1e-9)


def test_one_by_one_and_together_are_alike():
    scorer = BoxScorer(CLASSES)
    statistics = measure(scorer, *make_set(20, seed=6))
    counts = np.random.default_rng(1).integers(0, 4, (7, 20)).astype(float)
    many = scorer.combine_many(statistics, counts)
    for row, count in enumerate(counts):
        assert scorer.combine(statistics, count) == pytest.approx({name: many[name][row] for name in scorer.metrics})


@pytest.mark.slow
def test_2000_replicates_in_seconds():
    predictions, targets = make_set(300, seed=3, most=14, extra=60)
    scorer = BoxScorer(CLASSES)
    statistics = measure(scorer, predictions, targets)
    counts = np.random.default_rng(0).multinomial(300, np.full(300, 1 / 300), size=2000).astype(float)
    begin = time.process_time()
    values = scorer.combine_many(statistics, counts)["mAP"]
    assert time.process_time() - begin < 30  # about 3 s on one core
    assert values.std() > 0


def boxes_of(rows, labels, scores=None, crowd=None):
    return Boxes(
        torch.tensor(rows, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        crowd=None if crowd is None else torch.tensor(crowd),
        scores=None if scores is None else torch.tensor(scores, dtype=torch.float32),
    )


def test_detections_in_a_crowd_region_count_for_nothing():
    target = boxes_of([[0, 0, 10, 10], [50, 50, 150, 150]], [0, 0], crowd=[False, True])
    inside = [[55, 55, 75, 75], [80, 80, 99, 99]]
    right = [[0, 0, 10, 10]]
    scorer = BoxScorer(1)
    excused = scorer.measure(boxes_of(inside + right, [0, 0, 0], [0.9, 0.8, 0.7]), target)
    assert scorer.combine([excused], np.ones(1))["mAP"] == pytest.approx(1.0)
    plain = boxes_of([[0, 0, 10, 10]], [0])
    counted = scorer.measure(boxes_of(inside + right, [0, 0, 0], [0.9, 0.8, 0.7]), plain)
    assert scorer.combine([counted], np.ones(1))["mAP"] == pytest.approx(1 / 3)


def test_classes_without_objects_take_no_part():
    scorer = BoxScorer(3)
    statistics = [
        scorer.measure(boxes_of([[0, 0, 9, 9], [0, 0, 9, 9]], [0, 2], [0.5, 0.9]), boxes_of([[0, 0, 9, 9]], [0])),
        scorer.measure(boxes_of([], [], []), boxes_of([[0, 0, 9, 9]], [1])),
    ]
    assert scorer.combine(statistics, np.array([1.0, 0.0]))["mAP"] == pytest.approx(1.0)
    assert scorer.combine(statistics, np.ones(2))["mAP"] == pytest.approx(0.5)
    np.testing.assert_allclose(scorer.per_class(statistics), [1.0, 0.0, np.nan])


def test_images_without_objects():
    scorer = BoxScorer(2)
    nothing = scorer.measure(boxes_of([], [], []), boxes_of([], []))
    false = scorer.measure(boxes_of([[0, 0, 9, 9]], [1], [0.9]), boxes_of([], []))
    right = scorer.measure(boxes_of([[0, 0, 9, 9]], [1], [0.8]), boxes_of([[0, 0, 9, 9]], [1]))
    assert scorer.combine([nothing, right], np.ones(2))["mAP"] == pytest.approx(1.0)
    assert scorer.combine([false, right], np.ones(2))["mAP"] == pytest.approx(0.5)
    with pytest.raises(TargetError, match="images with one object or more, crowd regions aside; got none in 2"):
        scorer.combine([nothing, false], np.ones(2))
    many = scorer.combine_many([nothing, right], np.array([[2.0, 0.0], [0.0, 2.0]]))
    np.testing.assert_allclose(many["mAP"], [np.nan, 1.0])


def test_its_own_answer_is_a_perfect_target():
    predictions, _ = make_set(8, seed=9)
    scorer = BoxScorer(CLASSES)
    own = [Boxes(item.boxes, item.labels) for item in predictions]
    assert scorer.combine(measure(scorer, predictions, own), np.ones(8))["mAP50"] > 0.95


@pytest.mark.parametrize(
    ("prediction", "got"),
    [
        (torch.zeros(3, 4), "a Boxes; got Tensor"),
        (boxes_of([[0, 0, 9, 9]], [0]), "a tensor of scores; got NoneType"),
        (boxes_of([[0, 0, 9, 9]], [2], [0.5]), "labels from 0 to 1; got 2 to 2"),
        (boxes_of([[0, 0, 9, 9]], [-1], [0.5]), "labels from 0 to 1; got -1 to -1"),
        (boxes_of([[0, 0, 9, 9]], [0], [0.5, 0.4]), r"scores of shape \(1,\); got \(2,\)"),
        (boxes_of([[0, 0, 9, 9]] * 2, [0], [0.5]), r"boxes of shape \(1, 4\); got \(2, 4\)"),
        (boxes_of([[0, 0, 9, 9]], [0], [float("nan")]), "finite numbers; got NaN"),
        (boxes_of([[0, 0, float("inf"), 9]], [0], [0.5]), "finite boxes; got NaN or infinity"),
        (Boxes([[0, 0, 9, 9]], torch.zeros(1)), "a tensor of boxes; got list"),
    ],
)
def test_wrong_predictions(prediction, got):
    with pytest.raises(ContractError, match=f"BoxScorer, prediction: expected .*{got}"):
        BoxScorer(2).measure(prediction, boxes_of([], []))


def test_wrong_targets():
    prediction = boxes_of([], [], [])
    with pytest.raises(TargetError, match="expected a Boxes; got Mask"):
        BoxScorer(2).measure(prediction, Mask(torch.zeros(1, 1)))
    with pytest.raises(TargetError, match="labels from 0 to 1; got 0 to 7"):
        BoxScorer(2).measure(prediction, boxes_of([[0, 0, 9, 9]] * 2, [0, 7]))
    with pytest.raises(TargetError, match=r"crowd of shape \(1,\); got \(2,\)"):
        BoxScorer(2).measure(prediction, boxes_of([[0, 0, 9, 9]], [0], crowd=[True, False]))
