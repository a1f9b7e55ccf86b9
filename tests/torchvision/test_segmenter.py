import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.models import list_models, segmentation

import precomp_torchvision
from precomp_sdk import (
    CheckpointError,
    Mask,
    MaskScorer,
    OptionError,
    Registry,
    TargetError,
    TaskDataset,
)
from precomp_sdk.training import FitTaskSettings, fit_task, score_task
from precomp_torchvision import Segmenter

FAMILIES = ("lraspp", "fcn", "deeplabv3")
LITE = "lraspp_mobilenet_v3_large"
VOC = segmentation.LRASPP_MobileNet_V3_Large_Weights.DEFAULT.meta["categories"]


def make(architecture="lraspp", **options):
    torch.manual_seed(0)
    return Segmenter(architecture=architecture, **{"backbone": "squeezenet1_1", "num_classes": 4, **options}).eval()


def random_images(count=2, height=70, width=90):
    return torch.rand(count, 3, height, width)


def random_masks(count=2, height=70, width=90, ignore=255):
    labels = torch.randint(0, 4, (count, height, width))
    labels[:, :9] = ignore
    return [Mask(item, ignore_index=ignore) for item in labels]


def test_is_registered():
    registry = Registry(entry_points=False)
    registry.register(precomp_torchvision)
    assert registry.tasks["torchvision-segmenter"] is Segmenter


def test_declares_its_contract():
    task = make()
    assert task.target_kind == Mask.kind
    assert isinstance(task.scorer, MaskScorer)
    assert (task.num_classes, task.scorer.num_classes, task.class_names) == (4, 4, ())


@pytest.mark.slow
@pytest.mark.parametrize("architecture", list_models(module=segmentation))
def test_every_segmentation_network_of_torchvision(architecture):
    torch.manual_seed(0)
    task = Segmenter(architecture=architecture, num_classes=4).train()
    images = random_images(2, 64, 64).requires_grad_()
    masks = random_masks(2, 64, 64)
    assert bool(torch.isfinite(task.losses(images, masks)).all())
    losses = task.eval().losses(images, masks)
    (gradient,) = torch.autograd.grad(losses[0], images)
    assert gradient[0].abs().sum() > 0
    assert gradient[1].abs().sum() == 0
    predictions, judged = task.predict_with_losses(images, masks)
    assert torch.allclose(judged, losses.detach(), atol=1e-6)
    expected = task.network((images.detach() - task._mean) / task._std)["out"].argmax(1)
    assert torch.equal(torch.stack(predictions), expected)
    statistics = [task.scorer.measure(*both) for both in zip(predictions, masks, strict=True)]
    assert 0.0 <= task.scorer.combine(statistics, np.ones(2))["mIoU"] <= 1.0


@pytest.mark.parametrize("ignore", [255, -1, 9])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_the_mean_cross_entropy_of_labelled_pixels(family, ignore):
    task, images, masks = make(family), random_images(), random_masks(ignore=ignore)
    logits = task._logits(images)
    assert logits.shape == (2, 4, 70, 90)
    expected = [
        functional.cross_entropy(scores[None], mask.labels[None], ignore_index=ignore)
        for scores, mask in zip(logits, masks, strict=True)
    ]
    assert torch.allclose(task.losses(images, masks), torch.stack(expected), atol=1e-5)
    assert torch.equal(torch.stack(task.predict(images)), logits.argmax(1))


def test_the_expected_error_follows_the_accuracy():
    images, masks = random_images(), random_masks()
    task = make(loss="expected-error", loss_temperature=2.0)
    soft = (task._logits(images) / 2.0).softmax(1)
    for item, mask, loss in zip(soft, masks, task.losses(images, masks), strict=True):
        right = item.gather(0, mask.labels.clamp_max(3)[None])[0]
        assert torch.allclose(loss, 1 - right[mask.labels != 255].mean(), atol=1e-5)
    assert torch.allclose(task.train().losses(images, masks), make().train().losses(images, masks))


def test_a_image_without_a_labelled_pixel_has_no_loss():
    task, images = make(), random_images().requires_grad_()
    losses = task.losses(images, [Mask(torch.full((70, 90), 255)), random_masks(1)[0]])
    assert losses[0].item() == 0.0
    assert losses[1].item() > 0.0
    (gradient,) = torch.autograd.grad(losses.sum(), images)
    assert gradient[0].abs().sum() == 0
    assert gradient[1].abs().sum() > 0


def test_its_own_soft_answer_is_a_target():
    task, images = make(temperature=2.0), random_images()
    own = task.pseudo_labels(images)
    soft = (task._logits(images) / 2.0).softmax(1)
    assert torch.allclose(torch.stack([item.probabilities for item in own]), soft)
    assert torch.equal(torch.stack([item.labels for item in own]), torch.stack(task.predict(images)))
    expected = -(soft * task._logits(images).log_softmax(1)).sum(1).mean((1, 2))
    assert torch.allclose(task.losses(images, own), expected.detach(), atol=1e-5)
    statistics = [task.scorer.measure(*both) for both in zip(task.predict(images), own, strict=True)]
    assert task.scorer.combine(statistics, np.ones(2))["mIoU"] == 1.0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(1, 1), (3, 100), (65, 97)])
