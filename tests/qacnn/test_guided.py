import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from precomp_qacnn import GuidedQACNN
from precomp_sdk import OptionError
from precomp_sdk.deploy import Compressor
from precomp_sdk.testing import FakeCodec, FakeTask, PreprocessorSettings, check
from precomp_sdk.training import read_module
from precomp_torchvision import Classifier, Detector, Segmenter


class Marks(FakeTask):
    """Its features say where images are brighter than a limit, at a quarter of the resolution."""

    def __init__(self, limit: float = 0.5) -> None:
        super().__init__()
        self.limit = torch.nn.Parameter(torch.tensor(limit))

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        bright = torch.sigmoid(50.0 * (images.mean(dim=1, keepdim=True) - self.limit))
        return [torch.nn.functional.avg_pool2d(torch.cat([bright, 1.0 - bright], dim=1), 4, ceil_mode=True)]


class Featureless(FakeTask):
    def _features(self, images: Tensor) -> Sequence[Tensor]:
        raise OptionError(where="task 'fake'", expected="features", got="none", remedy="Choose another.")


def stirred(network: GuidedQACNN) -> GuidedQACNN:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


def test_it_passes_the_checks() -> None:
    task = Marks()
    check(lambda: GuidedQACNN(task, width=16, depth=1), PreprocessorSettings(size=(20, 36), sizes=((1, 1), (16, 3))))


def test_it_learns_to_smooth_where_the_task_does_not_look() -> None:
    """Noise around one level, and which half may be smoothed only the features say."""
    torch.manual_seed(0)
    network = GuidedQACNN(Marks(), width=16, depth=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(120):
        flip = bool(step % 2)
        images = noise(flip)
        kept, lost = halves(network(images, 0.5) - images, flip)
        loss = kept.square().mean() + (lost - halves(smooth(images) - images, flip)[1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for flip in (False, True):
        images = noise(flip)
        with torch.no_grad():
            kept, lost = halves(network(images, 0.5) - images, flip)
        assert lost.std() > 4 * kept.std()


def noise(flip: bool) -> Tensor:
    """The bright half, on the left or on the right, is the one to keep."""
    level = torch.full((2, 3, 32, 64), 0.35)
    level[..., 32:] = 0.65
    return (level.flip(-1) if flip else level) + 0.05 * torch.randn(2, 3, 32, 64).clamp(-2, 2)


def halves(images: Tensor, flip: bool) -> tuple[Tensor, Tensor]:
    """Return what the task looks at and the rest, without the border between."""
    left, right = images[..., :24], images[..., 40:]
    return (left, right) if flip else (right, left)


def smooth(images: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(images, 5, 1, 2, count_include_pad=False)


def test_fitting_the_task_later_counts() -> None:
    task = Marks()
    network = stirred(GuidedQACNN(task, width=16, depth=1))
    images = torch.rand(1, 3, 24, 40)
    with torch.no_grad():
        before = network(images, 0.5)
        task.limit.fill_(0.1)
        assert (network(images, 0.5) - before).abs().max() > 1e-4


def test_a_copy_such_as_the_averaged_weights_sees_the_same_task() -> None:
    task = Marks()
    network = copy.deepcopy(stirred(GuidedQACNN(task, width=16, depth=1)))
    images = torch.rand(1, 3, 24, 40)
    with torch.no_grad():
        before = network(images, 0.5)
        task.limit.fill_(0.1)
        assert (network(images, 0.5) - before).abs().max() > 1e-4


def test_its_weights_file_holds_no_task(tmp_path: Path) -> None:
    task = Marks()
    network = stirred(GuidedQACNN(task, width=16, depth=1))
    sender = Compressor(FakeCodec(), network, ladder=(5, 30))
    sender.save(tmp_path / "sender.safetensors")
    assert not [name for name in read_module(tmp_path / "sender.safetensors").weights if "limit" in name]
    again = Compressor.load(
        tmp_path / "sender.safetensors", codec=FakeCodec(), preprocessor=GuidedQACNN(task, **network.options)
    )
    image = torch.randint(0, 256, (3, 21, 35), dtype=torch.uint8)
    assert again.compress(image, 30) == sender.compress(image, 30)


def test_it_changes_nothing_in_the_task() -> None:
    task = Classifier(architecture="mobilenet_v3_small", num_classes=4)  # has batch normalization; in training mode
    task.network.features[3].eval()
    modes = [part.training for part in task.modules()]
    before = {name: value.clone() for name, value in task.state_dict().items()}
    network = stirred(GuidedQACNN(task, width=16, depth=1))
    images = torch.rand(2, 3, 64, 70)
    with torch.no_grad():
        torch.testing.assert_close(network(images, 0.5)[:1], network(images[:1], 0.5), rtol=0, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert [part.training for part in task.modules()] == modes


def test_threads_do_not_get_each_others_features() -> None:
    sender = Compressor(FakeCodec(), stirred(GuidedQACNN(Classifier(architecture="squeezenet1_1"), width=16, depth=1)))
    images = [torch.randint(0, 256, (3, 64, 64 + 2 * index), dtype=torch.uint8) for index in range(3)]
    images += [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(9)]
    expected = [sender.compress(image, 30) for image in images]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda image: sender.compress(image, 30), images * 2)) == expected * 2


@pytest.mark.parametrize("maps", [[], [torch.zeros(1, 5, 8)], [torch.zeros(1, 8)]])
def test_features_that_are_no_maps_are_refused(maps: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Marks, "_features", lambda self, images: maps)
    with pytest.raises(OptionError, match="maps"):
        GuidedQACNN(Marks())


def test_it_runs_in_other_precisions() -> None:
    network = stirred(GuidedQACNN(Marks(), width=16, depth=1))
    images = torch.rand(1, 3, 24, 40)
    with torch.no_grad():
        expected = network(images, 0.5)
        for dtype, tolerance in ((torch.float64, 1e-5), (torch.bfloat16, 0.05)):
            result = copy.deepcopy(network).to(dtype)(images.to(dtype), 0.5)
            assert result.dtype == dtype
            torch.testing.assert_close(result.float(), expected, rtol=0, atol=tolerance)


def test_a_task_without_features_is_refused() -> None:
    with pytest.raises(OptionError, match="features"):
        GuidedQACNN(Featureless())


@pytest.mark.parametrize(
    "task",
    [
        lambda: Classifier(architecture="squeezenet1_1", num_classes=4),
        lambda: Detector(architecture="fcos", backbone="squeezenet1_1", pyramid_channels=64, num_classes=3),
        lambda: Segmenter(architecture="lraspp", backbone="squeezenet1_1", num_classes=3),
    ],
    ids=["classifier", "detector", "segmenter"],
)
def test_every_kind_of_task_can_guide_it(task) -> None:
    network = stirred(GuidedQACNN(task().eval(), width=16, depth=1))
    images = torch.rand(2, 3, 70, 91)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):  # as mixed precision trains it
        guided = network(images, 0.5)
    with torch.no_grad():
        for guide in network.guides:
            guide.project.weight.zero_()
        assert (network(images, 0.5) - guided).abs().mean() > 5e-3
