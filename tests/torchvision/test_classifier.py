import json

import pytest
import torch
from torch.nn import functional

import precomp_torchvision
from precomp_sdk import Label, LabelScorer, OptionError, Registry, TargetError
from precomp_sdk.component import construct
from precomp_torchvision import Classifier


def make(**options):
    torch.manual_seed(0)
    return Classifier(**{"architecture": "squeezenet1_1", "num_classes": 5, **options}).eval()


def random_images(count=3, height=70, width=80):
    return torch.rand(count, 3, height, width)


def test_is_registered():
    registry = Registry(entry_points=False)
    registry.register(precomp_torchvision)
    assert registry.tasks["torchvision-classifier"] is Classifier


def test_declares_its_contract():
    task = make()
    assert task.target_kind == Label.kind
    assert isinstance(task.scorer, LabelScorer)
    assert task.num_classes == 5
    assert task.class_names == ()


def test_losses_are_cross_entropy_per_image_with_gradients_to_the_images():
    task, images = make(), random_images().requires_grad_()
    losses = task.losses(images, [Label(4), Label(0), Label(2)])
    logits = torch.stack(task.predict(images))
    assert logits.shape == (3, 5)
    expected = functional.cross_entropy(logits, torch.tensor([4, 0, 2]), reduction="none")
    assert torch.allclose(losses, expected, atol=1e-6)
    (gradient,) = torch.autograd.grad(losses[1], images)
    assert gradient[1].abs().sum() > 0
    assert gradient[0].abs().sum() == 0


def test_normalizes_by_itself():
    task, images = make(mean=[0.1, 0.2, 0.3], std=[0.5, 0.4, 0.2]), random_images()
    shifted = (images - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.4, 0.2]).view(3, 1, 1)
    assert torch.allclose(torch.stack(task.predict(images)), task.network(shifted), atol=1e-5)
    usual = (images - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        3, 1, 1
    )
    assert torch.allclose(torch.stack(make().predict(images)), make().network(usual), atol=1e-5)


def test_soft_targets_are_preferred():
    task, images = make(), random_images()
    soft = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.0]]).expand(3, 5)
    losses = task.losses(images, [Label(4, probabilities=row) for row in soft])
    logits = torch.stack(task.predict(images))
    assert torch.allclose(losses, -(soft * logits.log_softmax(1)).sum(1), atol=1e-6)
    mixed = task.losses(images, [Label(4, probabilities=soft[0]), Label(1), Label(2)])
    assert torch.allclose(mixed[0], losses[0])
    assert torch.allclose(mixed[1], -logits[1].log_softmax(0)[1], atol=1e-6)


def test_label_smoothing_touches_hard_labels_only():
    images = random_images()
    plain, smooth = make(), make(label_smoothing=0.2)
    logits = torch.stack(plain.predict(images))
    expected = functional.cross_entropy(logits, torch.tensor([4, 0, 2]), reduction="none", label_smoothing=0.2)
    assert torch.allclose(smooth.losses(images, [Label(4), Label(0), Label(2)]), expected, atol=1e-6)
    soft = [Label(0, probabilities=row) for row in logits.softmax(1)]
    assert torch.allclose(smooth.losses(images, soft), plain.losses(images, soft))


def test_pseudo_labels_are_its_softened_predictions():
    task, images = make(temperature=2.0), random_images()
    logits = torch.stack(task.predict(images))
    targets = task.pseudo_labels(images)
    assert [target.index for target in targets] == logits.argmax(1).tolist()
    assert torch.allclose(torch.stack([target.probabilities for target in targets]), (logits / 2).softmax(1))
    loss = task.losses(images, targets)
    assert bool((loss > 0).all())


def test_a_subset_of_classes_in_the_given_order():
    whole, part, images = make(), make(classes=[3, 0]), random_images()
    assert part.num_classes == 2
    assert torch.equal(torch.stack(part.predict(images)), torch.stack(whole.predict(images))[:, [3, 0]])
    logits = torch.stack(part.predict(images))
    assert torch.allclose(part.losses(images, [Label(0)] * 3), -logits.log_softmax(1)[:, 0], atol=1e-6)


def test_classes_from_a_file_are_in_the_order_of_their_names(tmp_path):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({"zebra": 0, "ant": 4, "mole": 2}))
    task, images = make(classes=str(path)), random_images()
    assert task.class_names == ("ant", "mole", "zebra")
    assert torch.equal(torch.stack(task.predict(images)), torch.stack(make().predict(images))[:, [4, 2, 0]])
    task.check_dataset(["ant", "mole", "zebra"])
    task.check_dataset([])
    with pytest.raises(TargetError, match="ant, mole, zebra, in this order; got ant, zebra, mole"):
        task.check_dataset(["ant", "zebra", "mole"])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "distinct whole numbers from 0 to 4"),
        ([0, 5], "distinct whole numbers"),
        ([1, 1], "distinct whole numbers"),
        ([0.5], "distinct whole numbers"),
        ("missing.json", "a readable JSON file"),
        ('{"a": ', "a readable JSON file"),
        ("[1, 2]", "a JSON object that maps names to indices; got .*list"),
        ('{"a": 9}', "distinct whole numbers"),
    ],
)
def test_wrong_classes(tmp_path, classes, message):
    if isinstance(classes, str):
        path = tmp_path / "classes.json"
        if classes != "missing.json":
            path.write_text(classes)
        classes = path
    with pytest.raises(OptionError, match=f"option 'classes': expected .*{message}"):
        make(classes=classes)