def test_any_image_size(family, size):
    task = make(family).train()  # also of a single image
    images = torch.rand(1, 3, *size, requires_grad=True)
    task.losses(images, [Mask(torch.zeros(size, dtype=torch.int64))]).sum().backward()
    assert images.grad.abs().sum() > 0
    assert task.eval().predict(images.detach())[0].shape == size
    assert all(layer.training for layer in make(family).train().modules())


def test_images_of_unequal_sizes():
    task = make()
    images = [torch.rand(3, 70, 90), torch.rand(3, 80, 64), torch.rand(3, 70, 90)]
    masks = [Mask(torch.zeros(image.shape[1:], dtype=torch.int64)) for image in images]
    alone = torch.cat([task.losses([image], [mask]) for image, mask in zip(images, masks, strict=True)])
    assert torch.allclose(task.losses(images, masks), alone, atol=1e-5)
    assert [tuple(item.shape) for item in task.predict(images)] == [(70, 90), (80, 64), (70, 90)]


def test_input_size_is_undone_in_the_answer():
    task, seen = make(input_size=[96, 128]), []
    task.network.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape[-2:])))
    assert task.predict(random_images())[0].shape == (70, 90)
    assert seen == [(96, 128)]


def test_padding_for_a_backbone_is_cut_off_again():
    task, seen = make(mean=(0, 0, 0), std=(1, 1, 1)), []
    task.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    image = random_images(1)
    task.predict(image)
    assert seen[0].shape == (1, 3, 96, 96)
    assert torch.equal(seen[0][..., :70, :90], image)
    assert torch.equal(seen[0][..., 70:, :90], image[..., 69:, :].expand(-1, -1, 26, -1))


def test_classes_are_chosen_from_the_networks():
    whole, part, images = make(), make(classes=[3, 1]), random_images()
    assert part.num_classes == 2
    assert torch.equal(part._logits(images), whole._logits(images)[:, [3, 1]])


def test_features():
    task, images = make(feature_layers=["backbone.stages.body.features.3", "classifier.cbr"]), random_images(2, 64, 96)
    first, second = task.features(images.requires_grad_())
    assert first.shape == (2, 128, 16, 24)
    assert second.shape == (2, 128, 4, 6)
    assert torch.autograd.grad(first.sum(), images)[0].abs().sum() > 0
    assert [tuple(item.shape) for item in make().features(images)] == [(2, 256, 8, 12), (2, 512, 4, 6)]


class Halves(TaskDataset):
    """Two colours meet along a vertical line; a strip between them is to be ignored."""

    name = "halves"
    source = "test"
    target_kind = Mask.kind
    class_names = ("red", "blue")

    def __init__(self, count=16, seed=0):
        self._count, self._seed = count, seed

    def __len__(self):
        return self._count

    def _sample(self, index):
        rng = np.random.default_rng((self._seed, index))
        line, left = int(rng.integers(16, 48)), int(rng.integers(2))
        image = torch.full((3, 64, 64), 60, dtype=torch.uint8)
        image[2 * left, :, :line], image[2 - 2 * left, :, line:] = 200, 200
        labels = torch.full((64, 64), 1 - left)
        labels[:, :line] = left
        labels[:, line - 2 : line + 2] = 255
        return image, Mask(labels)


