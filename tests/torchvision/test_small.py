import pytest
import torch

from precomp_sdk import Label, OptionError, TargetError, TaskDataset
from precomp_sdk.training import FitTaskSettings, fit_task
from precomp_torchvision import SmallClassifier


def make(**options):
    torch.manual_seed(0)
    return SmallClassifier(**{"num_classes": 3, **options}).eval()


def test_is_small():
    assert sum(parameter.numel() for parameter in make(num_classes=10).parameters()) < 110_000


def test_logits_and_features():
    task, images = make(width=4), torch.rand(2, 3, 70, 48, requires_grad=True)
    assert [prediction.shape for prediction in task.predict(images)] == [(3,), (3,)]
    features = task.features(images)
    assert [tuple(item.shape) for item in features] == [(2, 4, 35, 24), (2, 8, 18, 12), (2, 16, 9, 6), (2, 32, 5, 3)]
    for item in features:
        (gradient,) = torch.autograd.grad(item.square().mean(), images, retain_graph=True)
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 90), (33, 31)])
def test_any_image_size_also_in_training(height, width):
    task = make().train()
    images = torch.rand(1, 3, height, width, requires_grad=True)
    task.losses(images, [Label(2)]).sum().backward()
    assert images.grad.abs().sum() > 0


def test_finds_a_texture_anywhere():
    """Learns a fine texture in a corner of noise within some dozens of steps."""
    task = make(num_classes=2).train()
    generator = torch.Generator().manual_seed(0)
    stripes = 0.5 + 0.3 * torch.sin(torch.arange(16) * 1.6)

    def draw(count):
        images = torch.rand(count, 3, 48, 48, generator=generator)
        labels = torch.arange(count) % 2
        for image, label in zip(images, labels.tolist(), strict=True):
            top, left = torch.randint(0, 32, (2,), generator=generator).tolist()
            image[:, top : top + 16, left : left + 16] = stripes if label else stripes[:, None]
        return images, [Label(label) for label in labels.tolist()]

    optimizer = torch.optim.AdamW(task.parameters(), lr=0.003)
    for _ in range(60):
        optimizer.zero_grad()
        task.losses(*draw(16)).mean().backward()
        optimizer.step()
    images, labels = draw(100)
    right = sum(
        int(answer.argmax()) == label.index for answer, label in zip(task.eval().predict(images), labels, strict=True)
    )
    assert right >= 90


def test_checks_the_data_set():
    make().check_dataset(["a", "b", "c"])
    with pytest.raises(TargetError, match="3 classes; got 2: a, b"):
        make().check_dataset(["a", "b"])


@pytest.mark.parametrize("options", [{"num_classes": 0}, {"width": 0}, {"temperature": -1.0}, {"label_smoothing": 2.0}])
def test_wrong_options(options):
    with pytest.raises(OptionError, match=f"option '{next(iter(options))}'"):
        make(**options)


class Noise(TaskDataset):
    """Red and green noise: the colour alone says the class."""

    name = "noise"
    source = "drawn"
    target_kind = Label.kind

    def __init__(self, count, seed):
        self.count, self.seed = count, seed

    def __len__(self):
        return self.count

    def _sample(self, index):
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        colour = torch.tensor([[220, 40, 40], [40, 220, 40]])[index % 2, :, None, None]
        return (colour + torch.randint(-20, 20, (3, 32, 32), generator=generator)).to(torch.uint8), Label(index % 2)


@pytest.mark.parametrize("count", [12, 64])
def test_tells_classes_by_colour_alone_where_it_is_asked_to(count):
    def unseen(colour):
        task = make(num_classes=2, colour=colour)
        settings = FitTaskSettings(epochs=360 // count, batch_size=4)
        result = fit_task(task, Noise(count, 0), settings=settings, validation=Noise(40, 1), observer=None)
        return result.scores["top1"]

    assert unseen(colour=True) == 1.0
    assert unseen(colour=False) < 0.8
