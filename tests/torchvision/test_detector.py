import numpy as np
import pytest
import torch
from torchvision.models import detection, list_models

import precomp_torchvision
from precomp_sdk import Boxes, BoxScorer, OptionError, Registry, TargetError, TaskDataset
from precomp_sdk.training import FitTaskSettings, fit_task, score_task
from precomp_torchvision import Detector
from precomp_torchvision._detection_run import SteadySampler

FAMILIES = ("fcos", "retinanet", "fasterrcnn")
NOTHING = Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def make(architecture="fcos", **options):
    torch.manual_seed(0)
    given = {"backbone": "squeezenet1_1", "pyramid_channels": 64, "num_classes": 3, **options}
    return Detector(architecture=architecture, **given).eval()


def boxes(*rows, crowd=None):
    """Each row: x1, y1, x2, y2, label."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4].long(), crowd=None if crowd is None else torch.tensor(crowd))


TARGETS = [boxes((3, 4, 30, 40, 0), (20, 20, 60, 50, 2)), NOTHING, boxes((10, 10, 22, 30, 1))]


def random_images(count=3, height=64, width=80):
    return torch.rand(count, 3, height, width)


def test_is_registered():
    registry = Registry(entry_points=False)
    registry.register(precomp_torchvision)
    assert registry.tasks["torchvision-detector"] is Detector


def test_declares_its_contract():
    task = make()
    assert task.target_kind == Boxes.kind
    assert isinstance(task.scorer, BoxScorer)
    assert (task.num_classes, task.scorer.num_classes, task.class_names) == (3, 3, ())


@pytest.mark.slow
@pytest.mark.parametrize("architecture", list_models(module=detection))
def test_every_detection_network_of_torchvision(architecture):
    size = {} if architecture.startswith("ssd") else {"min_size": 64}
    torch.manual_seed(0)
    task = Detector(architecture=architecture, num_classes=3, score_threshold=0.0, **size).eval()
    if hasattr(task.network, "rpn"):  # fewer regions, to be done sooner
        task.network.roi_heads.fg_bg_sampler.size = 32
        task.network.rpn._pre_nms_top_n = task.network.rpn._post_nms_top_n = {"training": 40, "testing": 40}
    images = random_images(2, 64, 64)[: 1 if architecture == "ssd300_vgg16" else 2].requires_grad_()
    losses = task.losses(images, TARGETS[: len(images)])
    assert losses.shape == (len(images),)
    assert bool(torch.isfinite(losses).all())
    (gradient,) = torch.autograd.grad(losses[0], images)
    assert gradient[0].abs().sum() > 0
    assert gradient[1:].abs().sum() == 0
    (found, *_), judged = task.predict_with_losses(images.detach(), TARGETS[: len(images)])
    assert torch.allclose(judged, losses.detach(), atol=1e-6)
    assert len(found.labels) > 0
    assert int(found.labels.min()) >= 0
    assert int(found.labels.max()) <= 2
    assert float(found.boxes.max()) <= 64.01
    statistics = task.scorer.measure(found, TARGETS[0])
    assert 0.0 <= task.scorer.combine([statistics], np.ones(1))["mAP"] <= 1.0


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_torchvisions_on_each_image_alone(family):
    task, images = make(family), random_images()
    losses = task.losses(images, TARGETS)
    network = task.network.train()  # SqueezeNet's backbone has no layer that behaves otherwise in training
    for image, target, loss in zip(images, TARGETS, losses, strict=True):
        parts = network([image], [{"boxes": target.boxes, "labels": target.labels + 1}])
        assert torch.allclose(sum(parts.values()), loss, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_are_torchvisions(family):
    task, images = make(family, score_threshold=0.0), random_images()
    expected = task.network.eval()(list(images))
    predictions, losses = task.predict_with_losses(images, TARGETS)
    assert torch.allclose(losses, task.losses(images, TARGETS))
    for found, other in zip(predictions, expected, strict=True):
        real = other["labels"] > 0  # FCOS and RetinaNet have an output for the background too
        assert len(found.labels) == int(real.sum()) > 0
        assert torch.allclose(found.boxes, other["boxes"][real], atol=1e-4)
        assert torch.equal(found.labels + 1, other["labels"][real])
        assert torch.allclose(found.scores, other["scores"][real], atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_evaluation_a_loss_is_a_function_of_its_image(family):
    task, images = make(family), random_images()
    losses = task.losses(images, TARGETS)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    alone = torch.cat([task.losses(images[i : i + 1], TARGETS[i : i + 1]) for i in range(3)])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.allclose(alone, losses, atol=1e-5)
    assert bool((losses > 0).all())  # also without objects


def test_in_training_a_two_stage_network_draws_its_regions():
    task, images = make("fasterrcnn").train(), random_images(1)
    torch.manual_seed(1)
    first = task.losses(images, TARGETS[:1])
    assert not torch.equal(task.losses(images, TARGETS[:1]), first)
    torch.manual_seed(1)
    assert torch.equal(task.losses(images, TARGETS[:1]), first)


def test_the_sampler_takes_torchvisions_shares():
    matched = [torch.tensor([-1] * 10 + [1] * 60 + [0] * 200), torch.zeros(30, dtype=torch.int64)]
    sampler = SteadySampler(64, 0.25)
    (many, none), (rest, all_of_them) = sampler(matched)
    assert (int(many.sum()), int(rest.sum()), int(none.sum()), int(all_of_them.sum())) == (16, 48, 0, 30)
    assert bool((matched[0][many] == 1).all())
    assert bool((matched[0][rest] == 0).all())
    assert torch.equal(sampler(matched)[0][0], many)
    changed = matched[0].clone()
    changed[12] = 0  # one region less: the others stay chosen
    assert int((sampler([changed])[0][0] & many).sum()) >= 15
    sampler.random = True
    torch.manual_seed(5)
    assert not torch.equal(sampler(matched)[0][0], many)


def test_gradients_reach_every_image_with_an_object():
    task, images = make(), random_images().requires_grad_()
    task.losses(images, TARGETS).sum().backward()
    assert bool((images.grad.abs().sum((1, 2, 3)) > 0).all())


def test_crowd_regions_are_left_out_of_the_loss():
    task, images = make(), random_images(1)
    with_crowd = boxes((3, 4, 30, 40, 0), (20, 20, 60, 50, 2), crowd=[False, True])
    assert torch.equal(task.losses(images, [with_crowd]), task.losses(images, [boxes((3, 4, 30, 40, 0))]))
    only_crowd = boxes((20, 20, 60, 50, 2), crowd=[True])
    assert torch.equal(task.losses(images, [only_crowd]), task.losses(images, [NOTHING]))


def test_its_own_confident_boxes_are_targets():
    task, images = make("fasterrcnn", score_threshold=0.05), random_images()
    scores = torch.cat([found.scores for found in task.predict(images)])
    task = make("fasterrcnn", score_threshold=0.05, own_threshold=float(scores.median()))
    own = task.pseudo_labels(images)
    assert sum(len(item.labels) for item in own) == int((scores >= scores.median()).sum())
    assert all(item.scores is None for item in own)
    assert bool(torch.isfinite(task.losses(images, own)).all())
    statistics = [task.scorer.measure(*both) for both in zip(task.predict(images), own, strict=True)]
    assert task.scorer.combine(statistics, np.ones(3))["mAP50"] > 0.99
    assert all(len(item.labels) == 0 for item in make(own_threshold=1.0).pseudo_labels(images))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 7)])
def test_any_image_size(family, size):
    task = make(family)
    images = torch.rand(1, 3, *size, requires_grad=True)
    losses = task.losses(images, [boxes((0, 0, size[1], size[0], 1))])
    assert torch.autograd.grad(losses.sum(), images)[0].abs().sum() > 0
    assert len(task.predict(images.detach())) == 1


def test_images_of_unequal_sizes():
    task = make()
    images = [torch.rand(3, 40, 50), torch.rand(3, 64, 32), torch.rand(3, 40, 50)]
    alone = torch.cat([task.losses([image], [target]) for image, target in zip(images, TARGETS, strict=True)])
    assert torch.allclose(task.losses(images, TARGETS), alone, atol=1e-5)


def sizes_seen(task, images):
    seen = []
    task.network.backbone.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape[-2:])))
    task.predict(images)
    return seen[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, (64, 96)), ({"min_size": 128}, (128, 160)), ({"min_size": 128, "max_size": 130}, (128, 160)),
     ({"min_size": 32, "max_size": 32}, (32, 32))],
)  # fmt: skip
def test_images_go_in_at_their_own_size_unless_told_otherwise(options, expected):
    assert sizes_seen(make(**options), random_images(1)) == expected  # a multiple of 32


def test_boxes_come_back_in_the_images_own_pixels():
    task, images = make("fasterrcnn", min_size=128, score_threshold=0.0), random_images(1)
    found = task.predict(images)[0]
    assert 64 < float(found.boxes[:, 2].max()) <= 80.01
    assert float(found.boxes[:, 3].max()) <= 64.01


def test_normalizes_as_told():
    plain, other = make(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), make(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    images = random_images(1)
    assert torch.allclose(other.features(images)[0], plain.features(images * 2 - 1)[0], atol=1e-4)
    usual = (images - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        3, 1, 1
    )
    assert torch.allclose(make().features(images)[0], plain.features(usual)[0], atol=1e-4)


def test_score_threshold():
    images = random_images(1)
    every = make("fasterrcnn", score_threshold=0.0).predict(images)[0].scores
    limit = float(every.median())
    some = make("fasterrcnn", score_threshold=limit).predict(images)[0].scores
    assert 0 < len(some) < len(every)
    assert float(some.min()) > limit


def test_classes_are_chosen_from_the_networks():
    whole, images = make("fasterrcnn", score_threshold=0.0), random_images(1)
    part = make("fasterrcnn", score_threshold=0.0, classes=[2, 0])
    assert part.num_classes == 2
    all_of_them, some = whole.predict(images)[0], part.predict(images)[0]
    assert torch.equal(some.boxes[some.labels == 0], all_of_them.boxes[all_of_them.labels == 2])
    assert torch.equal(some.boxes[some.labels == 1], all_of_them.boxes[all_of_them.labels == 0])
    same = [boxes((3, 4, 30, 40, 0))]
    assert torch.equal(part.losses(images, same), whole.losses(images, [boxes((3, 4, 30, 40, 2))]))


@pytest.mark.slow
def test_batch_normalization_learns_only_where_it_is_meant_to():
    def moves(task):
        before = {name: value.clone() for name, value in task.network.named_buffers() if "running_mean" in name}
        task.losses(random_images(), TARGETS)
        return any(not torch.equal(value, task.network.get_buffer(name)) for name, value in before.items())

    assert moves(make(backbone="mobilenet_v3_small").train())
    assert not moves(make(backbone="mobilenet_v3_small").eval())
    assert not moves(make(backbone="mobilenet_v3_small", freeze_batch_norm=True).train())


def test_features_are_the_maps_the_heads_work_on():
    task, images = make(), random_images(2).requires_grad_()
    maps = task.features(images)
    assert [tuple(item.shape) for item in maps] == [(2, 64, 8, 12), (2, 64, 4, 6), (2, 64, 2, 3)]
    assert torch.autograd.grad(maps[0].sum(), images)[0].abs().sum() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_features_of_named_layers(family):
    head = "rpn.head.conv" if family == "fasterrcnn" else "head.classification_head.conv.0"
    names = [name for name, _ in make(family).network.named_modules()]
    chosen = next(name for name in names if name.startswith(head))
    task = make(family, feature_layers=["backbone.stages.body.features.3", chosen])
    first, second = task.features(random_images(2))
    assert first.shape[:2] == (2, 128)
    assert second.shape[:2] == (2, 64)


class Squares(TaskDataset):
    """Bright squares of two colours on gray."""

    name = "squares"
    source = "test"
    target_kind = Boxes.kind
    class_names = ("red", "blue")

    def __init__(self, count=16, seed=0):
        self._count, self._seed = count, seed

    def __len__(self):
        return self._count

    def _sample(self, index):
        rng = np.random.default_rng((self._seed, index))
        image = torch.full((3, 64, 64), 90, dtype=torch.uint8)
        rows = []
        for column in range(2 if index % 4 else 0):  # every fourth image has no object
            side, label = int(rng.integers(14, 28)), int(rng.integers(2))
            x, y = 32 * column + int(rng.integers(0, 32 - side)), int(rng.integers(0, 64 - side))
            image[2 * label, y : y + side, x : x + side] = 230
            rows.append((x, y, x + side, y + side, label))
        return image, boxes(*rows)


@pytest.mark.slow
def test_it_learns_from_nothing():
    torch.manual_seed(0)
    task = Detector(architecture="fcos", backbone="squeezenet1_1", pyramid_channels=64, num_classes=2)
    before = score_task(task, Squares(12, seed=1))
    result = fit_task(
        task,
        Squares(),
        settings=FitTaskSettings(epochs=30, batch_size=8, learning_rate=4e-3, workers=1),
        validation=Squares(12, seed=1),
    )
    assert before["mAP50"] < 0.1
    assert result.scores["mAP50"] > 0.5


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (boxes((3, 4, 30, 40, 3)), "classes from 0 to 2; got 3"),
        (boxes((3, 4, 30, 40, -1)), "classes from 0 to 2; got -1"),
        (boxes((3, 4, 3, 40, 1)), r"x1 < x2 and y1 < y2 .*; got box 0, \[3, 4, 3, 40\]"),
        (boxes((3, 4, float("nan"), 40, 1)), r"x1 < x2 and y1 < y2"),
        (Boxes(torch.zeros(0, 4), torch.zeros(1, dtype=torch.int64)), r"expected boxes \(1, 4\) float32; got \(0, 4\)"),
    ],
)
def test_targets_that_do_not_fit(target, message):
    with pytest.raises(TargetError, match=message):
        make().losses(random_images(1), [target])


def test_the_data_set_must_have_its_classes():
    make().check_dataset(["a", "b", "c"])
    make().check_dataset([])
    with pytest.raises(TargetError, match="a data set of 3 classes; got 2: a, b"):
        make().check_dataset(["a", "b"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "fcoss"}, "one of .* for a backbone; got 'fcoss'. Did you mean 'fcos'"),
        ({"architecture": "fcos", "backbone": None}, "a detection network of torchvision.*Or name a backbone"),
        ({"backbone": "resnet81"}, "Did you mean 'resnet18'"),
        ({"backbone": "vit_b_16"}, "a convolutional network; got 'vit_b_16'"),
        ({"backbone_layers": ["classifier"]}, "got 'classifier'"),
        (
            {"backbone_layers": ["features.12"], "backbone": "alexnet"},
            "option 'backbone_layers': expected maps at a half",
        ),
        ({"num_classes": 0}, "option 'num_classes'"),
        ({"new_head": True}, "option 'new_head'"),
        ({"pyramid_channels": 72}, "option 'pyramid_channels'"),
        ({"pyramid_channels": 32}, "option 'pyramid_channels'"),
        ({"own_threshold": 1.5}, "option 'own_threshold'"),
        ({"score_threshold": 1.0}, "option 'score_threshold'"),
        ({"min_size": 0}, "option 'min_size'"),
        ({"min_size": 9, "max_size": 8}, "option 'min_size'"),
        ({"max_size": 8}, "option 'max_size'"),
        ({"mean": (0.5,)}, "option 'mean'"),
        ({"std": (0.5, 0.0, 0.5)}, "option 'std'"),
        ({"classes": []}, "option 'classes'"),
        ({"classes": [3]}, "Numbers go from 0 to 2"),
        ({"classes": [1, 1]}, "Name each class once"),
        ({"classes": ["cat"]}, "got 'cat'. Nothing is known here"),
        ({"feature_layers": ["body"]}, "names of layers of FCOS"),
        ({"weights": "DEFAULT"}, "a path to a .pth, .pt or .safetensors file; got 'DEFAULT'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(OptionError, match=message):
        make(**options)


def test_options_of_a_backbone_need_one():
    with pytest.raises(OptionError, match="option 'backbone'"):
        Detector(architecture="fcos_resnet50_fpn", backbone_layers=["layer4"])
    with pytest.raises(OptionError, match="option 'min_size': expected none: ssdlite320_mobilenet_v3_large"):
        Detector(architecture="ssdlite320_mobilenet_v3_large", min_size=64)