def test_it_learns_from_nothing():
    torch.manual_seed(0)
    task = Segmenter(architecture="lraspp", backbone="squeezenet1_1", num_classes=2)
    before = score_task(task, Halves(8, seed=1))
    result = fit_task(
        task,
        Halves(),
        settings=FitTaskSettings(epochs=12, batch_size=8, learning_rate=4e-3, workers=1),
        validation=Halves(8, seed=1),
    )
    assert before["mIoU"] < 0.6
    assert result.scores["mIoU"] > 0.8


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Mask(torch.zeros(70, 91, dtype=torch.int64)), r"a mask \(70, 90\) int64; got \(70, 91\)"),
        (Mask(torch.full((70, 90), 4)), "classes from 0 to 3, or 255 .*; got 4"),
        (Mask(torch.full((70, 90), -1)), "classes from 0 to 3, or 255 .*; got -1"),
        (
            Mask(torch.zeros(70, 90, dtype=torch.int64), probabilities=torch.ones(3, 70, 90)),
            r"probabilities \(4, 70, 90\); got \(3, 70, 90\)",
        ),
    ],
)
def test_targets_that_do_not_fit(mask, message):
    with pytest.raises(TargetError, match=message):
        make().losses(random_images(1), [mask])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "fcnn"}, "one of .* for a backbone; got 'fcnn'. Did you mean 'fcn'"),
        ({"architecture": "fcn", "backbone": None}, "a segmentation network of torchvision.*Or name a backbone"),
        ({"backbone": "vit_b_16"}, "a convolutional network"),
        ({"backbone_layers": ["features.4"]}, "two layers for LR-ASPP"),
        ({"num_classes": 1}, "option 'num_classes'"),
        ({"new_head": True}, "option 'new_head'"),
        ({"loss": "entropy"}, "option 'loss': .*Did you mean 'cross-entropy'"),
        ({"temperature": 0.0}, "option 'temperature'"),
        ({"loss_temperature": 0.0}, "option 'loss_temperature'"),
        ({"mean": (0.5,)}, "option 'mean'"),
        ({"std": (0.5, 0.0, 0.5)}, "option 'std'"),
        ({"input_size": [64]}, "option 'input_size'"),
        ({"classes": [4]}, "Numbers go from 0 to 3"),
        ({"feature_layers": ["body"]}, "names of layers of LRASPP"),
        ({"weights": "DEFAULT"}, "a path to a .pth, .pt or .safetensors file; got 'DEFAULT'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(OptionError, match=message):
        make(**options)


def test_options_of_a_backbone_need_one():
    with pytest.raises(OptionError, match="option 'backbone'"):
        Segmenter(architecture=LITE, backbone_weights="x.pth")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_brings_its_number_of_classes(tmp_path, family):
    first, path = make(family), tmp_path / "mine.pth"
    torch.save(first.network.state_dict(), path)
    second = make(family, weights=path, num_classes=None)
    assert second.num_classes == 4
    images = random_images(1)
    assert torch.equal(first.predict(images)[0], second.predict(images)[0])
    with pytest.raises(OptionError, match="expected 4, as the weights have; got 3"):
        make(family, weights=path, num_classes=3)
    third = make(family, weights=path, num_classes=3, new_head=True)
    assert third.predict(images)[0].max() <= 2
    name = "backbone.stages.body.features.3.squeeze.weight"
    assert torch.equal(third.network.get_parameter(name), first.network.get_parameter(name))


def test_a_file_that_does_not_fit_names_keys_and_shapes(tmp_path):
    state, path = make("fcn").network.state_dict(), tmp_path / "weights.pth"
    state["classifier.0.weight"] = torch.zeros(5, 512, 3, 3)
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"classifier.0.weight float32 \(5, 512, 3, 3\) instead of"):
        make("fcn", weights=path)
    with pytest.raises(CheckpointError, match=f"{path}, loaded into 'lraspp': .*without classifier.cbr.0.weight"):
        make("lraspp", weights=path)


def test_an_auxiliary_head_in_a_file_is_left_out(tmp_path):
    torch.manual_seed(0)
    network = segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5, aux_loss=True
    )
    path = tmp_path / "aux.pth"
    torch.save(network.state_dict(), path)
    task = Segmenter(architecture="deeplabv3_mobilenet_v3_large", weights=path)
    assert task.num_classes == 5
    assert not any(key.startswith("aux") for key in task.network.state_dict())


def test_published_weights(monkeypatch):
    torch.manual_seed(0)
    state = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda url, *args, **rest: state)
    task = Segmenter(architecture=LITE, weights="DEFAULT").eval()
    assert task.class_names == tuple(VOC)
    task.check_dataset(["background", *VOC[1:]])
    with pytest.raises(TargetError, match="class 1 to be 'aeroplane'; got 'bicycle'"):
        task.check_dataset(["background", "bicycle", "aeroplane", *VOC[3:]])
    part = Segmenter(architecture=LITE, weights="DEFAULT", classes=["person", "car"]).eval()
    images = random_images(1)
    assert torch.equal(part._logits(images), task._logits(images)[:, [VOC.index("person"), VOC.index("car")]])
    fresh = Segmenter(architecture=LITE, weights="DEFAULT", num_classes=3, new_head=True)
    assert (fresh.num_classes, fresh.class_names) == (3, ())


def test_published_weights_with_an_auxiliary_head(monkeypatch):
    torch.manual_seed(0)
    network = segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, aux_loss=True)
    state = network.state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda url, *args, **rest: state)
    task = Segmenter(architecture="deeplabv3_mobilenet_v3_large", weights="DEFAULT").eval()
    assert task.network.aux_classifier is None
    assert task.predict(random_images(1))[0].shape == (70, 90)


def test_batch_normalization_can_stay_frozen():
    def moves(task):
        before = task.network.get_buffer("classifier.cbr.1.running_mean").clone()
        task.losses(random_images(), random_masks())
        return not torch.equal(before, task.network.get_buffer("classifier.cbr.1.running_mean"))

    assert moves(make().train())
    assert not moves(make(freeze_batch_norm=True).train())