def test_number_of_classes_must_fit_the_data_set():
    make().check_dataset(["a", "b", "c", "d", "e"])
    make().check_dataset([])
    with pytest.raises(TargetError, match=r"a data set of 5 classes; got 6: a, b, c, d, e, \.\.\."):
        make().check_dataset(list("abcdef"))


@pytest.mark.parametrize("target", [Label(5), Label(-1), Label(0, probabilities=torch.ones(4) / 4)])
def test_targets_that_do_not_fit(target):
    with pytest.raises(TargetError, match=r"image 0: .*(from 0 to 4|5 probabilities)"):
        make().losses(random_images(1), [target])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (17, 2), (64, 64), (65, 300)])
@pytest.mark.parametrize("architecture", ["squeezenet1_1", "resnet18"])
def test_any_image_size(architecture, height, width):
    task = make(architecture=architecture).train()  # batch normalization of a single image needs positions
    images = torch.rand(1, 3, height, width, requires_grad=True)
    task.losses(images, [Label(1)]).sum().backward()
    assert images.grad.abs().sum() > 0


def test_images_of_unequal_sizes():
    task = make()
    images = [torch.rand(3, 20, 30), torch.rand(3, 90, 70), torch.rand(3, 20, 30)]
    alone = [task.predict([image])[0] for image in images]
    assert torch.allclose(torch.stack(task.predict(images)), torch.stack(alone), atol=1e-5)


@pytest.mark.parametrize(("architecture", "side"), [("alexnet", 64), ("inception_v3", 75), ("googlenet", 64)])
def test_networks_with_a_larger_minimum(architecture, side):
    task = make(architecture=architecture)
    image = torch.rand(1, 3, 9, 200)
    seen = []
    task.network.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    assert task.predict(image)[0].shape == (5,)
    assert seen == [(1, 3, side, 200)]


@pytest.mark.parametrize(("size", "expected"), [(64, (64, 64)), ([72, 96], (72, 96)), (20, (64, 64)), (None, (90, 80))])
def test_input_size(size, expected):
    task = make(input_size=size)
    seen = []
    task.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    images = random_images(2, 90, 80).requires_grad_()
    task.losses(images, [Label(0), Label(1)]).sum().backward()
    assert tuple(seen[0].shape[-2:]) == expected
    assert bool((images.grad.abs().sum((1, 2, 3)) > 0).all())


def test_resizing_is_antialiased():
    task = make(input_size=64, mean=(0, 0, 0), std=(1, 1, 1))
    seen = []
    task.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    checked = torch.zeros(1, 3, 256, 256)
    checked[:, :, ::2, ::2] = checked[:, :, 1::2, 1::2] = 1.0  # a checkerboard of pixels is gray from afar
    task.predict(checked)
    assert (seen[0] - 0.5).abs().max() < 0.05


@pytest.mark.parametrize("size", [0, [64], [64, 0], [64, 64, 3], 64.5, "64"])
def test_wrong_input_size(size):
    with pytest.raises(OptionError, match="option 'input_size'"):
        make(input_size=size)


def test_a_network_of_one_size_resizes_by_itself(small_vit):
    task = make(architecture="vit_b_32", input_size=64)
    torch.nn.init.normal_(task.network.heads.head.weight)  # torchvision starts it at zero
    images = random_images(1, 100, 40).requires_grad_()
    task.losses(images, [Label(0)]).sum().backward()
    assert images.grad.abs().sum() > 0
    assert make(architecture="vit_b_32").network.image_size == 224
    with pytest.raises(OptionError, match="a square for 'vit_b_32'"):
        make(architecture="vit_b_32", input_size=[64, 96])
    with pytest.raises(OptionError, match="a size that 'vit_b_32' can be built for; got 65"):
        make(architecture="vit_b_32", input_size=65)


def test_trains_its_batch_normalization_only_in_training_mode():
    task = make(architecture="resnet18")
    before = task.network.bn1.running_mean.clone()
    task.predict(random_images())
    task.features(random_images())
    assert torch.equal(task.network.bn1.running_mean, before)
    task.train().losses(random_images(), [Label(0)] * 3)
    assert not torch.equal(task.network.bn1.running_mean, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "resnet81"}, "option 'architecture': .*Did you mean 'resnet18'"),
        ({"num_classes": 0}, "option 'num_classes'"),
        ({"label_smoothing": 1.0}, "option 'label_smoothing'"),
        ({"label_smoothing": -0.1}, "option 'label_smoothing'"),
        ({"temperature": 0.0}, "option 'temperature'"),
        ({"temperature": float("nan")}, "option 'temperature'"),
        ({"mean": (0.5, 0.5)}, "option 'mean'"),
        ({"std": (0.5, 0.0, 0.5)}, "option 'std'"),
        ({"new_head": True}, "option 'new_head'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(OptionError, match=message):
        make(**options)


def test_unknown_options_are_answered_with_the_nearest():
    with pytest.raises(OptionError, match="Did you mean 'architecture'"):
        construct(Classifier, architectur="resnet18")
